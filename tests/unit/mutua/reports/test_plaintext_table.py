"""Who still speaks plaintext, as people read it."""

from datetime import UTC, datetime, timedelta

from mutua.reports import plaintext
from mutua.reports.proxy_status import PlaintextSeen

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


def seen(
    client: str, seconds_ago: float, *, refused: bool = False, connections: int = 1, **more: object
) -> PlaintextSeen:
    last = NOW - timedelta(seconds=seconds_ago)
    values = {"first_seen": last - timedelta(hours=3), "last_seen": last} | more
    return PlaintextSeen(client, "shop/web-1", 80, refused, connections, "the client has no sidecar", **values)  # type: ignore[arg-type]


def test_the_table_fits_a_terminal_and_says_why() -> None:
    table = plaintext.table(
        [
            seen("lab/stranger", 5, connections=12),
            seen("192.0.2.1", 150, refused=True),
            seen("lab/watch", 9, connections=0),
        ],
        NOW,
    )
    assert table == (
        "CLIENT        SERVER      PORT  OUTCOME   COUNT  LAST\n"
        "lab/stranger  shop/web-1  80    accepted  12     5s\n"
        "192.0.2.1     shop/web-1  80    refused   1      2m\n"
        "lab/watch     shop/web-1  80    accepted  open   9s\n"
        "\n"
        "the client has no sidecar:\n"
        "  lab/stranger, 192.0.2.1, lab/watch\n"
    )
    assert plaintext.table([], NOW) == plaintext.NONE


def test_what_replicas_saw_is_one_entry_and_the_newest_is_first() -> None:
    found = plaintext.merged([seen("lab/a", 60, connections=2), seen("lab/b", 5), seen("lab/a", 30, connections=3)])
    assert [(each.client, each.connections) for each in found] == [("lab/b", 1), ("lab/a", 5)]
    assert found[1].last_seen == NOW - timedelta(seconds=30)
    assert found[1].first_seen == NOW - timedelta(hours=3, seconds=60)


def test_what_was_refused_is_not_what_was_accepted() -> None:
    assert len(plaintext.merged([seen("lab/a", 60), seen("lab/a", 60, refused=True)])) == 2


def test_since_and_namespace_choose() -> None:
    entries = [seen("lab/a", 60), seen("shop/b", 700)]
    assert [each.client for each in plaintext.since(entries, NOW, timedelta(minutes=10))] == ["lab/a"]
    assert [each.client for each in plaintext.to(entries, "lab")] == ["lab/a"]
    assert len(plaintext.to(entries, "shop")) == 2
    assert plaintext.to(entries, "sho") == ()


def test_wide_shows_what_a_dry_run_would_refuse() -> None:
    table = plaintext.table([seen("lab/a", 60, dry_run="shop/tried", would_refuse=1)], NOW, wide=True)
    assert table.splitlines()[1].endswith("3h     shop/tried would refuse 1  the client has no sidecar")


def test_a_crowd_is_named_as_far_as_a_line_goes() -> None:
    table = plaintext.table([seen(f"198.51.100.{number}", 5) for number in range(100, 200)], NOW)
    assert table.splitlines()[-1].endswith("198.51.100.103 and 96 more")
    assert max(len(line) for line in table.splitlines()) <= 80

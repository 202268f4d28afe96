"""Log lines, files and waiting: what must never show, and what must never be half there."""

import asyncio
import io
import logging
import stat
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mutua.secret import Secret
from mutua.system import clock, envoy_admin, files, keys, logs


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """What is logged during a test."""
    root, ours = logging.getLogger(), logging.getLogger(logs.ROOT)
    before = (list(root.handlers), root.level, ours.level)
    stream = io.StringIO()
    logs.configure("debug", stream)
    yield stream
    root.handlers[:], root.level, ours.level = before


def test_a_line_has_time_level_scope_message_and_fields(lines: io.StringIO) -> None:
    """Tabs between the first four, as in Istio's logs."""
    logs.Log("ca").warn("certificate refused", identity="spiffe://a/ns/b/sa/c", reason='too "long"', empty="")

    time, level, scope, text = lines.getvalue().rstrip("\n").split("\t")
    assert time.endswith("Z")
    assert datetime.fromisoformat(time).tzinfo == UTC
    assert (level, scope) == ("warn", "ca")
    assert text == 'certificate refused identity=spiffe://a/ns/b/sa/c reason="too \\"long\\"" empty=""'


@given(text=st.text())
def test_whatever_is_logged_is_one_line(text: str) -> None:
    """Nobody forges a line, by message or by field."""
    record = logging.LogRecord("mutua.x", logging.INFO, "", 0, "%s", (text,), None)
    record.fields = {"field": text}

    assert len(logs.Formatter().format(record).encode(errors="replace").split(b"\n")) == 1


@pytest.mark.parametrize(
    "secret",
    [
        keys.to_pem(keys.generate()).reveal().decode(),
        keys.to_pem(keys.generate(), pkcs8=True).reveal().decode(),
        keys.to_pem(keys.generate()).reveal().decode()[:100],
        "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJrdWJlIn0.c2lnbmF0dXJl",
    ],
    ids=["EC", "PKCS8", "cut off", "token"],
)
def test_secrets_are_redacted_wherever_they_come_from(lines: io.StringIO, secret: str) -> None:
    """In the message, in a field, in an exception's text."""
    log = logs.Log("x")
    log.error(f"failed with {secret}", value=secret, error=ValueError(f"cannot read {secret}"), wrapped=Secret(b"abc"))

    body = secret.splitlines()[1] if "\n" in secret else secret.split(".")[1]
    assert body[:20] not in lines.getvalue()
    assert "[redacted]" in lines.getvalue()


def test_a_level_keeps_the_rest_out(lines: io.StringIO) -> None:
    """`warn` is Istio's word for it."""
    logs.configure("warn", lines)
    logs.Log("x").info("quiet")
    logs.Log("x").warn("loud")

    assert "quiet" not in lines.getvalue()
    assert "loud" in lines.getvalue()


def test_a_file_is_private_and_whole(tmp_path: Path) -> None:
    """0600 from its first moment; nothing is left beside it."""
    path = tmp_path / "key.pem"
    files.write_atomically(path, b"old")
    files.write_atomically(path, b"new")

    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [path] == list(tmp_path.iterdir())


def test_a_link_is_replaced_not_followed(tmp_path: Path) -> None:
    """Whoever may write the folder cannot make us overwrite a file elsewhere."""
    (tmp_path / "victim").write_text("untouched")
    (tmp_path / "key.pem").symlink_to(tmp_path / "victim")

    files.write_atomically(tmp_path / "key.pem", b"secret")

    assert (tmp_path / "victim").read_text() == "untouched"
    assert not (tmp_path / "key.pem").is_symlink()


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    """The target is a folder, so the last step fails."""
    (tmp_path / "target" / "inside").mkdir(parents=True)

    with pytest.raises(OSError, match="target"):
        files.write_atomically(tmp_path / "target", b"x")
    assert [tmp_path / "target"] == list(tmp_path.iterdir())


def test_a_file_that_is_too_long_is_not_read(tmp_path: Path) -> None:
    """Whatever is mounted there."""
    (tmp_path / "file").write_bytes(b"x" * 11)

    assert files.read_limited(tmp_path / "file", 11) == b"x" * 11
    with pytest.raises(ValueError, match="more than 10 bytes"):
        files.read_limited(tmp_path / "file", 10)


async def test_waiting_follows_the_wall_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that slept ten hours wakes the waiter within one step; a clock that was set back makes it wait on."""
    start = datetime(2024, 1, 1, tzinfo=UTC)
    times = iter([start, start - timedelta(hours=1), start + timedelta(hours=10)])
    steps: list[float] = []

    async def sleep(seconds: float) -> None:
        steps.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    await clock.sleep_until(start + timedelta(seconds=8), lambda: next(times))

    assert steps == [5.0, 5.0]


def test_connections_are_counted_by_listener() -> None:
    """Neither per worker, nor the admin's, nor those of the two status ports."""
    stats = """listener.0.0.0.0_15006.downstream_cx_active: 3
listener.0.0.0.0_15006.worker_0.downstream_cx_active: 2
listener.0.0.0.0_15006.worker_1.downstream_cx_active: 1
listener.0.0.0.0_15001.downstream_cx_active: 4
listener.0.0.0.0_15021.downstream_cx_active: 5
listener.[__]_15090.downstream_cx_active: 6
listener.admin.downstream_cx_active: 7
listener.admin.main_thread.downstream_cx_active: 7
http.inbound_0.0.0.0_80.downstream_cx_active: 8
"""

    assert envoy_admin.active_connections_in(stats, (15021, 15090)) == 7


def test_strangers_cannot_fill_the_log() -> None:
    """So many lines a second, and then one that says how many were left out."""
    limit = logs.Limit(3)

    assert [limit.take(7.0 + moment / 100) for moment in range(5)] == [0, 0, 0, None, None]
    assert limit.take(8.0) == 2
    assert limit.take(8.1) == 0


def test_libraries_cannot_fill_the_log_either() -> None:
    """A thousand broken requests are a few lines; our own lines are never left out."""
    stream = io.StringIO()
    logs.configure("info", stream)
    for _ in range(1000):
        logging.getLogger("uvicorn.error").warning("Invalid HTTP request received.")
    for number in range(50):
        logs.Log("test").info("ours", number=number)

    lines = stream.getvalue().splitlines()
    assert sum("ours" in line for line in lines) == 50
    assert 10 <= len(lines) - 50 <= 100

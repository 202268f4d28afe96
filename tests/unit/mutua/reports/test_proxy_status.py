"""The tables of proxy-status, and what they say of a refusal."""

import pytest

from mutua.reports import envoy_words, proxy_status
from mutua.reports.proxy_status import ProxyState, Rejected, TypeState
from mutua.xds.sync_state import SyncState


def proxy(pod: str, *types: TypeState, error: str = "") -> ProxyState:
    identity = "spiffe://cluster.local/ns/shop/sa/web"
    return ProxyState(pod, "shop", identity, "istiod-1", "0.1.0", "Kubernetes", types, error)


SYNCED = tuple(TypeState(kind, SyncState.SYNCED) for kind in ("CDS", "EDS", "LDS", "RDS"))


def test_types_are_listed_in_istios_order_and_proxies_by_name() -> None:
    table = proxy_status.table([proxy("web-2"), proxy("web-1", *SYNCED)])

    assert table.splitlines() == [
        "NAME           CLUSTER        ISTIOD       VERSION     SUBSCRIBED TYPES",
        "web-1.shop     Kubernetes     istiod-1     0.1.0       4 (CDS,LDS,EDS,RDS)",
        "web-2.shop     Kubernetes     istiod-1     0.1.0       0",
    ]


def test_the_wide_table_has_a_state_per_type() -> None:
    table = proxy_status.verbose_table([proxy("web-1", TypeState("CDS", SyncState.STALE))])

    assert table.splitlines()[0].split() == ["NAME", "CLUSTER", "CDS", "EDS", "LDS", "RDS", "ISTIOD", "VERSION"]
    assert table.splitlines()[1].split("     ")[2:6] == ["STALE", "NOT SENT", "NOT SENT", "NOT SENT"]


def test_a_refusal_is_told_in_envoys_words_with_the_object_behind_it() -> None:
    refused = Rejected("virtualInbound", "bad regex", "AuthorizationPolicy shop/paths")
    state = proxy("web-1", TypeState("LDS", SyncState.ERROR, (refused,)), error="")

    assert proxy_status.troubles([state]) == [
        "web-1.shop: refused LDS virtualInbound: bad regex; caused by AuthorizationPolicy shop/paths"
    ]


def test_the_object_behind_a_refusal_is_found_in_envoys_words_or_is_the_clusters_rule() -> None:
    words = "error in ns[shop]-policy[paths]-rule[0]: bad regex"

    assert proxy_status.cause("virtualInbound", words) == "AuthorizationPolicy shop/paths"
    assert proxy_status.cause("outbound|80||web", "no", "DestinationRule shop/web") == "DestinationRule shop/web"
    assert proxy_status.cause("virtualInbound", "no") == ""


REPEATED = 'goo.gle/debugstr  \nname: "outbound|80||web"\ntype: EDS\n'


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("no such\n  filter", "no such filter"),
        (f"{REPEATED}}}\n: Proto constraint validation failed (x)", "Proto constraint validation failed (x)"),
        (f"{REPEATED}com...(truncated)", envoy_words.CUT_SHORT),
        (f"Error adding cluster web: {REPEATED}...", f"Error adding cluster web: {envoy_words.CUT_SHORT}"),
    ],
)
def test_the_reason_is_told_without_the_resource_that_envoy_repeats(words: str, reason: str) -> None:
    assert envoy_words.reason(words) == reason


def test_a_reason_that_was_cut_short_is_found_in_envoys_log() -> None:
    log = (
        f"warning rejected: {REPEATED}}}\n: an old reason\tthread=2\n"
        f'warning rejected: {REPEATED}}}\n: the reason\tthread=2\nname: "other"\n: another\n'
    )

    assert envoy_words.logged_reason(log, "outbound|80||web") == "the reason"
    assert envoy_words.logged_reason(log, "outbound|80||none") == ""

"""The tables of proxy-status, and what they say of a refusal."""

from mutua.reports import proxy_status
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

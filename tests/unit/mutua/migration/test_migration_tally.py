"""Refusals since a migration began, whatever the control planes do meanwhile."""

from mutua.migration import tally
from mutua.reports.proxy_status import PlaintextSeen


def refused(connections: int, *, server: str = "shop/web-1", was_refused: bool = True) -> PlaintextSeen:
    return PlaintextSeen("shop/legacy", server, 80, was_refused, connections, "no sidecar")


def new(before: PlaintextSeen | None, *after: tuple[str, PlaintextSeen]) -> list[tuple[str, int]]:
    base = dict(tally.baseline([("istiod-1", before)] if before else [], "shop"))
    found = tally.refusals(after, "shop", base, lambda pod: pod.removesuffix("-1"))
    return [(item.workload, item.connections) for item in found]


def test_only_what_is_new_is_a_refusal() -> None:
    assert new(refused(3), ("istiod-1", refused(3))) == []
    assert new(refused(3), ("istiod-1", refused(5))) == [("web", 2)]
    assert new(None, ("istiod-1", refused(5))) == [("web", 5)]


def test_a_control_plane_that_began_anew_has_seen_all_of_it_since() -> None:
    assert new(refused(3), ("istiod-1", refused(1))) == [("web", 1)]
    assert new(refused(3), ("istiod-2", refused(1))) == [("web", 1)]


def test_what_was_accepted_and_what_is_elsewhere_is_none() -> None:
    assert new(None, ("istiod-1", refused(1, was_refused=False)), ("istiod-1", refused(1, server="other/web-1"))) == []

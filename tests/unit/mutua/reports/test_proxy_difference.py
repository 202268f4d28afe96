"""What the control plane sent and the Envoy holds, side by side."""

from typing import Any

from mutua.reports import proxy_difference
from mutua.reports.proxy_difference import Held
from mutua.xds.sync_state import Sent

ADMIN = "type.googleapis.com/envoy.admin.v3."


def dump() -> dict[str, Any]:
    """One cluster in force and one that warms, a listener that warms, one route."""
    return {
        "configs": [
            {
                "@type": f"{ADMIN}ClustersConfigDump",
                "static_clusters": [{"cluster": {"name": "xds-grpc"}}],
                "dynamic_active_clusters": [{"version_info": "1", "cluster": {"name": "web"}}],
                "dynamic_warming_clusters": [{"version_info": "2", "cluster": {"name": "new"}}],
            },
            {
                "@type": f"{ADMIN}ListenersConfigDump",
                "dynamic_listeners": [
                    {"name": "in", "warming_state": {"version_info": "3", "listener": {"name": "in"}}},
                    {"name": "broken", "error_state": {"details": "no"}},
                ],
            },
            {
                "@type": f"{ADMIN}RoutesConfigDump",
                "dynamic_route_configs": [
                    {"version_info": "4", "route_config": {"name": "80"}, "last_updated": "2026-01-02T03:04:05.6Z"}
                ],
            },
        ]
    }


def test_only_what_the_control_plane_sent_is_compared() -> None:
    assert proxy_difference.held(dump(), "CDS") == {
        "web": Held("1", {"name": "web"}),
        "new": Held("2", {"name": "new"}),
    }
    assert proxy_difference.held(dump(), "LDS") == {"in": Held("3", {"name": "in"})}
    assert proxy_difference.held(dump(), "RDS") == {"80": Held("4", {"name": "80"})}


def test_names_of_one_side_alone_and_other_versions_differ() -> None:
    sent = [Sent("CDS", "web", "1"), Sent("CDS", "new", "3"), Sent("CDS", "lost", "1")]
    holds = proxy_difference.held(dump(), "CDS") | {"left": Held("9", {"name": "left"})}

    assert proxy_difference.differing(sent, holds) == ["left", "lost", "new"]


def test_verdicts_are_istioctls() -> None:
    assert proxy_difference.verdict("CDS", [], dump()) == "Clusters Match"
    assert proxy_difference.verdict("LDS", ["in"], dump()) == "Listeners Don't Match"
    loaded = "Routes Match (RDS last loaded at Fri, 02 Jan 2026 03:04:05 +0000)"
    assert proxy_difference.verdict("RDS", [], dump()) == loaded


def test_the_difference_is_a_unified_diff() -> None:
    def readable(item: Sent | Held) -> dict[str, Any]:
        return {"version": item.version}

    shown = proxy_difference.difference(
        "CDS", ["web"], [Sent("CDS", "web", "2")], proxy_difference.held(dump(), "CDS"), readable
    )

    assert shown.splitlines() == [
        "--- Istiod Clusters",
        "+++ Envoy Clusters",
        "@@ -1,3 +1,3 @@",
        " {",
        '-  "version": "2"',
        '+  "version": "1"',
        " }",
    ]

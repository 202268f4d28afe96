"""The table of an Envoy's clusters: whom it can dial, and by which rule."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from mutua.reports.table import render

HEADER = ("SERVICE FQDN", "PORT", "SUBSET", "DIRECTION", "TYPE", "DESTINATION RULE")
_RULE_PIECES = 8  # /apis/<group>/<version>/namespaces/<namespace>/destination-rule/<name>


class ClusterName(NamedTuple):
    """`outbound|80|v1|host` in its parts; other names are all host."""

    direction: str
    port: str
    subset: str
    host: str


class ClusterFilter(NamedTuple):
    """What to show; "" = all. `host` and `subset` may be a part of the name."""

    host: str = ""
    port: int = 0
    direction: str = ""
    subset: str = ""

    def accepts(self, cluster: Mapping[str, Any]) -> bool:
        """Whether this cluster is shown."""
        name = parse_name(str(cluster.get("name", "")))
        if not (self.host or self.port or self.direction or self.subset):
            return True
        return (
            self.host in name.host
            and (not self.port or name.port == str(self.port))
            and (not self.direction or name.direction == self.direction)
            and self.subset in name.subset
        )


def parse_name(name: str) -> ClusterName:
    """Source: Istio's names of clusters."""
    parts = name.split("|")
    return ClusterName(*parts[:4]) if len(parts) >= 4 else ClusterName("", "", "", name)


def table(clusters: Iterable[Mapping[str, Any]], prefix: str = "") -> str:
    """One row per cluster, sorted by host, port, subset and direction."""
    rows = []
    for cluster in clusters:
        name = parse_name(str(cluster.get("name", "")))
        structured = bool(name.direction)
        rows.append(
            (
                prefix + name.host,
                name.port if structured else "-",
                name.subset or "-",
                name.direction or "-",
                _type(cluster),
                destination_rule(cluster),
            )
        )
    rows.sort(key=lambda row: (row[0], int(row[1]) if row[1].isdigit() else -1, row[2], row[3]))
    return render(HEADER, rows, minimum=0, padding=5)


def destination_rule(cluster: Mapping[str, Any]) -> str:
    """`name.namespace` of the rule that shaped the cluster, from its metadata; "" if none did."""
    metadata = (cluster.get("metadata") or {}).get("filter_metadata") or {}
    config = str((metadata.get("istio") or {}).get("config", ""))
    if not config:
        return ""
    pieces = config.split("/")
    known = config.startswith("/apis/networking.istio.io/") and len(pieces) == _RULE_PIECES
    return f"{pieces[7]}.{pieces[5]}" if known else "<unknown>"


def _type(cluster: Mapping[str, Any]) -> str:
    custom = cluster.get("cluster_type") or {}
    if custom.get("name") == "envoy.clusters.dns":
        single = (custom.get("typed_config") or {}).get("all_addresses_in_single_endpoint")
        return "LOGICAL_DNS" if single else "STRICT_DNS"
    return str(custom.get("name") or cluster.get("type") or "STATIC")

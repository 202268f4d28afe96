"""The table of an Envoy's endpoints, from its `/clusters?format=json`: whom it dials, and who of them is well."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from mutua.reports.table import render

HEADER = ("ENDPOINT", "STATUS", "OUTLIER CHECK", "CLUSTER")


class EndpointFilter(NamedTuple):
    """What to show; "" = all. `status` in any case."""

    address: str = ""
    port: int = 0
    cluster: str = ""
    status: str = ""


def selected(clusters: Mapping[str, Any], wanted: EndpointFilter) -> list[dict[str, Any]]:
    """The cluster statuses that hold a wanted endpoint, each with only those, by name."""
    found = []
    for cluster in clusters.get("cluster_statuses") or ():
        hosts = [host for host in cluster.get("host_statuses") or () if _wanted(host, cluster, wanted)]
        if hosts:
            found.append(dict(cluster) | {"host_statuses": hosts})
    return sorted(found, key=lambda cluster: str(cluster.get("name", "")))


def table(statuses: Iterable[Mapping[str, Any]], prefix: str = "") -> str:
    """One row per endpoint, sorted by address, then cluster."""
    rows = sorted(_rows(statuses, prefix), key=lambda row: (row[0], row[3]))
    return render(HEADER, rows, padding=5)


def address(host: Mapping[str, Any]) -> str:
    """`ip:port`, `unix://path` or `envoy://listener/id`."""
    place = host.get("address") or {}
    if "pipe" in place:
        return f"unix://{place['pipe'].get('path', '')}"
    if "envoy_internal_address" in place:
        internal = place["envoy_internal_address"]
        return f"envoy://{internal.get('server_listener_name', '')}/{internal.get('endpoint_id', '')}"
    socket = place.get("socket_address") or {}
    port = socket.get("port_value")
    return f"{socket.get('address', '')}:{port}" if port else str(socket.get("address", ""))


def status(host: Mapping[str, Any]) -> str:
    """What the control plane says of its health."""
    return str((host.get("health_status") or {}).get("eds_health_status", "UNKNOWN"))


def _rows(statuses: Iterable[Mapping[str, Any]], prefix: str) -> Iterator[tuple[str, str, str, str]]:
    for cluster in statuses:
        for host in cluster.get("host_statuses") or ():
            ejected = (host.get("health_status") or {}).get("failed_outlier_check", False)
            outlier = "FAILED" if ejected else "OK"
            yield prefix + address(host), status(host), outlier, str(cluster.get("name", ""))


def _wanted(host: Mapping[str, Any], cluster: Mapping[str, Any], wanted: EndpointFilter) -> bool:
    socket = (host.get("address") or {}).get("socket_address") or {}
    return (
        (not wanted.address or socket.get("address") == wanted.address)
        and (not wanted.port or socket.get("port_value") == wanted.port)
        and (not wanted.cluster or cluster.get("name") == wanted.cluster)
        and (not wanted.status or status(host).casefold() == wanted.status.casefold())
    )


ASSIGNMENT_HEADER = ("NAME", "STATUS", "LOCALITY", "CLUSTER")


def of_dump(dump: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The load assignments of a config dump that includes endpoints, by cluster."""
    found: list[dict[str, Any]] = []
    for part in dump.get("configs") or ():
        for key in ("static_endpoint_configs", "dynamic_endpoint_configs"):
            found += [entry["endpoint_config"] for entry in part.get(key) or () if "endpoint_config" in entry]
    return sorted(found, key=lambda assignment: str(assignment.get("cluster_name", "")))


def selected_assignments(assignments: Iterable[Mapping[str, Any]], wanted: EndpointFilter) -> list[dict[str, Any]]:
    """The load assignments that hold a wanted endpoint, each with only those."""
    found = []
    for assignment in assignments:
        if wanted.cluster and assignment.get("cluster_name") != wanted.cluster:
            continue
        groups = []
        for group in assignment.get("endpoints") or ():
            kept = [entry for entry in group.get("lb_endpoints") or () if _assigned(entry, wanted)]
            if kept:
                groups.append(dict(group) | {"lb_endpoints": kept})
        if groups:
            found.append(dict(assignment) | {"endpoints": groups})
    return found


def _assigned(entry: Mapping[str, Any], wanted: EndpointFilter) -> bool:
    socket = ((entry.get("endpoint") or {}).get("address") or {}).get("socket_address") or {}
    health = str(entry.get("health_status", "HEALTHY"))
    return (
        (not wanted.address or socket.get("address") == wanted.address)
        and (not wanted.port or socket.get("port_value") == wanted.port)
        and (not wanted.status or health.casefold() == wanted.status.casefold())
    )


def assignments_table(assignments: Iterable[Mapping[str, Any]], prefix: str = "") -> str:
    """One row per endpoint of each load assignment."""
    rows = []
    for assignment in assignments:
        for group in assignment.get("endpoints") or ():
            locality = group.get("locality") or {}
            place = "/".join(str(locality[key]) for key in ("region", "zone", "sub_zone") if locality.get(key))
            for entry in group.get("lb_endpoints") or ():
                where = address(entry.get("endpoint") or {})
                health = str(entry.get("health_status", "HEALTHY"))
                rows.append((prefix + where, health, place, str(assignment.get("cluster_name", ""))))
    return render(ASSIGNMENT_HEADER, sorted(rows, key=lambda row: (row[0], row[3])), padding=5)

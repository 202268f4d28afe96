"""The edges of the graph: who called whom, how much of it was mutual TLS, what decided that, and why not all."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from mutua.mesh import hosts, view
from mutua.mesh.proxy_view import ClientTlsMode, OutboundPort
from mutua.mesh.snapshot import MeshSnapshot
from mutua.mesh.workloads import Workload
from mutua.reports import graph_nodes
from mutua.reports.graph_model import Accepts, Edge, Overview, Rates, WayLine, node_id
from mutua.reports.graph_nodes import Owned
from mutua.reports.traffic_window import NO_NAMESPACE, Counts, End, Flow, Lock, Way

WAYS_AT_MOST: Final = 40
"""Rows that an edge's details show: a thousand addresses outside are told by number."""

_COUNTED: Final = ("count", "mutual_tls", "plaintext", "errors", "denied", "refused")
_VERSIONS: Final = {"TLSV1_2": "1.2", "TLSV1_3": "1.3"}


class Addresses:
    """Whose an address or pod name is, and how clients are told to dial: looked up once for all edges."""

    def __init__(self, snapshot: MeshSnapshot, workloads: Mapping[End, Owned]) -> None:
        self.snapshot = snapshot
        self.workloads = workloads
        self.by_pod = {
            f"{each.namespace}/{each.name}": end for end, item in workloads.items() for each in item.workloads
        }
        self._ports: dict[int, dict[tuple[str, int], OutboundPort]] = {}

    def dialled(
        self, client: Workload, service: str, namespace: str, server: Workload, port: int
    ) -> OutboundPort | None:
        """How the client's sidecar is told to dial the server's port as a Service; None if it sees none."""
        outbound = view.for_proxy(self.snapshot, view.Proxy(client.namespace, client.name)).outbound
        ports = self._ports.get(id(outbound))
        if ports is None:
            ports = {(each.host, port.number): port for each in outbound.services for port in each.ports}
            self._ports[id(outbound)] = ports
        host = hosts.resolve(service, namespace, self.snapshot.settings.cluster_domain)
        loads = self.snapshot.load(namespace, host)
        for load in loads:
            if any(end.port == port and end.address in server.addresses for end in load.endpoints):
                return ports.get((host, load.port))
        # What only the client's sidecar counted names the Service's port.
        return ports.get((host, port))


def edges(overview: Overview, addresses: Addresses) -> tuple[Edge, ...]:
    """One per pair of nodes between which traffic was seen, by id. Between a node and itself there can be one."""
    by_pair: dict[tuple[str, str], list[tuple[Way, Flow]]] = {}
    for way, flow in overview.flows.items():
        by_pair.setdefault((node_id(way.client), node_id(way.server)), []).append((way, flow))
    reasons = _reasons(overview, addresses)
    return tuple(_edge(pair, ways, addresses, reasons) for pair, ways in sorted(by_pair.items()))


def _edge(
    pair: tuple[str, str],
    ways: Sequence[tuple[Way, Flow]],
    addresses: Addresses,
    reasons: Mapping[tuple[End, End], Iterable[str]],
) -> Edge:
    seen = total = Counts()
    requests = any(way.unit == "requests" for way, _ in ways)
    counted = [flow for way, flow in ways if not requests or way.unit == "requests"]
    for _, flow in ways:
        seen += flow.seen
        total += flow.total
    recent = Counts()
    for flow in counted:
        recent += flow.recent
    order = sorted(ways, key=lambda item: (-item[1].seen.plaintext, -item[1].seen.count, item[0]))
    client = addresses.workloads.get(ways[0][0].client)
    server = addresses.workloads.get(ways[0][0].server)
    encrypted = any(flow.total.mutual_tls for _, flow in ways)
    return Edge(
        id=f"{pair[0]} → {pair[1]}",
        source=pair[0],
        destination=pair[1],
        unit="requests" if requests else "connections",
        lock=_lock(seen.lock, ways[0][0]),
        mutual_tls_percent=seen.mutual_tls_percent,
        rates=_rates(recent, max(flow.recent_seconds for _, flow in ways)),
        ways=tuple(_line(way, flow, addresses) for way, flow in order[:WAYS_AT_MOST]),
        more_ways=max(0, len(order) - WAYS_AT_MOST),
        total=_total(total),
        plaintext_age=min((flow.plaintext_age for _, flow in ways if flow.plaintext_age is not None), default=None),
        tls=_tls(addresses.snapshot) if encrypted else "",
        reasons=tuple(sorted({why for way, _ in ways for why in reasons.get((way.client, way.server), ())})),
        clients=_identities(addresses.snapshot, client),
        servers=_identities(addresses.snapshot, server),
    )


def _line(way: Way, flow: Flow, addresses: Addresses) -> WayLine:
    client, server = (addresses.workloads.get(end) for end in (way.client, way.server))
    dialled = None
    if client is not None and server is not None:
        from_pod = next((each for each in client.workloads if each.has_sidecar), None)
        if from_pod is not None:
            to_pod = server.workloads[0]
            dialled = addresses.dialled(from_pod, way.service, way.server.namespace, to_pod, way.port)
    return WayLine(
        client=way.client.name if way.client.namespace == NO_NAMESPACE else "",
        service=way.service,
        port=way.port,
        protocol=way.protocol,
        unit=way.unit,
        lock=_lock(flow.lock, way),
        mutual_tls_percent=flow.seen.mutual_tls_percent,
        rates=_rates(flow.recent, flow.recent_seconds),
        total=_total(flow.total),
        plaintext_age=flow.plaintext_age,
        accepts=_accepts(addresses.snapshot, server, way.port),
        rule=graph_nodes.reference(dialled.destination_rule) if dialled else None,
        sends=_sends(client, dialled),
    )


def _total(counts: Counts) -> dict[str, float]:
    return {name: getattr(counts, name) for name in ("count", "mutual_tls", "plaintext", "errors", "denied", "refused")}


def _lock(lock: Lock, way: Way) -> Lock:
    return Lock.LEAVES if is_open(lock) and way.server.namespace == NO_NAMESPACE else lock


def _rates(recent: Counts, seconds: float) -> Rates:
    if not seconds:
        return Rates(None, None, None, None, None, None, None)

    def per_second(count: float) -> float:
        return round(count / seconds, 3)

    return Rates(
        count=per_second(recent.count),
        mutual_tls=per_second(recent.mutual_tls),
        plaintext=per_second(recent.plaintext),
        errors=per_second(recent.errors),
        denied=per_second(recent.denied),
        refused=per_second(recent.refused),
        milliseconds=round(recent.milliseconds / recent.served, 2) if recent.milliseconds and recent.served else None,
    )


def _accepts(snapshot: MeshSnapshot, server: Owned | None, port: int) -> Accepts | None:
    guarded = next((each for each in server.workloads if each.has_sidecar), None) if server else None
    if guarded is None:
        return None
    effective = snapshot.mode_of(guarded)
    by_port = any(number == port for number, _ in effective.ports)
    decided_by = effective.ports_decided_by if by_port else effective.decided_by
    return Accepts(effective.on_port(port).value, port, graph_nodes.reference(decided_by))


def _sends(client: Owned | None, dialled: OutboundPort | None) -> str:
    if client is None or not any(each.has_sidecar for each in client.workloads):
        return "whatever the application sends: no sidecar"
    if dialled is None:
        return "what the application sends: no Service is known for the port"
    if dialled.tls.mode is ClientTlsMode.AUTO:
        return "mutual TLS to every pod that takes it"
    return f"as mode {dialled.tls.mode.value} says"


def _tls(snapshot: MeshSnapshot) -> str:
    """The version is not in the counters. Both sidecars offer 1.3 as the highest, so handshakes agree on it."""
    least = _VERSIONS.get(snapshot.mesh.min_tls_version, "1.2")
    return f"TLS 1.3 by configuration (both sidecars offer it; the mesh takes {least} or newer); not measured"


def _identities(snapshot: MeshSnapshot, item: Owned | None) -> tuple[str, ...]:
    found = item.workloads if item else ()
    return tuple(sorted({graph_nodes.identity(snapshot, each) for each in found if each.has_sidecar}))


def _reasons(overview: Overview, addresses: Addresses) -> Mapping[tuple[End, End], Iterable[str]]:
    found: dict[tuple[End, End], set[str]] = {}
    for seen in overview.plaintext:
        server = addresses.by_pod.get(seen.server)
        if server is not None:
            client = addresses.by_pod.get(seen.client) or End(NO_NAMESPACE, seen.client)
            found.setdefault((client, server), set()).add(seen.reason)
    return found


def is_open(lock: Lock) -> bool:
    """Whether plaintext was served."""
    return lock in (Lock.OPEN, Lock.PART)

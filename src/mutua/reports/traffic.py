"""Who talks to whom, how often and over what: the edges of a mesh, as its sidecars counted them."""

from collections.abc import Iterable
from enum import StrEnum
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from mutua.errors import InvalidInputError
from mutua.reports.exposition import Sample
from mutua.reports.proxy_status import PlaintextSeen
from mutua.spiffe import SpiffeId

_UNKNOWN: Final = "unknown"
_NOBODY_ANSWERED: Final = frozenset({"UF", "UH", "NR", "NC", "UO", "URX"})
"""Envoy's flags of a request or connection that reached no server. Source: RESPONSE_FLAGS in Envoy's access log."""

_GRPC_FAULTS: Final = frozenset({"2", "4", "12", "13", "14", "15"})
"""UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS: what HTTP says with 5xx."""


class Unit(StrEnum):
    """What an edge counts."""

    REQUESTS = "requests"
    CONNECTIONS = "connections"


class SeenBy(StrEnum):
    """Whose sidecar counted: the server's where it has one, else the client's."""

    SERVER = "server"
    CLIENT = "client"


Ends = tuple[Any, ...]


class EdgeTraffic(msgspec.Struct, frozen=True):
    """One client and one server port, since the server's sidecar (or the client's) started.

    A client that is no pod has an address only; a server that is no workload has a service or nothing. Of `count`,
    `mutual_tls` came over the mesh's mutual TLS and `plaintext` did not, `errors` were answered with 5xx or not at all,
    `denied` by an authorization policy. `refused` are connections that the port's mode turned away: they are no part
    of `count`. What the client's sidecar sent and no server answered is an edge of its own, seen by the client.
    """

    source_namespace: str
    source_workload: str
    source_principal: str  # spiffe://…; "" unless proven
    source_address: str  # "" for a client that proved who it is
    destination_namespace: str
    destination_workload: str
    destination_service: str  # host; "" for a port that no service names
    destination_port: int  # the workload's if the server counted, the service's if the client did; 0 = not known
    protocol: str  # http, grpc, tcp
    unit: Unit
    seen_by: SeenBy
    count: int = 0
    mutual_tls: int = 0
    plaintext: int = 0
    errors: int = 0
    denied: int = 0
    refused: int = 0
    duration_sum_milliseconds: float = 0.0  # of all requests in `count`; 0 = not known

    @property
    def ends(self) -> Ends:
        """What makes an edge the same edge."""
        return msgspec.structs.astuple(self)[:_ENDS]


_ENDS: Final = EdgeTraffic.__struct_fields__.index("count")


class TrafficPage(msgspec.Struct, frozen=True):
    """What one replica of the control plane knows of the sidecars that are connected to it."""

    control_plane: str
    edges: tuple[EdgeTraffic, ...] = ()
    silent: tuple[str, ...] = ()  # "namespace/pod: why" of sidecars that did not answer


class Name(NamedTuple):
    """A workload."""

    namespace: str
    workload: str


class Directory(Protocol):
    """Who is who in the mesh at this moment."""

    def at(self, address: str) -> Name | None:
        """The workload of the pod with this address."""

    def pod(self, name: str) -> Name | None:
        """The workload of `namespace/pod`."""

    def only_one_as(self, identity: SpiffeId) -> str:
        """The workload that runs as this identity; "" if there is none, or more than one."""

    def counts(self, name: Name) -> bool:
        """Whether the workload has a sidecar."""


class Sidecar(NamedTuple):
    """What one sidecar counted. Whose it is says the control plane, not the sidecar."""

    name: Name
    samples: Iterable[Sample]


def edges(
    sidecars: Iterable[Sidecar], ledger: Iterable[PlaintextSeen], directory: Directory
) -> tuple[EdgeTraffic, ...]:
    """All edges, in order of their ends. `ledger`: what is known of connections without mutual TLS."""
    found: list[EdgeTraffic] = []
    for sidecar in sidecars:
        samples = list(sidecar.samples)
        found += _as_server(sidecar.name, samples, directory)
        found += _as_client(sidecar.name, samples, directory)
    found += _refused(ledger, directory)
    return merged(found)


def merged(parts: Iterable[EdgeTraffic]) -> tuple[EdgeTraffic, ...]:
    """One edge for all that have the same ends, in order of the ends; what is nought is left out."""
    sums: dict[Ends, list[float]] = {}
    for part in parts:
        values = msgspec.structs.astuple(part)
        earlier = sums.get(values[:_ENDS])
        if earlier is None:
            sums[values[:_ENDS]] = list(values[_ENDS:])
        else:
            for place, number in enumerate(values[_ENDS:]):
                earlier[place] += number
    found = (EdgeTraffic(*ends, *sums[ends]) for ends in sorted(sums))
    return tuple(edge for edge in found if edge.count or edge.refused)


class _Source(NamedTuple):
    name: Name
    principal: str
    address: str


_NOBODY: Final = Name("", "")


class _Port(NamedTuple):
    service: str
    port: int
    protocol: str


def _as_server(name: Name, samples: list[Sample], directory: Directory) -> list[EdgeTraffic]:
    """What came in."""
    parts: list[EdgeTraffic] = []
    named: dict[tuple[_Port, bool], int] = {}
    unnamed: list[EdgeTraffic] = []
    tcp = _Connections()
    for sample in samples:
        labels = sample.labels
        by_address = "source_address" in labels
        if not by_address and labels.get("reporter") != "destination":
            continue
        way = _port(labels)
        source = _at(labels["source_address"], directory) if by_address else _proven(labels, directory)
        edge = EdgeTraffic(
            source_namespace=source.name.namespace,
            source_workload=source.name.workload,
            source_principal=source.principal,
            source_address=source.address,
            destination_namespace=name.namespace,
            destination_workload=name.workload,
            destination_service=way.service,
            destination_port=way.port,
            protocol=way.protocol,
            unit=_unit(way.protocol),
            seen_by=SeenBy.SERVER,
        )
        secure = labels.get("connection_security_policy") == "mutual_tls"
        count = round(sample.value)
        match sample.name:
            case "istio_requests_total":
                made = _counted(edge, count, secure=secure, failed=_failed(labels))
                (parts if secure else unnamed).append(made)
            case "mutua_plaintext_requests_total" | "mutua_plaintext_connections_total":
                parts.append(_counted(edge, count, secure=False, failed=_failed(labels)))
                named[way, _failed(labels)] = named.get((way, _failed(labels)), 0) + count
            case "mutua_request_microseconds_total" if secure:
                parts.append(_lasting(edge, sample.value))
            case "mutua_plaintext_request_microseconds_total":
                parts.append(_lasting(edge, sample.value))
            case "mutua_denied_total" if by_address and way.protocol == "tcp":
                # It came no further than to the policy, so that it is among no connection that opened.
                made = _counted(edge, count, secure=False, failed=False)
                parts.append(msgspec.structs.replace(made, denied=count))
                named[way, False] = named.get((way, False), 0) + count
            case "mutua_denied_total":
                parts.append(msgspec.structs.replace(edge, denied=count))
            case "istio_tcp_connections_opened_total" | "istio_tcp_connections_closed_total":
                tcp.add(sample, edge, secure=secure)
    for made in tcp.edges():
        (parts if made.mutual_tls else unnamed).append(made)
    return parts + _rest(unnamed, named)


def _rest(unnamed: list[EdgeTraffic], named: dict[tuple[_Port, bool], int]) -> list[EdgeTraffic]:
    """What came in plaintext from addresses that the sidecar had no room to tell apart."""
    left = dict(named)
    found = []
    for edge in unnamed:
        key = (_Port(edge.destination_service, edge.destination_port, edge.protocol), bool(edge.errors))
        known = min(left.get(key, 0), edge.count)
        left[key] = left.get(key, 0) - known
        rest = edge.count - known
        found.append(msgspec.structs.replace(edge, count=rest, plaintext=rest, errors=min(edge.errors, rest)))
    return found


def _as_client(name: Name, samples: list[Sample], directory: Directory) -> list[EdgeTraffic]:
    """What went out to where nobody counts, or did not arrive."""
    parts: list[EdgeTraffic] = []
    tcp = _Connections()
    for sample in samples:
        labels = sample.labels
        if labels.get("reporter") != "source":
            continue
        server = Name(_known(labels, "destination_workload_namespace"), _known(labels, "destination_workload"))
        arrived = not _NOBODY_ANSWERED.intersection(labels.get("response_flags", "").split(","))
        if arrived and server.workload and directory.counts(server):
            continue
        way = _port(labels)
        secure = bool(_known(labels, "destination_principal"))
        edge = EdgeTraffic(
            source_namespace=name.namespace,
            source_workload=name.workload,
            source_principal=_known(labels, "source_principal"),
            source_address="",
            destination_namespace=server.namespace or _known(labels, "destination_service_namespace"),
            destination_workload=server.workload,
            destination_service=way.service,
            destination_port=way.port,
            protocol=way.protocol,
            unit=_unit(way.protocol),
            seen_by=SeenBy.CLIENT,
        )
        match sample.name:
            case "istio_requests_total":
                made = _counted(edge, round(sample.value), secure=secure, failed=_failed(labels))
                parts.append(made if arrived else msgspec.structs.replace(made, mutual_tls=0, plaintext=0))
            case "istio_tcp_connections_opened_total" | "istio_tcp_connections_closed_total":
                tcp.add(sample, edge, secure=secure)
    return parts + tcp.edges()


def _refused(ledger: Iterable[PlaintextSeen], directory: Directory) -> Iterable[EdgeTraffic]:
    """Connections that a port's mode turned away: no sidecar counts them, since no chain took them."""
    for seen in ledger:
        server = directory.pod(seen.server)
        if not seen.refused or server is None:
            continue
        client = directory.pod(seen.client)
        namespace, _, pod = seen.client.rpartition("/")
        yield EdgeTraffic(
            # A pod that has gone keeps its own name.
            source_namespace=client.namespace if client else namespace,
            source_workload=client.workload if client else (pod if namespace else ""),
            source_principal="",
            source_address="" if namespace else seen.client,
            destination_namespace=server.namespace,
            destination_workload=server.workload,
            destination_service="",
            destination_port=seen.port,
            protocol="tcp",
            unit=Unit.CONNECTIONS,
            seen_by=SeenBy.SERVER,
            refused=seen.connections,
        )


class _Connections:
    """Connections that opened and that closed, which two counters tell: some are open yet, others never opened."""

    def __init__(self) -> None:
        self._edges: dict[tuple[Ends, bool], EdgeTraffic] = {}
        self._opened: dict[tuple[Ends, bool], int] = {}
        self._closed: dict[tuple[Ends, bool], int] = {}
        self._failed: dict[tuple[Ends, bool], int] = {}

    def add(self, sample: Sample, edge: EdgeTraffic, *, secure: bool) -> None:
        """Take one of the two counters."""
        key = (edge.ends, secure)
        self._edges[key] = edge
        count = round(sample.value)
        if sample.name == "istio_tcp_connections_opened_total":
            self._opened[key] = self._opened.get(key, 0) + count
            return
        self._closed[key] = self._closed.get(key, 0) + count
        if _NOBODY_ANSWERED.intersection(sample.labels.get("response_flags", "").split(",")):
            self._failed[key] = self._failed.get(key, 0) + count

    def edges(self) -> list[EdgeTraffic]:
        """One edge for both counters."""
        found = []
        for key, edge in self._edges.items():
            count = max(self._opened.get(key, 0), self._closed.get(key, 0))
            made = _counted(edge, count, secure=key[1], failed=False)
            found.append(msgspec.structs.replace(made, errors=self._failed.get(key, 0)))
        return found


def _counted(edge: EdgeTraffic, count: int, *, secure: bool, failed: bool) -> EdgeTraffic:
    return msgspec.structs.replace(
        edge,
        count=count,
        mutual_tls=count if secure else 0,
        plaintext=0 if secure else count,
        errors=count if failed else 0,
    )


def _lasting(edge: EdgeTraffic, microseconds: float) -> EdgeTraffic:
    return msgspec.structs.replace(edge, duration_sum_milliseconds=microseconds / 1000)


def _failed(labels: dict[str, str]) -> bool:
    code = labels.get("response_code", "200")
    return code == "0" or code.startswith("5") or labels.get("grpc_response_status") in _GRPC_FAULTS


def _port(labels: dict[str, str]) -> _Port:
    number = labels.get("destination_port", "")
    return _Port(
        _known(labels, "destination_service"),
        int(number) if number.isascii() and number.isdigit() and len(number) <= 5 else 0,
        labels.get("request_protocol", "tcp"),
    )


def _unit(protocol: str) -> Unit:
    return Unit.CONNECTIONS if protocol == "tcp" else Unit.REQUESTS


def _known(labels: dict[str, str], key: str) -> str:
    value = labels.get(key, "")
    return "" if value == _UNKNOWN else value


def _at(address: str, directory: Directory) -> _Source:
    return _Source(directory.at(address) or _NOBODY, "", address)


def _proven(labels: dict[str, str], directory: Directory) -> _Source:
    """The client that a certificate names: its namespace and account are proven, its workload is what it says."""
    principal = _known(labels, "source_principal")
    if not principal:
        return _Source(_NOBODY, "", "")
    try:
        identity = SpiffeId.parse(principal)
    except InvalidInputError:
        return _Source(_NOBODY, principal, "")
    workload = _known(labels, "source_workload") or directory.only_one_as(identity)
    return _Source(Name(identity.namespace, workload), principal, "")

"""What the workload accepts: the virtualInbound listener, its filter chains by port and mode, and their clusters."""

from collections.abc import Iterator
from enum import Enum
from typing import Any, Final

import msgspec
from envoy.config.core.v3 import base_pb2
from envoy.config.listener.v3 import listener_pb2

from mutua.envoy import access_log, clusters, connections, listeners, names, routes, tls
from mutua.envoy.endpoints import socket_address
from mutua.envoy.filters import order
from mutua.envoy.filters.rbac import Providers
from mutua.envoy.memo import remembered
from mutua.envoy.pack import duration
from mutua.envoy.resource_set import CLUSTER, LISTENER, ROUTE, Fragment, Resource, resource, section
from mutua.envoy.telemetry import Served
from mutua.mesh.proxy_view import InboundView, MeshView, MtlsMode, Protocol

HANDSHAKE_TIMEOUT_SECONDS: Final = 15.0


class Reading(Enum):
    """How a port's bytes are read."""

    HTTP = "http"
    TCP = "tcp"
    AUTO = "auto"


class Way(msgspec.Struct, frozen=True):
    """One kind of connection that a port takes: how it is recognised, and whether it is read as requests."""

    transport: str
    application_protocols: tuple[str, ...] = ()
    http: bool = False
    mutual_tls: bool = False


_MUTUAL_HTTP: Final = Way(listeners.TLS, tls.ISTIO_HTTP_ALPN, http=True, mutual_tls=True)
_MUTUAL_TCP: Final = Way(listeners.TLS, tls.ISTIO_TCP_ALPN, mutual_tls=True)
_ANY_ISTIO_ALPN: Final = ("istio", "istio-peer-exchange", *tls.ISTIO_HTTP_ALPN)
_SNIFFED_HTTP: Final = Way(listeners.PLAINTEXT, listeners.SNIFFED_HTTP, http=True)
_PLAINTEXT_TCP: Final = Way(listeners.PLAINTEXT)
_FOREIGN_TLS: Final = Way(listeners.TLS)
"""TLS that is not the mesh's: the application's own, carried unread."""

WAYS: Final[dict[tuple[MtlsMode, Reading], tuple[Way, ...]]] = {
    (MtlsMode.STRICT, Reading.HTTP): (Way(listeners.TLS, http=True, mutual_tls=True),),
    (MtlsMode.STRICT, Reading.TCP): (Way(listeners.TLS, mutual_tls=True),),
    (MtlsMode.STRICT, Reading.AUTO): (_MUTUAL_HTTP, Way(listeners.TLS, mutual_tls=True)),
    (MtlsMode.PERMISSIVE, Reading.HTTP): (
        Way(listeners.TLS, _ANY_ISTIO_ALPN, http=True, mutual_tls=True),
        Way(listeners.PLAINTEXT, http=True),
    ),
    (MtlsMode.PERMISSIVE, Reading.TCP): (
        Way(listeners.TLS, _ANY_ISTIO_ALPN, mutual_tls=True),
        _PLAINTEXT_TCP,
        _FOREIGN_TLS,
    ),
    (MtlsMode.PERMISSIVE, Reading.AUTO): (_MUTUAL_HTTP, _SNIFFED_HTTP, _MUTUAL_TCP, _PLAINTEXT_TCP, _FOREIGN_TLS),
    (MtlsMode.DISABLE, Reading.HTTP): (Way(listeners.PLAINTEXT, http=True),),
    (MtlsMode.DISABLE, Reading.TCP): (_PLAINTEXT_TCP,),
    (MtlsMode.DISABLE, Reading.AUTO): (_SNIFFED_HTTP, _PLAINTEXT_TCP),
}
"""The whole of PeerAuthentication: which connections a port takes in each mode. All others are closed."""


def reading(protocol: Protocol) -> Reading:
    """How a port of this protocol is read."""
    if protocol.is_http:
        return Reading.HTTP
    return Reading.AUTO if protocol is Protocol.AUTO else Reading.TCP


@remembered(limit=2048)
def fragment(mesh: MeshView, view: InboundView, providers: Providers) -> Fragment:
    """The listener, the routes and the clusters of everything that comes in.

    `providers`: the external authorizers that the proxy has a cluster for.
    """
    made = [clusters.inbound(mesh, port) for port in view.ports]
    made += [clusters.inbound_passthrough(mesh), clusters.blackhole(mesh)]
    routed = section(_routes(view, providers))
    return Fragment(
        sections={CLUSTER: section(made), LISTENER: section([_listener(mesh, view, providers)]), ROUTE: routed},
        references=frozenset((ROUTE, name) for name in routed.resources)
        | {(CLUSTER, names.outbound_cluster(each.port, each.host)) for each in providers},
    )


def _routes(view: InboundView, providers: Providers) -> Iterator[Resource]:
    """The routes to each port that takes requests, with what policies say about those."""
    told = order.inbound_route(view, providers)
    yield routes.inbound(names.INBOUND_PASSTHROUGH_CLUSTER, 0, told)
    for port in view.ports:
        if any(way.http for way in WAYS[port.mode, reading(port.protocol)]):
            yield routes.inbound(names.inbound_cluster(port.number), port.number, told)


def _listener(mesh: MeshView, view: InboundView, providers: Providers) -> Resource:
    listener = listener_pb2.Listener(
        name=names.VIRTUAL_INBOUND,
        address=socket_address(names.ANY_ADDRESS, names.INBOUND_PORT),
        traffic_direction=base_pb2.INBOUND,
        listener_filters=[listeners.original_destination(), *_inspectors(view)],
        listener_filters_timeout=duration(mesh.protocol_detection_timeout_ms / 1000),
        # Who says nothing in time is served as plaintext, which a STRICT port has no chain for.
        continue_on_listener_filters_timeout=True,
        filter_chains=_chains(mesh, view, providers),
        access_log=[*access_log.of_refused_connections(mesh), *access_log.of_plaintext_connections()],
    )
    return resource(names.VIRTUAL_INBOUND, LISTENER, listener)


def _chains(mesh: MeshView, view: InboundView, providers: Providers) -> Iterator[Any]:
    yield listeners.filter_chain(
        names.VIRTUAL_INBOUND_BLACKHOLE, [connections.blackhole(mesh)], destination_port=names.INBOUND_PORT
    )
    parts = _Parts(mesh, view, providers)
    named = {port.number for port in view.ports}
    unnamed = [(0, view.default_mode), *((port, mode) for port, mode in view.port_modes if port not in named)]
    for number, mode in unnamed:
        for way in WAYS[mode, Reading.AUTO]:
            name = names.VIRTUAL_INBOUND_HTTP if way.http else names.VIRTUAL_INBOUND
            yield parts.chain(way, name, Served("", number, way.mutual_tls), names.INBOUND_PASSTHROUGH_CLUSTER)
    for port in view.ports:
        if port.number == names.INBOUND_PORT:
            continue
        for way in WAYS[port.mode, reading(port.protocol)]:
            name = names.address_listener(names.ANY_ADDRESS, port.number)
            served = Served(port.host, port.number, way.mutual_tls)
            yield parts.chain(way, name, served, names.inbound_cluster(port.number))


class _Parts:
    """What all chains of one workload share, made once."""

    def __init__(self, mesh: MeshView, view: InboundView, providers: Providers) -> None:
        self._mesh = mesh
        named = mesh.telemetry
        self._for_requests = {known: order.inbound_http(view, providers, named=known) for known in {named, False}}
        self._for_bytes = order.inbound_tcp(view, providers)
        self._tls_for_requests = tls.server(mesh, view.trust, tls.HTTP_SERVER_ALPN)
        self._tls_for_bytes = tls.server(mesh, view.trust, tls.TCP_SERVER_ALPN)
        self._handshake_timeout = duration(HANDSHAKE_TIMEOUT_SECONDS)

    def chain(self, way: Way, name: str, served: Served, cluster: str) -> Any:
        """The chain for connections of one kind to one port (0: any) and on to `cluster`; routes have its name."""
        if way.http:
            stat_prefix = f"inbound_{names.address_listener(names.ANY_ADDRESS, served.port)}"
            for_requests = self._for_requests[way.mutual_tls and self._mesh.telemetry]
            filters = [connections.inbound_requests(self._mesh, stat_prefix, cluster, for_requests, served)]
        else:
            filters = [*self._for_bytes, connections.bytes_in(self._mesh, cluster, served)]
        transport_socket = self._tls_for_requests if way.http else self._tls_for_bytes
        return listeners.filter_chain(
            name,
            filters,
            destination_port=served.port,
            transport=way.transport,
            application_protocols=way.application_protocols,
            transport_socket=transport_socket if way.mutual_tls else None,
            handshake_timeout=self._handshake_timeout,
        )


def _inspectors(view: InboundView) -> Iterator[Any]:
    """The inspectors, each off where no chain asks for its findings: a port that nobody inspects never waits."""
    known = dict(view.port_modes) | {port.number: port.mode for port in view.ports}
    readings = {port.number: reading(port.protocol) for port in view.ports}
    ways = {number: WAYS[mode, readings.get(number, Reading.AUTO)] for number, mode in known.items()}
    unknown = WAYS[view.default_mode, Reading.AUTO]
    for inspector, asked in ((listeners.tls_inspector, _asks_for_tls), (listeners.http_inspector, _asks_for_http)):
        wanted = {number for number, kinds in ways.items() if asked(kinds)}
        if asked(unknown):
            yield inspector(listeners.on_ports(known.keys() - wanted))
        elif wanted:
            yield inspector(listeners.not_on_ports(wanted))


def _asks_for_tls(ways: tuple[Way, ...]) -> bool:
    return any(way.transport == listeners.TLS for way in ways)


def _asks_for_http(ways: tuple[Way, ...]) -> bool:
    return any(way.application_protocols == listeners.SNIFFED_HTTP for way in ways)

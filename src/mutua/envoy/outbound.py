"""What the workload can dial: a listener per address or HTTP port, their routes and clusters."""

from collections.abc import Iterator
from typing import Any

from envoy.config.core.v3 import base_pb2
from envoy.config.listener.v3 import listener_pb2
from google.protobuf import wrappers_pb2

from mutua.envoy import access_log, clusters, connections, listeners, names, routes, shared_ports, traffic
from mutua.envoy.endpoints import socket_address
from mutua.envoy.filters import order
from mutua.envoy.memo import remembered
from mutua.envoy.pack import duration
from mutua.envoy.resource_set import CLUSTER, LISTENER, ROUTE, Fragment, Resource, resource, section
from mutua.envoy.shared_ports import Shared
from mutua.mesh.proxy_view import ClientTlsMode, MeshView, OutboundPort, OutboundService, OutboundView, Protocol, Trust


@remembered(limit=512)
def fragment(mesh: MeshView, trust: Trust, view: OutboundView) -> Fragment:
    """The clusters, listeners and routes of everything that goes out."""
    # The first of a name wins: what a Service has, no ServiceEntry takes.
    services = sorted(view.services, key=lambda service: service.is_entry)
    ports = [(service, port) for service in services for port in service.ports]
    sniffed = [(service, port) for service, port in ports if _has_own_route(service, port)]
    made = section(
        [
            *(
                clusters.outbound(mesh, trust, service, port, subset)
                for service, port in ports
                for subset in (None, *port.subsets)
            ),
            clusters.passthrough(mesh),
            clusters.blackhole(mesh),
        ]
    )
    shared = shared_ports.of(services)
    http = {number: each.requests for number, each in shared.items() if each.requests}
    route_section = section(
        [
            *(routes.of_port(mesh, view, number, asked) for number, asked in http.items()),
            *(routes.of_service(mesh, service, port) for service, port in sniffed),
        ]
    )
    listener_section = section(
        [
            _catch_all(mesh),
            *(_shared_listener(mesh, number, each) for number, each in shared.items()),
            *(made for service, port in ports for made in _own_listeners(mesh, service, port)),
        ]
    )
    references = {(ROUTE, names.port_route(number)) for number in http}
    references |= {(ROUTE, names.service_route(service.host, port.number)) for service, port in sniffed}
    references |= {(CLUSTER, name) for name in made.resources}
    return Fragment(
        sections={CLUSTER: made, LISTENER: listener_section, ROUTE: route_section},
        references=frozenset(references),
    )


def _has_own_route(service: OutboundService, port: OutboundPort) -> bool:
    if port.number in shared_ports.RESERVED or not service.addresses or shared_ports.is_shared(port):
        return False
    return port.protocol.is_http or port.protocol is Protocol.AUTO


@remembered(limit=32768)
def _own_listeners(mesh: MeshView, service: OutboundService, port: OutboundPort) -> tuple[Resource, ...]:
    """The listeners of one service port's own addresses: of the service, or of each pod if it is headless."""
    return tuple(_listeners_by_address(mesh, service, port)) if port.number not in shared_ports.RESERVED else ()


def _listeners_by_address(mesh: MeshView, service: OutboundService, port: OutboundPort) -> Iterator[Resource]:
    cluster = names.outbound_cluster(port.number, service.host)
    for address in service.addresses if not shared_ports.is_shared(port) else ():
        chains = _Chains(mesh, port, cluster)
        yield _address_listener(address, port.number, chains.to(names.service_route(service.host, port.number)))
    for address, number in _pods(service, port):
        chains = _Chains(mesh, port, cluster)
        to_pod = chains.to(routes.to_one_endpoint(mesh, service, port, address), routes.only_endpoint(address))
        yield _address_listener(address, number, to_pod)


def _pods(service: OutboundService, port: OutboundPort) -> list[tuple[str, int]]:
    """The pods of a headless service that this port means.

    A client dials a pod's own port, so the service port is the one with that number, or the only one that there is.
    """
    if not service.is_headless:
        return []
    numbers = {each.number for each in service.ports}
    return [
        (address, number)
        for address, number in service.headless_addresses
        if number not in shared_ports.RESERVED
        and (number == port.number or (len(service.ports) == 1 and number not in numbers))
    ]


class _Chains:
    """The filter chains of one address, as its protocol wants them."""

    def __init__(self, mesh: MeshView, port: OutboundPort, cluster: str) -> None:
        self._mesh = mesh
        self._port = port
        self._cluster = cluster

    def to(self, http_routes: Any, only_endpoint: Any = None) -> Any:
        """A listener without name and address: its filters and chains."""
        carried = listeners.filter_chain(
            "",
            [
                connections.bytes_out(
                    self._mesh,
                    self._cluster,
                    only_endpoint=only_endpoint,
                    hash_policies=traffic.connection_hash_policies(self._port.traffic),
                )
            ],
        )
        if self._port.protocol in (Protocol.TCP, Protocol.TLS):
            return listener_pb2.Listener(filter_chains=[carried])
        mesh_tls = self._port.tls.mode in (ClientTlsMode.AUTO, ClientTlsMode.ISTIO_MUTUAL)
        requests = connections.outbound_requests(
            self._mesh,
            self._cluster,
            http_routes,
            order.outbound_http(sniffed=mesh_tls and not self._port.protocol.is_http),
        )
        if self._port.protocol.is_http:
            return listener_pb2.Listener(filter_chains=[listeners.filter_chain("", [requests])])
        return _sniffing(self._mesh, [_of_requests(requests)], carried)


def _shared_listener(mesh: MeshView, number: int, shared: Shared) -> Resource:
    """Everything with one port that has no address to itself. What nothing claims goes where unknown traffic goes."""
    chains: list[Any] = []
    if shared.requests:
        requests = connections.outbound_requests(
            mesh,
            f"outbound_{names.address_listener(names.ANY_ADDRESS, number)}",
            names.port_route(number),
            order.outbound_http(),
        )
        for blocks in ((), *((block,) for block in shared.blocks_with_requests)):
            chains.append(_of_requests(requests, blocks))
    for claim in shared.claims:
        carrying = [_carried(mesh, claim.host, claim.port)]
        # Envoy does not go back: where plaintext has a chain for requests, what is no request needs one there, too.
        beside_requests = not claim.server_names and bool(shared.requests)
        kinds_of_bytes = (listeners.PLAINTEXT, "") if beside_requests else ("",)
        chains += [
            listeners.filter_chain(
                "",
                carrying,
                blocks=claim.blocks,
                server_names=claim.server_names,
                transport=listeners.TLS if claim.server_names else transport,
            )
            for transport in kinds_of_bytes
        ]
    rest = shared.rest
    carried = listeners.filter_chain("", [_carried(mesh, *rest) if rest else _to_unknown(mesh)])
    if not shared.is_looked_at:
        made = listener_pb2.Listener(filter_chains=chains, default_filter_chain=carried)
    else:
        made = _sniffing(mesh, chains, carried)
    return _address_listener(names.ANY_ADDRESS, number, made)


def _carried(mesh: MeshView, host: str, port: OutboundPort) -> Any:
    cluster = names.outbound_cluster(port.number, host)
    return connections.bytes_out(mesh, cluster, hash_policies=traffic.connection_hash_policies(port.traffic))


def _of_requests(requests: Any, blocks: tuple[str, ...] = ()) -> Any:
    """The chain of what turns out to be HTTP."""
    return listeners.filter_chain(
        "",
        [requests],
        transport=listeners.PLAINTEXT,
        application_protocols=listeners.SNIFFED_HTTP,
        blocks=blocks,
    )


def _sniffing(mesh: MeshView, chains: list[Any], carried: Any) -> Any:
    return listener_pb2.Listener(
        listener_filters=[listeners.tls_inspector(), listeners.http_inspector()],
        listener_filters_timeout=duration(mesh.protocol_detection_timeout_ms / 1000),
        continue_on_listener_filters_timeout=True,
        filter_chains=chains,
        default_filter_chain=carried,
    )


def _address_listener(address: str, port: int, listener: Any) -> Resource:
    """A listener that gets its connections from virtualOutbound, by the address that was dialled."""
    name = names.address_listener(address, port)
    listener.name = name
    listener.address.CopyFrom(socket_address(address, port))
    listener.traffic_direction = base_pb2.OUTBOUND
    listener.bind_to_port.CopyFrom(wrappers_pb2.BoolValue(value=False))
    return resource(name, LISTENER, listener)


def _catch_all(mesh: MeshView) -> Resource:
    """Where capture sends everything; it keeps what no other listener's address takes."""
    listener = listener_pb2.Listener(
        name=names.VIRTUAL_OUTBOUND,
        address=socket_address(names.ANY_ADDRESS, names.OUTBOUND_PORT),
        traffic_direction=base_pb2.OUTBOUND,
        use_original_dst=wrappers_pb2.BoolValue(value=True),
        filter_chains=[
            # Someone who dials the sidecar's own port would have it dial itself without end.
            listeners.filter_chain(
                names.VIRTUAL_OUTBOUND_BLACKHOLE, [connections.blackhole(mesh)], destination_port=names.OUTBOUND_PORT
            ),
            listeners.filter_chain(
                f"{names.VIRTUAL_OUTBOUND_BLACKHOLE}-inbound",
                [connections.blackhole(mesh)],
                destination_port=names.INBOUND_PORT,
            ),
        ],
        default_filter_chain=listeners.filter_chain(names.VIRTUAL_OUTBOUND_TCP, [_to_unknown(mesh)]),
        access_log=access_log.of_refused_connections(mesh),
    )
    return resource(names.VIRTUAL_OUTBOUND, LISTENER, listener)


def _to_unknown(mesh: MeshView) -> Any:
    if mesh.outbound_allow_any:
        return connections.bytes_out(mesh, names.PASSTHROUGH_CLUSTER)
    return connections.blackhole(mesh)

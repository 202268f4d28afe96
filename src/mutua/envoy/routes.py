"""Routes: which virtual host answers to which name, and where its requests go."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from envoy.config.core.v3 import base_pb2
from envoy.config.route.v3 import route_components_pb2, route_pb2
from envoy.extensions.retry.host.previous_hosts.v3 import previous_hosts_pb2
from google.protobuf import wrappers_pb2

from mutua.envoy import endpoints, names, telemetry, traffic
from mutua.envoy.memo import remembered
from mutua.envoy.pack import duration, packed, struct
from mutua.envoy.resource_set import ROUTE, Resource, resource
from mutua.mesh.proxy_view import (
    ClientTlsMode,
    MeshView,
    OutboundPort,
    OutboundService,
    OutboundView,
    TrafficSettings,
)

RETRY_ON: Final = "connect-failure,refused-stream,unavailable,cancelled"
"""Only what the server cannot have acted upon."""

RETRIES: Final = 2
HOST_SELECTION_ATTEMPTS: Final = 5
BAD_GATEWAY: Final = 502


def of_port(mesh: MeshView, view: OutboundView, number: int, services: Iterable[OutboundService]) -> Resource:
    """The routes of all HTTP services with port `number`, and what becomes of every other name."""
    # Two objects may name one host; the first is the one that its cluster was made of.
    members = list({service.host: service for service in reversed(list(services))}.values())[::-1]
    hosts = _Domains()
    # Every service's full name comes before anyone's short form: a short form never takes over a full name. What a
    # ServiceEntry calls itself takes over neither.
    services_of_cluster = [service for service in members if not service.is_entry]
    domains = {service.host: hosts.unclaimed(_full_names(service, number)) for service in services_of_cluster}
    for service in services_of_cluster:
        domains[service.host] += hosts.unclaimed(_short_names(view, service, number))
    for service in members:
        if service.is_entry:
            domains[service.host] = hosts.unclaimed(_full_names(service, number))
    virtual_hosts = [
        _virtual_host(
            names.service_virtual_host(service.host, number),
            domains[service.host],
            [_to(names.outbound_cluster(number, service.host), _settings(service, number))],
            _introduction(mesh, service, number),
        )
        for service in members
        if domains[service.host]
    ]
    return _resource(names.port_route(number), [*virtual_hosts, _unknown(mesh)])


@remembered(limit=32768)
def of_service(mesh: MeshView, service: OutboundService, port: OutboundPort) -> Resource:
    """The routes of one service port that has an address of its own, so that any name means it."""
    host = names.service_virtual_host(service.host, port.number)
    cluster = names.outbound_cluster(port.number, service.host)
    introduction = _introduction(mesh, service, port.number)
    virtual_host = _virtual_host(host, ["*"], [_to(cluster, port.traffic)], introduction)
    return _resource(names.service_route(service.host, port.number), [virtual_host])


def to_one_endpoint(mesh: MeshView, service: OutboundService, port: OutboundPort, address: str) -> Any:
    """The routes of one pod of a headless service: the pod that the client chose, and no other."""
    route = _to(names.outbound_cluster(port.number, service.host), port.traffic)
    route.route.metadata_match.CopyFrom(only_endpoint(address))
    host = names.service_virtual_host(service.host, port.number)
    virtual_host = _virtual_host(host, ["*"], [route], _introduction(mesh, service, port.number))
    return _configuration(names.service_route(service.host, port.number), [virtual_host])


def only_endpoint(address: str) -> Any:
    """The criterion that restricts a cluster to one of its endpoints."""
    criteria = base_pb2.Metadata()
    criteria.filter_metadata[endpoints.LOAD_BALANCER].CopyFrom(struct({endpoints.ADDRESS_KEY: address}))
    return criteria


def inbound(cluster: str, port: int, told: Mapping[str, Any]) -> Resource:
    """Everything to the application. `port` 0 stands for any port that no service names.

    `told` is what the filters are to do with these requests, by filter name.
    """
    route = _route(route_components_pb2.RouteAction(cluster=cluster, timeout=duration(0)))
    configuration = _configuration(cluster, [_virtual_host(names.inbound_virtual_host(port), ["*"], [route])])
    configuration.request_headers_to_remove.append(telemetry.PEER_HEADER)
    for name, config in told.items():
        configuration.typed_per_filter_config[name].CopyFrom(config)
    return resource(cluster, ROUTE, configuration)


class _Domains:
    """The names that were given to a virtual host: Envoy refuses routes in which one name occurs twice."""

    def __init__(self) -> None:
        self._claimed: set[str] = set()

    def unclaimed(self, wanted: Iterable[str]) -> list[str]:
        """Those of `wanted` that nobody has yet; they are claimed from now on."""
        free = [name for name in dict.fromkeys(wanted) if name not in self._claimed]
        self._claimed.update(free)
        return free


def _full_names(service: OutboundService, port: int) -> Iterator[str]:
    host = service.host.lower()
    names_of_it = [host, f"{host}."]
    if service.is_headless:
        # Each pod of a headless service has a name under the service's.
        names_of_it.append(f"*.{host}")
    for name in (*names_of_it, *map(_bracketed, service.addresses)):
        yield name
        yield f"{name}:{port}"


def _short_names(view: OutboundView, service: OutboundService, port: int) -> Iterator[str]:
    domain = view.cluster_domain.lower()
    if service.host.lower() != f"{service.name}.{service.namespace}.svc.{domain}":
        return
    short = [f"{service.name}.{service.namespace}.svc", f"{service.name}.{service.namespace}"]
    if service.namespace == view.namespace:
        short.append(service.name)
    if service.is_headless:
        short += [f"*.{name}" for name in short]
    for name in short:
        yield name
        yield f"{name}:{port}"


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _settings(service: OutboundService, number: int) -> TrafficSettings:
    return next((port.traffic for port in service.ports if port.number == number), TrafficSettings())


def _to(cluster: str, settings: TrafficSettings) -> Any:
    retry = route_components_pb2.RetryPolicy(
        retry_on=RETRY_ON,
        num_retries=wrappers_pb2.UInt32Value(value=RETRIES),
        host_selection_retry_max_attempts=HOST_SELECTION_ATTEMPTS,
        retry_host_predicate=[
            route_components_pb2.RetryPolicy.RetryHostPredicate(
                name="envoy.retry_host_predicates.previous_hosts",
                typed_config=packed(previous_hosts_pb2.PreviousHostsPredicate()),
            )
        ],
    )
    action = route_components_pb2.RouteAction(cluster=cluster, timeout=duration(0), retry_policy=retry)
    action.hash_policy.extend(traffic.hash_policies(settings))
    return _route(action)


def _route(action: Any) -> Any:
    return route_components_pb2.Route(name="default", match=route_components_pb2.RouteMatch(prefix="/"), route=action)


def _unknown(mesh: MeshView) -> Any:
    if mesh.outbound_allow_any:
        action = route_components_pb2.RouteAction(cluster=names.PASSTHROUGH_CLUSTER, timeout=duration(0))
        return _virtual_host("allow_any", ["*"], [_route(action)])
    refusal = route_components_pb2.Route(
        name="default",
        match=route_components_pb2.RouteMatch(prefix="/"),
        direct_response=route_components_pb2.DirectResponseAction(status=BAD_GATEWAY),
    )
    return _virtual_host("block_all", ["*"], [refusal])


def _introduction(mesh: MeshView, service: OutboundService, number: int) -> tuple[Any, ...]:
    """The header that tells a server of the mesh which workload calls. Nobody outside gets it."""
    port = next((port for port in service.ports if port.number == number), None)
    meshed = port and port.identities and port.tls.mode in (ClientTlsMode.AUTO, ClientTlsMode.ISTIO_MUTUAL)
    return telemetry.introduction() if mesh.telemetry and meshed else ()


def _virtual_host(name: str, domains: list[str], routes: list[Any], headers: Iterable[Any] = ()) -> Any:
    return route_components_pb2.VirtualHost(
        name=name, domains=domains, routes=routes, include_request_attempt_count=True, request_headers_to_add=headers
    )


def _configuration(name: str, virtual_hosts: list[Any]) -> Any:
    return route_pb2.RouteConfiguration(
        name=name, virtual_hosts=virtual_hosts, validate_clusters=wrappers_pb2.BoolValue(value=False)
    )


def _resource(name: str, virtual_hosts: list[Any]) -> Resource:
    return resource(name, ROUTE, _configuration(name, virtual_hosts))

"""Clusters: how each service port, the application itself and everything unknown is dialled."""

from typing import Any, Final

from envoy.config.cluster.v3 import circuit_breaker_pb2, cluster_pb2
from envoy.config.core.v3 import address_pb2, base_pb2, config_source_pb2, protocol_pb2, socket_option_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.extensions.clusters.common.dns.v3 import dns_pb2
from envoy.extensions.clusters.dns.v3 import dns_cluster_pb2
from envoy.extensions.network.dns_resolver.cares.v3 import cares_dns_resolver_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2
from google.protobuf import wrappers_pb2

from mutua.envoy import endpoints, names, telemetry, telemetry_tags, tls, traffic
from mutua.envoy.memo import remembered
from mutua.envoy.pack import duration, packed, struct
from mutua.envoy.resource_set import CLUSTER, Resource, resource
from mutua.envoy.telemetry_tags import UNKNOWN
from mutua.mesh.proxy_view import (
    ClientTlsMode,
    Discovery,
    InboundPort,
    MeshView,
    OutboundPort,
    OutboundService,
    OutboundSubset,
    Protocol,
    Trust,
)

CONNECT_TIMEOUT_SECONDS: Final = 10.0

IDLE_SECONDS: Final = 4.0
"""A server whose listener changed closes idle connections when its drain of 5 s ends. The client closes them before, so
that no request meets a connection that is being closed. DestinationRule's http.idleTimeout overrides it."""

DNS_REFRESH_SECONDS: Final = 60.0
"""For names whose answer has no time to live; others are asked for again when theirs ends."""
DNS_PATIENCE_SECONDS: Final = 2
DNS_TRIES: Final = 2
"""A name server that does not answer holds up a new cluster for as long: by itself Envoy would wait for a minute."""
DNS_FIRST_RETRY_SECONDS: Final = 1.0
DNS_LAST_RETRY_SECONDS: Final = 10.0
NO_LIMIT: Final = 2**32 - 1
INBOUND_SOURCE_ADDRESS: Final = "127.0.0.6"
"""Marks connections from the sidecar to its own application: capture lets them pass."""

SOL_SOCKET: Final = 1
SO_MARK: Final = 36
HTTP_PROTOCOL_OPTIONS: Final = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


@remembered(limit=32768)
def outbound(
    mesh: MeshView, trust: Trust, service: OutboundService, port: OutboundPort, subset: OutboundSubset | None
) -> Resource:
    """The cluster of one service port, or of a subset of it, as clients dial it."""
    client_tls, settings = (subset.tls, subset.traffic) if subset else (port.tls, port.traffic)
    subset_name = subset.name if subset else ""
    name = names.outbound_cluster(port.number, service.host, subset_name)
    cluster = _cluster(mesh, name)
    config = {"services": [{"name": service.name, "namespace": service.namespace, "host": service.host}]}
    if port.destination_rule:
        rule = port.destination_rule
        config["config"] = names.destination_rule_path(rule.namespace, rule.name)  # type: ignore[assignment]
    cluster.metadata.filter_metadata["istio"].CopyFrom(struct(config))
    _describe(cluster, service.host, service.name, service.namespace, port.number)

    if settings.tunnel or service.discovery is Discovery.NONE:
        # What was to go through somebody else's tunnel must not go around it.
        return _refusing(cluster)
    alpn = _client_alpn(port.protocol)
    if client_tls.mode in (ClientTlsMode.SIMPLE, ClientTlsMode.MUTUAL):
        alpn = ("h2",) if port.protocol in (Protocol.HTTP2, Protocol.GRPC) else ()
    if client_tls.mode is not ClientTlsMode.DISABLE:
        server_name = names.server_name(port.number, service.host, subset_name)
        transport = tls.client(mesh, trust, client_tls, server_name, port.identities, alpn)
        if transport is None:
            return _refusing(cluster)
        if client_tls.mode is ClientTlsMode.AUTO:
            cluster.transport_socket_matches.extend(_by_endpoint(transport))
        else:
            cluster.transport_socket.CopyFrom(transport)

    options = _http_options(port.protocol)
    options.common_http_protocol_options.idle_timeout.CopyFrom(duration(IDLE_SECONDS))
    traffic.shape(cluster, options, settings)
    if not _discover(cluster, service.discovery, port, subset):
        return _refusing(_cluster(mesh, name))
    if service.is_headless:
        cluster.lb_subset_config.CopyFrom(_by_address())
    if client_tls.mode in (ClientTlsMode.SIMPLE, ClientTlsMode.MUTUAL):
        # A server outside the mesh answers under the name that was asked for, or not at all.
        options.upstream_http_protocol_options.auto_sni = not client_tls.sni
        verified = not client_tls.insecure_skip_verify
        options.upstream_http_protocol_options.auto_san_validation = verified and not client_tls.subject_alt_names
    cluster.typed_extension_protocol_options[HTTP_PROTOCOL_OPTIONS].CopyFrom(packed(options))
    return resource(name, CLUSTER, cluster)


def _discover(cluster: Any, discovery: Discovery, port: OutboundPort, subset: OutboundSubset | None) -> bool:
    """How the cluster finds its endpoints; False if it is clear that there is none."""
    match discovery:
        case Discovery.ORIGINAL:
            _original_destination(cluster)
            for unused in ("ring_hash_lb_config", "maglev_lb_config"):
                cluster.ClearField(unused)
            if port.target:
                cluster.original_dst_lb_config.upstream_port_override.value = port.target
        case Discovery.DNS | Discovery.DNS_ROUND_ROBIN:
            wanted = subset.labels if subset else frozenset[tuple[str, str]]()
            found = [endpoint for endpoint in port.named_endpoints if wanted <= endpoint.labels]
            if discovery is Discovery.DNS_ROUND_ROBIN:
                found = found[:1]  # a logical host has one name
            cluster.load_assignment.CopyFrom(endpoints.of_cluster(cluster.name, found))
            looking_up = dns_cluster_pb2.DnsCluster(
                dns_refresh_rate=duration(DNS_REFRESH_SECONDS),
                respect_dns_ttl=True,
                dns_lookup_family=dns_pb2.V4_PREFERRED,
                all_addresses_in_single_endpoint=discovery is Discovery.DNS_ROUND_ROBIN,
            )
            resolver = cares_dns_resolver_pb2.CaresDnsResolverConfig(reinit_channel_on_timeout=True)
            resolver.query_timeout_seconds.value = DNS_PATIENCE_SECONDS
            resolver.query_tries.value = DNS_TRIES
            looking_up.typed_dns_resolver_config.name = "envoy.network.dns_resolver.cares"
            looking_up.typed_dns_resolver_config.typed_config.CopyFrom(packed(resolver))
            looking_up.dns_failure_refresh_rate.base_interval.CopyFrom(duration(DNS_FIRST_RETRY_SECONDS))
            looking_up.dns_failure_refresh_rate.max_interval.CopyFrom(duration(DNS_LAST_RETRY_SECONDS))
            cluster.cluster_type.name = "envoy.clusters.dns"
            cluster.cluster_type.typed_config.CopyFrom(packed(looking_up))
            return bool(found)
        case _:
            cluster.type = cluster_pb2.Cluster.EDS
            cluster.eds_cluster_config.service_name = cluster.name
            cluster.eds_cluster_config.eds_config.ads.SetInParent()
            cluster.eds_cluster_config.eds_config.resource_api_version = config_source_pb2.V3
    return True


def inbound(mesh: MeshView, port: InboundPort) -> Resource:
    """The application behind one port, at the very address that the caller dialled."""
    name = names.inbound_cluster(port.number)
    cluster = _original_destination(_from_sidecar(_cluster(mesh, name)))
    cluster.metadata.filter_metadata["istio"].CopyFrom(struct({"services": [{"host": port.host}]}))
    cluster.typed_extension_protocol_options[HTTP_PROTOCOL_OPTIONS].CopyFrom(packed(_http_options(port.protocol)))
    return resource(name, CLUSTER, cluster)


def inbound_passthrough(mesh: MeshView) -> Resource:
    """The application behind any port that no service names."""
    name = names.INBOUND_PASSTHROUGH_CLUSTER
    cluster = _original_destination(_from_sidecar(_cluster(mesh, name)))
    cluster.typed_extension_protocol_options[HTTP_PROTOCOL_OPTIONS].CopyFrom(packed(_http_options(Protocol.AUTO)))
    return resource(name, CLUSTER, cluster)


def passthrough(mesh: MeshView) -> Resource:
    """Any destination that the mesh does not know, as the application dialled it."""
    cluster = _original_destination(_cluster(mesh, names.PASSTHROUGH_CLUSTER))
    _describe(cluster, UNKNOWN, names.PASSTHROUGH_CLUSTER, UNKNOWN, 0)
    cluster.typed_extension_protocol_options[HTTP_PROTOCOL_OPTIONS].CopyFrom(packed(_http_options(Protocol.AUTO)))
    return resource(names.PASSTHROUGH_CLUSTER, CLUSTER, cluster)


def blackhole(mesh: MeshView) -> Resource:
    """Nowhere."""
    cluster = _cluster(mesh, names.BLACKHOLE_CLUSTER)
    _describe(cluster, UNKNOWN, names.BLACKHOLE_CLUSTER, UNKNOWN, 0)
    return _refusing(cluster)


def _describe(cluster: Any, host: str, name: str, namespace: str, port: int) -> None:
    """What metrics call the cluster: as configured, never as a request calls it."""
    way = telemetry_tags.way("source", UNKNOWN, host, name, namespace, port)
    cluster.metadata.filter_metadata[telemetry.METADATA].CopyFrom(struct({"way": way}))


def _cluster(mesh: MeshView, name: str) -> Any:
    cluster = cluster_pb2.Cluster(
        name=name,
        connect_timeout=duration(CONNECT_TIMEOUT_SECONDS),
        circuit_breakers=circuit_breaker_pb2.CircuitBreakers(
            thresholds=[
                # Envoy's own limit of 1,024 would be an outage that nobody configured.
                circuit_breaker_pb2.CircuitBreakers.Thresholds(
                    max_connections=wrappers_pb2.UInt32Value(value=NO_LIMIT),
                    max_pending_requests=wrappers_pb2.UInt32Value(value=NO_LIMIT),
                    max_requests=wrappers_pb2.UInt32Value(value=NO_LIMIT),
                    max_retries=wrappers_pb2.UInt32Value(value=NO_LIMIT),
                    track_remaining=True,
                )
            ]
        ),
    )
    if mesh.upstream_mark:
        cluster.upstream_bind_config.socket_options.append(_mark(mesh.upstream_mark))
    return cluster


def _mark(mark: int) -> Any:
    return socket_option_pb2.SocketOption(
        description="not to be captured again",
        level=SOL_SOCKET,
        name=SO_MARK,
        int_value=mark,
        state=socket_option_pb2.SocketOption.STATE_PREBIND,
    )


def _from_sidecar(cluster: Any) -> Any:
    cluster.upstream_bind_config.source_address.CopyFrom(
        address_pb2.SocketAddress(address=INBOUND_SOURCE_ADDRESS, port_value=0)
    )
    return cluster


def _original_destination(cluster: Any) -> Any:
    cluster.type = cluster_pb2.Cluster.ORIGINAL_DST
    cluster.lb_policy = cluster_pb2.Cluster.CLUSTER_PROVIDED
    return cluster


def _refusing(cluster: Any) -> Resource:
    """The cluster without an endpoint: requests get 503, connections are closed."""
    cluster.type = cluster_pb2.Cluster.STATIC
    cluster.load_assignment.CopyFrom(endpoint_pb2.ClusterLoadAssignment(cluster_name=cluster.name))
    return resource(cluster.name, CLUSTER, cluster)


def _client_alpn(protocol: Protocol) -> tuple[str, ...]:
    match protocol:
        case Protocol.HTTP:
            return tls.HTTP1_CLIENT_ALPN
        case Protocol.HTTP2 | Protocol.GRPC:
            return tls.HTTP2_CLIENT_ALPN
        case Protocol.TCP | Protocol.TLS | Protocol.AUTO:
            return tls.ISTIO_TCP_ALPN


def _by_endpoint(transport: base_pb2.TransportSocket) -> list[Any]:
    mutual = struct({endpoints.TLS_MODE_KEY: endpoints.TLS_MODE_ISTIO})
    return [
        cluster_pb2.Cluster.TransportSocketMatch(name="tlsMode-istio", match=mutual, transport_socket=transport),
        cluster_pb2.Cluster.TransportSocketMatch(name="tlsMode-disabled", match={}, transport_socket=tls.raw()),
    ]


def _by_address() -> Any:
    subsets = cluster_pb2.Cluster.LbSubsetConfig
    selector = subsets.LbSubsetSelector(
        keys=[endpoints.ADDRESS_KEY],
        single_host_per_subset=True,
        # A client that named one pod must not reach another one instead.
        fallback_policy=subsets.LbSubsetSelector.NO_FALLBACK,
    )
    return subsets(fallback_policy=subsets.ANY_ENDPOINT, subset_selectors=[selector])


def _http_options(protocol: Protocol) -> Any:
    options = http_protocol_options_pb2.HttpProtocolOptions()
    match protocol:
        case Protocol.HTTP:
            options.explicit_http_config.http_protocol_options.SetInParent()
        case Protocol.HTTP2 | Protocol.GRPC:
            options.explicit_http_config.http2_protocol_options.CopyFrom(protocol_pb2.Http2ProtocolOptions())
        case Protocol.TCP | Protocol.TLS | Protocol.AUTO:
            options.use_downstream_protocol_config.http_protocol_options.SetInParent()
            options.use_downstream_protocol_config.http2_protocol_options.SetInParent()
    return options

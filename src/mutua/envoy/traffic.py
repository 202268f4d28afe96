"""How connections to a service are chosen, limited and given up: load balancing, pools, outlier detection."""

from typing import Any, Final

from envoy.config.cluster.v3 import cluster_pb2, outlier_detection_pb2
from envoy.config.core.v3 import address_pb2
from envoy.config.route.v3 import route_components_pb2
from envoy.type.v3 import hash_policy_pb2

from mutua.api.meta import duration_seconds
from mutua.api.networking import (
    ConnectionPool,
    ConsistentHash,
    HttpSettings,
    LoadBalancerMode,
    OutlierDetection,
    TcpKeepalive,
    TcpSettings,
)
from mutua.envoy.pack import duration
from mutua.mesh.proxy_view import TrafficSettings

DEFAULT_RING_SIZE: Final = 1024

# PASSTHROUGH is not among them: an endpoint that is not looked up has no metadata that says whether it takes mutual
# TLS, and would be sent plaintext.
_POLICIES: Final = {
    LoadBalancerMode.RANDOM: cluster_pb2.Cluster.RANDOM,
    LoadBalancerMode.ROUND_ROBIN: cluster_pb2.Cluster.ROUND_ROBIN,
}


def shape(cluster: Any, options: Any, settings: TrafficSettings) -> None:
    """Put the settings into a cluster that is being made, and into its HTTP protocol options.

    Source: Istio DestinationRule; what is not given stays as it was.
    """
    cluster.lb_policy = _POLICIES.get(settings.balancing, cluster_pb2.Cluster.LEAST_REQUEST)  # type: ignore[arg-type]
    if settings.hashing is not None:
        _hash(cluster, settings.hashing)
    pool = settings.connection_pool or ConnectionPool()
    if pool.tcp is not None:
        _limit_connections(cluster, options, pool.tcp)
    if pool.http is not None:
        _limit_requests(cluster, options, pool.http)
    if settings.outlier_detection is not None:
        _eject(cluster, settings.outlier_detection)


def hash_policies(settings: TrafficSettings) -> list[Any]:
    """What of a request decides over its endpoint; none if nothing does."""
    hashing = settings.hashing
    if hashing is None:
        return []
    policy = route_components_pb2.RouteAction.HashPolicy()
    if hashing.http_header_name:
        policy.header.header_name = hashing.http_header_name
    elif hashing.http_cookie is not None:
        policy.cookie.name = hashing.http_cookie.name
        policy.cookie.path = hashing.http_cookie.path
        if hashing.http_cookie.ttl is not None:
            # With a lifetime Envoy makes the cookie itself where there is none; zero is a session's.
            policy.cookie.ttl.CopyFrom(duration(duration_seconds(hashing.http_cookie.ttl)))
    elif hashing.http_query_parameter_name:
        policy.query_parameter.name = hashing.http_query_parameter_name
    elif hashing.use_source_ip:
        policy.connection_properties.source_ip = True
    else:
        return []
    return [policy]


def connection_hash_policies(settings: TrafficSettings) -> list[Any]:
    """The same for a connection whose bytes are not read: only its source can decide."""
    if settings.hashing is None or not settings.hashing.use_source_ip:
        return []
    return [hash_policy_pb2.HashPolicy(source_ip=hash_policy_pb2.HashPolicy.SourceIp())]


def _hash(cluster: Any, hashing: ConsistentHash) -> None:
    if hashing.maglev is not None:
        cluster.lb_policy = cluster_pb2.Cluster.MAGLEV
        if hashing.maglev.table_size:
            cluster.maglev_lb_config.table_size.value = hashing.maglev.table_size
        return
    cluster.lb_policy = cluster_pb2.Cluster.RING_HASH
    size = hashing.ring_hash.minimum_ring_size if hashing.ring_hash else hashing.minimum_ring_size
    cluster.ring_hash_lb_config.minimum_ring_size.value = size or DEFAULT_RING_SIZE


def _limit_connections(cluster: Any, options: Any, tcp: TcpSettings) -> None:
    if tcp.max_connections > 0:
        cluster.circuit_breakers.thresholds[0].max_connections.value = tcp.max_connections
    if tcp.connect_timeout is not None and duration_seconds(tcp.connect_timeout) > 0:
        cluster.connect_timeout.CopyFrom(duration(duration_seconds(tcp.connect_timeout)))
    if tcp.max_connection_duration is not None:
        whole = duration(duration_seconds(tcp.max_connection_duration))
        options.common_http_protocol_options.max_connection_duration.CopyFrom(whole)
    if tcp.tcp_keepalive is not None:
        cluster.upstream_connection_options.tcp_keepalive.CopyFrom(_keepalive(tcp.tcp_keepalive))


def _keepalive(settings: TcpKeepalive) -> Any:
    made = address_pb2.TcpKeepalive()
    if settings.probes:
        made.keepalive_probes.value = settings.probes
    if settings.time is not None:
        made.keepalive_time.value = round(duration_seconds(settings.time))
    if settings.interval is not None:
        made.keepalive_interval.value = round(duration_seconds(settings.interval))
    return made


def _limit_requests(cluster: Any, options: Any, http: HttpSettings) -> None:
    thresholds = cluster.circuit_breakers.thresholds[0]
    if http.http1_max_pending_requests > 0:
        thresholds.max_pending_requests.value = http.http1_max_pending_requests
    if http.http2_max_requests > 0:
        thresholds.max_requests.value = http.http2_max_requests
    if http.max_retries > 0:
        thresholds.max_retries.value = http.max_retries
    common = options.common_http_protocol_options
    if http.max_requests_per_connection > 0:
        common.max_requests_per_connection.value = http.max_requests_per_connection
    if http.idle_timeout is not None:
        common.idle_timeout.CopyFrom(duration(duration_seconds(http.idle_timeout)))
    if not options.explicit_http_config.HasField("http2_protocol_options"):
        return
    http2 = options.explicit_http_config.http2_protocol_options
    if http.max_concurrent_streams > 0:
        http2.max_concurrent_streams.value = http.max_concurrent_streams
    keepalive = http.http2_keep_alive
    if keepalive is not None and keepalive.interval is not None and keepalive.timeout is not None:
        http2.connection_keepalive.interval.CopyFrom(duration(duration_seconds(keepalive.interval)))
        http2.connection_keepalive.timeout.CopyFrom(duration(duration_seconds(keepalive.timeout)))


def _eject(cluster: Any, settings: OutlierDetection) -> None:
    made = outlier_detection_pb2.OutlierDetection()
    # Only what users count is enforced: Envoy's own statistics would eject where nobody asked for it.
    made.enforcing_success_rate.value = 0
    for count, field in (
        (settings.consecutive_5xx_errors, "consecutive_5xx"),
        (settings.consecutive_gateway_errors, "consecutive_gateway_failure"),
        (settings.consecutive_local_origin_failures, "consecutive_local_origin_failure"),
    ):
        if count is not None:
            getattr(made, field).value = count
            getattr(made, f"enforcing_{field}").value = 100 if count else 0
    if settings.interval is not None:
        made.interval.CopyFrom(duration(duration_seconds(settings.interval)))
    if settings.base_ejection_time is not None:
        made.base_ejection_time.CopyFrom(duration(duration_seconds(settings.base_ejection_time)))
    if settings.max_ejection_percent:
        made.max_ejection_percent.value = settings.max_ejection_percent
    made.split_external_local_origin_errors = settings.split_external_local_origin_errors
    cluster.outlier_detection.CopyFrom(made)
    # Below this share of healthy endpoints all are used again. Envoy's own 50 % would undo most ejections.
    cluster.common_lb_config.healthy_panic_threshold.value = settings.min_health_percent

"""The two ways in which a filter chain ends: requests are routed, or bytes are carried."""

from collections.abc import Iterable
from typing import Any, Final

from envoy.config.common.mutation_rules.v3 import mutation_rules_pb2
from envoy.config.core.v3 import config_source_pb2, extension_pb2, protocol_pb2
from envoy.config.listener.v3 import listener_components_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2
from envoy.extensions.http.early_header_mutation.header_mutation.v3 import header_mutation_pb2
from google.protobuf import wrappers_pb2

from mutua.envoy import access_log, names, telemetry
from mutua.envoy.pack import duration, packed
from mutua.envoy.telemetry import Served
from mutua.mesh.proxy_view import MeshView

SERVER_NAME: Final = "istio-envoy"
REQUEST_HEADERS_TIMEOUT_SECONDS: Final = 60.0
"""A peer that sends its headers slower than this is holding a connection, not making a request."""

FORGEABLE_HEADERS: Final = (
    "x-envoy-decorator-operation",
    "x-envoy-downstream-service-cluster",
    "x-envoy-downstream-service-node",
    "x-envoy-external-address",
    "x-envoy-ip-tags",
    "x-envoy-original-host",
    "x-envoy-original-path",
    "x-envoy-peer-metadata",
    "x-envoy-peer-metadata-id",
)
"""Envoy believes these from anyone while `use_remote_address` is off; no peer of a sidecar has a right to them."""

_Manager: Final = http_connection_manager_pb2.HttpConnectionManager


def inbound_requests(mesh: MeshView, stat_prefix: str, routes: Any, filters: list[Any], served: Served) -> Any:
    """HTTP from callers to the application. The caller's name comes from its certificate and from nowhere else.

    `routes`: as for `outbound_requests`.
    """
    manager = _manager(mesh, stat_prefix, filters, telemetry.of_inbound_requests(mesh.telemetry, served))
    _set_routes(manager, routes)
    manager.server_name = SERVER_NAME
    manager.forward_client_cert_details = _Manager.SANITIZE_SET
    manager.set_current_client_cert_details.CopyFrom(
        _Manager.SetCurrentClientCertDetails(subject=wrappers_pb2.BoolValue(value=True), uri=True, dns=True)
    )
    # Only a sidecar introduces itself; what comes in plaintext may be from anybody.
    forgeable = FORGEABLE_HEADERS if served.mutual_tls else (*FORGEABLE_HEADERS, telemetry.PEER_HEADER)
    if not served.mutual_tls:
        manager.access_log.extend(access_log.of_open_plaintext_requests())
        manager.access_log_options.access_log_flush_interval.CopyFrom(duration(access_log.OPEN_SECONDS))
    removals = [mutation_rules_pb2.HeaderMutation(remove=name) for name in forgeable]
    manager.early_header_mutation_extensions.append(
        extension_pb2.TypedExtensionConfig(
            name="envoy.http.early_header_mutation.header_mutation",
            typed_config=packed(header_mutation_pb2.HeaderMutation(mutations=removals)),
        )
    )
    return _filter(manager)


def outbound_requests(mesh: MeshView, stat_prefix: str, routes: Any, filters: list[Any]) -> Any:
    """HTTP from the application. `routes`: the name of a route resource, or a route configuration."""
    manager = _manager(mesh, stat_prefix, filters, telemetry.of_outbound_requests(mesh.telemetry))
    _set_routes(manager, routes)
    manager.server_header_transformation = _Manager.PASS_THROUGH
    return _filter(manager)


def bytes_out(mesh: MeshView, cluster: str, only_endpoint: Any = None, hash_policies: Iterable[Any] = ()) -> Any:
    """Bytes of the application, unread, to a cluster, or to one endpoint of it."""
    proxy = _proxy(mesh, cluster, telemetry.of_outbound_connections(mesh.telemetry))
    proxy.hash_policy.extend(hash_policies)
    if only_endpoint is not None:
        proxy.metadata_match.CopyFrom(only_endpoint)
    return _proxy_filter(proxy)


def bytes_in(mesh: MeshView, cluster: str, served: Served) -> Any:
    """Bytes of callers, unread, to the application."""
    proxy = _proxy(mesh, cluster, telemetry.of_inbound_connections(mesh.telemetry, served))
    if served.mutual_tls:
        # The application hears of a caller only once that has proven who it is; and so does what counts connections.
        proxy.upstream_connect_mode = tcp_proxy_pb2.ON_DOWNSTREAM_TLS_HANDSHAKE
        proxy.max_early_data_bytes.value = 0
    else:
        proxy.access_log.extend(access_log.of_open_plaintext_connections())
        proxy.access_log_options.flush_access_log_on_connected = True
    return _proxy_filter(proxy)


def blackhole(mesh: MeshView) -> Any:
    """Bytes to nowhere: the connection is closed."""
    return _proxy_filter(_proxy(mesh, names.BLACKHOLE_CLUSTER, []))


def _proxy(mesh: MeshView, cluster: str, counting: list[Any]) -> Any:
    proxy = tcp_proxy_pb2.TcpProxy(
        stat_prefix=cluster, cluster=cluster, access_log=[*access_log.of_connections(mesh), *counting]
    )
    proxy.access_log_options.flush_access_log_on_connected = bool(counting)
    return proxy


def _proxy_filter(proxy: Any) -> Any:
    return listener_components_pb2.Filter(name="envoy.filters.network.tcp_proxy", typed_config=packed(proxy))


def _manager(mesh: MeshView, stat_prefix: str, filters: list[Any], counting: list[Any]) -> Any:
    manager = _Manager(
        stat_prefix=stat_prefix,
        codec_type=_Manager.AUTO,
        http_filters=filters,
        access_log=[*access_log.of_requests(mesh), *counting],
        use_remote_address=wrappers_pb2.BoolValue(value=False),
        # No address is internal, whatever x-forwarded-for says: a peer's x-envoy-* headers set no timeout, retry or
        # statistics here. `internal_address_config` stays unset for that: an empty one would trust private addresses.
        generate_request_id=wrappers_pb2.BoolValue(value=True),
        proxy_100_continue=True,
        upgrade_configs=[_Manager.UpgradeConfig(upgrade_type="websocket")],
        # Streams may be silent for as long as they like, as watches are; their headers may not be.
        stream_idle_timeout=duration(0),
        request_headers_timeout=duration(REQUEST_HEADERS_TIMEOUT_SECONDS),
        common_http_protocol_options=protocol_pb2.HttpProtocolOptions(
            headers_with_underscores_action=protocol_pb2.HttpProtocolOptions.ALLOW
        ),
    )
    _normalize(manager, mesh.path_normalization)
    return manager


def _set_routes(manager: Any, routes: Any) -> None:
    if isinstance(routes, str):
        manager.rds.route_config_name = routes
        manager.rds.config_source.ads.SetInParent()
        manager.rds.config_source.resource_api_version = config_source_pb2.V3
        # A listener without its routes, and so without its policies, takes no connection.
        manager.rds.config_source.initial_fetch_timeout.CopyFrom(duration(0))
    else:
        manager.route_config.CopyFrom(routes)


def _normalize(manager: Any, mode: str) -> None:
    """How a path is rewritten before policies and the application see it. Source: MeshConfig.pathNormalization."""
    if mode == "NONE":
        return
    manager.normalize_path.value = True
    manager.merge_slashes = mode in ("MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES")
    if mode == "DECODE_AND_MERGE_SLASHES":
        manager.path_with_escaped_slashes_action = _Manager.UNESCAPE_AND_FORWARD


def _filter(manager: Any) -> Any:
    return listener_components_pb2.Filter(
        name="envoy.filters.network.http_connection_manager", typed_config=packed(manager)
    )

"""What one Envoy is started with: who it is, where its keys and its configuration come from, and its own two ports."""

from collections.abc import Mapping
from typing import Any

import msgspec

from mutua.envoy.telemetry_tags import UNKNOWN, Names
from mutua.mesh import owners

SDS_CLUSTER = "sds-grpc"
XDS_CLUSTER = "xds-grpc"
ADMIN_CLUSTER = "prometheus_stats"
AGENT_CLUSTER = "agent"
STATS_SCOPE = "mutua"
"""Envoy's name of a statistic that the mesh's telemetry makes starts with it; what the agent prints leaves it out."""
ADMIN_PORT = 15000
READINESS_PORT = 15021
METRICS_PORT = 15090
ENVOY_PAGE = "/stats/envoy"
"""Where the agent prints Envoy's statistics alone."""
TRAFFIC_PAGE = "/stats/traffic"
"""Where Envoy prints the counters of traffic alone: what the control plane reads."""
CERTIFICATE_SECRET = "default"  # noqa: S105 - a resource's name
ROOT_SECRET = "ROOTCA"  # noqa: S105 - a resource's name

_SOL_SOCKET, _SO_MARK = 1, 36  # Linux, asm-generic/socket.h

_TYPE = "type.googleapis.com/"
_UPSTREAM_TLS = _TYPE + "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
_HTTP_OPTIONS = _TYPE + "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_HTTP_MANAGER = _TYPE + "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_ROUTER = _TYPE + "envoy.extensions.filters.http.router.v3.Router"
_CONNECTION_LIMIT = _TYPE + "envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig"

# A statistic costs memory in every pod. These answer: is it connected, is mutual TLS on, what was refused, and why.
_STATS_PREFIXES = (
    f"{STATS_SCOPE}.",
    "cluster_manager.",
    "listener_manager.",
    "server.",
    "control_plane.",
    f"cluster.{XDS_CLUSTER}.",
    "sds.",
    "tls_inspector.",
    "overload.",
    "access_logs.grpc_access_log.",
)
_STATS_CONTAINED = (".ssl.", ".rbac.", ".jwt_authn.")
_STATS_SUFFIXES = ("downstream_cx_active", "downstream_rq_active", "downstream_cx_total")

Json = dict[str, Any]


PEER_VARIABLE = "MUTUA_PEER"
"""The variable of Envoy's environment that says which workload it stands beside.

Configuration refers to it, so that it is the same for all proxies that share it.
"""


class Address(msgspec.Struct, frozen=True):
    """A host and port to dial."""

    host: str
    port: int


class BootstrapSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a bootstrap depends on."""

    node_id: str  # as node_id() makes it
    node_cluster: str  # <app label or workload>.<namespace>
    metadata: Mapping[str, Any]  # node metadata under Istio's names: NAMESPACE, LABELS, SERVICE_ACCOUNT, …
    discovery: Address  # the control plane's mutual TLS port
    discovery_name: str  # the DNS name that its certificate must have
    sds_socket: str  # absolute path
    locality: tuple[str, str, str] = ("", "", "")  # region, zone, subzone
    mark: int = 0  # SO_MARK of every upstream socket; 0 = none
    admin_port: int = ADMIN_PORT
    readiness_port: int = READINESS_PORT
    metrics_port: int = METRICS_PORT
    agent_port: int = 0  # where the agent answers; 0 = nowhere
    status_address: str = "0.0.0.0"  # noqa: S104 - the node probes the pod's address; only two paths answer
    max_downstream_connections: int = 100_000


def node_id(address: str, pod: str, namespace: str, cluster_domain: str = "cluster.local") -> str:
    """`sidecar~10.1.2.3~web-0.shop~shop.svc.cluster.local`. Source: Istio's node id; the control plane parses it."""
    return f"sidecar~{address}~{pod}.{namespace}~{namespace}.svc.{cluster_domain}"


def own_names(settings: BootstrapSettings) -> Names:
    """What metrics call the workload that the proxy stands beside."""
    metadata = settings.metadata
    labels = metadata.get("LABELS") or {}
    workload = str(metadata.get("WORKLOAD_NAME") or metadata.get("NAME") or UNKNOWN)
    return Names(
        workload,
        str(metadata.get("NAMESPACE") or UNKNOWN),
        owners.app(labels) or UNKNOWN,
        owners.canonical_service(labels, workload),
    )


_WATCHDOG: Json = {"miss_timeout": "2s", "megamiss_timeout": "10s"}


def bootstrap(settings: BootstrapSettings) -> bytes:
    """Envoy's bootstrap (envoy.config.bootstrap.v3.Bootstrap) as JSON, which is YAML too."""
    return msgspec.json.encode(
        {
            "node": _node(settings),
            "admin": {"address": _address("127.0.0.1", settings.admin_port), "ignore_global_conn_limit": True},
            "application_log_config": {
                "log_format": {"text_format": "%Y-%m-%dT%T.%fZ\t%l\tenvoy %n %g:%#\t%v\tthread=%t"}
            },
            "dynamic_resources": {
                # No limit on the first fetch: an Envoy without its configuration must not call itself ready.
                "lds_config": {"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"},
                "cds_config": {"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"},
                "ads_config": {
                    "api_type": "DELTA_GRPC",
                    "transport_api_version": "V3",
                    "set_node_on_first_message_only": True,
                    "grpc_services": [_grpc(XDS_CLUSTER, base="0.1s", longest="2s")],
                },
            },
            "static_resources": {
                "listeners": [
                    _status_listener(
                        "readiness",
                        settings.status_address,
                        settings.readiness_port,
                        {"/healthz/ready": (ADMIN_CLUSTER, "/ready")},
                    ),
                    _status_listener(
                        "metrics", settings.status_address, settings.metrics_port, _metrics_pages(settings)
                    ),
                ],
                "clusters": [
                    _local_cluster(ADMIN_CLUSTER, {"address": _address("127.0.0.1", settings.admin_port)}, http2=False),
                    *_agent_cluster(settings),
                    _local_cluster(SDS_CLUSTER, {"address": {"pipe": {"path": settings.sds_socket}}}, http2=True),
                    _xds_cluster(settings),
                ],
            },
            "cluster_manager": _cluster_manager(settings.mark),
            # Histograms are brought up to date when somebody asks. A timer for that, and a watchdog that looks ten
            # times a second, would cost an idle Envoy most of its processor time.
            "stats_flush_on_admin": True,
            "watchdogs": {"main_thread_watchdog": _WATCHDOG, "worker_watchdog": _WATCHDOG},
            "stats_config": {
                "stats_matcher": {
                    "inclusion_list": {
                        "patterns": [
                            *({"prefix": text} for text in _STATS_PREFIXES),
                            *({"contains": text} for text in _STATS_CONTAINED),
                            *({"suffix": text} for text in _STATS_SUFFIXES),
                        ]
                    }
                }
            },
            "overload_manager": {
                "resource_monitors": [
                    {
                        "name": "envoy.resource_monitors.global_downstream_max_connections",
                        "typed_config": {
                            "@type": _CONNECTION_LIMIT,
                            "max_active_downstream_connections": settings.max_downstream_connections,
                        },
                    }
                ]
            },
            "layered_runtime": {
                # A regex that a policy's author wrote may not grow without bound, and that is an error, not a warning.
                "layers": [{"name": "mesh", "static_layer": {"re2.max_program_size.error_level": 32768}}]
            },
        }
    )


def _node(settings: BootstrapSettings) -> Json:
    region, zone, subzone = settings.locality
    node: Json = {"id": settings.node_id, "cluster": settings.node_cluster, "metadata": dict(settings.metadata)}
    if region:
        node["locality"] = {"region": region, "zone": zone, "sub_zone": subzone}
    return node


def _cluster_manager(mark: int) -> Json:
    # The capture rules let marked sockets pass; only where Envoy has no user id of its own.
    if not mark:
        return {}
    option = {"level": _SOL_SOCKET, "name": _SO_MARK, "int_value": mark, "state": "STATE_PREBIND"}
    return {"upstream_bind_config": {"socket_options": [option]}}


def _xds_cluster(settings: BootstrapSettings) -> Json:
    name = settings.discovery_name
    return {
        "name": XDS_CLUSTER,
        "type": "STRICT_DNS",
        "dns_refresh_rate": "30s",
        "dns_failure_refresh_rate": {"base_interval": "0.2s", "max_interval": "2s"},
        "respect_dns_ttl": True,
        "connect_timeout": "1s",
        "load_assignment": _assignment(
            XDS_CLUSTER, {"address": _address(settings.discovery.host, settings.discovery.port)}
        ),
        "typed_extension_protocol_options": _http2(keepalive=True),
        "upstream_connection_options": {"tcp_keepalive": {"keepalive_time": 300}},
        # One stream that must never be refused a slot.
        "circuit_breakers": {
            "thresholds": [
                {
                    "priority": priority,
                    "max_connections": 100000,
                    "max_pending_requests": 100000,
                    "max_requests": 100000,
                }
                for priority in ("DEFAULT", "HIGH")
            ]
        },
        "transport_socket": {
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": _UPSTREAM_TLS,
                "sni": name,
                "common_tls_context": {
                    "alpn_protocols": ["h2"],
                    "tls_params": {
                        "tls_minimum_protocol_version": "TLSv1_2",
                        "tls_maximum_protocol_version": "TLSv1_3",
                    },
                    "tls_certificate_sds_secret_configs": [_secret(CERTIFICATE_SECRET)],
                    "combined_validation_context": {
                        "default_validation_context": {
                            "match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": name}}]
                        },
                        "validation_context_sds_secret_config": _secret(ROOT_SECRET),
                    },
                },
            },
        },
    }


def _secret(name: str) -> Json:
    return {
        "name": name,
        "sds_config": {
            "resource_api_version": "V3",
            # Wait for the certificate as long as it takes: without it nothing else can begin.
            "initial_fetch_timeout": "0s",
            "api_config_source": {
                "api_type": "GRPC",
                "transport_api_version": "V3",
                "set_node_on_first_message_only": True,
                # The agent starts beside Envoy; a refused connection means a few milliseconds more, not half a second.
                "grpc_services": [_grpc(SDS_CLUSTER, base="0.02s", longest="0.05s")],
            },
        },
    }


def _grpc(cluster: str, base: str, longest: str) -> Json:
    return {
        "envoy_grpc": {
            "cluster_name": cluster,
            "retry_policy": {"retry_back_off": {"base_interval": base, "max_interval": longest}},
        }
    }


def _local_cluster(name: str, endpoint: Json, *, http2: bool) -> Json:
    cluster: Json = {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "0.25s",
        "load_assignment": _assignment(name, endpoint),
    }
    if http2:
        cluster["typed_extension_protocol_options"] = _http2(keepalive=False)
    return cluster


def _http2(*, keepalive: bool) -> Json:
    options: Json = {}
    if keepalive:
        # A control plane that hangs, or a network that swallows packets, is left after 15 seconds.
        options["connection_keepalive"] = {"interval": "10s", "timeout": "5s"}
    return {
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": _HTTP_OPTIONS,
            "explicit_http_config": {"http2_protocol_options": options},
        }
    }


def _metrics_pages(settings: BootstrapSettings) -> Mapping[str, tuple[str, str]]:
    """The agent prints Envoy's statistics: Envoy itself would put its own name before Istio's."""
    traffic = f"/stats/prometheus?usedonly&filter=^{STATS_SCOPE}%5C.(istio_requests_total|istio_tcp|mutua)"
    scraped = (AGENT_CLUSTER, ENVOY_PAGE) if settings.agent_port else (ADMIN_CLUSTER, "/stats/prometheus")
    return {"/stats/prometheus": scraped, TRAFFIC_PAGE: (ADMIN_CLUSTER, traffic)}


def _agent_cluster(settings: BootstrapSettings) -> list[Json]:
    if not settings.agent_port:
        return []
    return [_local_cluster(AGENT_CLUSTER, {"address": _address("127.0.0.1", settings.agent_port)}, http2=False)]


def _status_listener(name: str, address: str, port: int, pages: Mapping[str, tuple[str, str]]) -> Json:
    """Pages for the node by path: each one path of Envoy's admin interface or of the agent, and no other of theirs."""
    routes = [
        {
            "match": {
                "path": path,
                "headers": [{"name": ":method", "string_match": {"exact": "GET"}}],
            },
            "route": {"cluster": cluster, "prefix_rewrite": inner},
        }
        for path, (cluster, inner) in pages.items()
    ]
    return {
        "name": name,
        "address": _address(address, port),
        "ignore_global_conn_limit": True,
        "bypass_overload_manager": True,
        "filter_chains": [
            {
                "filters": [
                    {
                        "name": "envoy.filters.network.http_connection_manager",
                        "typed_config": {
                            "@type": _HTTP_MANAGER,
                            "stat_prefix": name,
                            "codec_type": "AUTO",
                            "stream_idle_timeout": "30s",
                            "common_http_protocol_options": {"idle_timeout": "60s"},
                            "route_config": {
                                "name": name,
                                "virtual_hosts": [{"name": name, "domains": ["*"], "routes": routes}],
                            },
                            "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": _ROUTER}}],
                        },
                    }
                ]
            }
        ],
    }


def _assignment(cluster: str, endpoint: Json) -> Json:
    return {"cluster_name": cluster, "endpoints": [{"lb_endpoints": [{"endpoint": endpoint}]}]}


def _address(host: str, port: int) -> Json:
    return {"socket_address": {"address": host, "port_value": port}}

"""Istio's metrics: which counters each request and connection adds to, and under which labels.

Envoy's own statistics logger does it: no script and no call to anybody per request. What the sidecar knows of its own
workload comes from its environment (`bootstrap.Own`), so that all proxies can share one configuration.
Source: Istio's standard metrics.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from envoy.config.accesslog.v3 import accesslog_pb2
from envoy.config.core.v3 import base_pb2
from envoy.config.listener.v3 import listener_components_pb2
from envoy.data.accesslog.v3 import accesslog_pb2 as data_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2

from mutua.envoy import access_log
from mutua.envoy.bootstrap import OWN, STATS_SCOPE
from mutua.envoy.memo import remembered
from mutua.envoy.pack import typed_struct

SERIES_AT_MOST: Final = 4000
"""Of one sidecar. More than that many label sets are not counted; Envoy counts how often that happened."""

HISTOGRAMS_AT_MOST: Final = 1000
PLAINTEXT_CLIENTS_AT_MOST: Final = 1000
UNKNOWN: Final = "unknown"

METADATA: Final = "mutua"
"""Where clusters and endpoints keep what metrics say of them: `CLUSTER_KEYS` and `ENDPOINT_KEYS`."""

LONGEST_NAME: Final = 63


PEER_HEADERS: Final = {
    "workload": "x-mutua-workload",
    "app": "x-mutua-app",
    "canonical_service": "x-mutua-canonical-service",
}
"""What a client's sidecar says of its workload. It names a series and decides nothing; no application sees it."""

_PEER_NAMESPACE: Final = "mutua.peer.namespace"

REQUESTS: Final = "istio_requests_total"
DURATION: Final = "istio_request_duration_milliseconds"
OPENED: Final = "istio_tcp_connections_opened_total"
CLOSED: Final = "istio_tcp_connections_closed_total"
SENT: Final = "istio_tcp_sent_bytes_total"
RECEIVED: Final = "istio_tcp_received_bytes_total"
DENIED: Final = "mutua_denied_total"
MICROSECONDS: Final = "mutua_request_microseconds_total"
PLAINTEXT_REQUESTS: Final = "mutua_plaintext_requests_total"
PLAINTEXT_MICROSECONDS: Final = "mutua_plaintext_request_microseconds_total"
PLAINTEXT_CONNECTIONS: Final = "mutua_plaintext_connections_total"


_LASTING: Final = "%COMMON_DURATION(DS_RX_BEG:DS_TX_END:us)%"
_EDGE_LABELS: Final = frozenset(
    {
        "reporter",
        "source_workload",
        "source_principal",
        "destination_workload",
        "destination_workload_namespace",
        "destination_service",
        "destination_port",
        "connection_security_policy",
        "request_protocol",
    }
)


class Served(NamedTuple):
    """Whom a server's chain answers for. `host` is "" and `port` 0 for ports that no service names."""

    host: str
    port: int
    mutual_tls: bool


class _Label(NamedTuple):
    """`text`: Envoy's format of the value. `otherwise`: the value where that is empty; "" = it never is.

    With `prefix` there are two values only: `for_prefix` for what starts so, `otherwise` for all else.
    """

    text: str
    otherwise: str = ""
    prefix: str = ""
    for_prefix: str = ""


_Labels = Mapping[str, _Label]


@remembered(limit=4)
def of_outbound_requests(enabled: bool) -> list[Any]:
    """The loggers of requests that the application makes."""
    labels = _outbound_labels() | _request_labels()
    return [_requests(labels)] if enabled else []


@remembered(limit=4)
def of_outbound_connections(enabled: bool) -> list[Any]:
    """The loggers of connections that the application makes and nobody reads."""
    return _connections(_outbound_labels() | _connection_labels()) if enabled else []


@remembered(limit=4096)
def of_inbound_requests(enabled: bool, served: Served) -> list[Any]:
    """The loggers of requests to the application over one chain."""
    if not enabled:
        return []
    labels = _inbound_labels(served, named_peer=served.mutual_tls)
    loggers = [
        _requests(labels | _request_labels()),
        _denied(served, labels, _request_labels()["request_protocol"], "response.code_details", 403),
    ]
    if not served.mutual_tls:
        loggers.append(_only_at(_plaintext_requests(served), data_pb2.DownstreamEnd))
    return loggers


@remembered(limit=4096)
def of_inbound_connections(enabled: bool, served: Served) -> list[Any]:
    """The loggers of connections to the application over one chain that nobody reads."""
    if not enabled:
        return []
    labels = _inbound_labels(served, named_peer=False)
    loggers = [
        *_connections(labels | _connection_labels()),
        _denied(served, labels, _Label("tcp"), "connection.termination_details"),
    ]
    if not served.mutual_tls:
        loggers.append(_only_at(_plaintext_connections(served), data_pb2.TcpUpstreamConnected))
    return loggers


@remembered(limit=1)
def remember_peer_namespace() -> Any:
    """A network filter: reads the caller's namespace from its certificate, once per connection.

    Requests could tell a namespace by a header; this one is proven.
    """
    namespace = {
        "object_key": _PEER_NAMESPACE,
        "factory_key": "envoy.string",
        "format_string": {
            # spiffe://<trust domain>/ns/<namespace>/sa/<service account>
            "text_format_source": {"inline_string": "%CEL(connection.uri_san_peer_certificate.split('/')[4])%"},
            "formatters": [
                {
                    "name": "envoy.formatter.cel",
                    "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.formatter.cel.v3.Cel",
                        "cel_config": {"enable_string_functions": True},
                    },
                }
            ],
        },
    }
    return listener_components_pb2.Filter(
        name="envoy.filters.network.set_filter_state",
        typed_config=typed_struct(
            "envoy.extensions.filters.network.set_filter_state.v3.Config", {"on_downstream_tls_handshake": [namespace]}
        ),
    )


@remembered(limit=1)
def remember_peer_names() -> Any:
    """An HTTP filter: keeps what the caller's sidecar said of its workload; the headers themselves end here."""
    kept = [
        {
            "object_key": _peer_key(name),
            "factory_key": "envoy.string",
            "skip_if_empty": True,
            "format_string": {
                "text_format_source": {"inline_string": f"%REQ({header}):{LONGEST_NAME}%"},
                "omit_empty_values": True,
            },
        }
        for name, header in PEER_HEADERS.items()
    ]
    return http_connection_manager_pb2.HttpFilter(
        name="envoy.filters.http.set_filter_state",
        typed_config=typed_struct(
            "envoy.extensions.filters.http.set_filter_state.v3.Config", {"on_request_headers": kept}
        ),
    )


@remembered(limit=1)
def own_names() -> tuple[Any, ...]:
    """The headers that a client's sidecar sets on requests to the mesh."""
    return tuple(
        base_pb2.HeaderValueOption(
            header=base_pb2.HeaderValue(key=header, value=f"%ENVIRONMENT({getattr(OWN, name)})%"),
            append_action=base_pb2.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD,
        )
        for name, header in PEER_HEADERS.items()
    )


def _peer_key(name: str) -> str:
    return f"mutua.peer.{name}"


def _own(side: str) -> dict[str, _Label]:
    return {
        f"{side}_workload": _Label(f"%ENVIRONMENT({OWN.workload})%"),
        f"{side}_workload_namespace": _Label(f"%ENVIRONMENT({OWN.namespace})%"),
        f"{side}_app": _Label(f"%ENVIRONMENT({OWN.app})%"),
        f"{side}_canonical_service": _Label(f"%ENVIRONMENT({OWN.canonical_service})%"),
    }


def _outbound_labels() -> dict[str, _Label]:
    def endpoint(key: str) -> _Label:
        return _Label(f"%UPSTREAM_METADATA({METADATA}:{key})%", UNKNOWN)

    def cluster(key: str) -> _Label:
        return _Label(f"%CLUSTER_METADATA({METADATA}:{key})%", UNKNOWN)

    return {
        "reporter": _Label("source"),
        **_own("source"),
        "source_principal": _Label("%UPSTREAM_LOCAL_URI_SAN%", UNKNOWN),
        "destination_workload": endpoint("workload"),
        "destination_workload_namespace": endpoint("namespace"),
        "destination_app": endpoint("app"),
        "destination_canonical_service": endpoint("canonical_service"),
        "destination_principal": _Label("%UPSTREAM_PEER_URI_SAN%", UNKNOWN),
        "destination_service": cluster("host"),
        "destination_service_name": cluster("name"),
        "destination_service_namespace": cluster("namespace"),
        "destination_port": cluster("port"),
        "connection_security_policy": _Label(UNKNOWN),
    }


def _inbound_labels(served: Served, *, named_peer: bool) -> dict[str, _Label]:
    def peer(name: str) -> _Label:
        return _Label(f"%FILTER_STATE({_peer_key(name)}:PLAIN)%", UNKNOWN) if named_peer else _Label(UNKNOWN)

    def proven(operator: str) -> _Label:
        return _Label(f"%{operator}%", UNKNOWN) if served.mutual_tls else _Label(UNKNOWN)

    name, _, rest = served.host.partition(".")
    return {
        "reporter": _Label("destination"),
        "source_workload": peer("workload"),
        "source_workload_namespace": proven(f"FILTER_STATE({_PEER_NAMESPACE}:PLAIN)"),
        "source_app": peer("app"),
        "source_canonical_service": peer("canonical_service"),
        "source_principal": proven("DOWNSTREAM_PEER_URI_SAN"),
        **_own("destination"),
        "destination_principal": proven("DOWNSTREAM_LOCAL_URI_SAN"),
        "destination_service": _Label(served.host or UNKNOWN),
        "destination_service_name": _Label(name or "InboundPassthroughCluster"),
        "destination_service_namespace": _Label(rest.partition(".")[0] or UNKNOWN),
        "destination_port": _Label(str(served.port)),
        "connection_security_policy": _Label("mutual_tls" if served.mutual_tls else "none"),
    }


def _request_labels() -> dict[str, _Label]:
    return {
        "request_protocol": _Label("%REQ(content-type)%", "http", "application/grpc", "grpc"),
        "response_code": _Label("%RESPONSE_CODE%"),
        "response_flags": _Label("%RESPONSE_FLAGS%"),
        "grpc_response_status": _Label("%GRPC_STATUS_NUMBER%"),
    }


def _connection_labels() -> dict[str, _Label]:
    return {"request_protocol": _Label("tcp"), "response_flags": _Label("%RESPONSE_FLAGS%")}


def _requests(labels: _Labels) -> Any:
    # For those who want a mean and no histogram, as the control plane does; with few labels, since each costs time.
    edge = {key: label for key, label in labels.items() if key in _EDGE_LABELS}
    made = _logger(
        counters=[
            {"stat": _stat(REQUESTS, labels), "value_fixed": 1},
            {"stat": _stat(MICROSECONDS, edge), "value_format": _LASTING},
        ],
        histograms=[{"stat": _stat(DURATION, labels), "unit": "Milliseconds", "value_format": "%DURATION%"}],
    )
    return _only_at(made, data_pb2.DownstreamEnd)


def _connections(labels: _Labels) -> list[Any]:
    opened = _logger(counters=[{"stat": _stat(OPENED, labels), "value_fixed": 1}])
    closed = _logger(
        counters=[
            {"stat": _stat(CLOSED, labels), "value_fixed": 1},
            # As Istio has it: received is what the client sent.
            {"stat": _stat(RECEIVED, labels), "value_format": "%BYTES_RECEIVED%"},
            {"stat": _stat(SENT, labels), "value_format": "%BYTES_SENT%"},
        ]
    )
    return [_only_at(opened, data_pb2.TcpUpstreamConnected), _only_at(closed, data_pb2.TcpConnectionEnd)]


def _denied(served: Served, labels: _Labels, protocol: _Label, details: str, status: int = 0) -> Any:
    """What authorization refused. The expression is evaluated for answers with `status` only; 0 = every connection."""
    if served.mutual_tls:
        counter = {"stat": _stat(DENIED, {**labels, "request_protocol": protocol}), "value_fixed": 1}
        made = _logger(counters=[counter])
    else:
        counter = {"stat": _stat(DENIED, {**_by_address(served), "request_protocol": protocol}), "value_fixed": 1}
        made = _plaintext_logger(counter)
    refused = access_log.only(made, f"{details}.startsWith('rbac_access_denied')")
    if not status:
        return _only_at(refused, data_pb2.TcpConnectionEnd)
    both = accesslog_pb2.AccessLogFilter()
    first = both.and_filter.filters.add()
    first.status_code_filter.comparison.op = accesslog_pb2.ComparisonFilter.EQ
    first.status_code_filter.comparison.value.default_value = status
    first.status_code_filter.comparison.value.runtime_key = "mutua.never_set"
    both.and_filter.filters.add().CopyFrom(refused.filter)
    refused.filter.CopyFrom(both)
    return refused


def _plaintext_requests(served: Served) -> Any:
    client = _by_address(served)
    answers = {key: label for key, label in _request_labels().items() if key != "response_flags"}
    return _plaintext_logger(
        {"stat": _stat(PLAINTEXT_REQUESTS, client | answers), "value_fixed": 1},
        {
            "stat": _stat(PLAINTEXT_MICROSECONDS, client | {"request_protocol": answers["request_protocol"]}),
            "value_format": _LASTING,
        },
    )


def _plaintext_connections(served: Served) -> Any:
    labels = _by_address(served) | {"request_protocol": _Label("tcp")}
    return _plaintext_logger({"stat": _stat(PLAINTEXT_CONNECTIONS, labels), "value_fixed": 1})


def _by_address(served: Served) -> dict[str, _Label]:
    return {
        "source_address": _Label("%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%"),
        "destination_service": _Label(served.host or UNKNOWN),
        "destination_port": _Label(str(served.port)),
    }


def _plaintext_logger(*counters: Mapping[str, Any]) -> Any:
    """In a scope of its own: strangers may be many, and use up nobody else's room."""
    return _logger(counters=counters, sharing="plaintext", at_most=PLAINTEXT_CLIENTS_AT_MOST)


def _logger(
    *,
    counters: Iterable[Mapping[str, Any]] = (),
    histograms: Iterable[Mapping[str, Any]] = (),
    sharing: str = "istio",
    at_most: int = SERIES_AT_MOST,
) -> Any:
    scope = {
        "prefix": STATS_SCOPE,
        "sharing_name": sharing,
        "max_counters": at_most,
        "max_histograms": HISTOGRAMS_AT_MOST,
    }
    return accesslog_pb2.AccessLog(
        name="envoy.access_loggers.stats",
        typed_config=typed_struct(
            "envoy.extensions.access_loggers.stats.v3.Config",
            {"stats_scope": scope, "counters": list(counters), "histograms": list(histograms)},
        ),
    )


def _only_at(logger: Any, moment: "data_pb2.AccessLogType.ValueType") -> Any:
    """The same logger at one moment of a connection's life."""
    kept = accesslog_pb2.AccessLogFilter()
    kept.log_type_filter.types.append(moment)
    if logger.HasField("filter"):
        both = accesslog_pb2.AccessLogFilter()
        both.and_filter.filters.extend([kept, logger.filter])
        kept = both
    logger.filter.CopyFrom(kept)
    return logger


def _stat(name: str, labels: _Labels) -> dict[str, Any]:
    return {"name": name, "tags": [_tag(key, label) for key, label in labels.items()]}


def _tag(name: str, label: _Label) -> dict[str, Any]:
    tag: dict[str, Any] = {"name": name, "value_format": label.text}
    value = {"name": "value", "typed_config": {"@type": _INPUT}}
    if label.prefix:
        cases = {"map": {label.prefix: _becomes(label.for_prefix)}}
        tag["rules"] = {
            "matcher_tree": {"input": value, "prefix_match_map": cases},
            "on_no_match": _becomes(label.otherwise),
        }
    elif label.otherwise:
        cases = {"map": {"": _becomes(label.otherwise)}}
        tag["rules"] = {"matcher_tree": {"input": value, "exact_match_map": cases}}
    return tag


_INPUT: Final = "type.googleapis.com/envoy.extensions.matching.common_inputs.stats.v3.StatTagValueInput"
_TRANSFORM: Final = "type.googleapis.com/envoy.extensions.matching.actions.transform_stat.v3.TransformStat"


def _becomes(value: str) -> dict[str, Any]:
    update = {"@type": _TRANSFORM, "update_tag": {"new_tag_value": value}}
    return {"action": {"name": "value", "typed_config": update}}

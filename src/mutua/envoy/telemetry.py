"""Istio's metrics: which counters each request and connection adds to, and under which tags.

Envoy's own statistics logger does it: no script and no call to anybody per request. Each tag costs time per request, so
there are a few with several facts in each; whoever reads a page takes them apart (`telemetry_tags`). What the sidecar
knows of its own workload is in none: who prints a page knows that as well. Source: Istio's standard metrics.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from envoy.config.accesslog.v3 import accesslog_pb2
from envoy.config.core.v3 import base_pb2
from envoy.data.accesslog.v3 import accesslog_pb2 as data_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2

from mutua.envoy import access_log, telemetry_tags
from mutua.envoy.bootstrap import PEER_VARIABLE, STATS_SCOPE
from mutua.envoy.memo import remembered
from mutua.envoy.pack import typed_struct
from mutua.envoy.telemetry_tags import ANSWER_TAG, CLIENT_TAG, IDENTITIES_TAG, PEER_TAG, PROTOCOL_TAG, WAY_TAG

SERIES_AT_MOST: Final = 4000
"""Of one sidecar. More than that many label sets are not counted; Envoy counts how often that happened."""

HISTOGRAMS_AT_MOST: Final = 1000
PLAINTEXT_CLIENTS_AT_MOST: Final = 1000

METADATA: Final = "mutua"
"""Where clusters keep their `way` and endpoints their `peer`."""

PEER_HEADER: Final = "x-mutua-peer"
"""What a client's sidecar says of its workload. It names a series and decides nothing; no application sees it."""

_PEER_STATE: Final = "mutua.peer"
_LONGEST_PEER: Final = 255

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


class Served(NamedTuple):
    """Whom a server's chain answers for. `host` is "" and `port` 0 for ports that no service names."""

    host: str
    port: int
    mutual_tls: bool


class _Tag(NamedTuple):
    """`text`: Envoy's format of the value. `otherwise`: the value where that is empty; "" = it may be.

    With `prefix` there are two values only: `for_prefix` for what starts so, `otherwise` for all else.
    """

    text: str
    otherwise: str = ""
    prefix: str = ""
    for_prefix: str = ""


_Tags = Mapping[str, _Tag]

_ANSWER: Final = {
    PROTOCOL_TAG: _Tag("%REQ(content-type)%", "http", "application/grpc", "grpc"),
    ANSWER_TAG: _Tag("%RESPONSE_CODE%;%RESPONSE_FLAGS%;%GRPC_STATUS_NUMBER%"),
}
_CONNECTION: Final = {PROTOCOL_TAG: _Tag("tcp"), ANSWER_TAG: _Tag(";%RESPONSE_FLAGS%;")}


@remembered(limit=4)
def of_outbound_requests(enabled: bool) -> list[Any]:
    """The loggers of requests that the application makes."""
    return [_only_at(_requests(_outbound()), data_pb2.DownstreamEnd)] if enabled else []


@remembered(limit=4)
def of_outbound_connections(enabled: bool) -> list[Any]:
    """The loggers of connections that the application makes and nobody reads."""
    return _connections(_outbound()) if enabled else []


@remembered(limit=4096)
def of_inbound_requests(enabled: bool, served: Served) -> list[Any]:
    """The loggers of requests to the application over one chain."""
    if not enabled:
        return []
    protocol = _ANSWER[PROTOCOL_TAG]
    counting = _requests(
        _inbound(served), _counter(MICROSECONDS, _inbound(served) | {PROTOCOL_TAG: protocol}, _LASTING)
    )
    loggers = [
        _only_at(counting, data_pb2.DownstreamEnd),
        _denied(served, protocol, "response.code_details", 403),
    ]
    if not served.mutual_tls:
        client = _stranger(served)
        named = _in_plaintext(
            _counter(PLAINTEXT_REQUESTS, client | _ANSWER),
            _counter(PLAINTEXT_MICROSECONDS, client | {PROTOCOL_TAG: protocol}, _LASTING),
        )
        loggers.append(_only_at(named, data_pb2.DownstreamEnd))
    return loggers


@remembered(limit=4096)
def of_inbound_connections(enabled: bool, served: Served) -> list[Any]:
    """The loggers of connections to the application over one chain that nobody reads."""
    if not enabled:
        return []
    protocol = _CONNECTION[PROTOCOL_TAG]
    loggers = [
        *_connections(_inbound(served, with_peer=False)),
        _denied(served, protocol, "connection.termination_details"),
    ]
    if not served.mutual_tls:
        named = _in_plaintext(_counter(PLAINTEXT_CONNECTIONS, _stranger(served) | {PROTOCOL_TAG: protocol}))
        loggers.append(_only_at(named, data_pb2.TcpUpstreamConnected))
    return loggers


@remembered(limit=1)
def remember_peer() -> Any:
    """An HTTP filter: keeps what the caller's sidecar said of its workload; the header itself ends at the route."""
    kept = {
        "object_key": _PEER_STATE,
        "factory_key": "envoy.string",
        "skip_if_empty": True,
        "format_string": {
            "text_format_source": {"inline_string": f"%REQ({PEER_HEADER}):{_LONGEST_PEER}%"},
            "omit_empty_values": True,
        },
    }
    return http_connection_manager_pb2.HttpFilter(
        name="envoy.filters.http.set_filter_state",
        typed_config=typed_struct(
            "envoy.extensions.filters.http.set_filter_state.v3.Config", {"on_request_headers": [kept]}
        ),
    )


@remembered(limit=1)
def introduction() -> tuple[Any, ...]:
    """The header that a client's sidecar sets on requests to the mesh."""
    return (
        base_pb2.HeaderValueOption(
            header=base_pb2.HeaderValue(key=PEER_HEADER, value=f"%ENVIRONMENT({PEER_VARIABLE})%"),
            append_action=base_pb2.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD,
        ),
    )


def _outbound() -> dict[str, _Tag]:
    nowhere = telemetry_tags.way("source", telemetry_tags.UNKNOWN)
    return {
        WAY_TAG: _Tag(f"%CLUSTER_METADATA({METADATA}:way)%", nowhere),
        PEER_TAG: _Tag(f"%UPSTREAM_METADATA({METADATA}:peer)%"),
        IDENTITIES_TAG: _Tag("%UPSTREAM_LOCAL_URI_SAN%;%UPSTREAM_PEER_URI_SAN%"),
    }


def _inbound(served: Served, *, with_peer: bool = True) -> dict[str, _Tag]:
    if not served.mutual_tls:
        return {WAY_TAG: _way(served)}
    peer = {PEER_TAG: _Tag(f"%FILTER_STATE({_PEER_STATE}:PLAIN)%")} if with_peer else {}
    return {
        WAY_TAG: _way(served),
        **peer,
        IDENTITIES_TAG: _Tag("%DOWNSTREAM_PEER_URI_SAN%;%DOWNSTREAM_LOCAL_URI_SAN%"),
    }


def _stranger(served: Served) -> dict[str, _Tag]:
    return {CLIENT_TAG: _Tag("%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%"), WAY_TAG: _way(served)}


def _way(served: Served) -> _Tag:
    name, _, rest = served.host.partition(".")
    policy = "mutual_tls" if served.mutual_tls else "none"
    if not served.host:
        return _Tag(telemetry_tags.way("destination", policy, name="InboundPassthroughCluster", port=served.port))
    namespace = rest.partition(".")[0]
    return _Tag(telemetry_tags.way("destination", policy, served.host, name, namespace, served.port))


def _requests(tags: _Tags, *more: Mapping[str, Any]) -> Any:
    lasting = {"stat": _stat(DURATION, {**tags, **_ANSWER}), "unit": "Milliseconds", "value_format": "%DURATION%"}
    return _logger(_counter(REQUESTS, {**tags, **_ANSWER}), *more, histograms=[lasting])


def _connections(tags: _Tags) -> list[Any]:
    tags = {**tags, **_CONNECTION}
    closed = _logger(
        _counter(CLOSED, tags),
        # As Istio has it: received is what the client sent.
        _counter(RECEIVED, tags, "%BYTES_RECEIVED%"),
        _counter(SENT, tags, "%BYTES_SENT%"),
    )
    return [
        _only_at(_logger(_counter(OPENED, tags)), data_pb2.TcpUpstreamConnected),
        _only_at(closed, data_pb2.TcpConnectionEnd),
    ]


def _denied(served: Served, protocol: _Tag, details: str, status: int = 0) -> Any:
    """What authorization refused. The expression is evaluated for answers with `status` only; 0 = every connection."""
    of_client = _inbound(served, with_peer=bool(status)) if served.mutual_tls else _stranger(served)
    counter = _counter(DENIED, {**of_client, PROTOCOL_TAG: protocol})
    made = _logger(counter) if served.mutual_tls else _in_plaintext(counter)
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


def _in_plaintext(*counters: Mapping[str, Any]) -> Any:
    """In a scope of its own: strangers may be many, and use up nobody else's room."""
    return _logger(*counters, sharing="plaintext", at_most=PLAINTEXT_CLIENTS_AT_MOST)


def _logger(
    *counters: Mapping[str, Any],
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
    """The same logger at one moment of a request's or connection's life."""
    kept = accesslog_pb2.AccessLogFilter()
    kept.log_type_filter.types.append(moment)
    if logger.HasField("filter"):
        both = accesslog_pb2.AccessLogFilter()
        both.and_filter.filters.extend([kept, logger.filter])
        kept = both
    logger.filter.CopyFrom(kept)
    return logger


def _counter(name: str, tags: _Tags, value: str = "") -> dict[str, Any]:
    """Adds `value`, Envoy's format of a number; "" = one."""
    return {"stat": _stat(name, tags), **({"value_format": value} if value else {"value_fixed": 1})}


def _stat(name: str, tags: _Tags) -> dict[str, Any]:
    return {"name": name, "tags": [_tag(key, tag) for key, tag in tags.items()]}


def _tag(name: str, tag: _Tag) -> dict[str, Any]:
    made: dict[str, Any] = {"name": name, "value_format": tag.text}
    value = {"name": "value", "typed_config": {"@type": _INPUT}}
    if tag.prefix:
        cases = {"map": {tag.prefix: _becomes(tag.for_prefix)}}
        made["rules"] = {
            "matcher_tree": {"input": value, "prefix_match_map": cases},
            "on_no_match": _becomes(tag.otherwise),
        }
    elif tag.otherwise:
        cases = {"map": {"": _becomes(tag.otherwise)}}
        made["rules"] = {"matcher_tree": {"input": value, "exact_match_map": cases}}
    return made


_INPUT: Final = "type.googleapis.com/envoy.extensions.matching.common_inputs.stats.v3.StatTagValueInput"
_TRANSFORM: Final = "type.googleapis.com/envoy.extensions.matching.actions.transform_stat.v3.TransformStat"


def _becomes(value: str) -> dict[str, Any]:
    update = {"@type": _TRANSFORM, "update_tag": {"new_tag_value": value}}
    return {"action": {"name": "value", "typed_config": update}}

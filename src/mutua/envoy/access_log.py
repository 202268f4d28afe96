"""Access logs: Istio's text or JSON, and at the end what explains a refusal by TLS or policy."""

import json
from typing import Any, Final

from envoy.config.accesslog.v3 import accesslog_pb2
from envoy.config.core.v3 import extension_pb2, grpc_service_pb2, substitution_format_string_pb2
from envoy.data.accesslog.v3 import accesslog_pb2 as data_pb2
from envoy.extensions.access_loggers.file.v3 import file_pb2
from envoy.extensions.access_loggers.filters.cel.v3 import cel_pb2
from envoy.extensions.access_loggers.grpc.v3 import als_pb2
from envoy.extensions.access_loggers.stream.v3 import stream_pb2
from envoy.extensions.formatter.req_without_query.v3 import req_without_query_pb2
from envoy.type.tracing.v3 import custom_tag_pb2

from mutua.envoy.bootstrap import XDS_CLUSTER
from mutua.envoy.filters.rbac import CUSTOM_SHADOW_PREFIX
from mutua.envoy.pack import duration, packed
from mutua.mesh.proxy_view import MeshView

_FACTS: Final = {
    "peer": "%DOWNSTREAM_PEER_URI_SAN%",
    "tls": "%DOWNSTREAM_TLS_VERSION%",
    "cipher": "%DOWNSTREAM_TLS_CIPHER%",
    "group": "%DOWNSTREAM_TLS_GROUP%",
    "serial": "%DOWNSTREAM_PEER_SERIAL%",
    "tls_failure": "%DOWNSTREAM_TRANSPORT_FAILURE_REASON%",
    "chain": "%FILTER_CHAIN_NAME%",
}
"""Who was on the other end, over what, and why a handshake failed."""

_RBAC: Final = "envoy.filters.http.rbac"
_POLICIES: Final = {
    "custom_policy": f"%DYNAMIC_METADATA({_RBAC}:{CUSTOM_SHADOW_PREFIX}shadow_effective_policy_id)%",
    "dry_run_deny_policy": f"%DYNAMIC_METADATA({_RBAC}:istio_dry_run_deny_shadow_effective_policy_id)%",
    "dry_run_allow_result": f"%DYNAMIC_METADATA({_RBAC}:istio_dry_run_allow_shadow_engine_result)%",
    "audited": "%DYNAMIC_METADATA(envoy.common:access_log_hint)%",
}
"""What policies that decide nothing by themselves found; who refused a request is in its `response_code_details`."""

_FIELDS: Final = {
    "start_time": "%START_TIME%",
    "method": "%REQ(:METHOD)%",
    "path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
    "protocol": "%PROTOCOL%",
    "response_code": "%RESPONSE_CODE%",
    "response_flags": "%RESPONSE_FLAGS%",
    "response_code_details": "%RESPONSE_CODE_DETAILS%",
    "connection_termination_details": "%CONNECTION_TERMINATION_DETAILS%",
    "upstream_transport_failure_reason": "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
    "bytes_received": "%BYTES_RECEIVED%",
    "bytes_sent": "%BYTES_SENT%",
    "duration": "%DURATION%",
    "upstream_service_time": "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%",
    "x_forwarded_for": "%REQ(X-FORWARDED-FOR)%",
    "user_agent": "%REQ(USER-AGENT)%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "authority": "%REQ(:AUTHORITY)%",
    "upstream_host": "%UPSTREAM_HOST%",
    "upstream_cluster": "%UPSTREAM_CLUSTER_RAW%",
    "upstream_local_address": "%UPSTREAM_LOCAL_ADDRESS%",
    "downstream_local_address": "%DOWNSTREAM_LOCAL_ADDRESS%",
    "downstream_remote_address": "%DOWNSTREAM_REMOTE_ADDRESS%",
    "requested_server_name": "%REQUESTED_SERVER_NAME%",
    "route_name": "%ROUTE_NAME%",
}
"""The keys of Istio's JSON log."""

_QUOTED: Final = ("upstream_transport_failure_reason", "x_forwarded_for", "user_agent", "request_id", "authority")


def _text() -> str:
    words = ["[{start_time}]", '"{method} {path} {protocol}"']
    for key in list(_FIELDS)[4:]:
        words.append(f'"{{{key}}}"' if key in (*_QUOTED, "upstream_host") else f"{{{key}}}")
    facts = [f'{key}="{value}"' if key == "tls_failure" else f"{key}={value}" for key, value in _FACTS.items()]
    facts += [f"{key}={value}" for key, value in _POLICIES.items()]
    return " ".join(words).format(**_FIELDS) + " " + " ".join(facts) + "\n"


TEXT: Final = _text()


def of_requests(mesh: MeshView) -> list[Any]:
    """The log of requests, one entry each, when it ends; empty if the mesh logs nothing."""
    return _ending(mesh, data_pb2.DownstreamEnd)


def of_connections(mesh: MeshView) -> list[Any]:
    """The same of connections whose bytes nobody reads: one entry each, when it ends."""
    return _ending(mesh, data_pb2.TcpConnectionEnd)


def _ending(mesh: MeshView, moment: "data_pb2.AccessLogType.ValueType") -> list[Any]:
    logger = _logger(mesh)
    if logger is None:
        return []
    logger.filter.log_type_filter.types.append(moment)
    return [logger]


def of_refused_connections(mesh: MeshView) -> list[Any]:
    """A listener's own log: connections that matched no filter chain or failed their TLS handshake.

    Nothing else sees these, because no request and no proxied byte ever came of them.
    """
    logger = _logger(mesh)
    return [only(logger, REFUSED_CONNECTION)] if logger else []


NO_FILTER_CHAIN: Final = "filter_chain_not_found"
INSPECTED: Final = "TLS_error|"
REFUSED_CONNECTION: Final = (
    f"response.code_details == '{NO_FILTER_CHAIN}' || (connection.transport_failure_reason != '' "
    f"&& !connection.transport_failure_reason.startsWith('{INSPECTED}'))"
)
"""A reason that starts with `TLS_error|` is the TLS inspector's, which found no TLS: that alone refuses nobody.

A handshake that failed leaves `TLS_error:|` instead.
"""


DETAILS_TAG: Final = "response_code_details"
WITHOUT_MUTUAL_TLS: Final = "!connection.mtls"
FLUSH_SECONDS: Final = 0.25
"""How long a report may wait for others: who rolls a STRICT back on refusals must hear of them soon."""


OPEN_SECONDS: Final = 30.0
SAMPLED_PERCENT: Final = 1


def of_plaintext_connections() -> list[Any]:
    """What the control plane is told: each inbound connection without mutual TLS, once, when it ends.

    A listener's own log: one entry per connection, whatever became of it, and nothing for all the others.
    """
    return [only(_reporter(ENDED), WITHOUT_MUTUAL_TLS)]


def of_open_plaintext_connections() -> list[Any]:
    """The same of a chain of plaintext bytes: each connection when it is open, which nobody counts."""
    reporter = _reporter(OPEN)
    reporter.filter.log_type_filter.types.append(data_pb2.TcpUpstreamConnected)
    return [reporter]


def of_open_plaintext_requests() -> list[Any]:
    """The same of a chain of plaintext requests: some of them, and each long one now and then.

    A connection that is kept for hours is heard of by its requests, and one of these in a hundred is enough for that.
    """
    reporter = _reporter(OPEN)
    either = reporter.filter.or_filter.filters
    either.add().log_type_filter.types.append(data_pb2.DownstreamPeriodic)
    sampled = either.add().runtime_filter
    sampled.runtime_key = "mutua.never_set"
    sampled.percent_sampled.numerator = SAMPLED_PERCENT
    return [reporter]


ENDED: Final = "plaintext"
OPEN: Final = "plaintext-open"


def _reporter(name: str) -> Any:
    details = custom_tag_pb2.CustomTag(tag=DETAILS_TAG, value="%RESPONSE_CODE_DETAILS%")
    config = als_pb2.TcpGrpcAccessLogConfig(
        common_config=als_pb2.CommonGrpcAccessLogConfig(
            log_name=name,
            transport_api_version="V3",
            grpc_service=grpc_service_pb2.GrpcService(
                envoy_grpc=grpc_service_pb2.GrpcService.EnvoyGrpc(cluster_name=XDS_CLUSTER)
            ),
            custom_tags=[details],
            buffer_flush_interval=duration(FLUSH_SECONDS),
        )
    )
    return accesslog_pb2.AccessLog(name="envoy.access_loggers.tcp_grpc", typed_config=packed(config))


def only(logger: Any, expression: str) -> Any:
    """The same logger for what a CEL expression is true of."""
    logger.filter.extension_filter.name = "envoy.access_loggers.extension_filters.cel"
    logger.filter.extension_filter.typed_config.CopyFrom(packed(cel_pb2.ExpressionFilter(expression=expression)))
    return logger


def _logger(mesh: MeshView) -> Any | None:
    if not mesh.access_log_file:
        return None
    log_format = _format(mesh)
    # The standard streams are Envoy's own descriptors: opening /dev/stdout by path fails where it is a socket.
    match mesh.access_log_file:
        case "/dev/stdout":
            name, config = "envoy.access_loggers.stdout", stream_pb2.StdoutAccessLog(log_format=log_format)
        case "/dev/stderr":
            name, config = "envoy.access_loggers.stderr", stream_pb2.StderrAccessLog(log_format=log_format)
        case path:
            name, config = "envoy.access_loggers.file", file_pb2.FileAccessLog(path=path, log_format=log_format)
    return accesslog_pb2.AccessLog(name=name, typed_config=packed(config))


_JSON: Final = {**_FIELDS, **{f"downstream_{key}": value for key, value in _FACTS.items()}, **_POLICIES}
_WITHOUT_QUERY: Final = extension_pb2.TypedExtensionConfig(
    name="envoy.formatter.req_without_query", typed_config=packed(req_without_query_pb2.ReqWithoutQuery())
)
"""The one command of Istio's that Envoy knows by an extension only."""


def _format(mesh: MeshView) -> Any:
    chosen = mesh.access_log_format
    made = substitution_format_string_pb2.SubstitutionFormatString()
    if mesh.access_log_encoding == "JSON":
        made.json_format.update(json.loads(chosen) if chosen else _JSON)
    else:
        # One entry is one line, also where whoever wrote the format forgot its end.
        text = f"{chosen.removesuffix(chr(10))}\n" if chosen else TEXT
        made.text_format_source.inline_string = text
    if "%REQ_WITHOUT_QUERY(" in chosen:
        made.formatters.append(_WITHOUT_QUERY)
    return made

"""`accessLogFormat`: what of Envoy's format strings it takes. Source: Envoy 1.40's command operators.

A format that one sidecar refuses all refuse, and with it every listener; so nothing is passed on that is not known to
be taken. `CEL` and `COALESCE` have languages of their own, which nobody here can check: they are not taken.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, Final

from mutua.api.meshconfig import AccessLogEncoding

FORMAT_AT_MOST: Final = 16 * 1024
"""Characters; each log of each listener holds a copy."""
_DEPTH_AT_MOST: Final = 8

_NAMES: Final = """
ACCESS_LOG_TYPE BYTES_RECEIVED BYTES_RETRANSMITTED BYTES_SENT CONNECTION_ID CONNECTION_TERMINATION_DETAILS
CUSTOM_FLAGS DOWNSTREAM_CX_RTT DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_SENT
DOWNSTREAM_DETECTED_CLOSE_TYPE DOWNSTREAM_DIRECT_LOCAL_ADDRESS DOWNSTREAM_DIRECT_LOCAL_ADDRESS_ENDPOINT_ID
DOWNSTREAM_DIRECT_LOCAL_PORT DOWNSTREAM_DIRECT_REMOTE_ADDRESS DOWNSTREAM_DIRECT_REMOTE_PORT
DOWNSTREAM_HANDSHAKE_DURATION DOWNSTREAM_HEADER_BYTES_RECEIVED DOWNSTREAM_HEADER_BYTES_SENT DOWNSTREAM_LOCAL_ADDRESS
DOWNSTREAM_LOCAL_ADDRESS_ENDPOINT_ID DOWNSTREAM_LOCAL_CLOSE_REASON DOWNSTREAM_LOCAL_DNS_SAN DOWNSTREAM_LOCAL_EMAIL_SAN
DOWNSTREAM_LOCAL_IP_SAN DOWNSTREAM_LOCAL_OTHERNAME_SAN DOWNSTREAM_LOCAL_PORT DOWNSTREAM_LOCAL_SUBJECT
DOWNSTREAM_LOCAL_URI_SAN DOWNSTREAM_PEER_CERT DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_1
DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_256 DOWNSTREAM_PEER_CHAIN_SERIALS DOWNSTREAM_PEER_DNS_SAN DOWNSTREAM_PEER_EMAIL_SAN
DOWNSTREAM_PEER_FINGERPRINT_1 DOWNSTREAM_PEER_FINGERPRINT_256 DOWNSTREAM_PEER_IP_SAN DOWNSTREAM_PEER_ISSUER
DOWNSTREAM_PEER_ISSUER_FINGERPRINT_256 DOWNSTREAM_PEER_ISSUER_SERIAL DOWNSTREAM_PEER_OTHERNAME_SAN
DOWNSTREAM_PEER_SERIAL DOWNSTREAM_PEER_SUBJECT DOWNSTREAM_PEER_URI_SAN DOWNSTREAM_REMOTE_ADDRESS
DOWNSTREAM_REMOTE_PORT DOWNSTREAM_TLS_CIPHER DOWNSTREAM_TLS_GROUP DOWNSTREAM_TLS_SESSION_ID DOWNSTREAM_TLS_VERSION
DOWNSTREAM_TRANSPORT_FAILURE_REASON DOWNSTREAM_WIRE_BYTES_RECEIVED DOWNSTREAM_WIRE_BYTES_SENT DURATION
FILTER_CHAIN_NAME GRPC_STATUS_NUMBER HOSTNAME LOCAL_REPLY_BODY PROTOCOL REQUEST_DURATION REQUEST_HEADERS_BYTES
REQUEST_TX_DURATION RESPONSE_CODE RESPONSE_DURATION RESPONSE_FLAGS RESPONSE_FLAGS_LONG RESPONSE_HEADERS_BYTES
RESPONSE_TRAILERS_BYTES RESPONSE_TX_DURATION ROUNDTRIP_DURATION ROUTE_NAME ROUTE_RESOLUTION_COUNT
ROUTE_RESOLUTION_TIME_US SPAN_ID STREAM_ID TLS_JA3_FINGERPRINT TLS_JA4_FINGERPRINT TRACE_ID UNIQUE_ID UPSTREAM_CLUSTER
UPSTREAM_CLUSTER_RAW UPSTREAM_CONNECTION_ID UPSTREAM_CONNECTION_IDS_ATTEMPTED UPSTREAM_CONNECTION_POOL_READY_DURATION
UPSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED UPSTREAM_DECOMPRESSED_HEADER_BYTES_SENT UPSTREAM_DETECTED_CLOSE_TYPE
UPSTREAM_HEADER_BYTES_RECEIVED UPSTREAM_HEADER_BYTES_SENT UPSTREAM_HOST UPSTREAM_HOSTS_ATTEMPTED
UPSTREAM_HOSTS_ATTEMPTED_WITHOUT_PORT UPSTREAM_HOST_NAME UPSTREAM_HOST_NAMES_ATTEMPTED
UPSTREAM_HOST_NAMES_ATTEMPTED_WITHOUT_PORT UPSTREAM_HOST_NAME_WITHOUT_PORT UPSTREAM_LOCAL_ADDRESS
UPSTREAM_LOCAL_CLOSE_REASON UPSTREAM_LOCAL_DNS_SAN UPSTREAM_LOCAL_IP_SAN UPSTREAM_LOCAL_PORT UPSTREAM_LOCAL_URI_SAN
UPSTREAM_PEER_CERT UPSTREAM_PEER_DNS_SAN UPSTREAM_PEER_IP_SAN UPSTREAM_PEER_ISSUER UPSTREAM_PEER_SUBJECT
UPSTREAM_PEER_URI_SAN UPSTREAM_PROTOCOL UPSTREAM_REMOTE_ADDRESS UPSTREAM_REMOTE_ADDRESS_ENDPOINT_ID
UPSTREAM_REMOTE_PORT UPSTREAM_REQUEST_ATTEMPT_COUNT UPSTREAM_SERVER_NAME UPSTREAM_TLS_CIPHER UPSTREAM_TLS_GROUP
UPSTREAM_TLS_SESSION_ID UPSTREAM_TLS_VERSION UPSTREAM_TRANSPORT_FAILURE_REASON UPSTREAM_WIRE_BYTES_RECEIVED
UPSTREAM_WIRE_BYTES_SENT VIRTUAL_CLUSTER_NAME
"""
COMMANDS: Final = frozenset(_NAMES.split())
"""Without parameter or length."""

_HEADER: Final = re.compile(r"[:?]?[A-Za-z0-9!#$&'*+.^_`|~-]+(\?:?[A-Za-z0-9!#$&'*+.^_`|~-]*)?")
_ADDRESS: Final = re.compile(r"\d{0,3}")
_DATE: Final = re.compile(r"(?!.*%[-_0^#]*[1-9]*[EO]?n).*")
_ANYTHING: Final = re.compile(r".+")
_PATH: Final = re.compile(r"((WQ|NQ)(:(ORIG|PATH|ORIG_OR_PATH))?)?")
_STATE: Final = re.compile(r"[^:]+(:(PLAIN|TYPED|FIELD:[^:]+))?")
_SERVER_NAME: Final = re.compile(r"((SNI_ONLY|SNI_FIRST|HOST_FIRST)(:(ORIG|HOST))?)?")
_DURATION: Final = re.compile(r"[^:]+:[^:]+(:(ms|us|ns))?")
_METADATA: Final = re.compile(
    r"(DYNAMIC|CLUSTER|ROUTE|UPSTREAM_HOST|LISTENER|LISTENER_FILTER_CHAIN|VIRTUAL_HOST)(:[^:]+)+"
)

WITH_PARAMETER: Final = {
    **dict.fromkeys(
        (
            *("REQ", "REQUEST_HEADER", "REQ_WITHOUT_QUERY", "STREAM_INFO_REQ"),
            *("RESP", "RESPONSE_HEADER", "TRAILER", "RESPONSE_TRAILER"),
        ),
        _HEADER,
    ),
    **dict.fromkeys(
        (
            *("START_TIME", "START_TIME_LOCAL", "EMIT_TIME", "EMIT_TIME_LOCAL"),
            *("DOWNSTREAM_PEER_CERT_V_START", "DOWNSTREAM_PEER_CERT_V_END"),
            *("UPSTREAM_PEER_CERT_V_START", "UPSTREAM_PEER_CERT_V_END"),
        ),
        _DATE,
    ),
    **dict.fromkeys(
        (
            *("DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT"),
            *("DOWNSTREAM_DIRECT_LOCAL_ADDRESS_WITHOUT_PORT", "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT"),
            *("UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", "UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT"),
        ),
        _ADDRESS,
    ),
    **dict.fromkeys(
        ("CLUSTER_METADATA", "DYNAMIC_METADATA", "UPSTREAM_METADATA", "ENVIRONMENT", "QUERY_PARAM"), _ANYTHING
    ),
    **dict.fromkeys(("FILTER_STATE", "UPSTREAM_FILTER_STATE"), _STATE),
    "METADATA": _METADATA,
    "GRPC_STATUS": re.compile(r"(CAMEL_STRING|SNAKE_STRING|NUMBER)?"),
    "RESPONSE_CODE_DETAILS": re.compile(r"(ALLOW_WHITESPACES)?"),
    "PATH": _PATH,
    "QUERY_PARAMS": re.compile(r"(ORIG|DECODED)?"),
    "REQUESTED_SERVER_NAME": _SERVER_NAME,
    "COMMON_DURATION": _DURATION,
}
"""What stands in a command's brackets; no brackets are the same as empty ones."""

_WITH_LENGTH: Final = frozenset(
    (
        *("REQ", "REQUEST_HEADER", "REQ_WITHOUT_QUERY", "STREAM_INFO_REQ"),
        *("RESP", "RESPONSE_HEADER", "TRAILER", "RESPONSE_TRAILER"),
        *("DYNAMIC_METADATA", "ENVIRONMENT", "FILTER_STATE", "UPSTREAM_FILTER_STATE"),
        *("METADATA", "PATH", "QUERY_PARAM", "QUERY_PARAMS"),
    )
)
_UNCHECKED: Final = frozenset({"CEL", "COALESCE"})
_COMMAND: Final = re.compile(r"%(?P<name>[A-Z0-9_]+)(\((?P<parameter>.*?)\))?(:(?P<length>[0-9]{1,9}))?%")


def mistakes(text: str, encoding: AccessLogEncoding) -> Iterator[str]:
    """What is wrong with a format, in words; none if it is empty, which means the default."""
    if len(text) > FORMAT_AT_MOST:
        yield f"has {len(text)} characters, more than {FORMAT_AT_MOST}"
    elif text and encoding is AccessLogEncoding.JSON:
        try:
            tree = json.loads(text, parse_constant=_no_number)
        except (ValueError, RecursionError) as problem:
            yield f"is not JSON, as accessLogEncoding says: {problem}"
            return
        if isinstance(tree, dict):
            yield from _in_tree(tree, "")
        else:
            yield "is not a JSON object of keys and formats"
    elif text:
        yield from _in_text(text)


def _in_tree(value: Any, path: str) -> Iterator[str]:
    if path.count("/") > _DEPTH_AT_MOST:
        yield f"{path}: is nested too deep"
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _in_tree(item, f"{path}/{key}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _in_tree(item, f"{path}/{index}")
    elif isinstance(value, str):
        yield from (f"{path}: {problem}" for problem in _in_text(value))


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _in_text(text: str) -> Iterator[str]:
    place = 0
    while (place := text.find("%", place)) >= 0:
        if text.startswith("%%", place):
            place += 2
            continue
        found = _COMMAND.match(text, place)
        if found is None:
            yield f"what begins with {text[place : place + 20]!r} is no command; a per cent sign is written %%"
            return
        if problem := _in_command(found["name"], found["parameter"] or "", found["length"]):
            yield f"{found[0]}: {problem}"
        place = found.end()


def _in_command(name: str, parameter: str, length: str | None) -> str:
    if name in _UNCHECKED:
        return "cannot be checked before sidecars have it, so it is not taken"
    if name in COMMANDS:
        return f"{name} takes neither parameter nor length" if parameter or length else ""
    wanted = WITH_PARAMETER.get(name)
    if wanted is None:
        return "Envoy has no such command"
    if not wanted.fullmatch(parameter):
        return f"{name} cannot have the parameter {parameter!r}" if parameter else f"{name} needs a parameter"
    return f"{name} takes no length" if length and name not in _WITH_LENGTH else ""

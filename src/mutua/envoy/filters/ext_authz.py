"""CUSTOM: requests and connections that a rule singled out are put to an external authorizer."""

import re
from collections.abc import Iterable
from typing import Any, Final

from envoy.config.core.v3 import base_pb2, config_source_pb2, grpc_service_pb2
from envoy.config.listener.v3 import listener_components_pb2
from envoy.extensions.filters.http.ext_authz.v3 import ext_authz_pb2 as http_pb2
from envoy.extensions.filters.network.ext_authz.v3 import ext_authz_pb2 as network_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from envoy.type.matcher.v3 import metadata_pb2, string_pb2, value_pb2
from envoy.type.v3 import http_status_pb2

from mutua.envoy import names
from mutua.envoy.filters.rbac import CUSTOM_SHADOW_PREFIX
from mutua.envoy.pack import duration, packed
from mutua.mesh.proxy_view import AuthorizationProvider

EFFECTIVE_POLICY: Final = f"{CUSTOM_SHADOW_PREFIX}shadow_effective_policy_id"
"""Where the filter of CUSTOM rules leaves the name of the one that matched."""

_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def http_filter(provider: AuthorizationProvider) -> Any:
    """The filter for requests. It asks only about those that a rule of its provider matched."""
    config = http_pb2.ExtAuthz(
        transport_api_version=config_source_pb2.V3,
        failure_mode_allow=provider.fail_open,
        filter_enabled_metadata=_singled_out(provider, "envoy.filters.http.rbac"),
        stat_prefix=provider.name,
    )
    # Envoy knows fewer codes than HTTP has, and refuses the whole listener for one that it does not know.
    known = provider.status_on_error in http_status_pb2.StatusCode.values()
    config.status_on_error.code = provider.status_on_error if known else http_status_pb2.Forbidden
    if provider.body_bytes:
        config.with_request_body.max_request_bytes = provider.body_bytes
        config.with_request_body.allow_partial_message = provider.partial_body
        config.with_request_body.pack_as_bytes = provider.body_as_bytes
    if provider.http:
        config.http_service.CopyFrom(_over_http(provider))
        if provider.request_headers:
            config.allowed_headers.patterns.extend(_patterns(provider.request_headers))
    else:
        config.grpc_service.CopyFrom(_over_grpc(provider))
    return http_connection_manager_pb2.HttpFilter(
        name=f"{names.EXTERNAL_AUTHORIZATION}.{provider.name}", typed_config=packed(config)
    )


def network_filter(provider: AuthorizationProvider) -> Any:
    """The filter for connections whose bytes are not read; for a provider over gRPC."""
    config = network_pb2.ExtAuthz(
        stat_prefix="tcp.",
        transport_api_version=config_source_pb2.V3,
        failure_mode_allow=provider.fail_open,
        grpc_service=_over_grpc(provider),
        filter_enabled_metadata=_singled_out(provider, "envoy.filters.network.rbac"),
    )
    return listener_components_pb2.Filter(name="envoy.filters.network.ext_authz", typed_config=packed(config))


def _singled_out(provider: AuthorizationProvider, rbac_filter: str) -> Any:
    prefix = names.custom_policy(provider.name, "ns[")
    return metadata_pb2.MetadataMatcher(
        filter=rbac_filter,
        path=[metadata_pb2.MetadataMatcher.PathSegment(key=EFFECTIVE_POLICY)],
        value=value_pb2.ValueMatcher(string_match=string_pb2.StringMatcher(prefix=prefix)),
    )


def _over_http(provider: AuthorizationProvider) -> Any:
    service = http_pb2.HttpService(path_prefix=provider.path_prefix)
    service.server_uri.uri = f"http://{provider.host}"
    service.server_uri.cluster = names.outbound_cluster(provider.port, provider.host)
    service.server_uri.timeout.CopyFrom(duration(provider.timeout_ms / 1000))
    service.authorization_request.headers_to_add.extend(
        base_pb2.HeaderValue(key=key, value=value)
        for key, value in provider.additional_headers
        if _HEADER_NAME.fullmatch(key)
    )
    for given, allowed in (
        (provider.upstream_headers_on_allow, service.authorization_response.allowed_upstream_headers),
        (provider.client_headers_on_deny, service.authorization_response.allowed_client_headers),
        (provider.client_headers_on_allow, service.authorization_response.allowed_client_headers_on_success),
    ):
        if given:
            allowed.patterns.extend(_patterns(given))
    return service


def _over_grpc(provider: AuthorizationProvider) -> Any:
    service = grpc_service_pb2.GrpcService(timeout=duration(provider.timeout_ms / 1000))
    service.envoy_grpc.cluster_name = names.outbound_cluster(provider.port, provider.host)
    service.envoy_grpc.authority = provider.host
    return service


def _patterns(headers: Iterable[str]) -> list[Any]:
    """Names of headers as the mesh config writes them: whole, `prefix*`, `*suffix` or `*`."""
    return [_pattern(header) for header in headers]


def _pattern(header: str) -> Any:
    if header == "*":
        made = string_pb2.StringMatcher()
        made.safe_regex.regex = ".*"
        return made
    if header.startswith("*"):
        return string_pb2.StringMatcher(suffix=header[1:], ignore_case=True)
    if header.endswith("*"):
        return string_pb2.StringMatcher(prefix=header[:-1], ignore_case=True)
    return string_pb2.StringMatcher(exact=header, ignore_case=True)

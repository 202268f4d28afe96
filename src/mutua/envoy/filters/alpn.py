"""Tells the server's sidecar that a connection carries requests, where the same cluster also carries plain bytes."""

from typing import Any, Final

from envoy.config.core.v3 import base_pb2, substitution_format_string_pb2
from envoy.extensions.filters.common.set_filter_state.v3 import value_pb2
from envoy.extensions.filters.http.set_filter_state.v3 import set_filter_state_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2

from mutua.envoy import tls
from mutua.envoy.pack import packed

OFFERED_PROTOCOLS: Final = "envoy.network.application_protocols"
"""The filter state that replaces the ALPN of the cluster for this request's connection."""


def http_filter() -> Any:
    """Offers the ALPN of requests upstream, instead of the cluster's ALPN of plain bytes."""
    offered = value_pb2.FilterStateValue(
        object_key=OFFERED_PROTOCOLS,
        format_string=substitution_format_string_pb2.SubstitutionFormatString(
            text_format_source=base_pb2.DataSource(inline_string=",".join(tls.SNIFFED_HTTP_CLIENT_ALPN))
        ),
    )
    return http_connection_manager_pb2.HttpFilter(
        name="envoy.filters.http.set_filter_state",
        typed_config=packed(set_filter_state_pb2.Config(on_request_headers=[offered])),
    )

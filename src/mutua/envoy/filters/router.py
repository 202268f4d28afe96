"""The filter that sends a request where its route says; always the last."""

from typing import Any

from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2

from mutua.envoy.pack import packed


def http_filter() -> Any:
    """The router."""
    return http_connection_manager_pb2.HttpFilter(
        name="envoy.filters.http.router", typed_config=packed(router_pb2.Router())
    )

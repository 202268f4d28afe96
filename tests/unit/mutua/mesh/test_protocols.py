"""The protocol of a Service port."""

import pytest

from mutua.mesh import protocols
from mutua.mesh.proxy_view import Protocol


@pytest.mark.parametrize(
    ("number", "name", "app_protocol", "expected"),
    [
        (80, "http", "", Protocol.HTTP),
        (80, "http-web", "", Protocol.HTTP),
        (80, "HTTP-web", "", Protocol.HTTP),
        (80, "http2-web", "", Protocol.HTTP2),
        (80, "grpc", "", Protocol.GRPC),
        (80, "grpc-web", "", Protocol.HTTP),
        (80, "grpc-web-x", "", Protocol.HTTP),
        (80, "grpc-x", "", Protocol.GRPC),
        (80, "tcp-http", "", Protocol.TCP),
        (443, "https", "", Protocol.TLS),
        (443, "tls-x", "", Protocol.TLS),
        (27017, "mongo", "", Protocol.TCP),
        (6379, "redis-x", "", Protocol.TCP),
        (80, "web", "", Protocol.AUTO),
        (80, "", "", Protocol.AUTO),
        (80, "httpx", "", Protocol.AUTO),
        (3306, "", "", Protocol.TCP),
        (3306, "http", "", Protocol.HTTP),
        (80, "http", "tcp", Protocol.TCP),
        (80, "tcp", "grpc", Protocol.GRPC),
        (80, "", "kubernetes.io/h2c", Protocol.HTTP2),
        (80, "", "kubernetes.io/ws", Protocol.HTTP),
        (80, "", "kubernetes.io/wss", Protocol.TLS),
        (80, "http", "example.com/unknown", Protocol.AUTO),
    ],
)
def test_name_and_app_protocol(number: int, name: str, app_protocol: str, expected: Protocol) -> None:
    assert protocols.select(number, name, app_protocol) is expected

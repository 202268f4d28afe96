"""Which protocol a Service port speaks, from its name and appProtocol. Source: Istio's protocol selection."""

from typing import Final

from mutua.mesh.proxy_view import Protocol

_BY_NAME: Final = {
    "http": Protocol.HTTP,
    "http_proxy": Protocol.HTTP,
    "http2": Protocol.HTTP2,
    "grpc": Protocol.GRPC,
    "grpc-web": Protocol.HTTP,  # its framing travels in HTTP/1.1 as well
    "tcp": Protocol.TCP,
    "tls": Protocol.TLS,
    "https": Protocol.TLS,
    "mongo": Protocol.TCP,
    "mysql": Protocol.TCP,
    "redis": Protocol.TCP,
}

_STANDARD_APP_PROTOCOLS: Final = {
    "kubernetes.io/h2c": Protocol.HTTP2,
    "kubernetes.io/ws": Protocol.HTTP,
    "kubernetes.io/wss": Protocol.TLS,
}

# SMTP, DNS, MySQL, MongoDB: the server speaks first or the bytes tell nothing, so that looking at them would hang.
_NEVER_LOOKED_AT: Final = frozenset({25, 53, 3306, 27017})


def select(port_number: int, port_name: str, app_protocol: str) -> Protocol:
    """The protocol of one TCP port of a Service. `app_protocol` wins over the name; neither known: AUTO."""
    standard = _STANDARD_APP_PROTOCOLS.get(app_protocol)
    if standard is not None:
        return standard
    name = (app_protocol or port_name).lower()
    if name.startswith("grpc-web"):
        return _BY_NAME["grpc-web"]
    known = _BY_NAME.get(name.partition("-")[0])
    if known is not None:
        return known
    return Protocol.TCP if port_number in _NEVER_LOOKED_AT else Protocol.AUTO


def of_entry(port_number: int, protocol: str) -> Protocol:
    """The protocol of a ServiceEntry's port, written in any case; nothing said: AUTO."""
    known = _BY_NAME.get(protocol.lower())
    if known is not None:
        return known
    return Protocol.TCP if port_number in _NEVER_LOOKED_AT else Protocol.AUTO

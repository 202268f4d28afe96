"""What inbound and outbound listeners have in common: the filters that look before a chain is chosen."""

from collections.abc import Iterable
from ipaddress import ip_network
from typing import Any, Final

from envoy.config.core.v3 import base_pb2
from envoy.config.listener.v3 import listener_components_pb2
from envoy.extensions.filters.listener.http_inspector.v3 import http_inspector_pb2
from envoy.extensions.filters.listener.original_dst.v3 import original_dst_pb2
from envoy.extensions.filters.listener.tls_inspector.v3 import tls_inspector_pb2
from google.protobuf import wrappers_pb2

from mutua.envoy.pack import packed

SNIFFED_HTTP: Final = ("http/1.1", "h2c")
"""What the HTTP inspector calls requests. HTTP/1.0 is not among them: it is carried as bytes, not refused."""

TLS: Final = "tls"
PLAINTEXT: Final = "raw_buffer"


def original_destination() -> Any:
    """Restores the address that the client dialled before capture redirected the connection."""
    return _listener_filter("envoy.filters.listener.original_dst", original_dst_pb2.OriginalDst())


def tls_inspector(disabled: Any = None) -> Any:
    """Recognises TLS and reads its ALPN and server name."""
    return _listener_filter("envoy.filters.listener.tls_inspector", tls_inspector_pb2.TlsInspector(), disabled)


def http_inspector(disabled: Any = None) -> Any:
    """Recognises HTTP by the first bytes."""
    return _listener_filter("envoy.filters.listener.http_inspector", http_inspector_pb2.HttpInspector(), disabled)


def on_ports(ports: Iterable[int]) -> Any | None:
    """The predicate for connections to one of `ports`; None for no port."""
    rules = [
        listener_components_pb2.ListenerFilterChainMatchPredicate(
            destination_port_range={"start": each, "end": each + 1}
        )
        for each in sorted(ports)
    ]
    if len(rules) <= 1:
        return rules[0] if rules else None
    either = listener_components_pb2.ListenerFilterChainMatchPredicate()
    either.or_match.rules.extend(rules)
    return either


def not_on_ports(ports: Iterable[int]) -> Any | None:
    """The predicate for connections to any port but `ports`; None for no port."""
    inner = on_ports(ports)
    return listener_components_pb2.ListenerFilterChainMatchPredicate(not_match=inner) if inner else None


def filter_chain(
    name: str,
    filters: list[Any],
    *,
    destination_port: int = 0,
    transport: str = "",
    application_protocols: tuple[str, ...] = (),
    server_names: Iterable[str] = (),
    blocks: Iterable[str] = (),
    transport_socket: base_pb2.TransportSocket | None = None,
    handshake_timeout: Any = None,
) -> Any:
    """A filter chain and the connections that it is for; what is left out matches any. `blocks` are of addresses."""
    chain = listener_components_pb2.FilterChain(name=name, filters=filters)
    match = chain.filter_chain_match
    if destination_port:
        match.destination_port.CopyFrom(wrappers_pb2.UInt32Value(value=destination_port))
    match.transport_protocol = transport
    match.application_protocols.extend(application_protocols)
    match.server_names.extend(server_names)
    for block in blocks:
        network = ip_network(block)
        added = match.prefix_ranges.add(address_prefix=str(network.network_address))
        added.prefix_len.value = network.prefixlen
    if transport_socket is not None:
        chain.transport_socket.CopyFrom(transport_socket)
        chain.transport_socket_connect_timeout.CopyFrom(handshake_timeout)
    return chain


def _listener_filter(name: str, config: Any, disabled: Any = None) -> Any:
    return listener_components_pb2.ListenerFilter(name=name, typed_config=packed(config), filter_disabled=disabled)

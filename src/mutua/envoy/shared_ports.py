"""Which connections meet in one listener, because their port is all that is known before something is read of them."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Final, NamedTuple

import msgspec

from mutua.envoy import bootstrap, names
from mutua.mesh.proxy_view import OutboundPort, OutboundService, Protocol

RESERVED: Final = frozenset({names.INBOUND_PORT, names.OUTBOUND_PORT})
"""A service with such a port gets no listener of its own: it would have the sidecar dial itself."""

BOUND: Final = frozenset({bootstrap.READINESS_PORT, bootstrap.METRICS_PORT})
"""The sidecar's own listeners have these on every address, so that services cannot share one listener there."""


class Claim(NamedTuple):
    """Connections that are carried to one host: by the address that was dialled, the name in the handshake, or both."""

    host: str
    port: OutboundPort
    blocks: tuple[str, ...] = ()
    server_names: tuple[str, ...] = ()


class Shared(msgspec.Struct):
    """One port number: whose requests are told apart by host, whose connections by address block or server name.

    `rest` gets what is left, if a host claims that.
    """

    requests: list[OutboundService] = msgspec.field(default_factory=list)
    blocks_with_requests: list[str] = msgspec.field(default_factory=list)
    claims: list[Claim] = msgspec.field(default_factory=list)
    rest: tuple[str, OutboundPort] | None = None

    @property
    def is_looked_at(self) -> bool:
        """Whether the first bytes decide anything; a server that speaks first must not be kept waiting for nothing."""
        return bool(self.requests) or any(claim.server_names for claim in self.claims)


def is_shared(port: OutboundPort) -> bool:
    """Whether all services with this port share one listener."""
    return port.protocol.is_http and port.number not in BOUND


def of(services: Iterable[OutboundService]) -> dict[int, Shared]:
    """What meets at each port number, ascending. Of two that claim the same, the first has it."""
    by_number: defaultdict[int, Shared] = defaultdict(Shared)
    taken: set[tuple[int, str, str]] = set()
    for service in services:
        for port in service.ports:
            if port.number in RESERVED or port.number in BOUND:
                continue
            if port.protocol.is_http or (port.protocol is Protocol.AUTO and service.takes_any_address):
                by_number[port.number].requests.append(service)
            if service.is_entry and not port.protocol.is_http:
                _claim(by_number, taken, service, port)
    for shared in by_number.values():
        # A block is the first thing that is compared: requests to it must find their chain there as well.
        blocks = dict.fromkeys(block for claim in shared.claims for block in claim.blocks)
        shared.blocks_with_requests = list(blocks) if shared.requests else []
    return dict(sorted(by_number.items()))


def _claim(
    by_number: defaultdict[int, Shared],
    taken: set[tuple[int, str, str]],
    service: OutboundService,
    port: OutboundPort,
) -> None:
    """Note what of a port's connections go to a ServiceEntry's host, apart from requests and its own addresses."""
    number, name = port.number, service.host.lower()
    # A handshake names whole hosts: Envoy compares wildcards by label.
    comparable = not name.startswith("*") or name.startswith("*.")
    by_name = (name,) if port.protocol is Protocol.TLS and comparable else ()
    if service.takes_any_address and by_name:
        if (number, "", name) not in taken:
            taken.add((number, "", name))
            by_number[number].claims.append(Claim(service.host, port, server_names=by_name))
    elif service.takes_any_address and port.protocol is not Protocol.TLS:
        shared = by_number[number]
        shared.rest = shared.rest or (service.host, port)
    for block in service.blocks:
        key = (number, block, *(by_name or ("",)))
        if key not in taken:
            taken.add(key)
            by_number[number].claims.append(Claim(service.host, port, (block,), by_name))

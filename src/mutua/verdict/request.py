"""What is judged: one connection, and the request that it carries, as the server's proxy sees them."""

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any

import msgspec

from mutua.errors import InvalidInputError
from mutua.verdict import headers, paths

Address = tuple[int, int]
"""(IP version, the address as a number)."""


class Peer(msgspec.Struct, frozen=True):
    """The certificate that the client proved, as far as policies look at it."""

    uri_names: tuple[str, ...] = ()
    dns_names: tuple[str, ...] = ()
    subject: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """All that can be a principal. Source: Envoy's RBAC, `authenticated.principal_name`."""
        return (*self.uri_names, *self.dns_names, self.subject)


class Connection(msgspec.Struct, frozen=True, kw_only=True):
    """One TCP connection. `peer` None: plaintext. `client_ip`: whom a PROXY header names behind the peer, or ""."""

    source_ip: str
    destination_ip: str
    destination_port: int
    peer: Peer | None = None
    server_name: str = ""
    client_ip: str = ""
    metadata: Mapping[str, Mapping[str, Any]] = msgspec.field(default_factory=dict)  # by name of the Envoy filter


class HttpRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One request. `target` is the path with its query as it was sent; a header may occur several times.

    Bytes that are not UTF-8 are surrogates, as in `os.fsdecode`.
    """

    method: str = "GET"
    target: str = "/"
    authority: str = ""
    headers: tuple[tuple[str, str], ...] = ()


class Facts:
    """A connection and its request, prepared once for many comparisons.

    `claims` is the payload of a verified token, None without one. Raises InvalidInputError for a request that the proxy
    itself refuses, and for addresses that are none.
    """

    __slots__ = (
        "authority",
        "claims",
        "connection",
        "destination",
        "headers",
        "is_request",
        "method",
        "names",
        "path",
        "remote",
        "server_name",
        "source",
        "target",
    )

    def __init__(
        self,
        connection: Connection,
        request: HttpRequest | None,
        claims: Mapping[str, Any] | None = None,
        normalization: str = "BASE",
    ) -> None:
        self.connection = connection
        self.is_request = request is not None
        self.claims = claims
        self.names = connection.peer.names if connection.peer else ()
        self.source = address(connection.source_ip)
        self.destination = address(connection.destination_ip)
        # Names of servers are compared in lower case, as Envoy keeps them.
        self.server_name = connection.server_name.lower()
        self.headers: Mapping[str, tuple[str, ...]] = {}
        self.method = self.target = self.path = self.authority = ""
        if request is not None:
            self.method, self.authority = request.method, request.authority
            self.target = paths.normalized(request.target, normalization)
            self.path = self.target.partition("?")[0]
            self.headers = _headers(self, request, encrypted=connection.peer is not None)
        self.remote = address(connection.client_ip) if connection.client_ip else self._remote()

    def without_claims(self) -> "Facts":
        """The same before any token was looked at."""
        if not self.claims:
            return self
        copy = object.__new__(Facts)
        for name in self.__slots__:
            setattr(copy, name, getattr(self, name))
        copy.claims = None
        return copy

    def _remote(self) -> Address:
        """The client as the last proxy before us names it; the peer itself where nobody names one.

        Source: Envoy's `use_remote_address: false`, which a sidecar has.
        """
        given = self.headers.get("x-forwarded-for")
        if not given:
            return self.source
        try:
            return address(given[-1].rpartition(",")[2].strip())
        except InvalidInputError:
            return self.source


def address(text: str) -> Address:
    """An IP address as numbers. Raises InvalidInputError."""
    try:
        parsed = ip_address(text)
    except ValueError:
        raise InvalidInputError(f"{text!r} is not an IP address", "write it as 10.0.0.1 or 2001:db8::1") from None
    return parsed.version, int(parsed)


def _headers(facts: Facts, request: HttpRequest, *, encrypted: bool) -> Mapping[str, tuple[str, ...]]:
    scheme = "https" if encrypted else "http"
    return {
        **headers.shown(request.headers, scheme),
        ":method": (facts.method,),
        ":path": (facts.target,),
        ":scheme": (scheme,),
        ":authority": (facts.authority,),
        "host": (facts.authority,),
    }

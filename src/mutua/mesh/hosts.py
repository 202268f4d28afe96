"""Host names: full names of Services, short names in rules, wildcards, and which pattern is the most specific."""

import ipaddress
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")

WILDCARD = "*"


def service_host(name: str, namespace: str, cluster_domain: str) -> str:
    """The full name of a Service."""
    return f"{name}.{namespace}.svc.{cluster_domain}"


def resolve(host: str, namespace: str, cluster_domain: str) -> str:
    """The full name that a rule in this namespace means. Only a name without a dot is short."""
    if not host or "." in host or host == WILDCARD or _is_address(host):
        return host
    return service_host(host, namespace, cluster_domain)


def is_wildcard(host: str) -> bool:
    """Whether the text is a pattern: `*` or `*.example.org`."""
    return host.startswith(WILDCARD)


def matches(pattern: str, host: str) -> bool:
    """Whether they have a name in common; either may be a wildcard.

    Source: Istio's host.Name.Matches: a wildcard is a suffix comparison, so `*.org` matches `a.b.org`.
    """
    if is_wildcard(pattern):
        if is_wildcard(host):
            return host[1:].endswith(pattern[1:]) or pattern[1:].endswith(host[1:])
        return host.endswith(pattern[1:])
    if is_wildcard(host):
        return pattern.endswith(host[1:])
    return pattern == host


class HostTable(Generic[T]):
    """Values by host pattern, found by the most specific pattern that covers a name. Never changed once made."""

    __slots__ = ("_exact", "_suffixes")

    def __init__(self, entries: Iterable[tuple[str, T]]) -> None:
        self._exact: dict[str, T] = {}
        self._suffixes: dict[str, T] = {}
        for pattern, value in entries:
            if is_wildcard(pattern):
                self._suffixes[pattern[1:]] = value
            else:
                self._exact[pattern] = value

    def __bool__(self) -> bool:
        return bool(self._exact or self._suffixes)

    def most_specific(self, host: str) -> T | None:
        """The value of the exact name, else of the longest wildcard that covers the host; None if no pattern does."""
        found = self._exact.get(host)
        if found is not None or not self._suffixes:
            return found
        for suffix in _suffixes_of(host):
            if suffix in self._suffixes:
                return self._suffixes[suffix]
        return None


def _suffixes_of(host: str) -> Iterator[str]:
    """What may stand behind the `*` of a pattern that covers the host, longest first."""
    start = 1 if is_wildcard(host) else 0
    return (host[position:] for position in range(start, len(host) + 1))


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True

"""Trust domain aliases in policies: who is named in one domain of the mesh is meant in all of them."""

from collections.abc import Iterable, Iterator
from typing import Final

from mutua.mesh.proxy_view import Trust

LOCAL: Final = "cluster.local"
"""In a policy this means the mesh's own trust domain and its aliases, whatever they are called."""

PARTS_OF_A_PRINCIPAL: Final = 5


def principals(values: Iterable[str], trust: Trust) -> list[str]:
    """`values` with each principal of this mesh said in each of its domains. Others are kept as they are."""
    return list(dict.fromkeys(each for value in values for each in _in_every_domain(value, trust)))


def domains(values: Iterable[str], trust: Trust) -> list[str]:
    """`values` with each trust domain of this mesh replaced by all of them."""
    return list(
        dict.fromkeys(each for value in values for each in (trust.domains if value in trust.domains else (value,)))
    )


def _in_every_domain(principal: str, trust: Trust) -> Iterator[str]:
    parts = principal.split("/")
    named = parts[0]
    if len(parts) != PARTS_OF_A_PRINCIPAL or named == "*":
        yield principal
        return
    if named != LOCAL and not any(_covers(named, domain) for domain in trust.domains):
        yield principal
        return
    for domain in trust.domains:
        # A suffix pattern stays itself for the domains that it covers.
        covered = named.startswith("*") and domain.endswith(named[1:])
        yield principal if covered else "/".join([domain, *parts[1:]])


def _covers(pattern: str, domain: str) -> bool:
    if pattern.startswith("*"):
        return domain.endswith(pattern[1:])
    if pattern.endswith("*"):
        return domain.startswith(pattern[:-1])
    return pattern == domain

"""The rules about one object alone: every violation at once, each with its field path."""

from collections.abc import Callable, Iterable
from typing import Any, Final

from mutua.api.findings import Finding, Violation
from mutua.api.kinds import AnyObject
from mutua.api.networking import DestinationRule
from mutua.api.security import AuthorizationPolicy, PeerAuthentication, RequestAuthentication
from mutua.api.service_entry import ServiceEntry, WorkloadEntry
from mutua.api.validation import (
    authorization_policy,
    destination_rule,
    peer_authentication,
    request_authentication,
    service_entry,
)

_RULES: Final[dict[type, tuple[str, Callable[[Any], Iterable[Violation]]]]] = {
    AuthorizationPolicy: ("AuthorizationPolicy", authorization_policy.violations),
    PeerAuthentication: ("PeerAuthentication", peer_authentication.violations),
    RequestAuthentication: ("RequestAuthentication", request_authentication.violations),
    DestinationRule: ("DestinationRule", destination_rule.violations),
    ServiceEntry: ("ServiceEntry", service_entry.violations),
    WorkloadEntry: ("WorkloadEntry", service_entry.entry_violations),
}


def validate(item: AnyObject) -> tuple[Finding, ...]:
    """All that is wrong or doubtful about the object, errors and warnings; () for kinds without rules."""
    known = _RULES.get(type(item))
    if known is None:
        return ()
    name, rules = known
    return tuple(violation.about(name, item.metadata.namespace, item.metadata.name) for violation in rules(item))

"""What takes the place of an object that could not be read, where leaving it out would let somebody in."""

from collections.abc import Sequence
from typing import Final

import msgspec

from mutua.api import kinds, security
from mutua.api.findings import Finding, Severity
from mutua.api.kinds import AnyObject, Kind
from mutua.api.meta import LabelSelector, ObjectMeta

_EVERYTHING: Final = (security.Rule(),)
_INSTEAD: Final = {
    kinds.AUTHORIZATION_POLICY.name: "everything is denied to",
    kinds.PEER_AUTHENTICATION.name: "mutual TLS is demanded of the clients of",
}


def stand_in(
    kind: Kind, metadata: ObjectMeta, value: AnyObject | None, findings: Sequence[Finding]
) -> tuple[AnyObject | None, tuple[Finding, ...]]:
    """What is enforced for an object that was read as `value` with these findings, and all that is to be said of it.

    It is for the workloads that the object could select: those of its selector if that is readable, else all of its
    namespace (of the mesh, in the root namespace). For them an AuthorizationPolicy with mistakes denies everything, and
    a PeerAuthentication demands mutual TLS. Other kinds are as they are.
    """
    broken = kind.name in _INSTEAD and any(
        finding.is_error and finding.field.partition(".")[0] in ("", "spec") for finding in findings
    )
    if not broken:
        return value, tuple(findings)
    selector = _selector(value, findings)
    whom = "the workloads that it selects" if selector else f"all workloads that namespace {metadata.namespace} rules"
    said = Finding(
        kind.name,
        metadata.namespace,
        metadata.name,
        "spec",
        f"cannot be read as a whole: until it is corrected, {_INSTEAD[kind.name]} {whom}",
        Severity.ERROR,
        "correct what is named in the other messages, or delete it",
    )
    make = _denying if kind is kinds.AUTHORIZATION_POLICY else _strict
    return make(metadata, selector), (*findings, said)


def _denying(metadata: ObjectMeta, selector: LabelSelector | None) -> AnyObject:
    spec = security.AuthorizationPolicySpec(selector=selector, action=security.Action.DENY, rules=_EVERYTHING)
    return security.AuthorizationPolicy(metadata=metadata, spec=spec)


def _strict(metadata: ObjectMeta, selector: LabelSelector | None) -> AnyObject:
    # Of several at one level the oldest counts; this one has to.
    eldest = msgspec.structs.replace(metadata, creation_timestamp="")
    mtls = security.MutualTls(security.MutualTlsMode.STRICT)
    spec = security.PeerAuthenticationSpec(selector=selector, mtls=mtls)
    return security.PeerAuthentication(metadata=eldest, spec=spec)


def _selector(value: AnyObject | None, findings: Sequence[Finding]) -> LabelSelector | None:
    """The selector, if it is surely what the author meant."""
    if isinstance(value, security.AuthorizationPolicy):
        if value.spec.target_ref or value.spec.target_refs:
            return None
    elif not isinstance(value, security.PeerAuthentication):
        return None
    in_doubt = any(finding.field.startswith("spec.selector") for finding in findings)
    return None if in_doubt else value.spec.selector

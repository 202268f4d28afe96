"""What takes the place of an object that could not be read, where leaving it out would let somebody in."""

from collections.abc import Sequence
from typing import Final

from mutua.api import kinds, security
from mutua.api.findings import Finding, Severity
from mutua.api.kinds import AnyObject, Kind
from mutua.api.meta import LabelSelector, ObjectMeta

_EVERYTHING: Final = (security.Rule(),)


def stand_in(
    kind: Kind, metadata: ObjectMeta, value: AnyObject | None, findings: Sequence[Finding]
) -> tuple[AnyObject | None, tuple[Finding, ...]]:
    """What is enforced for an object that was read as `value` with these findings, and all that is to be said of it.

    An AuthorizationPolicy with mistakes denies everything to the workloads that it could select: those of its selector
    if that is readable, else all of its namespace (of the mesh, in the root namespace). Other kinds are as they are.
    """
    broken = kind is kinds.AUTHORIZATION_POLICY and any(
        finding.is_error and finding.field.partition(".")[0] in ("", "spec") for finding in findings
    )
    if not broken:
        return value, tuple(findings)
    selector = _selector(value, findings)
    spec = security.AuthorizationPolicySpec(selector=selector, action=security.Action.DENY, rules=_EVERYTHING)
    closing = security.AuthorizationPolicy(metadata=metadata, spec=spec)
    whom = "the workloads that it selects" if selector else f"all workloads that namespace {metadata.namespace} rules"
    said = Finding(
        kind.name,
        metadata.namespace,
        metadata.name,
        "spec",
        f"cannot be read as a whole: until it is corrected, everything is denied to {whom}",
        Severity.ERROR,
        "correct what is named in the other messages, or delete it",
    )
    return closing, (*findings, said)


def _selector(value: AnyObject | None, findings: Sequence[Finding]) -> LabelSelector | None:
    """The selector, if it is surely what the author meant."""
    if not isinstance(value, security.AuthorizationPolicy) or value.spec.target_ref or value.spec.target_refs:
        return None
    in_doubt = any(finding.field.startswith("spec.selector") for finding in findings)
    return None if in_doubt else value.spec.selector

"""Objects whose own fields are wrong, whatever else there is."""

from collections.abc import Iterator
from typing import Final

from mutua.analysis.check import Check
from mutua.analysis.inputs import Inputs
from mutua.analysis.message import Message, Subject, istio, subject
from mutua.api import kinds, security, validation
from mutua.api.findings import Finding
from mutua.mesh import authorization

_POLICIES: Final = kinds.AUTHORIZATION_POLICY


def schema(inputs: Inputs) -> Iterator[Message]:
    """Fields that cannot be read, and rules about one object alone."""
    for finding in inputs.unreadable:
        yield _message(finding)
    unreadable = {(finding.kind, finding.namespace, finding.name) for finding in inputs.unreadable}
    for kind in kinds.ours():
        for key, item in inputs.all(kind, kind.struct).items():
            if (kind.name, *key) not in unreadable:
                yield from (_message(finding) for finding in validation.validate(item))


def attached_by_target(inputs: Inputs) -> Iterator[Message]:
    """Policies that no sidecar enforces, since they are attached to a gateway or Service."""
    for item in inputs.subjects(_POLICIES, security.AuthorizationPolicy):
        if authorization.has_target(item):
            reason = "sidecars follow policies by selector, and there is no gateway or waypoint here"
            field = "spec.targetRef" if item.spec.target_ref else "spec.targetRefs"
            yield istio("IST0167", subject(_POLICIES, item), reason, field=field)


def _message(finding: Finding) -> Message:
    about = Subject(finding.kind, finding.namespace, finding.name) if finding.name else None
    text = f"{finding.field}: {finding.message}" if finding.field else finding.message
    text = f"{text} ({finding.hint})" if finding.hint else text
    return istio("IST0106" if finding.is_error else "IST0133", about, text, field=finding.field)


CHECKS: Final = (
    Check(
        "schema.ValidationAnalyzer",
        "Objects of the mesh that are not valid by themselves",
        ("IST0106", "IST0133"),
        kinds.ours(),
        schema,
    ),
    Check(
        "auth.TargetReferenceAnalyzer",
        "AuthorizationPolicies attached to what is not there",
        ("IST0167",),
        (_POLICIES,),
        attached_by_target,
        (_POLICIES,),
    ),
)

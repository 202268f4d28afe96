"""What is wrong or without effect among the objects of a snapshot."""

from mutua.api import kinds, security
from mutua.api.findings import Finding
from mutua.api.kinds import AnyObject, Key
from mutua.api.validation import validate
from mutua.mesh import authorization, peer_authentication
from mutua.mesh.objects import ObjectSet

Judged = dict[tuple[str, Key], tuple[AnyObject, tuple[Finding, ...]]]
"""Objects that were judged before, with what was found; the same object is not judged twice."""


def of_objects(objects: ObjectSet, root_namespace: str, known: Judged) -> tuple[tuple[Finding, ...], Judged]:
    """Findings about each object alone and about ineffective ones, sorted; and what is known now."""
    judged: Judged = {}
    for kind in kinds.ours():
        for key, item in objects.of_kind(kind).items():
            before = known.get((kind.name, key))
            judged[kind.name, key] = before if before is not None and before[0] is item else (item, validate(item))
    found = [finding for _, findings in judged.values() for finding in findings]
    peers = objects.typed(kinds.PEER_AUTHENTICATION, security.PeerAuthentication)
    found.extend(peer_authentication.ineffective(peers.values(), root_namespace))
    policies = objects.typed(kinds.AUTHORIZATION_POLICY, security.AuthorizationPolicy)
    found.extend(authorization.ineffective(policies.values()))
    return tuple(sorted(found)), judged

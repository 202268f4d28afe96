"""What is wrong or without effect among the objects of a snapshot."""

from mutua.api import kinds, security
from mutua.api.findings import Finding
from mutua.api.kinds import AnyObject, Key
from mutua.api.validation import validate
from mutua.mesh import authorization, peer_authentication
from mutua.mesh.objects import ObjectSet

Judged = dict[tuple[str, Key], tuple[AnyObject, tuple[Finding, ...]]]
"""Objects that were judged before, with what was found; the same object is not judged twice."""


def of_objects(objects: ObjectSet, root_namespace: str, judged: Judged) -> tuple[Finding, ...]:
    """Findings about each object alone, and about objects that others make ineffective; sorted. Updates `judged`."""
    found: list[Finding] = []
    for kind in kinds.ours():
        for key, item in objects.of_kind(kind).items():
            known = judged.get((kind.name, key))
            if known is None or known[0] is not item:
                known = judged[kind.name, key] = (item, validate(item))
            found.extend(known[1])
    peers = objects.typed(kinds.PEER_AUTHENTICATION, security.PeerAuthentication)
    found.extend(peer_authentication.ineffective(peers.values(), root_namespace))
    policies = objects.typed(kinds.AUTHORIZATION_POLICY, security.AuthorizationPolicy)
    found.extend(authorization.ineffective(policies.values()))
    return tuple(sorted(found))

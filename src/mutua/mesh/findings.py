"""What is wrong or without effect among the objects of a snapshot."""

from typing import Final

import msgspec

from mutua.api import kinds, security
from mutua.api.findings import Finding
from mutua.api.kinds import AnyObject, Key
from mutua.api.validation import validate
from mutua.mesh import authorization, peer_authentication
from mutua.mesh.objects import Change, ObjectSet

Judged = dict[tuple[str, Key], tuple[AnyObject, tuple[Finding, ...]]]
"""Objects that were judged before, with what was found; the same object is not judged twice."""

_NOT_YET: Final = "9999-12-31T23:59:59Z"


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


def if_applied(objects: ObjectSet, root_namespace: str, item: AnyObject) -> tuple[Finding, ...]:
    """Findings about one object as if it stood among the others: what its author should hear when applying it."""
    kind = next((kind for kind in kinds.ours() if kind.struct is type(item)), None)
    if kind is None:
        return ()
    if not item.metadata.creation_timestamp:
        # An object that is only about to be made has no age yet; among the others it will be the youngest.
        metadata = msgspec.structs.replace(item.metadata, creation_timestamp=_NOT_YET)
        item = msgspec.structs.replace(item, metadata=metadata)
    key = kind.key(item.metadata)
    found, _ = of_objects(objects.replace([Change(kind, key, item)]), root_namespace, {})
    return tuple(finding for finding in found if (finding.kind, finding.namespace, finding.name) == (kind.name, *key))

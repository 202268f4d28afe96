"""The claims of a StatefulSet's pods: made before each pod, kept when it goes, unless the set asks otherwise."""

from __future__ import annotations

from typing import Any

from localcluster.apiserver import kinds
from localcluster.apiserver.documents import copied
from localcluster.controllers.state import State, owner_reference
from localcluster.controllers.writes import Create, Delete, Write

Object = dict[str, Any]


def claims_of(state: State, owner: Object, ordinal: int) -> list[Write]:
    """The creations of the claims that the pod with this number needs and that do not exist."""
    namespace = owner["metadata"]["namespace"]
    return [
        Create(kinds.PERSISTENT_VOLUME_CLAIM, _claim(owner, template, ordinal))
        for template in owner["spec"].get("volumeClaimTemplates") or ()
        if state.get(kinds.PERSISTENT_VOLUME_CLAIM, namespace, _name(owner, template, ordinal)) is None
    ]


def with_claims(owner: Object, pod: Object, ordinal: int) -> Object:
    """The pod with a volume for each of its claims; a volume of the same name in the template gives way."""
    templates = owner["spec"].get("volumeClaimTemplates") or ()
    taken = {template["metadata"]["name"] for template in templates}
    volumes: list[Object] = [
        {
            "name": template["metadata"]["name"],
            "persistentVolumeClaim": {"claimName": _name(owner, template, ordinal)},
        }
        for template in templates
    ]
    volumes += [volume for volume in pod["spec"].get("volumes") or () if volume["name"] not in taken]
    return {**pod, "spec": {**pod["spec"], "volumes": volumes}} if volumes else pod


def surplus_claims(state: State, owner: Object, ordinals: range) -> list[Write]:
    """With `whenScaled: Delete`, the deletions of claims whose numbers the set does not have any more."""
    if (owner["spec"].get("persistentVolumeClaimRetentionPolicy") or {}).get("whenScaled") != "Delete":
        return []
    kept = {
        _name(owner, template, ordinal)
        for template in owner["spec"].get("volumeClaimTemplates") or ()
        for ordinal in ordinals
    }
    return [
        Delete(kinds.PERSISTENT_VOLUME_CLAIM, claim)
        for claim in state.all_of(kinds.PERSISTENT_VOLUME_CLAIM, owner["metadata"]["namespace"])
        if claim["metadata"]["name"] not in kept and _is_of(owner, claim["metadata"]["name"])
    ]


def _claim(owner: Object, template: Object, ordinal: int) -> Object:
    about = copied(template["metadata"])
    labels = {**(about.get("labels") or {}), **(owner["spec"]["selector"].get("matchLabels") or {})}
    about |= {"name": _name(owner, template, ordinal), "namespace": owner["metadata"]["namespace"], "labels": labels}
    about.pop("creationTimestamp", None)
    if (owner["spec"].get("persistentVolumeClaimRetentionPolicy") or {}).get("whenDeleted") == "Delete":
        reference = owner_reference(kinds.STATEFUL_SET, owner)
        about["ownerReferences"] = [{**reference, "controller": False, "blockOwnerDeletion": False}]
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": about,
        "spec": copied(template["spec"]),
    }


def _name(owner: Object, template: Object, ordinal: int) -> str:
    return f"{template['metadata']['name']}-{owner['metadata']['name']}-{ordinal}"


def _is_of(owner: Object, name: str) -> bool:
    prefixes = [
        f"{template['metadata']['name']}-{owner['metadata']['name']}-"
        for template in owner["spec"].get("volumeClaimTemplates") or ()
    ]
    return any(name.startswith(prefix) and name.removeprefix(prefix).isdigit() for prefix in prefixes)

"""Object metadata: what the server fills in, and what it carries over."""

from __future__ import annotations

import secrets
import uuid
from datetime import UTC, datetime
from typing import Any

from localcluster.apiserver.kinds import KindInfo

Object = dict[str, Any]

# Without vowels and look-alikes, as Kubernetes' generator (apimachinery/pkg/util/rand).
_RANDOM_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
_LONGEST_GENERATED_BASE = 58
_GROUPS_WITH_GENERATION = {
    "apps",
    "batch",
    "discovery.k8s.io",
    "policy",
    "networking.k8s.io",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
}


def timestamp(moment: datetime | None = None) -> str:
    """RFC 3339 in UTC with whole seconds, as metav1.Time; of now if no moment is given."""
    return (moment or datetime.now(UTC)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def random_suffix(length: int = 5) -> str:
    """Letters as Kubernetes puts behind generateName."""
    return "".join(secrets.choice(_RANDOM_LETTERS) for _ in range(length))


def has_generation(kind: KindInfo) -> bool:
    """Whether objects of this kind count the changes of their specification."""
    return kind.is_custom or kind.group in _GROUPS_WITH_GENERATION


def prepare_for_create(kind: KindInfo, object: Object) -> None:
    """Fill in what the server decides: uid, creationTimestamp, generation, and a name from generateName."""
    metadata = object["metadata"]
    for name in ("deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "resourceVersion", "generation"):
        metadata.pop(name, None)
    if not metadata.get("name") and metadata.get("generateName"):
        metadata["name"] = str(metadata["generateName"])[:_LONGEST_GENERATED_BASE] + random_suffix()
    metadata["uid"] = str(uuid.uuid4())
    metadata["creationTimestamp"] = timestamp()
    if not kind.namespaced:
        metadata.pop("namespace", None)
    if has_generation(kind):
        metadata["generation"] = 1
    _tidy(metadata)


def prepare_for_update(kind: KindInfo, old: Object, new: Object) -> None:
    """Carry over what writers can't change, and count the generation if the specification changed."""
    metadata, before = new["metadata"], old["metadata"]
    for name in (
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "generateName",
        "resourceVersion",
    ):
        if name in before:
            metadata[name] = before[name]
        else:
            metadata.pop(name, None)
    metadata.pop("selfLink", None)
    if "managedFields" not in metadata and "managedFields" in before:
        metadata["managedFields"] = before["managedFields"]
    _tidy(metadata)
    if has_generation(kind) and specification(kind, old) != specification(kind, new):
        metadata["generation"] = int(before.get("generation") or 0) + 1


def specification(kind: KindInfo, object: Object) -> Object:
    """What the generation counts: everything but metadata, and status if it is a subresource."""
    ignored = {"metadata", "apiVersion", "kind", *(("status",) if "status" in kind.subresources else ())}
    return {name: value for name, value in object.items() if name not in ignored}


def _tidy(metadata: Object) -> None:
    for name in ("labels", "annotations", "finalizers", "ownerReferences", "managedFields"):
        if name in metadata and not metadata[name]:
            del metadata[name]

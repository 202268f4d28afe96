"""Object metadata: names, labels, what the server fills in, and what may not change."""

from __future__ import annotations

import re
import secrets
import uuid
from datetime import UTC, datetime
from typing import Any

from localcluster.apiserver import errors
from localcluster.apiserver.errors import FieldError
from localcluster.apiserver.kinds import NAMESPACE, SERVICE, KindInfo

Object = dict[str, Any]

_LABEL_1123 = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_LABEL_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_QUALIFIED = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
_SUBDOMAIN_RULE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
_LABEL_RULE = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with "
    "an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
_LABEL_1035_RULE = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, "
    "and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is "
    "'[a-z]([-a-z0-9]*[a-z0-9])?')"
)
_QUALIFIED_RULE = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
    "character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
    "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)
_VALUE_RULE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
    "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)
_LONGEST_LABEL = 63
_LONGEST_SUBDOMAIN = 253
_MOST_ANNOTATION_BYTES = 256 * 1024
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


def violations(kind: KindInfo, object: Object) -> list[FieldError]:
    """Broken rules of names, labels, annotations, owners and finalizers."""
    metadata = object["metadata"]
    found = _name_violations(kind, metadata)
    labels = metadata.get("labels") or {}
    if not isinstance(labels, dict):
        found.append(errors.type_invalid("metadata.labels", labels, "object"))
    else:
        for key, value in labels.items():
            found += label_violations("metadata.labels", key, value)
    annotations = metadata.get("annotations") or {}
    if not isinstance(annotations, dict):
        found.append(errors.type_invalid("metadata.annotations", annotations, "object"))
    else:
        found += [error for key in annotations for error in _key_violations("metadata.annotations", key, lower=True)]
        size = sum(len(key) + len(str(value)) for key, value in annotations.items())
        if size > _MOST_ANNOTATION_BYTES:
            found.append(errors.too_long("metadata.annotations", _MOST_ANNOTATION_BYTES))
    for finalizer in metadata.get("finalizers") or ():
        found += _key_violations("metadata.finalizers", finalizer)
    found += _owner_violations(metadata.get("ownerReferences") or [])
    return found


def _name_violations(kind: KindInfo, metadata: Object) -> list[FieldError]:
    name = metadata.get("name")
    if not name:
        return [errors.required("metadata.name", "name or generateName is required")]
    if not isinstance(name, str):
        return [errors.type_invalid("metadata.name", name, "string")]
    return name_violations(kind, "metadata.name", name)


def name_violations(kind: KindInfo, field: str, name: str) -> list[FieldError]:
    """Broken rules of an object's name, by its kind."""
    if kind.group == "rbac.authorization.k8s.io":
        if name in (".", "..") or "/" in name or "%" in name:
            return [errors.invalid(field, name, "may not be '.' or '..' and may not contain '/' or '%'")]
        return []
    if (kind.group, kind.kind) == (SERVICE.group, SERVICE.kind):
        matches, longest, rule = _LABEL_1035.fullmatch(name), _LONGEST_LABEL, _LABEL_1035_RULE
    elif (kind.group, kind.kind) == (NAMESPACE.group, NAMESPACE.kind):
        matches, longest, rule = _LABEL_1123.fullmatch(name), _LONGEST_LABEL, _LABEL_RULE
    else:
        matches, longest, rule = _SUBDOMAIN.fullmatch(name), _LONGEST_SUBDOMAIN, _SUBDOMAIN_RULE
    found = [] if matches else [errors.invalid(field, name, rule)]
    if len(name) > longest:
        found.append(errors.invalid(field, name, f"must be no more than {longest} characters"))
    return found


def label_violations(field: str, key: str, value: Any) -> list[FieldError]:
    """Broken rules of one label."""
    found = _key_violations(field, key)
    if not isinstance(value, str):
        return [*found, errors.type_invalid(field, value, "string")]
    if len(value) > _LONGEST_LABEL:
        found.append(errors.invalid(field, value, f"must be no more than {_LONGEST_LABEL} bytes"))
    if value and not _QUALIFIED.fullmatch(value):
        found.append(errors.invalid(field, value, _VALUE_RULE))
    return found


def _key_violations(field: str, key: str, *, lower: bool = False) -> list[FieldError]:
    prefix, slash, name = key.rpartition("/")
    found = []
    # Kubernetes checks annotation keys in lower case, so that only their prefix is held to the rule of DNS.
    prefix = prefix.lower() if lower else prefix
    if slash and not (_SUBDOMAIN.fullmatch(prefix) and len(prefix) <= _LONGEST_SUBDOMAIN):
        found.append(errors.invalid(field, key, f"prefix part {_SUBDOMAIN_RULE}"))
    if not _QUALIFIED.fullmatch(name):
        found.append(errors.invalid(field, key, _QUALIFIED_RULE))
    if len(name) > _LONGEST_LABEL:
        found.append(errors.invalid(field, key, f"name part must be no more than {_LONGEST_LABEL} bytes"))
    return found


def _owner_violations(owners: list[Object]) -> list[FieldError]:
    found = []
    for at, owner in enumerate(owners):
        found += [
            errors.required(f"metadata.ownerReferences[{at}].{name}")
            for name in ("apiVersion", "kind", "name", "uid")
            if not owner.get(name)
        ]
    if sum(1 for owner in owners if owner.get("controller")) > 1:
        found.append(
            errors.invalid(
                "metadata.ownerReferences",
                [owner.get("name") for owner in owners],
                "only one reference can have controller set to true",
            )
        )
    return found


def update_violations(old: Object, new: Object) -> list[FieldError]:
    """Changes of metadata that Kubernetes refuses."""
    found = []
    before, after = old["metadata"], new["metadata"]
    for name in ("name", "namespace"):
        if before.get(name) != after.get(name):
            found.append(errors.invalid(f"metadata.{name}", after.get(name), "field is immutable"))
    if before.get("deletionTimestamp"):
        added = [item for item in after.get("finalizers") or () if item not in (before.get("finalizers") or ())]
        if added:
            found.append(
                errors.forbidden(
                    "metadata.finalizers",
                    f"no new finalizers can be added if the object is being deleted, found new finalizers {added}",
                )
            )
    return found

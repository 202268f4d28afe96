"""Rules of every object's metadata: names, labels, annotations, owners, finalizers."""

from collections.abc import Callable
from typing import Any

from localcluster.apiserver import errors
from localcluster.apiserver.errors import FieldError
from localcluster.apiserver.kinds import KindInfo
from localcluster.apiserver.schemas import names

_MAXIMUM_ANNOTATIONS_BYTES = 256 * 1024
_NAME_RULES: dict[tuple[str, str], Callable[[str], list[str]]] = {
    ("", "Namespace"): names.label,
    ("", "Service"): names.dns_1035_label,
    ("rbac.authorization.k8s.io", "Role"): names.path_segment,
    ("rbac.authorization.k8s.io", "ClusterRole"): names.path_segment,
    ("rbac.authorization.k8s.io", "RoleBinding"): names.path_segment,
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"): names.path_segment,
}


def validate(kind: KindInfo, value: dict[str, Any], old: dict[str, Any] | None) -> list[FieldError]:
    """The violations in `metadata` of a new object, or of one that replaces `old`."""
    metadata: dict[str, Any] = value.get("metadata") or {}
    found = [*_name(kind, metadata), *labels(metadata.get("labels"), "metadata.labels")]
    found += annotations(metadata.get("annotations"), "metadata.annotations")
    found += _owners(metadata.get("ownerReferences") or [])
    for index, finalizer in enumerate(metadata.get("finalizers") or []):
        found += [
            errors.invalid(f"metadata.finalizers[{index}]", finalizer, p) for p in names.qualified_name(finalizer)
        ]
    if old is not None:
        found += _unchanged(metadata, old.get("metadata") or {})
    return found


def labels(value: dict[str, str] | None, path: str) -> list[FieldError]:
    """The violations in a map of labels."""
    found: list[FieldError] = []
    for key, text in (value or {}).items():
        found += [errors.invalid(path, key, problem) for problem in names.qualified_name(key)]
        found += [errors.invalid(path, text, problem) for problem in names.label_value(text)]
    return found


def annotations(value: dict[str, str] | None, path: str) -> list[FieldError]:
    """The violations in a map of annotations; their keys may have capitals in the prefix."""
    entries = value or {}
    found = [errors.invalid(path, key, p) for key in entries for p in names.qualified_name(key.lower())]
    if sum(len(key.encode()) + len(text.encode()) for key, text in entries.items()) > _MAXIMUM_ANNOTATIONS_BYTES:
        found.append(errors.too_long(path, _MAXIMUM_ANNOTATIONS_BYTES))
    return found


def selector(value: dict[str, Any], path: str) -> list[FieldError]:
    """The violations in a label selector (`matchLabels`, `matchExpressions`)."""
    found = labels(value.get("matchLabels"), f"{path}.matchLabels")
    for index, requirement in enumerate(value.get("matchExpressions") or []):
        here = f"{path}.matchExpressions[{index}]"
        key, operator, values = requirement.get("key", ""), requirement.get("operator"), requirement.get("values")
        found += [errors.invalid(f"{here}.key", key, problem) for problem in names.qualified_name(key)]
        match operator:
            case "In" | "NotIn":
                if not values:
                    found.append(
                        errors.required(f"{here}.values", "must be specified when `operator` is 'In' or 'NotIn'")
                    )
            case "Exists" | "DoesNotExist":
                if values:
                    found.append(
                        errors.forbidden(
                            f"{here}.values", "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
                        )
                    )
            case _:
                found.append(errors.invalid(f"{here}.operator", operator, "not a valid selector operator"))
    return found


def _name(kind: KindInfo, metadata: dict[str, Any]) -> list[FieldError]:
    rule = _NAME_RULES.get((kind.group, kind.kind), names.subdomain)
    name, prefix = metadata.get("name") or "", metadata.get("generateName") or ""
    if not name:
        if not prefix:
            return [errors.required("metadata.name", "name or generateName is required")]
        # The server appends letters and digits, so a trailing '-' is good.
        return [errors.invalid("metadata.generateName", prefix, p) for p in rule(prefix.rstrip("-") or prefix)]
    return [errors.invalid("metadata.name", name, problem) for problem in rule(name)]


def _owners(references: list[dict[str, Any]]) -> list[FieldError]:
    found: list[FieldError] = []
    controllers = 0
    for index, reference in enumerate(references):
        here = f"metadata.ownerReferences[{index}]"
        found += [
            errors.invalid(f"{here}.{name}", "", "must not be empty")
            for name in ("apiVersion", "kind", "name", "uid")
            if not reference.get(name)
        ]
        controllers += bool(reference.get("controller"))
    if controllers > 1:
        found.append(
            errors.invalid("metadata.ownerReferences", references, "Only one reference can have Controller set to true")
        )
    return found


def _unchanged(metadata: dict[str, Any], old: dict[str, Any]) -> list[FieldError]:
    found = [
        errors.invalid(f"metadata.{name}", metadata.get(name), "field is immutable")
        for name in ("name", "namespace", "uid", "creationTimestamp")
        # Left out means: as it was.
        if metadata.get(name) and old.get(name) and metadata[name] != old[name]
    ]
    if old.get("deletionTimestamp"):
        added = [f for f in metadata.get("finalizers") or [] if f not in (old.get("finalizers") or [])]
        if added:
            found.append(
                errors.forbidden(
                    "metadata.finalizers",
                    f"no new finalizers can be added if the object is being deleted, found new finalizers {added}",
                )
            )
    return found

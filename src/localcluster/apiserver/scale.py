"""The scale subresource: autoscaling/v1 Scale as a view of an object's replicas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from localcluster.apiserver import errors, patch
from localcluster.apiserver.errors import BadRequestError, InvalidError, UnsupportedMediaTypeError
from localcluster.apiserver.kinds import KindInfo

Object = dict[str, Any]

_COPIED = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")


def of(kind: KindInfo, object: Object) -> Object:
    """The Scale of an object."""
    paths = _paths(kind)
    status: Object = {"replicas": _at(object, paths["status"]) or 0}
    selector = _at(object, paths["selector"])
    if isinstance(selector, str):
        status["selector"] = selector
    elif isinstance(selector, dict):
        status["selector"] = _as_text(selector)
    return {
        "apiVersion": "autoscaling/v1",
        "kind": "Scale",
        "metadata": {name: object["metadata"][name] for name in _COPIED if name in object["metadata"]},
        "spec": {"replicas": _at(object, paths["spec"]) or 0},
        "status": status,
    }


def replacement(kind: KindInfo, scale: Object) -> Callable[[Object], Object]:
    """The change that a new Scale makes. A resource version in it must be the object's."""

    def change(object: Object) -> Object:
        replicas = (scale.get("spec") or {}).get("replicas", 0)
        name = object["metadata"]["name"]
        if not isinstance(replicas, int) or isinstance(replicas, bool):
            raise BadRequestError("spec.replicas of a Scale is a number")
        if replicas < 0:
            problem = errors.invalid("spec.replicas", replicas, "must be greater than or equal to 0")
            raise InvalidError.of("Scale", "autoscaling", name, [problem])
        *parents, last = _paths(kind)["spec"]
        node = object
        for step in parents:
            node = node.setdefault(step, {})
        node[last] = replicas
        version = (scale.get("metadata") or {}).get("resourceVersion")
        if version:
            object["metadata"]["resourceVersion"] = version
        return object

    return change


def patched(kind: KindInfo, patch_type: str, body: Any) -> Callable[[Object], Object]:
    """The change that a patch of the Scale makes."""

    def change(object: Object) -> Object:
        current = of(kind, object)
        if patch_type == "json":
            wanted = patch.json_patch(current, body)
        elif patch_type in ("merge", "strategic", "apply"):
            wanted = patch.merge_patch(current, body)
        else:
            raise UnsupportedMediaTypeError(f"unknown patch type {patch_type!r}")
        return replacement(kind, wanted)(object)

    return change


def _paths(kind: KindInfo) -> dict[str, list[str]]:
    declared: Object = {}
    if kind.definition is not None:
        for version in kind.definition["spec"]["versions"]:
            if version["name"] == kind.version:
                declared = (version.get("subresources") or {}).get("scale") or {}
    return {
        "spec": declared.get("specReplicasPath", ".spec.replicas").strip(".").split("."),
        "status": declared.get("statusReplicasPath", ".status.replicas").strip(".").split("."),
        "selector": declared.get("labelSelectorPath", ".spec.selector").strip(".").split("."),
    }


def _at(object: Any, path: list[str]) -> Any:
    for step in path:
        object = object.get(step) if isinstance(object, dict) else None
    return object


def _as_text(selector: Object) -> str:
    terms = [f"{key}={value}" for key, value in (selector.get("matchLabels") or {}).items()]
    for term in selector.get("matchExpressions") or ():
        values = ",".join(term.get("values") or ())
        terms.append(
            {
                "In": f"{term['key']} in ({values})",
                "NotIn": f"{term['key']} notin ({values})",
                "Exists": term["key"],
                "DoesNotExist": f"!{term['key']}",
            }[term["operator"]]
        )
    return ",".join(terms)

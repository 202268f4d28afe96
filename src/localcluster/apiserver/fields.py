"""Sets of fields as `metadata.managedFields` holds them (FieldsV1): found, written, read, taken away. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from localcluster.apiserver.field_rules import FieldRules, Names

Object = dict[str, Any]
Step = str
"""One step of FieldsV1: `f:<field>`, `k:<JSON of the keys>` for elements of keyed lists, `v:<JSON>` for sets."""
FieldPath = tuple[Step, ...]

ELEMENT = "."
_UNMANAGED: set[FieldPath] = {
    ("f:apiVersion",),
    ("f:kind",),
    *(
        ("f:metadata", f"f:{name}")
        for name in (
            "name",
            "namespace",
            "uid",
            "resourceVersion",
            "generation",
            "creationTimestamp",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "managedFields",
            "generateName",
            "selfLink",
        )
    ),
}


def leaves(object: Object, rules: FieldRules) -> dict[FieldPath, Any]:
    """Every field that can have a manager, with its value: scalars, what is owned as a whole, empty objects."""
    found: dict[FieldPath, Any] = {}
    _gather(object, rules, (), (), found)
    return {path: value for path, value in found.items() if path[:1] not in _UNMANAGED and path[:2] not in _UNMANAGED}


def _gather(value: Any, rules: FieldRules, path: FieldPath, names: Names, found: dict[FieldPath, Any]) -> None:
    if isinstance(value, dict) and value and not rules.is_atomic(names):
        for name, inner in value.items():
            here = (*path, f"f:{name}")
            if isinstance(inner, dict | list):
                _gather(inner, rules, here, (*names, name), found)
            else:
                found[here] = inner
        return
    if isinstance(value, list) and value:
        keys = rules.list_keys(names)
        if keys == ():
            found.update(((*path, member(item)), item) for item in value)
            return
        if keys:
            identities = [rules.identity(names, keys, item) for item in value]
            if all(identity is not None for identity in identities):
                for item, identity in zip(value, identities, strict=True):
                    here = (*path, element(identity))
                    found[*here, ELEMENT] = identity
                    _gather(item, rules, here, names, found)
                return
    found[path] = value


def member(item: Any) -> Step:
    """The step to a value in a set."""
    return "v:" + json.dumps(item, separators=(",", ":"))


def element(identity: Any) -> Step:
    """The step to the element of a keyed list."""
    return "k:" + json.dumps(identity, separators=(",", ":"), sort_keys=True)


def to_fields_v1(paths: Iterable[FieldPath]) -> Object:
    """A field set as it stands in managedFields."""
    tree: Object = {}
    for path in sorted(paths):
        node = tree
        for step in path:
            node = node.setdefault(step, {})
    return tree


def from_fields_v1(tree: Object) -> set[FieldPath]:
    """The field set of a managedFields entry."""

    def walk(node: Object, path: FieldPath) -> Iterator[FieldPath]:
        for step, inner in node.items():
            if inner:
                yield from walk(inner, (*path, step))
            else:
                yield (*path, step)

    return set(walk(tree, ()))


def readable(path: FieldPath) -> str:
    """`.spec.containers[name="x"].image`."""
    text = ""
    for step in path:
        letter, _, rest = step.partition(":")
        if letter == "f":
            text += f".{rest}"
        elif letter == "k":
            text += "[" + ",".join(f"{k}={json.dumps(v)}" for k, v in json.loads(rest).items()) + "]"
        elif letter == "v":
            text += f"[={rest}]"
    return text


def remove(object: Any, path: FieldPath, kept: set[FieldPath]) -> None:
    """Take the field at `path` out of `object`, in place, and whatever holds nothing without it."""
    *parents, last = path
    if parents and parents[-1].startswith("k:") and last[2:] in json.loads(parents[-1][2:]):
        return
    node, trail = object, []
    for step in parents:
        trail.append((node, step))
        node = _child(node, step)
        if node is None:
            return
    if last == ELEMENT:
        prefix = tuple(parents)
        if any(other[: len(prefix)] == prefix for other in kept):
            return
        container, step = trail.pop()
        _discard(container, step)
        node = container
    else:
        _discard(node, last)
    while trail and not node and not trail[-1][1].startswith("k:"):
        node, step = trail.pop()
        _discard(node, step)


def _child(node: Any, step: Step) -> Any:
    if step.startswith("f:") and isinstance(node, dict):
        return node.get(step[2:])
    if step.startswith("k:") and isinstance(node, list):
        return next((item for item in node if _has_key(item, step)), None)
    return None


def _has_key(item: Any, step: Step) -> bool:
    wanted = json.loads(step[2:])
    return isinstance(item, dict) and all(item.get(key) == value for key, value in wanted.items())


def _discard(node: Any, step: Step) -> None:
    if isinstance(node, dict):
        node.pop(step[2:], None)
    elif isinstance(node, list):
        node[:] = [
            item for item in node if not (_has_key(item, step) if step.startswith("k:") else step == member(item))
        ]

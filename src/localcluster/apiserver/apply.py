"""Server-side apply: who manages which field, what an applied configuration changes, and where managers disagree.

The field sets are those of `metadata.managedFields` (FieldsV1). Ownership is recorded from the first apply on: an
object that nobody applied has no managers, so that a first apply meets no conflicts.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from functools import partial
from typing import Any

from localcluster.apiserver import schemas
from localcluster.apiserver.context import RequestContext
from localcluster.apiserver.errors import BadRequestError, ConflictError, FieldError
from localcluster.apiserver.kinds import CONFIG_MAP, KindInfo
from localcluster.apiserver.metadata import timestamp
from localcluster.apiserver.patch import Strategy
from localcluster.apiserver.schemas import custom

Object = dict[str, Any]
Step = str
"""One step of FieldsV1: `f:<field>`, `k:<JSON of the key>` for elements of keyed lists, `v:<JSON>` for sets."""
FieldPath = tuple[Step, ...]

_DEFAULT_MANAGER = "unknown"
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


def strategy_of(kind: KindInfo) -> Strategy:
    """How each list of the kind is merged: by its patch keys, or by the list types of a custom kind's schema."""
    if not kind.is_custom:
        return partial(schemas.patch_strategy, kind)
    return partial(_custom_strategy, custom.schema_of(kind) or {})


def _custom_strategy(schema: Object, path: tuple[str, ...]) -> tuple[str, str]:
    for name in path:
        while "items" in schema:
            schema = schema["items"]
        inner = (schema.get("properties") or {}).get(name, schema.get("additionalProperties"))
        if not isinstance(inner, dict):
            # Every kind's metadata is the same.
            return schemas.patch_strategy(CONFIG_MAP, path) if "metadata" in path[:1] else ("replace", "")
        schema = inner
    keys = list(schema.get("x-kubernetes-list-map-keys") or ())
    if schema.get("x-kubernetes-list-type") == "map" and len(keys) == 1:
        return "merge", str(keys[0])
    return ("merge", "") if schema.get("x-kubernetes-list-type") == "set" else ("replace", "")


def leaves(object: Object, strategy: Strategy) -> dict[FieldPath, Any]:
    """Every field that can have a manager, with its value: scalars, lists replaced as a whole, empty objects."""
    return {
        path: value
        for path, value in _leaves(object, strategy, (), ())
        if path[:1] not in _UNMANAGED and path[:2] not in _UNMANAGED
    }


def _leaves(value: Any, strategy: Strategy, path: FieldPath, names: tuple[str, ...]) -> Iterator[tuple[FieldPath, Any]]:
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _leaves(inner, strategy, (*path, f"f:{name}"), (*names, name))
        return
    if isinstance(value, list) and value:
        how, key = strategy(names)
        if how == "merge" and not key:
            for item in value:
                yield (*path, _member(item)), item
            return
        if how == "merge" and all(isinstance(item, dict) and key in item for item in value):
            for item in value:
                element = (*path, _element(key, item[key]))
                yield (*element, "."), item[key]
                yield from _leaves(item, strategy, element, names)
            return
    yield path, value


def _member(item: Any) -> Step:
    return "v:" + json.dumps(item, separators=(",", ":"))


def _element(key: str, value: Any) -> Step:
    return "k:" + json.dumps({key: value}, separators=(",", ":"))


def to_fields_v1(paths: set[FieldPath]) -> Object:
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


def merge(kind: KindInfo, live: Object | None, applied: Object, strategy: Strategy, context: RequestContext) -> Object:
    """`live` (None: nothing exists) after `applied` by the context's manager, with managedFields brought up to date.

    Fields that the manager applied before and no longer does are removed, unless another manager has them too.
    ConflictError naming fields and managers if others manage a field with another value, unless `context.force`.
    """
    manager = context.field_manager
    if not manager:
        raise BadRequestError("fieldManager is required for apply patch")
    if (applied.get("metadata") or {}).get("managedFields"):
        raise BadRequestError("metadata.managedFields must be nil in an applied configuration")
    wanted = leaves(applied, strategy)
    base = copy.deepcopy(live) if live is not None else {}
    present = leaves(base, strategy)
    entries = managed(base)
    mine_before = entries.pop((manager, "Apply"), set())
    contested = {path for path, value in wanted.items() if path[-1:] != (".",) and present.get(path) != value}
    disputes = {other: fields & contested for other, fields in entries.items() if fields & contested}
    if disputes and not context.force:
        raise _conflict(kind, applied, disputes)
    for other, fields in disputes.items():
        entries[other] = entries[other] - fields
    merged: Object = _merged(base, applied, strategy, ())
    others: set[FieldPath] = set().union(*entries.values()) if entries else set()
    # Whole elements first: their key is what finds them.
    for path in sorted(mine_before - set(wanted) - others, key=lambda path: (path[-1:] != (".",), -len(path))):
        _remove(merged, path, others | set(wanted))
    entries[manager, "Apply"] = set(wanted)
    _record(kind, merged, entries, base)
    return merged


def track_update(kind: KindInfo, old: Object, new: Object, strategy: Strategy, context: RequestContext) -> None:
    """Give the fields that an ordinary write changed to its manager, if the object has managers at all. In place."""
    if not old["metadata"].get("managedFields"):
        new["metadata"].pop("managedFields", None)
        return
    if new["metadata"].get("managedFields") == []:
        return
    entries = managed(old)
    before, after = leaves(old, strategy), leaves(new, strategy)
    changed = {path for path, value in after.items() if before.get(path, ...) != value}
    mine = (context.field_manager or _DEFAULT_MANAGER, "Update")
    for other in entries:
        entries[other] = {path for path in entries[other] if path in after and path not in changed}
    if changed:
        entries[mine] = entries.get(mine, set()) | changed
    _record(kind, new, entries, old)


def managed(object: Object) -> dict[tuple[str, str], set[FieldPath]]:
    """(manager, operation) -> the fields it manages."""
    return {
        (entry.get("manager", ""), entry.get("operation", "Update")): from_fields_v1(entry.get("fieldsV1") or {})
        for entry in (object.get("metadata") or {}).get("managedFields") or ()
    }


def _record(kind: KindInfo, object: Object, entries: dict[tuple[str, str], set[FieldPath]], before: Object) -> None:
    known = {
        (entry.get("manager", ""), entry.get("operation", "")): entry
        for entry in (before.get("metadata") or {}).get("managedFields") or ()
    }
    recorded = []
    for (manager, operation), fields in entries.items():
        if not fields:
            continue
        earlier = known.get((manager, operation))
        tree = to_fields_v1(fields)
        unchanged = earlier is not None and earlier.get("fieldsV1") == tree
        recorded.append(
            {
                "manager": manager,
                "operation": operation,
                "apiVersion": kind.api_version,
                "time": earlier["time"] if unchanged and earlier and "time" in earlier else timestamp(),
                "fieldsType": "FieldsV1",
                "fieldsV1": tree,
            }
        )
    object.setdefault("metadata", {})["managedFields"] = recorded


def _conflict(kind: KindInfo, applied: Object, disputes: dict[tuple[str, str], set[FieldPath]]) -> ConflictError:
    causes = []
    for (manager, operation), fields in disputes.items():
        using = f'conflict with "{manager}"' + (f" using {kind.api_version}" if operation == "Update" else "")
        causes += [FieldError(readable(path), "FieldManagerConflict", using) for path in sorted(fields)]
    listed = "\n".join(f"- {cause.message}: {cause.field}" for cause in causes)
    plural = "conflict" if len(causes) == 1 else "conflicts"
    detail = f"{causes[0].message}: {causes[0].field}" if len(causes) == 1 else f"conflicts:\n{listed}"
    return ConflictError(
        f"Apply failed with {len(causes)} {plural}: {detail}",
        group=kind.group,
        resource=kind.plural,
        name=applied["metadata"].get("name", ""),
        causes=causes,
    )


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


def _merged(base: Any, applied: Any, strategy: Strategy, names: tuple[str, ...]) -> Any:
    if isinstance(applied, dict):
        result = dict(base) if isinstance(base, dict) else {}
        for name, value in applied.items():
            result[name] = _merged(result.get(name), value, strategy, (*names, name))
        return result
    how, key = strategy(names) if isinstance(applied, list) else ("replace", "")
    if how != "merge" or not isinstance(base, list):
        return copy.deepcopy(applied)
    if not key:
        return base + [item for item in applied if item not in base]
    if not all(isinstance(item, dict) and key in item for item in [*applied, *base]):
        return copy.deepcopy(applied)
    by_key = {json.dumps(item[key]): item for item in base}
    wanted = {
        json.dumps(item[key]): _merged(by_key.get(json.dumps(item[key])), item, strategy, names) for item in applied
    }
    return [wanted.pop(json.dumps(item[key]), item) for item in base] + list(wanted.values())


def _remove(object: Any, path: FieldPath, kept: set[FieldPath]) -> None:
    """Take the field at `path` out of `object`, and whatever holds nothing without it."""
    *parents, last = path
    if parents and parents[-1].startswith("k:") and last[2:] in json.loads(parents[-1][2:]):
        return
    node, trail = object, []
    for step in parents:
        trail.append((node, step))
        node = _child(node, step)
        if node is None:
            return
    if last == ".":
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
            item for item in node if not (_has_key(item, step) if step.startswith("k:") else step == _member(item))
        ]

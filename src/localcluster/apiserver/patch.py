"""The three patches of Kubernetes: JSON patch (RFC 6902), merge patch (RFC 7386) and strategic merge patch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jsonpatch
import jsonpointer

from localcluster.apiserver.documents import copied
from localcluster.apiserver.errors import BadRequestError, InvalidError, invalid

Path = tuple[str, ...]
"""Field names from the object's root; list elements add nothing."""
ListStrategy = tuple[str, str]
"""("merge" | "replace", the key that identifies elements, "" for lists of plain values)."""
Strategy = Callable[[Path], ListStrategy]

_MOST_OPERATIONS = 10000


def json_patch(document: dict[str, Any], operations: Any) -> dict[str, Any]:
    """RFC 6902. BadRequestError if the patch can't be read, InvalidError (422) if it does not fit the document."""
    if not isinstance(operations, list):
        raise BadRequestError("a JSON patch is a list of operations")
    if len(operations) > _MOST_OPERATIONS:
        raise BadRequestError(f"a JSON patch has at most {_MOST_OPERATIONS} operations")
    try:
        patch = jsonpatch.JsonPatch(operations)
    except (jsonpatch.InvalidJsonPatch, jsonpointer.JsonPointerException, TypeError) as error:
        raise BadRequestError(f"the JSON patch cannot be read: {error}") from error
    try:
        patched = patch.apply(document)
    except (jsonpatch.JsonPatchException, jsonpointer.JsonPointerException, TypeError, ValueError) as error:
        raise InvalidError(
            f"the server rejected our request due to an error in our request: the JSON patch does not fit: {error}",
            causes=[invalid("patch", None, str(error))],
        ) from error
    if not isinstance(patched, dict):
        raise BadRequestError("the JSON patch leaves no object")
    return dict(patched)


def merge_patch(document: Any, patch: Any) -> Any:
    """RFC 7386, section 2: null removes, objects merge, everything else replaces."""
    if not isinstance(patch, dict):
        return copied(patch)
    merged = dict(document) if isinstance(document, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), value)
    return merged


def strategic_merge(document: dict[str, Any], patch: Any, strategy: Strategy) -> dict[str, Any]:
    """Strategic merge patch: as merge patch, but lists that `strategy` knows are merged element by element.

    Directives: `$patch: replace|delete|merge`, `$retainKeys`, `$setElementOrder/<list>`,
    `$deleteFromPrimitiveList/<list>`. BadRequestError for a malformed one.
    """
    if not isinstance(patch, dict):
        raise BadRequestError("a strategic merge patch is an object")
    return _merge_object(document, patch, strategy, ())


def _merge_object(document: dict[str, Any], patch: dict[str, Any], strategy: Strategy, path: Path) -> dict[str, Any]:
    directive = patch.get("$patch")
    plain = {name: value for name, value in patch.items() if not name.startswith("$")}
    if directive == "replace":
        return {name: _without_directives(value) for name, value in plain.items() if value is not None}
    if directive == "delete":
        return {}
    if directive not in (None, "merge"):
        raise BadRequestError(f"Unknown patch type: $patch: {directive!r} at {'.'.join(path) or 'the root'}")
    merged = dict(document)
    if "$retainKeys" in patch:
        kept = patch["$retainKeys"]
        if not isinstance(kept, list) or not set(plain) <= set(kept):
            raise BadRequestError(f"$retainKeys at {'.'.join(path)} must list every field that the patch sets")
        merged = {name: value for name, value in merged.items() if name in kept}
    orders: dict[str, list[Any]] = {}
    for name, value in patch.items():
        prefix, separator, field = name.partition("/")
        if not separator or not prefix.startswith("$"):
            continue
        if not isinstance(value, list):
            raise BadRequestError(f"{name} must be a list")
        if prefix == "$deleteFromPrimitiveList":
            merged[field] = [item for item in merged.get(field) or () if item not in value]
        elif prefix == "$setElementOrder":
            orders[field] = value
    for name, value in plain.items():
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, dict):
            found = merged.get(name)
            if found is None and value.get("$patch") == "delete":
                continue
            merged[name] = _merge_object(found if isinstance(found, dict) else {}, value, strategy, (*path, name))
        elif isinstance(value, list):
            merged[name] = _merge_list(merged.get(name), value, strategy, (*path, name))
        else:
            merged[name] = value
    for name, order in orders.items():
        if isinstance(merged.get(name), list):
            kind, key = strategy((*path, name))
            if kind == "merge":
                merged[name] = _ordered(merged[name], order, key)
    return merged


def _merge_list(found: Any, patch: list[Any], strategy: Strategy, path: Path) -> list[Any]:
    kind, key = strategy(path)
    existing = list(found) if isinstance(found, list) else []
    replaces = any(isinstance(item, dict) and item.get("$patch") == "replace" and len(item) == 1 for item in patch)
    if kind != "merge" or replaces:
        return [_without_directives(item) for item in patch if not _is_directive(item)]
    if not key:
        return existing + [item for item in dict.fromkeys(patch) if item not in existing]
    for item in patch:
        if not isinstance(item, dict):
            raise BadRequestError(f"{'.'.join(path)}: expected objects with the merge key {key!r}, found {item!r}")
        if item.get(key) is None:
            raise BadRequestError(f"map: {item} does not contain declared merge key: {key} ({'.'.join(path)})")
        positions = [at for at, element in enumerate(existing) if element.get(key) == item[key]]
        if item.get("$patch") == "delete":
            existing = [element for at, element in enumerate(existing) if at not in positions]
        elif positions:
            existing[positions[0]] = _merge_object(existing[positions[0]], item, strategy, path)
        else:
            existing.append(_merge_object({}, item, strategy, path))
    return existing


def _is_directive(item: Any) -> bool:
    return isinstance(item, dict) and "$patch" in item and item["$patch"] in ("replace", "delete")


def _without_directives(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            name: _without_directives(inner)
            for name, inner in value.items()
            if inner is not None and not name.startswith("$")
        }
    if isinstance(value, list):
        return [_without_directives(item) for item in value if not _is_directive(item)]
    return value


def _ordered(merged: list[Any], order: list[Any], key: str) -> list[Any]:
    """`merged` with the elements that `order` names in that order."""
    wanted = [item.get(key) if key and isinstance(item, dict) else item for item in order]
    identities = [item.get(key) if key else item for item in merged]
    ranked = {identity: rank for rank, identity in enumerate(wanted)}
    named = [at for at, identity in enumerate(identities) if identity in ranked]
    queue = iter(sorted(named, key=lambda at: ranked[identities[at]]))
    # Elements that the order does not name (the server's or other writers') keep their places.
    return [merged[next(queue)] if identity in ranked else merged[at] for at, identity in enumerate(identities)]

"""Server-side apply: who manages which field, what an applied configuration changes, and where managers disagree.

Every write records its manager (metadata.managedFields). Source: Kubernetes' "Server-Side Apply" and
structured-merge-diff.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from localcluster.apiserver.context import RequestContext
from localcluster.apiserver.documents import copied
from localcluster.apiserver.errors import BadRequestError, ConflictError, FieldError
from localcluster.apiserver.field_rules import FieldRules, Names
from localcluster.apiserver.fields import (
    ELEMENT,
    FieldPath,
    element,
    from_fields_v1,
    leaves,
    readable,
    remove,
    to_fields_v1,
)
from localcluster.apiserver.kinds import KindInfo
from localcluster.apiserver.metadata import timestamp

Object = dict[str, Any]

# Who the server's own controllers are to people who read managedFields.
_OWN_MANAGER = "kube-controller-manager"
# Whom fields belong to that were there before anybody was recorded.
_BEFORE = "before-first-apply"
_KUBECTL = "kubectl"
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


class Manager(NamedTuple):
    """Who wrote, how (`Apply` or `Update`), and through which subresource ("" for the object itself)."""

    name: str
    operation: str
    subresource: str = ""


def merge(kind: KindInfo, live: Object | None, applied: Object, subresource: str, context: RequestContext) -> Object:
    """`live` (None: nothing exists) after `applied` by the context's manager, with managedFields brought up to date.

    Fields that the manager applied before and no longer does are removed, unless another manager has them too.
    ConflictError naming fields and managers if others manage a field with another value, unless `context.force`.
    """
    if not context.field_manager:
        raise BadRequestError("fieldManager is required for apply patch")
    if (applied.get("metadata") or {}).get("managedFields"):
        raise BadRequestError("metadata.managedFields must be nil in an applied configuration")
    rules = FieldRules(kind)
    wanted = _concerned(leaves(applied, rules), kind, subresource)
    base = copied(live) if live is not None else {}
    present = leaves(base, rules)
    entries = managed(base)
    if live is not None and not entries:
        before = _concerned(present, kind, subresource)
        entries = {Manager(_BEFORE, "Update"): set(before)}
    manager = Manager(context.field_manager, "Apply", subresource)
    mine_before = entries.pop(manager, set())
    contested = {path for path, value in wanted.items() if path[-1] != ELEMENT and present.get(path, ...) != value}
    disputes = {other: fields & contested for other, fields in entries.items() if fields & contested}
    if disputes and not context.force:
        refused = _without_own_earlier(disputes, base, present, rules, context)
        if refused:
            raise _conflict(kind, applied, refused)
    for other, fields in disputes.items():
        entries[other] = entries[other] - fields
    merged: Object = _merged(base, applied, rules, ())
    others: set[FieldPath] = set().union(*entries.values()) if entries else set()
    # Whole elements first: their key is what finds them.
    for path in sorted(mine_before - set(wanted) - others, key=lambda path: (path[-1] != ELEMENT, -len(path))):
        remove(merged, path, others | set(wanted))
    entries[manager] = set(wanted)
    _record(kind, merged, entries, base)
    return merged


def _without_own_earlier(
    disputes: dict[Manager, set[FieldPath]],
    live: Object,
    present: dict[FieldPath, Any],
    rules: FieldRules,
    context: RequestContext,
) -> dict[Manager, set[FieldPath]]:
    """The disputes without fields that kubectl itself applied from the client's side, and that nobody changed since.

    So its users may go over to --server-side (apiserver/pkg/endpoints/handlers/fieldmanager, lastappliedmanager.go).
    """
    text = (live.get("metadata", {}).get("annotations") or {}).get(_LAST_APPLIED)
    if context.field_manager != _KUBECTL or not isinstance(text, str):
        return disputes
    try:
        earlier = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return disputes
    if not isinstance(earlier, dict):
        return disputes
    own = {path for path, value in leaves(earlier, rules).items() if present.get(path, ...) == value}
    return {manager: rest for manager, fields in disputes.items() if (rest := fields - own)}


def track_create(kind: KindInfo, new: Object, context: RequestContext) -> None:
    """Give all fields of a new object to its writer. In place."""
    found = _concerned(leaves(new, FieldRules(kind)), kind, "")
    new["metadata"].pop("managedFields", None)
    _record(kind, new, {Manager(context.field_manager or _OWN_MANAGER, "Update"): set(found)}, new)


def track_update(kind: KindInfo, old: Object, new: Object, subresource: str, context: RequestContext) -> None:
    """Give the fields that an ordinary write changed to its manager. In place."""
    if new["metadata"].get("managedFields") == []:
        return
    rules = FieldRules(kind)
    changed_parts = {name for name in {*old, *new} if old.get(name, ...) != new.get(name, ...)}
    before = leaves({name: old[name] for name in changed_parts if name in old}, rules)
    after = leaves({name: new[name] for name in changed_parts if name in new}, rules)
    changed = {path for path, value in after.items() if before.get(path, ...) != value}
    gone = before.keys() - after.keys()
    if not changed and not gone:
        return
    entries = managed(old)
    lost = changed | gone
    for other in entries:
        entries[other] = entries[other] - lost
    mine = Manager(context.field_manager or _OWN_MANAGER, "Update", subresource)
    entries[mine] = entries.get(mine, set()) | changed
    _record(kind, new, entries, old)


def _concerned(found: dict[FieldPath, Any], kind: KindInfo, subresource: str) -> dict[FieldPath, Any]:
    """Without the status, which a write of the object itself does not reach where it is a subresource."""
    if "status" not in kind.subresources or subresource == "status":
        return found
    return {path: value for path, value in found.items() if path[0] != "f:status"}


def managed(object: Object) -> dict[Manager, set[FieldPath]]:
    """Manager -> the fields it manages."""
    return {
        _manager_of(entry): from_fields_v1(entry.get("fieldsV1") or {})
        for entry in (object.get("metadata") or {}).get("managedFields") or ()
    }


def _manager_of(entry: Object) -> Manager:
    return Manager(entry.get("manager", ""), entry.get("operation", "Update"), entry.get("subresource", ""))


def _record(kind: KindInfo, object: Object, entries: dict[Manager, set[FieldPath]], before: Object) -> None:
    known = {_manager_of(entry): entry for entry in (before.get("metadata") or {}).get("managedFields") or ()}
    recorded = []
    for manager, fields in entries.items():
        if not fields:
            continue
        tree = to_fields_v1(fields)
        earlier = known.get(manager)
        if earlier is not None and earlier.get("fieldsV1") == tree and "time" in earlier:
            recorded.append(earlier)
            continue
        entry = {
            "manager": manager.name,
            "operation": manager.operation,
            "apiVersion": kind.api_version,
            "time": timestamp(),
            "fieldsType": "FieldsV1",
            "fieldsV1": tree,
        }
        if manager.subresource:
            entry["subresource"] = manager.subresource
        recorded.append(entry)
    about = object.setdefault("metadata", {})
    about.pop("managedFields", None)
    if recorded:
        # An empty list is a client's wish that nobody be recorded; an object without fields must not carry one.
        about["managedFields"] = recorded


def _conflict(kind: KindInfo, applied: Object, disputes: dict[Manager, set[FieldPath]]) -> ConflictError:
    causes = []
    for manager, fields in disputes.items():
        using = f'conflict with "{manager.name}"'
        if manager.subresource:
            using += f' with subresource "{manager.subresource}"'
        using += f" using {kind.api_version}" if manager.operation == "Update" else ""
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


def _merged(base: Any, applied: Any, rules: FieldRules, names: Names) -> Any:
    if isinstance(applied, dict):
        if names and rules.is_atomic(names):
            return copied(applied)
        result = dict(base) if isinstance(base, dict) else {}
        for name, value in applied.items():
            result[name] = _merged(result.get(name), value, rules, (*names, name))
        return result
    keys = rules.list_keys(names) if isinstance(applied, list) else None
    if keys is None or not isinstance(base, list):
        return copied(applied)
    if not keys:
        return base + [item for item in applied if item not in base]
    mine = [rules.identity(names, keys, item) for item in applied]
    theirs = [rules.identity(names, keys, item) for item in base]
    if None in mine or None in theirs:
        return copied(applied)
    by_key = {element(identity): item for identity, item in zip(theirs, base, strict=True)}
    wanted = {
        element(identity): _merged(by_key.get(element(identity)), item, rules, names)
        for identity, item in zip(mine, applied, strict=True)
    }
    kept = [wanted.pop(element(identity), item) for identity, item in zip(theirs, base, strict=True)]
    return kept + list(wanted.values())

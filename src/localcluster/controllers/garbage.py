"""Garbage collection: objects go with their owners. Source: kube-controller-manager's garbage collector."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from localcluster.apiserver.kinds import KindInfo
from localcluster.controllers.state import Name, State, is_terminating
from localcluster.controllers.writes import Delete, Patch, Write

Object = dict[str, Any]
FindKind = Callable[[str, str], KindInfo | None]
"""(apiVersion, kind) -> the served kind, None if nobody serves it."""

FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"


def keys(state: State, kind: KindInfo, old: Object | None, new: Object | None) -> Iterable[Name]:
    """The objects that a change concerns, as ("", uid): itself, its dependents when it is gone, owners that wait."""
    item = new or old or {}
    about = item["metadata"]
    if new is None:
        for _, dependent in state.dependents(about["uid"]):
            yield "", dependent["metadata"]["uid"]
        # An owner that is deleted in the foreground waits for this.
        for reference in about.get("ownerReferences") or ():
            yield "", reference["uid"]
    elif about.get("ownerReferences") or (is_terminating(item) and about.get("finalizers")):
        yield "", about["uid"]
        for reference in about.get("ownerReferences") or ():
            owner = state.by_uid(reference["uid"])
            if owner is not None and is_terminating(owner[1]):
                yield "", reference["uid"]


def reconcile(find_kind: FindKind, state: State, key: Name, now: datetime) -> list[Write]:
    """What becomes of the object with this uid: it goes with its owners, or its dependents go before it."""
    found = state.by_uid(key[1])
    if found is None:
        return []
    kind, item = found
    if is_terminating(item):
        return _ending(state, kind, item)
    references = item["metadata"].get("ownerReferences") or []
    gone, absent = [], []
    waits_for_dependents = False
    for reference in references:
        owner_kind = find_kind(reference["apiVersion"], reference["kind"])
        # Of a kind that nobody serves we can't know whether it lives: keep what it owns.
        if owner_kind is None:
            continue
        namespace = (item["metadata"].get("namespace") or "") if owner_kind.namespaced else ""
        owner = state.get(owner_kind, namespace, reference["name"])
        if owner is None or owner["metadata"]["uid"] != reference["uid"]:
            gone.append(reference)
            absent.append((owner_kind, namespace, reference["name"], reference["uid"]))
        elif is_terminating(owner) and FOREGROUND in (owner["metadata"].get("finalizers") or ()):
            waits_for_dependents = waits_for_dependents or bool(reference.get("blockOwnerDeletion"))
            gone.append(reference)
    if not gone:
        return []
    if len(gone) < len(references):
        if not absent:
            return []
        kept = [reference for reference in references if reference not in gone]
        return [_with_references(kind, item, kept)]
    if absent and len(absent) == len(gone):
        return [Delete(kind, item, unless_exists=tuple(absent))]
    policy = "Foreground" if waits_for_dependents and state.dependents(key[1]) else "Background"
    return [Delete(kind, item, policy)]


def _ending(state: State, kind: KindInfo, item: Object) -> list[Write]:
    finalizers = item["metadata"].get("finalizers") or []
    uid = item["metadata"]["uid"]
    dependents = state.dependents(uid)
    if ORPHAN in finalizers:
        writes: list[Write] = []
        for dependent_kind, dependent in dependents:
            left = [r for r in dependent["metadata"]["ownerReferences"] if r["uid"] != uid]
            writes.append(_with_references(dependent_kind, dependent, left))
        return [*writes, _without_finalizer(kind, item, ORPHAN)]
    if FOREGROUND not in finalizers:
        return []
    blocking = [
        (dependent_kind, dependent)
        for dependent_kind, dependent in dependents
        if any(r["uid"] == uid and r.get("blockOwnerDeletion") for r in dependent["metadata"]["ownerReferences"])
    ]
    if not blocking:
        return [_without_finalizer(kind, item, FOREGROUND)]
    return [
        Delete(
            dependent_kind, dependent, "Foreground" if state.dependents(dependent["metadata"]["uid"]) else "Background"
        )
        for dependent_kind, dependent in dependents
        if not is_terminating(dependent) and len(dependent["metadata"]["ownerReferences"]) == 1
    ]


def _with_references(kind: KindInfo, item: Object, references: list[Object]) -> Patch:
    about = item["metadata"]
    body = {"metadata": {"uid": about["uid"], "ownerReferences": references or None}}
    return Patch(kind, about.get("namespace") or "", about["name"], body)


def _without_finalizer(kind: KindInfo, item: Object, finalizer: str) -> Patch:
    about = item["metadata"]
    left = [name for name in about.get("finalizers") or () if name != finalizer]
    # The version guards the finalizers that others add or take away meanwhile: a merge patch replaces the whole list.
    body = {"metadata": {"resourceVersion": about["resourceVersion"], "finalizers": left or None}}
    return Patch(kind, about.get("namespace") or "", about["name"], body)

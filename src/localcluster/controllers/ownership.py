"""Adoption and release: whose an object is follows from the selectors of those who may own it."""

from __future__ import annotations

from typing import Any

from localcluster.apiserver import kinds
from localcluster.apiserver.kinds import KindInfo
from localcluster.apiserver.selectors import structured
from localcluster.controllers.state import State, controller_of, is_terminating, owner_reference
from localcluster.controllers.writes import Patch, Write

Object = dict[str, Any]


def adoptions(state: State, owner_kind: KindInfo, owner: Object, kind: KindInfo) -> list[Write]:
    """The writes that make `owner` the controller of every orphan of `kind` that its selector matches."""
    matches = structured(owner["spec"].get("selector"))
    writes: list[Write] = []
    for item in state.all_of(kind, owner["metadata"]["namespace"]):
        about = item["metadata"]
        labels = about.get("labels") or {}
        if not labels or is_terminating(item) or controller_of(item) is not None or not matches(labels):
            continue
        if (item.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
            continue
        references = [*(about.get("ownerReferences") or ()), owner_reference(owner_kind, owner)]
        # The uid makes the patch fail if the name has been taken by another object meanwhile.
        body = {"metadata": {"uid": about["uid"], "ownerReferences": references}}
        writes.append(Patch(kind, about["namespace"], about["name"], body))
    return writes


def released(owner: Object, mine: list[Object]) -> tuple[list[Object], list[Write]]:
    """Pods whose labels were changed away from the selector are let go, to live on without a controller."""
    matches = structured(owner["spec"].get("selector"))
    kept: list[Object] = []
    writes: list[Write] = []
    for pod in mine:
        if matches(pod["metadata"].get("labels") or {}) or is_terminating(pod):
            kept.append(pod)
            continue
        references = [r for r in pod["metadata"]["ownerReferences"] if not r.get("controller")]
        about = pod["metadata"]
        body = {"metadata": {"uid": about["uid"], "ownerReferences": references or None}}
        writes.append(Patch(kinds.POD, about["namespace"], about["name"], body))
    return kept, writes

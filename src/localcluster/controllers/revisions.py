"""Revisions of pod templates: the ControllerRevisions that StatefulSets and DaemonSets are rolled and rolled back by.

Source: k8s.io/kubernetes/pkg/controller/history.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from localcluster.apiserver import kinds
from localcluster.apiserver.documents import copied
from localcluster.apiserver.kinds import KindInfo
from localcluster.controllers.ownership import adoptions
from localcluster.controllers.state import State, owner_reference
from localcluster.controllers.templates import content_hash
from localcluster.controllers.writes import Create, Delete, Patch, Write

Object = dict[str, Any]

LABEL = "controller-revision-hash"


@dataclass(frozen=True, slots=True)
class History:
    """An owner's revisions, oldest first; `update` is that of its present template.

    `update` is None as long as `writes` are due that make or renumber it.
    """

    revisions: tuple[Object, ...]
    update: Object | None
    writes: tuple[Write, ...] = ()

    def named(self, name: str) -> Object | None:
        """The revision with this name."""
        return next((item for item in self.revisions if item["metadata"]["name"] == name), None)


def history(state: State, kind: KindInfo, owner: Object) -> History:
    """The revisions of `owner` (of `kind`). A template that was there before becomes the newest again (a rollback)."""
    adopted = adoptions(state, kind, owner, kinds.CONTROLLER_REVISION)
    held = sorted(state.controlled(kinds.CONTROLLER_REVISION, owner), key=_number)
    if adopted:
        return History(tuple(held), None, tuple(adopted))
    wanted = _content(owner)
    newest = _number(held[-1]) if held else 0
    equal = [item for item in held if item.get("data") == wanted]
    if not equal:
        return History(tuple(held), None, (Create(kinds.CONTROLLER_REVISION, _new(kind, owner, wanted, newest + 1)),))
    update = equal[-1]
    if _number(update) < newest:
        about = update["metadata"]
        patch = Patch(kinds.CONTROLLER_REVISION, about["namespace"], about["name"], {"revision": newest + 1})
        return History(tuple(held), None, (patch,))
    return History(tuple(held), update)


def template(revision: Object) -> Object:
    """The pod template that a revision keeps."""
    return {name: value for name, value in revision["data"]["spec"]["template"].items() if name != "$patch"}


def surplus(owner: Object, known: History, in_use: set[str]) -> list[Write]:
    """Deletions of the oldest revisions beyond revisionHistoryLimit; those whose names are `in_use` do not count."""
    unused = [item for item in known.revisions if item["metadata"]["name"] not in in_use and item is not known.update]
    limit = owner["spec"].get("revisionHistoryLimit", 10)
    return [Delete(kinds.CONTROLLER_REVISION, item) for item in unused[: max(0, len(unused) - limit)]]


def hash_of(revision: Object) -> str:
    """The hash in a revision's label."""
    return str((revision["metadata"].get("labels") or {}).get(LABEL, ""))


def _number(revision: Object) -> int:
    return int(revision.get("revision") or 0)


def _content(owner: Object) -> Object:
    """A strategic merge patch that puts this template back: `kubectl rollout undo` sends it as it is."""
    return {"spec": {"template": {**copied(owner["spec"]["template"]), "$patch": "replace"}}}


def _new(kind: KindInfo, owner: Object, content: Object, number: int) -> Object:
    about = owner["metadata"]
    label = content_hash(content, (owner.get("status") or {}).get("collisionCount") or 0)
    labels = (owner["spec"]["template"].get("metadata") or {}).get("labels") or {}
    cause = (about.get("annotations") or {}).get("kubernetes.io/change-cause")
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {
            "name": f"{about['name']}-{label}",
            "namespace": about["namespace"],
            "labels": {**labels, LABEL: label},
            **({"annotations": {"kubernetes.io/change-cause": cause}} if cause else {}),
            "ownerReferences": [owner_reference(kind, owner)],
        },
        "data": content,
        "revision": number,
    }

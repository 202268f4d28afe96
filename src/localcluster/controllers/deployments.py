"""Deployments: one ReplicaSet per template, rolled from the old ones to the new one.

Source: kube-controller-manager's deployment controller.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from localcluster.apiserver import kinds
from localcluster.apiserver.documents import copied
from localcluster.apiserver.kinds import KindInfo
from localcluster.apiserver.selectors import structured
from localcluster.controllers import pods, rollout
from localcluster.controllers.deployment_status import status_writes
from localcluster.controllers.ownership import adoptions
from localcluster.controllers.state import Name, State, controller_of, is_terminating, name_of, owner_reference
from localcluster.controllers.templates import content_hash
from localcluster.controllers.writes import Create, Delete, Patch, Record, Update, Write

Object = dict[str, Any]

HASH_LABEL = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"
_REVISION_HISTORY = "deployment.kubernetes.io/revision-history"
_DESIRED = "deployment.kubernetes.io/desired-replicas"
_MAXIMUM = "deployment.kubernetes.io/max-replicas"
_COMPONENT = "deployment-controller"
# What concerns the Deployment alone and is not handed to its ReplicaSets.
_OWN_ANNOTATIONS = frozenset(
    {
        "kubectl.kubernetes.io/last-applied-configuration",
        REVISION,
        _REVISION_HISTORY,
        _DESIRED,
        _MAXIMUM,
        "deprecated.deployment.rollback.to",
    }
)


def keys(state: State, kind: KindInfo, old: Object | None, new: Object | None) -> Iterable[Name]:
    """The Deployments that a change concerns."""
    if kind is kinds.DEPLOYMENT:
        yield name_of(new or old or {})
    elif kind is kinds.REPLICA_SET:
        for replica_set in (old, new):
            owner = controller_of(replica_set) if replica_set else None
            if replica_set and owner and owner["kind"] == kinds.DEPLOYMENT.kind:
                yield replica_set["metadata"]["namespace"], owner["name"]
        if new is not None and controller_of(new) is None:
            labels = new["metadata"].get("labels") or {}
            for deployment in state.all_of(kinds.DEPLOYMENT, new["metadata"]["namespace"]):
                if labels and structured(deployment["spec"].get("selector"))(labels):
                    yield name_of(deployment)
    elif kind is kinds.POD and new is None and old is not None:
        # Recreate waits for the last old pod to be gone, which no ReplicaSet's status tells.
        owner = controller_of(old)
        replica_set = state.get(kinds.REPLICA_SET, old["metadata"]["namespace"], owner["name"]) if owner else None
        above = controller_of(replica_set) if replica_set else None
        if above:
            yield old["metadata"]["namespace"], above["name"]


def reconcile(state: State, key: Name, now: datetime) -> list[Write]:
    """The next step of the Deployment called `key`; the writes' effects bring the step after it."""
    deployment = state.get(kinds.DEPLOYMENT, *key)
    if deployment is None:
        return []
    owned = sorted(state.controlled(kinds.REPLICA_SET, deployment), key=_age)
    if is_terminating(deployment):
        return status_writes(deployment, None, owned, now)
    writes = adoptions(state, kinds.DEPLOYMENT, deployment, kinds.REPLICA_SET)
    if writes:
        return writes
    current = current_replica_set(deployment, owned)
    old = [replica_set for replica_set in owned if replica_set is not current]
    if not deployment["spec"].get("paused"):
        writes += _revision_writes(deployment, current, old)
    if current is None and not deployment["spec"].get("paused"):
        if deployment["spec"]["strategy"]["type"] == "Recreate" and _has_running_pods(state, old):
            writes += _scale_all(deployment, old, 0)
        else:
            writes += _first_step(deployment, old)
    elif deployment["spec"]["strategy"]["type"] == "Recreate":
        writes += _recreate(state, deployment, current, old)
    else:
        writes += _roll(deployment, current, old)
    writes += _old_revisions(deployment, current, old)
    return writes + status_writes(deployment, current, owned, now)


def current_replica_set(deployment: Object, owned: list[Object]) -> Object | None:
    """The oldest ReplicaSet with the Deployment's template, its hash label aside."""
    template = deployment["spec"]["template"]
    for replica_set in owned:
        if _without_hash(replica_set["spec"]["template"]) == _without_hash(template):
            return replica_set
    return None


def _without_hash(template: Object) -> Object:
    metadata = dict(template.get("metadata") or {})
    metadata["labels"] = {name: v for name, v in (metadata.get("labels") or {}).items() if name != HASH_LABEL}
    return {**template, "metadata": {name: value for name, value in metadata.items() if value}}


def _age(replica_set: Object) -> tuple[str, str]:
    return replica_set["metadata"]["creationTimestamp"], replica_set["metadata"]["name"]


def _revision(item: Object) -> int:
    text = (item["metadata"].get("annotations") or {}).get(REVISION, "0")
    return int(text) if text.isdigit() else 0


def _annotations(deployment: Object) -> dict[str, str]:
    given = deployment["metadata"].get("annotations") or {}
    wanted = {name: value for name, value in given.items() if name not in _OWN_ANNOTATIONS}
    replicas = deployment["spec"].get("replicas", 1)
    wanted[_DESIRED] = str(replicas)
    wanted[_MAXIMUM] = str(replicas + rollout.limits(deployment).surge)
    return wanted


def _first_step(deployment: Object, old: list[Object]) -> list[Write]:
    """Create the ReplicaSet of the present template, as large as the strategy allows beside the old ones."""
    about, spec = deployment["metadata"], deployment["spec"]
    template = copied(spec["template"])
    collisions = (deployment.get("status") or {}).get("collisionCount") or 0
    label = content_hash(_without_hash(template), collisions)
    name = f"{about['name']}-{label}"
    template.setdefault("metadata", {}).setdefault("labels", {})[HASH_LABEL] = label
    selector = copied(spec["selector"])
    selector.setdefault("matchLabels", {})[HASH_LABEL] = label
    replicas = rollout.new_size(deployment, 0, old)
    revision = max((_revision(item) for item in old), default=0) + 1
    replica_set: Object = {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": name,
            "namespace": about["namespace"],
            "labels": dict(template["metadata"]["labels"]),
            "annotations": {**_annotations(deployment), REVISION: str(revision)},
            "ownerReferences": [owner_reference(kinds.DEPLOYMENT, deployment)],
        },
        "spec": {
            "replicas": replicas,
            "selector": selector,
            "template": template,
            **({"minReadySeconds": spec["minReadySeconds"]} if spec.get("minReadySeconds") else {}),
        },
    }
    if any(item["metadata"]["name"] == name for item in old):
        # Another template with this hash: count the collision, and the next round has another name.
        status = {**(deployment.get("status") or {}), "collisionCount": collisions + 1}
        return [Update(kinds.DEPLOYMENT, {**deployment, "status": status}, "status")]
    writes: list[Write] = [Create(kinds.REPLICA_SET, replica_set)]
    if replicas:
        writes.append(_scaled(deployment, name, 0, replicas))
    return writes


def _scaled(deployment: Object, name: str, before: int, after: int) -> Record:
    direction = "up" if after > before else "down"
    message = f"Scaled {direction} replica set {name} from {before} to {after}"
    return Record(kinds.DEPLOYMENT, deployment, "ScalingReplicaSet", message, _COMPONENT)


def _scale(deployment: Object, replica_set: Object, replicas: int) -> list[Write]:
    """Set the size of a ReplicaSet, and the annotations that kubectl and later rounds read."""
    about = replica_set["metadata"]
    before = replica_set["spec"].get("replicas", 1)
    sizes = {name: value for name, value in _annotations(deployment).items() if name in (_DESIRED, _MAXIMUM)}
    held = about.get("annotations") or {}
    body: Object = {}
    if any(held.get(name) != value for name, value in sizes.items()):
        body["metadata"] = {"annotations": sizes}
    if before != replicas:
        body["spec"] = {"replicas": replicas}
    if not body:
        return []
    writes: list[Write] = [Patch(kinds.REPLICA_SET, about["namespace"], about["name"], body)]
    if before != replicas:
        writes.append(_scaled(deployment, about["name"], before, replicas))
    return writes


def _scale_all(deployment: Object, replica_sets: list[Object], replicas: int) -> list[Write]:
    return [
        write
        for replica_set in replica_sets
        if replica_set["spec"].get("replicas", 1) != replicas
        for write in _scale(deployment, replica_set, replicas)
    ]


def _roll(deployment: Object, current: Object | None, old: list[Object]) -> list[Write]:
    """Grow the new ReplicaSet first; only when it can't grow now, shrink the old ones, never below the minimum."""
    if deployment["spec"].get("paused"):
        # A paused Deployment still follows `kubectl scale`, on the one ReplicaSet that has pods.
        alive = [item for item in [*old, *([current] if current else [])] if item["spec"].get("replicas", 1)]
        target = alive[0] if len(alive) == 1 else current
        return _scale(deployment, target, deployment["spec"].get("replicas", 1)) if target else []
    if current is None:
        return []
    grown = _scale(deployment, current, rollout.new_size(deployment, current["spec"].get("replicas", 1), old))
    if any(isinstance(write, Patch) and "spec" in write.body for write in grown):
        return grown
    writes = list(grown)
    for replica_set, replicas in rollout.shrunk(deployment, current, old):
        writes += _scale(deployment, replica_set, replicas)
    return writes


def _recreate(state: State, deployment: Object, current: Object | None, old: list[Object]) -> list[Write]:
    if deployment["spec"].get("paused"):
        return _roll(deployment, current, old)
    shrunk = _scale_all(deployment, old, 0)
    if shrunk or current is None or _has_running_pods(state, old):
        return shrunk
    return _scale(deployment, current, deployment["spec"].get("replicas", 1))


def _has_running_pods(state: State, replica_sets: list[Object]) -> bool:
    return any(
        not pods.is_finished(pod) for replica_set in replica_sets for pod in state.controlled(kinds.POD, replica_set)
    )


def _revision_writes(deployment: Object, current: Object | None, old: list[Object]) -> list[Write]:
    """Number the present ReplicaSet as the newest revision (a rollback gives an old one a new number)."""
    if current is None:
        return []
    writes: list[Write] = []
    about = current["metadata"]
    held = about.get("annotations") or {}
    newest = max((_revision(item) for item in old), default=0) + 1
    changed = {n: v for n, v in _annotations(deployment).items() if n not in (_DESIRED, _MAXIMUM) and held.get(n) != v}
    revision = _revision(current)
    if revision < newest:
        changed[REVISION] = str(newest)
        if revision:
            history = [*filter(None, held.get(_REVISION_HISTORY, "").split(",")), str(revision)]
            changed[_REVISION_HISTORY] = ",".join(history)
        revision = newest
    if changed:
        body = {"metadata": {"annotations": changed}}
        writes.append(Patch(kinds.REPLICA_SET, about["namespace"], about["name"], body))
    if _revision(deployment) != revision:
        where = deployment["metadata"]
        body = {"metadata": {"annotations": {REVISION: str(revision)}}}
        writes.append(Patch(kinds.DEPLOYMENT, where["namespace"], where["name"], body))
    return writes


def _old_revisions(deployment: Object, current: Object | None, old: list[Object]) -> list[Write]:
    """Once the roll-out is complete, forget the oldest empty ReplicaSets beyond revisionHistoryLimit."""
    limit = deployment["spec"].get("revisionHistoryLimit", 10)
    if current is None or not rollout.is_complete(deployment):
        return []
    empty = [
        item
        for item in sorted(old, key=_revision)
        if not item["spec"].get("replicas", 1)
        and not (item.get("status") or {}).get("replicas")
        and (item.get("status") or {}).get("observedGeneration", 0) >= item["metadata"].get("generation", 0)
        and not is_terminating(item)
    ]
    surplus = len([item for item in old if not is_terminating(item)]) - limit
    return [Delete(kinds.REPLICA_SET, item) for item in empty[: max(0, surplus)]]

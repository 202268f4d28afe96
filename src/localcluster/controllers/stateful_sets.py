"""StatefulSets: pods with names that stay, made, rolled and taken away one after the other.

Source: kube-controller-manager's stateful set controller (stateful_set_control.go).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from localcluster.apiserver import kinds
from localcluster.apiserver.errors import ApiError
from localcluster.apiserver.kinds import KindInfo
from localcluster.apiserver.selectors import structured
from localcluster.controllers import pods, revisions
from localcluster.controllers.ownership import adoptions, released
from localcluster.controllers.state import Name, State, controller_of, is_terminating, name_of
from localcluster.controllers.stateful_claims import claims_of, surplus_claims, with_claims
from localcluster.controllers.templates import creation, new_pod
from localcluster.controllers.writes import Again, Delete, Patch, Record, Update, Write

Object = dict[str, Any]

POD_NAME = "statefulset.kubernetes.io/pod-name"
POD_INDEX = "apps.kubernetes.io/pod-index"
_COMPONENT = "statefulset-controller"


@dataclass(frozen=True, slots=True)
class _Set:
    """A StatefulSet with what decides about its next step."""

    object: Object
    members: Mapping[int, Object]
    update: Object
    current: Object
    now: datetime

    @property
    def ordinals(self) -> range:
        spec = self.object["spec"]
        start = (spec.get("ordinals") or {}).get("start") or 0
        return range(start, start + spec.get("replicas", 1))

    @property
    def is_ordered(self) -> bool:
        return bool(self.object["spec"].get("podManagementPolicy") != "Parallel")

    @property
    def partition(self) -> int:
        return int((self.object["spec"].get("updateStrategy", {}).get("rollingUpdate") or {}).get("partition") or 0)

    @property
    def rolls(self) -> bool:
        return bool(self.object["spec"].get("updateStrategy", {}).get("type", "RollingUpdate") == "RollingUpdate")

    def revision_for(self, ordinal: int) -> Object:
        """The template that a missing pod gets: the former one below the partition of a roll."""
        return self.current if self.rolls and ordinal < self.partition else self.update

    def is_available(self, pod: Object) -> bool:
        """Whether the pod counts as a step done: ready for minReadySeconds, and not about to go."""
        wait = pods.available_in(pod, self.object["spec"].get("minReadySeconds") or 0, self.now)
        return wait == 0 and not is_terminating(pod)


def keys(state: State, kind: KindInfo, old: Object | None, new: Object | None) -> Iterable[Name]:
    """The StatefulSets that a change concerns."""
    if kind is kinds.STATEFUL_SET:
        yield name_of(new or old or {})
    elif kind in (kinds.POD, kinds.CONTROLLER_REVISION):
        for item in (old, new):
            owner = controller_of(item) if item else None
            if item and owner and owner["kind"] == kinds.STATEFUL_SET.kind:
                yield item["metadata"]["namespace"], owner["name"]
        if new is not None and controller_of(new) is None:
            labels = new["metadata"].get("labels") or {}
            for stateful_set in state.all_of(kinds.STATEFUL_SET, new["metadata"]["namespace"]):
                if labels and structured(stateful_set["spec"].get("selector"))(labels):
                    yield name_of(stateful_set)
    elif kind is kinds.PERSISTENT_VOLUME_CLAIM and new is None and old is not None:
        # A claim that was deleted under its pod's feet is made again with the pod.
        for stateful_set in state.all_of(kinds.STATEFUL_SET, old["metadata"]["namespace"]):
            yield name_of(stateful_set)


def reconcile(state: State, key: Name, now: datetime) -> list[Write]:
    """The next step of the StatefulSet called `key`; the writes' effects bring the step after it."""
    owner = state.get(kinds.STATEFUL_SET, *key)
    if owner is None or is_terminating(owner):
        return []
    adopted = [write for write in adoptions(state, kinds.STATEFUL_SET, owner, kinds.POD) if _is_member(owner, write)]
    if adopted:
        return list(adopted)
    history = revisions.history(state, kinds.STATEFUL_SET, owner)
    if history.update is None:
        return list(history.writes)
    mine, let_go = released(owner, state.controlled(kinds.POD, owner))
    members = {number: pod for pod in mine if (number := _ordinal(owner, pod["metadata"]["name"])) is not None}
    former = history.named((owner.get("status") or {}).get("currentRevision") or "")
    given = _Set(owner, members, history.update, former or history.update, now)
    status, waits = _status(given)
    in_use = {_revision_of(pod) for pod in mine} | {status["currentRevision"]}
    writes: list[Write] = [*let_go, *_steps(state, given), *revisions.surplus(owner, history, in_use)]
    if not members.keys() - set(given.ordinals):
        writes += surplus_claims(state, owner, given.ordinals)
    if status != owner.get("status"):
        writes.append(Update(kinds.STATEFUL_SET, {**owner, "status": status}, "status"))
    return [*writes, Again(min(waits))] if waits else writes


def created(state: State, key: Name, item: Object) -> list[Write]:
    """What to record once a pod or a claim exists."""
    owner = state.get(kinds.STATEFUL_SET, *key)
    if owner is None or item["kind"] == kinds.CONTROLLER_REVISION.kind:
        return []
    what = "Claim" if item["kind"] == kinds.PERSISTENT_VOLUME_CLAIM.kind else "Pod"
    message = f"create {what} {item['metadata']['name']} in StatefulSet {key[1]} successful"
    return [Record(kinds.STATEFUL_SET, owner, "SuccessfulCreate", message, _COMPONENT)]


def failed(state: State, key: Name, error: ApiError, now: datetime) -> list[Write]:
    """What users see when a pod or a claim was refused."""
    owner = state.get(kinds.STATEFUL_SET, *key)
    if owner is None:
        return []
    message = f"create Pod in StatefulSet {key[1]} failed error: {error.message}"
    return [Record(kinds.STATEFUL_SET, owner, "FailedCreate", message, _COMPONENT, "Warning")]


def _steps(state: State, given: _Set) -> list[Write]:
    """Make what is missing from the lowest ordinal on; then take away what is too much, and roll, from the highest."""
    writes: list[Write] = []
    for ordinal in given.ordinals:
        pod = given.members.get(ordinal)
        if pod is None:
            writes += [*claims_of(state, given.object, ordinal), creation(_pod(given, ordinal))]
        elif pods.is_finished(pod) and not is_terminating(pod):
            writes += _delete(given.object, pod)
        elif given.is_available(pod):
            continue
        if given.is_ordered:
            return writes
    condemned = sorted(given.members.keys() - set(given.ordinals), reverse=True)
    for ordinal in condemned:
        pod = given.members[ordinal]
        if not is_terminating(pod):
            writes += _delete(given.object, pod)
        if given.is_ordered:
            return writes
    return writes if writes or not given.rolls else _roll(given)


def _roll(given: _Set) -> list[Write]:
    """Replace the highest pod that has another template; the next one only when it is available again."""
    for ordinal in reversed(given.ordinals):
        pod = given.members[ordinal]
        if ordinal < given.partition:
            return []
        if _revision_of(pod) != given.update["metadata"]["name"] and not is_terminating(pod):
            return _delete(given.object, pod)
        if not given.is_available(pod):
            return []
    return []


def _pod(given: _Set, ordinal: int) -> Object:
    owner, revision = given.object, given.revision_for(ordinal)
    name = f"{owner['metadata']['name']}-{ordinal}"
    labels = {POD_NAME: name, POD_INDEX: str(ordinal), revisions.LABEL: revision["metadata"]["name"]}
    pod = new_pod(kinds.STATEFUL_SET, owner, revisions.template(revision), name=name, labels=labels)
    pod["spec"] |= {"hostname": name, "subdomain": owner["spec"].get("serviceName") or ""}
    return with_claims(owner, pod, ordinal)


def _delete(owner: Object, pod: Object) -> list[Write]:
    message = f"delete Pod {pod['metadata']['name']} in StatefulSet {owner['metadata']['name']} successful"
    return [Delete(kinds.POD, pod), Record(kinds.STATEFUL_SET, owner, "SuccessfulDelete", message, _COMPONENT)]


def _status(given: _Set) -> tuple[Object, list[float]]:
    """The status, and the seconds after which pods become available by waiting alone."""
    minimum = given.object["spec"].get("minReadySeconds") or 0
    before, members = given.object.get("status") or {}, given.members.values()
    waits = [pods.available_in(pod, minimum, given.now) for pod in members]
    alive = [_revision_of(pod) for pod in members if not is_terminating(pod)]
    update, current = given.update["metadata"]["name"], given.current["metadata"]["name"]
    counts = {
        "replicas": len(members),
        "readyReplicas": sum(wait is not None for wait in waits),
        "availableReplicas": sum(wait == 0 for wait in waits),
        "currentReplicas": alive.count(current),
        "updatedReplicas": alive.count(update),
    }
    wanted = len(given.ordinals)
    if given.rolls and (counts["replicas"], counts["readyReplicas"], counts["updatedReplicas"]) == (wanted,) * 3:
        current, counts["currentReplicas"] = update, counts["updatedReplicas"]
    status: Object = {
        "observedGeneration": given.object["metadata"].get("generation", 0),
        "currentRevision": current,
        "updateRevision": update,
        "collisionCount": before.get("collisionCount") or 0,
        # Zeroes are left out, as Kubernetes' `omitempty` does; these two alone are always there.
        **{name: n for name, n in counts.items() if n or name in ("replicas", "availableReplicas")},
    }
    if before.get("conditions"):
        status["conditions"] = before["conditions"]
    return status, [wait for wait in waits if wait]


def _revision_of(pod: Object) -> str:
    return str((pod["metadata"].get("labels") or {}).get(revisions.LABEL, ""))


def _ordinal(owner: Object, name: str) -> int | None:
    """The number in a pod's name; None for a name that is not of this set."""
    match = re.fullmatch(re.escape(owner["metadata"]["name"]) + r"-(0|[1-9][0-9]*)", name)
    return int(match[1]) if match else None


def _is_member(owner: Object, write: Write) -> bool:
    return isinstance(write, Patch) and _ordinal(owner, write.name) is not None

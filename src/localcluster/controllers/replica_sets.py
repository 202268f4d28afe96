"""ReplicaSets: as many pods as asked for, and their count in the status."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from localcluster.apiserver import kinds
from localcluster.apiserver.errors import ApiError
from localcluster.apiserver.kinds import KindInfo
from localcluster.apiserver.selectors import structured
from localcluster.controllers import pods
from localcluster.controllers.conditions import with_condition, without
from localcluster.controllers.ownership import adoptions, released
from localcluster.controllers.state import Name, State, controller_of, is_terminating, name_of
from localcluster.controllers.templates import creation, new_pod
from localcluster.controllers.writes import Again, Delete, Record, Update, Write

Object = dict[str, Any]

_COMPONENT = "replicaset-controller"
# A bug or a broken webhook must not flood the API: at most so many pods in one go, as in Kubernetes.
_BURST = 500


def keys(state: State, kind: KindInfo, old: Object | None, new: Object | None) -> Iterable[Name]:
    """The ReplicaSets that a change concerns."""
    if kind is kinds.REPLICA_SET:
        yield name_of(new or old or {})
    elif kind is kinds.POD:
        for pod in (old, new):
            owner = controller_of(pod) if pod else None
            if pod and owner and owner["kind"] == kinds.REPLICA_SET.kind:
                yield pod["metadata"]["namespace"], owner["name"]
        if new is not None and controller_of(new) is None:
            labels = new["metadata"].get("labels") or {}
            for replica_set in state.all_of(kinds.REPLICA_SET, new["metadata"]["namespace"]):
                if labels and structured(replica_set["spec"].get("selector"))(labels):
                    yield name_of(replica_set)


def reconcile(state: State, key: Name, now: datetime) -> list[Write]:
    """Create or delete pods of the ReplicaSet called `key`, and bring its status up to date."""
    replica_set = state.get(kinds.REPLICA_SET, *key)
    if replica_set is None:
        return []
    writes: list[Write] = []
    mine = state.controlled(kinds.POD, replica_set)
    if not is_terminating(replica_set):
        writes += adoptions(state, kinds.REPLICA_SET, replica_set, kinds.POD)
        mine, let_go = released(replica_set, mine)
    active = [pod for pod in mine if pods.is_active(pod)]
    if not is_terminating(replica_set):
        wanted = replica_set["spec"].get("replicas", 1)
        if len(active) < wanted:
            # Adopted pods count with the next reconciliation; creating beside them would make too many.
            writes += [creation(new_pod(kinds.REPLICA_SET, replica_set, replica_set["spec"]["template"]))] * min(
                max(0, wanted - len(active) - len(writes)), _BURST
            )
        elif len(active) > wanted:
            victims = sorted(active, key=_deletion_rank)[: min(len(active) - wanted, _BURST)]
            for pod in victims:
                message = f"Deleted pod: {pod['metadata']['name']}"
                writes += [Delete(kinds.POD, pod), _event(replica_set, "SuccessfulDelete", message)]
        writes += let_go
    return writes + _status_writes(replica_set, active, now)


def created(state: State, key: Name, pod: Object) -> list[Write]:
    """What to record once a pod exists and has its name."""
    replica_set = state.get(kinds.REPLICA_SET, *key)
    if replica_set is None:
        return []
    return [_event(replica_set, "SuccessfulCreate", f"Created pod: {pod['metadata']['name']}")]


def failed(state: State, key: Name, error: ApiError, now: datetime) -> list[Write]:
    """What users see when a pod could not be created: an event, and a condition that the Deployment takes over."""
    replica_set = state.get(kinds.REPLICA_SET, *key)
    if replica_set is None or is_terminating(replica_set):
        return []
    message = f"Error creating: {error.message}"
    status = dict(replica_set.get("status") or {"replicas": 0})
    condition = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": error.message}
    status["conditions"] = with_condition(status.get("conditions") or [], condition, now)
    writes: list[Write] = [Record(kinds.REPLICA_SET, replica_set, "FailedCreate", message, _COMPONENT, "Warning")]
    if status != replica_set.get("status"):
        writes.append(Update(kinds.REPLICA_SET, {**replica_set, "status": status}, "status"))
    return writes


def _event(replica_set: Object, reason: str, message: str) -> Record:
    return Record(kinds.REPLICA_SET, replica_set, reason, message, _COMPONENT)


def _deletion_rank(pod: Object) -> tuple[Any, ...]:
    """Who goes first: without node, pending, not ready, cheap by annotation, most restarted, youngest."""
    status = pod.get("status") or {}
    phases = {"Pending": 0, "Unknown": 1, "Running": 2}
    cost = (pod["metadata"].get("annotations") or {}).get("controller.kubernetes.io/pod-deletion-cost", "0")
    restarts = sum(c.get("restartCount", 0) for c in status.get("containerStatuses") or ())
    created_at = datetime.fromisoformat(pod["metadata"]["creationTimestamp"]).timestamp()
    return (
        bool((pod.get("spec") or {}).get("nodeName")),
        phases.get(status.get("phase", ""), 0),
        pods.is_ready(pod),
        int(cost) if cost.lstrip("-").isdigit() else 0,
        -restarts,
        -created_at,
        pod["metadata"]["name"],
    )


def _status_writes(replica_set: Object, active: list[Object], now: datetime) -> list[Write]:
    spec, before = replica_set["spec"], replica_set.get("status") or {}
    minimum = spec.get("minReadySeconds") or 0
    waits = [pods.available_in(pod, minimum, now) for pod in active]
    template_labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}
    conditions = before.get("conditions") or []
    if len(active) >= spec.get("replicas", 1):
        conditions = without(conditions, "ReplicaFailure")
    status: Object = {
        "replicas": len(active),
        "fullyLabeledReplicas": sum(
            template_labels.items() <= (pod["metadata"].get("labels") or {}).items() for pod in active
        ),
        "readyReplicas": sum(wait is not None for wait in waits),
        "availableReplicas": sum(wait == 0 for wait in waits),
        "observedGeneration": replica_set["metadata"].get("generation", 0),
    }
    # Zeroes are left out, as Kubernetes' `omitempty` does; `replicas` alone is always there.
    status = {name: count for name, count in status.items() if count or name == "replicas"}
    if conditions:
        status["conditions"] = conditions
    writes: list[Write] = []
    if status != before:
        writes.append(Update(kinds.REPLICA_SET, {**replica_set, "status": status}, "status"))
    later = [wait for wait in waits if wait]
    return [*writes, Again(min(later))] if later else writes

"""A Deployment's status: counts, and the conditions Available, Progressing and ReplicaFailure."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from localcluster.apiserver import kinds
from localcluster.controllers import rollout
from localcluster.controllers.conditions import find, timestamp, with_condition, without
from localcluster.controllers.writes import Again, Update, Write

Object = dict[str, Any]

_TIMED_OUT = "ProgressDeadlineExceeded"
_NEW_AVAILABLE = "NewReplicaSetAvailable"
# Kubernetes' "no deadline": the largest int32.
_NO_DEADLINE = 2147483647


def status_writes(deployment: Object, current: Object | None, owned: list[Object], now: datetime) -> list[Write]:
    """The write of the status, if it changes; and when to look at the progress deadline again."""
    before: Object = deployment.get("status") or {}
    counts = _counts(deployment, current, owned)
    complete = rollout.is_complete({**deployment, "status": counts})
    conditions = _available(deployment, counts, before.get("conditions") or [], now)
    conditions = _replica_failure(current, conditions, now)
    conditions = _progressing(deployment, current, counts, conditions, now, complete=complete)
    status: Object = {name: value for name, value in counts.items() if value}
    if before.get("collisionCount"):
        status["collisionCount"] = before["collisionCount"]
    status["conditions"] = conditions
    writes: list[Write] = []
    if status != before:
        writes.append(Update(kinds.DEPLOYMENT, {**deployment, "status": status}, "status"))
    left = _seconds_to_deadline(deployment, conditions, now)
    if left is not None and not complete:
        writes.append(Again(left))
    return writes


def _counts(deployment: Object, current: Object | None, owned: list[Object]) -> dict[str, int]:
    def total(name: str, items: list[Object]) -> int:
        return sum(int((item.get("status") or {}).get(name) or 0) for item in items)

    available = total("availableReplicas", owned)
    wanted_now = sum(int(item["spec"].get("replicas", 1)) for item in owned)
    return {
        "observedGeneration": int(deployment["metadata"].get("generation", 0)),
        "replicas": total("replicas", owned),
        "updatedReplicas": total("replicas", [current] if current else []),
        "readyReplicas": total("readyReplicas", owned),
        "availableReplicas": available,
        "unavailableReplicas": max(0, wanted_now - available),
    }


def _available(deployment: Object, counts: dict[str, int], conditions: list[Object], now: datetime) -> list[Object]:
    minimum = deployment["spec"].get("replicas", 1) - rollout.limits(deployment).unavailable
    has_minimum = counts["availableReplicas"] >= minimum
    condition = {
        "type": "Available",
        "status": "True" if has_minimum else "False",
        "reason": "MinimumReplicasAvailable" if has_minimum else "MinimumReplicasUnavailable",
        "message": (
            "Deployment has minimum availability." if has_minimum else "Deployment does not have minimum availability."
        ),
    }
    return with_condition(conditions, condition, now, updates=True)


def _replica_failure(current: Object | None, conditions: list[Object], now: datetime) -> list[Object]:
    failure = find((current.get("status") or {}).get("conditions"), "ReplicaFailure") if current else None
    if failure is None:
        return without(conditions, "ReplicaFailure")
    condition = {name: failure.get(name, "") for name in ("type", "status", "reason", "message")}
    return with_condition(conditions, condition, now, updates=True)


def _progressing(
    deployment: Object,
    current: Object | None,
    counts: dict[str, int],
    conditions: list[Object],
    now: datetime,
    *,
    complete: bool,
) -> list[Object]:
    if deployment["spec"].get("progressDeadlineSeconds") in (None, _NO_DEADLINE):
        return without(conditions, "Progressing")
    name = deployment["metadata"]["name"]
    former = find(conditions, "Progressing")
    if deployment["spec"].get("paused"):
        return with_condition(
            conditions, _condition("Unknown", "DeploymentPaused", "Deployment is paused"), now, updates=True
        )
    if current is None:
        message = f'Created new replica set for "{name}"' if former is None else f'Deployment "{name}" is progressing.'
        reason = "NewReplicaSetCreated" if former is None else "ReplicaSetUpdated"
        return with_condition(conditions, _condition("True", reason, message), now, updates=True)
    subject = f'ReplicaSet "{current["metadata"]["name"]}"'
    if complete:
        text = f"{subject} has successfully progressed."
        return with_condition(conditions, _condition("True", _NEW_AVAILABLE, text), now, updates=True)
    if former is not None and former.get("reason") == _NEW_AVAILABLE and _same_template(deployment, counts):
        # A finished roll-out that loses a pod has not begun again: only `Available` tells of it.
        return conditions
    if _has_moved(deployment, counts) or former is None:
        fresh = _condition("True", "ReplicaSetUpdated", f"{subject} is progressing.")
        # Progress starts the deadline anew even where the words stay the same.
        return _touched(with_condition(conditions, fresh, now, updates=True), now)
    left = _seconds_to_deadline(deployment, conditions, now)
    if left is not None and left <= 0:
        text = f"{subject} has timed out progressing."
        return with_condition(conditions, _condition("False", _TIMED_OUT, text), now, updates=True)
    return conditions


def _touched(conditions: list[Object], now: datetime) -> list[Object]:
    return [
        {**item, "lastUpdateTime": timestamp(now)} if item["type"] == "Progressing" else item for item in conditions
    ]


def _condition(status: str, reason: str, message: str) -> Object:
    return {"type": "Progressing", "status": status, "reason": reason, "message": message}


def _same_template(deployment: Object, counts: dict[str, int]) -> bool:
    before = deployment.get("status") or {}
    return bool(before.get("observedGeneration", 0) == counts["observedGeneration"])


def _has_moved(deployment: Object, counts: dict[str, int]) -> bool:
    """Whether any count came closer to the goal since the last status."""
    before: Object = deployment.get("status") or {}
    return bool(
        counts["updatedReplicas"] > (before.get("updatedReplicas") or 0)
        or counts["readyReplicas"] > (before.get("readyReplicas") or 0)
        or counts["availableReplicas"] > (before.get("availableReplicas") or 0)
        or counts["replicas"] - counts["updatedReplicas"]
        < (before.get("replicas") or 0) - (before.get("updatedReplicas") or 0)
        or counts["observedGeneration"] > (before.get("observedGeneration") or 0)
    )


def _seconds_to_deadline(deployment: Object, conditions: list[Object], now: datetime) -> float | None:
    """Seconds left to show progress; None if there is no deadline, or nothing to wait for."""
    seconds = deployment["spec"].get("progressDeadlineSeconds")
    condition = find(conditions, "Progressing")
    if seconds in (None, _NO_DEADLINE) or deployment["spec"].get("paused") or condition is None:
        return None
    if condition.get("reason") in (_TIMED_OUT, _NEW_AVAILABLE):
        return None
    since = condition.get("lastUpdateTime") or condition.get("lastTransitionTime")
    if not since:
        return None
    return (datetime.fromisoformat(since) + timedelta(seconds=seconds) - now).total_seconds()

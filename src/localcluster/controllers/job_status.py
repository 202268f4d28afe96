"""A Job's status: its counts, and whether and when it is over."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from localcluster.controllers import indexes, pods
from localcluster.controllers.conditions import find
from localcluster.controllers.job_pods import Attempts, is_indexed

Object = dict[str, Any]

_FINAL = ("Complete", "Failed")


def counts(job: Object, known: Attempts) -> Object:
    """The counters; None where a field is to be left out."""
    uncounted = {"succeeded": [*known.uncounted_succeeded], "failed": [*known.uncounted_failed]}
    shown: Object = {
        "active": len(known.active),
        "ready": sum(pods.is_ready(pod) for pod in known.active),
        "terminating": len(known.terminating),
        "succeeded": known.counters[0],
        "failed": known.counters[1],
        # An empty object, as in Kubernetes, says that ends are tracked.
        "uncountedTerminatedPods": {name: uids for name, uids in uncounted.items() if uids},
    }
    if is_indexed(job):
        shown["completedIndexes"] = indexes.written(known.completed) or None
    return shown


def is_finished(job: Object) -> bool:
    """Whether it is complete or has failed for good."""
    conditions = (job.get("status") or {}).get("conditions")
    return any((find(conditions, kind) or {}).get("status") == "True" for kind in _FINAL)


def has_succeeded(job: Object) -> bool:
    """Whether it is complete."""
    return (find((job.get("status") or {}).get("conditions"), "Complete") or {}).get("status") == "True"


def finished_at(job: Object) -> datetime | None:
    """When it was over."""
    conditions = (job.get("status") or {}).get("conditions")
    for kind in _FINAL:
        condition = find(conditions, kind)
        if condition is not None and condition.get("status") == "True":
            return datetime.fromisoformat(condition["lastTransitionTime"])
    return None

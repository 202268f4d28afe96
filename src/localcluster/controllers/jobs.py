"""Jobs: pods that run to their end, as many as asked for, again if they fail, until it is enough.

Every pod carries a finalizer until its end is counted in the status, so that nobody can take an end away uncounted.
Source: kube-controller-manager's job controller.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from localcluster.apiserver import kinds
from localcluster.apiserver.errors import ApiError
from localcluster.apiserver.kinds import KindInfo
from localcluster.controllers import job_pods, job_status, pods
from localcluster.controllers.conditions import find, timestamp, with_condition
from localcluster.controllers.job_pods import Attempts
from localcluster.controllers.state import Name, State, controller_of, is_terminating, name_of
from localcluster.controllers.templates import creation
from localcluster.controllers.writes import Again, Delete, Patch, Record, Update, Write

Object = dict[str, Any]

_COMPONENT = "job-controller"
_FIRST_BACKOFF_SECONDS = 10.0
_LONGEST_BACKOFF_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class _Verdict:
    """Why a Job is over: the type, reason and message of its condition."""

    type: str
    reason: str
    message: str


def keys(state: State, kind: KindInfo, old: Object | None, new: Object | None) -> Iterable[Name]:
    """The Jobs that a change concerns."""
    if kind is kinds.JOB:
        yield name_of(new or old or {})
    elif kind is kinds.POD:
        for pod in (old, new):
            owner = controller_of(pod) if pod else None
            if pod and owner and owner["kind"] == kinds.JOB.kind:
                yield pod["metadata"]["namespace"], owner["name"]


def reconcile(state: State, key: Name, now: datetime) -> list[Write]:
    """The next step of the Job called `key`: count what ended, decide, and start what is missing."""
    job = state.get(kinds.JOB, *key)
    writes: list[Write] = [*_let_go_of_orphans(state, key, job)]
    if job is None or is_terminating(job) or job["spec"].get("managedBy"):
        return writes
    before: Object = job.get("status") or {}
    if job_status.is_finished(job):
        return writes + _after_the_end(job, now)
    attempts = job_pods.attempts(job, state.controlled(kinds.POD, job))
    status: Object = {**before, **job_status.counts(job, attempts)}
    suspended = bool(job["spec"].get("suspend"))
    conditions = before.get("conditions") or []
    verdict = _standing(conditions) or _verdict(job, attempts, now)
    if suspended and verdict is None:
        status.pop("startTime", None)
        condition = {"type": "Suspended", "status": "True", "reason": "JobSuspended", "message": "Job suspended"}
        conditions = with_condition(conditions, condition, now)
        writes += _told_once(job, "Suspended", "Job suspended", find(before.get("conditions"), "Suspended"), "True")
        removed = [*attempts.active]
    else:
        status.setdefault("startTime", timestamp(now))
        if find(conditions, "Suspended"):
            condition = {"type": "Suspended", "status": "False", "reason": "JobResumed", "message": "Job resumed"}
            conditions = with_condition(conditions, condition, now)
            writes += _told_once(job, "Resumed", "Job resumed", find(before.get("conditions"), "Suspended"), "False")
        removed = [*attempts.active] if verdict else job_pods.surplus(job, attempts)
    if verdict is not None:
        conditions, ending = _ending(job, attempts, verdict, conditions, now)
        writes += ending
        if find(conditions, "Complete") is not None:
            status["completionTime"] = timestamp(now)
    status["conditions"] = conditions
    status = {
        name: value for name, value in status.items() if value not in (None, [], 0) or name in ("ready", "terminating")
    }
    if status != before:
        writes.append(Update(kinds.JOB, {**job, "status": status}, "status"))
    # What is in the status is counted for good: only then may the pods go.
    writes += [_without_finalizer(pod) for pod in attempts.counted_with_finalizer]
    writes += [write for pod in removed for write in _deleted(job, pod)]
    if verdict is None and not suspended:
        writes += _starts(job, attempts, now)
        writes += _deadline(job, status, now)
    return writes


def created(state: State, key: Name, pod: Object) -> list[Write]:
    """What to record once a pod exists and has its name."""
    job = state.get(kinds.JOB, *key)
    if job is None:
        return []
    return [Record(kinds.JOB, job, "SuccessfulCreate", f"Created pod: {pod['metadata']['name']}", _COMPONENT)]


def failed(state: State, key: Name, error: ApiError, now: datetime) -> list[Write]:
    """What users see when a pod was refused."""
    job = state.get(kinds.JOB, *key)
    if job is None:
        return []
    return [Record(kinds.JOB, job, "FailedCreate", f"Error creating: {error.message}", _COMPONENT, "Warning")]


def _let_go_of_orphans(state: State, key: Name, job: Object | None) -> list[Write]:
    """Pods whose Job is gone or over have nobody left to be counted by."""
    over = job is None or is_terminating(job) or job_status.is_finished(job)
    if not over:
        return []
    return [
        _without_finalizer(pod)
        for pod in state.all_of(kinds.POD, key[0])
        if job_pods.FINALIZER in (pod["metadata"].get("finalizers") or ())
        and (owner := controller_of(pod)) is not None
        and (owner["kind"], owner["name"]) == (kinds.JOB.kind, key[1])
        and (pods.is_finished(pod) or is_terminating(pod) or job is None or owner["uid"] != job["metadata"]["uid"])
    ]


def _without_finalizer(pod: Object) -> Write:
    about = pod["metadata"]
    left = [item for item in about.get("finalizers") or () if item != job_pods.FINALIZER]
    return Patch(kinds.POD, about["namespace"], about["name"], {"metadata": {"finalizers": left or None}})


def _after_the_end(job: Object, now: datetime) -> list[Write]:
    """With ttlSecondsAfterFinished, the Job goes when that time has passed."""
    seconds = job["spec"].get("ttlSecondsAfterFinished")
    ended = job_status.finished_at(job)
    if seconds is None or ended is None:
        return []
    left = (ended + timedelta(seconds=seconds) - now).total_seconds()
    return [Again(left)] if left > 0 else [Delete(kinds.JOB, job, "Foreground")]


def _verdict(job: Object, attempts: Attempts, now: datetime) -> _Verdict | None:
    spec = job["spec"]
    if rule := job_pods.failing_rule(job, attempts):
        return _Verdict("Failed", "PodFailurePolicy", rule)
    if job_pods.is_past_backoff_limit(job, attempts):
        return _Verdict("Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit")
    deadline, began = spec.get("activeDeadlineSeconds"), (job.get("status") or {}).get("startTime")
    is_timed = deadline is not None and not spec.get("suspend")
    if is_timed and began and now >= datetime.fromisoformat(began) + timedelta(seconds=deadline):
        return _Verdict("Failed", "DeadlineExceeded", "Job was active longer than specified deadline")
    if job_pods.is_complete(job, attempts):
        return _Verdict("Complete", "CompletionsReached", "Reached expected number of succeeded pods")
    return None


def _standing(conditions: list[Object]) -> _Verdict | None:
    """The verdict that an earlier round has passed, while its pods still end."""
    for announced, final in (("FailureTarget", "Failed"), ("SuccessCriteriaMet", "Complete")):
        condition = find(conditions, announced)
        if condition is not None and condition.get("status") == "True":
            return _Verdict(final, condition.get("reason", ""), condition.get("message", ""))
    return None


def _ending(
    job: Object, attempts: Attempts, verdict: _Verdict, conditions: list[Object], now: datetime
) -> tuple[list[Object], list[Write]]:
    """First it is said what will become of the Job; that it is so, when its last pod has ended and is counted."""
    announced = "FailureTarget" if verdict.type == "Failed" else "SuccessCriteriaMet"

    def condition(kind: str) -> Object:
        return {"type": kind, "status": "True", "reason": verdict.reason, "message": verdict.message}

    conditions = with_condition(conditions, condition(announced), now)
    if attempts.active or attempts.terminating or attempts.uncounted:
        return conditions, []
    conditions = with_condition(conditions, condition(verdict.type), now)
    if verdict.type == "Failed":
        told = Record(kinds.JOB, job, verdict.reason, verdict.message, _COMPONENT, "Warning")
    else:
        told = Record(kinds.JOB, job, "Completed", "Job completed", _COMPONENT)
    return conditions, [told]


def _starts(job: Object, attempts: Attempts, now: datetime) -> list[Write]:
    """The pods that are missing now; after failures they wait, longer each time."""
    missing = job_pods.missing(job, attempts)
    if not missing:
        return []
    if attempts.recent_failures and attempts.last_failure is not None:
        delay = min(_FIRST_BACKOFF_SECONDS * 2.0 ** min(attempts.recent_failures - 1, 20), _LONGEST_BACKOFF_SECONDS)
        left = (attempts.last_failure + timedelta(seconds=delay) - now).total_seconds()
        if left > 0:
            return [Again(left)]
    return [creation(pod) for pod in missing]


def _deadline(job: Object, status: Object, now: datetime) -> list[Write]:
    seconds = job["spec"].get("activeDeadlineSeconds")
    if seconds is None:
        return []
    end = datetime.fromisoformat(status["startTime"]) + timedelta(seconds=seconds)
    return [Again((end - now).total_seconds())]


def _deleted(job: Object, pod: Object) -> list[Write]:
    message = f"Deleted pod: {pod['metadata']['name']}"
    return [Delete(kinds.POD, pod), Record(kinds.JOB, job, "SuccessfulDelete", message, _COMPONENT)]


def _told_once(job: Object, reason: str, message: str, former: Object | None, value: str) -> list[Write]:
    if former is not None and former.get("status") == value:
        return []
    return [Record(kinds.JOB, job, reason, message, _COMPONENT)]

"""CronJobs: a Job at every moment of a schedule, and not too many of the old ones.

Source: kube-controller-manager's cron job controller (cronjob_controllerv2.go).
"""

from __future__ import annotations

import zoneinfo
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

from localcluster import schedules
from localcluster.apiserver import kinds
from localcluster.apiserver.documents import copied
from localcluster.apiserver.errors import ApiError
from localcluster.apiserver.kinds import KindInfo
from localcluster.controllers import job_status
from localcluster.controllers.conditions import timestamp
from localcluster.controllers.state import Name, State, controller_of, is_terminating, name_of, owner_reference
from localcluster.controllers.writes import Again, Create, Delete, Record, Update, Write
from localcluster.schedules import Interval, Schedule

Object = dict[str, Any]

SCHEDULED_AT = "batch.kubernetes.io/cronjob-scheduled-timestamp"
_COMPONENT = "cronjob-controller"
_MANY_MISSED = 100


def keys(state: State, kind: KindInfo, old: Object | None, new: Object | None) -> Iterable[Name]:
    """The CronJobs that a change concerns."""
    if kind is kinds.CRON_JOB:
        yield name_of(new or old or {})
    elif kind is kinds.JOB:
        for job in (old, new):
            owner = controller_of(job) if job else None
            if job and owner and owner["kind"] == kinds.CRON_JOB.kind:
                yield job["metadata"]["namespace"], owner["name"]


def reconcile(state: State, key: Name, now: datetime) -> list[Write]:
    """Start the Job that is due, forget old ones, and come back when the next one is."""
    cron_job = state.get(kinds.CRON_JOB, *key)
    if cron_job is None or is_terminating(cron_job):
        return []
    jobs = sorted(state.controlled(kinds.JOB, cron_job), key=_age)
    running = [job for job in jobs if not job_status.is_finished(job)]
    status: Object = dict(cron_job.get("status") or {})
    writes: list[Write] = [*_history(cron_job, jobs), *_told_ends(cron_job, jobs)]
    succeeded = [_ended(job) for job in jobs if job_status.has_succeeded(job)]
    if succeeded:
        status["lastSuccessfulTime"] = max(filter(None, [*succeeded, status.get("lastSuccessfulTime", "")]))
    started: list[Write] = []
    again: list[Write] = []
    try:
        plan, zone = schedules.parse(cron_job["spec"]["schedule"]), _zone(cron_job)
    except (schedules.ScheduleError, zoneinfo.ZoneInfoNotFoundError, ValueError) as error:
        message = f"unparseable schedule: {cron_job['spec']['schedule']!r} : {error}"
        writes.append(Record(kinds.CRON_JOB, cron_job, "UnparseableSchedule", message, _COMPONENT, "Warning"))
    else:
        if not cron_job["spec"].get("suspend"):
            started, again = _due(cron_job, plan, zone, running, status, now)
    status["active"] = [_reference(job) for job in running]
    status = {name: value for name, value in status.items() if value}
    writes += started
    if status != (cron_job.get("status") or {}):
        writes.append(Update(kinds.CRON_JOB, {**cron_job, "status": status}, "status"))
    return writes + again


def created(state: State, key: Name, job: Object) -> list[Write]:
    """What to record once a Job exists."""
    cron_job = state.get(kinds.CRON_JOB, *key)
    if cron_job is None:
        return []
    message = f"Created job {job['metadata']['name']}"
    return [Record(kinds.CRON_JOB, cron_job, "SuccessfulCreate", message, _COMPONENT)]


def failed(state: State, key: Name, error: ApiError, now: datetime) -> list[Write]:
    """What users see when a Job was refused."""
    cron_job = state.get(kinds.CRON_JOB, *key)
    if cron_job is None:
        return []
    message = f"Error creating job: {error.message}"
    return [Record(kinds.CRON_JOB, cron_job, "FailedCreate", message, _COMPONENT, "Warning")]


def _due(
    cron_job: Object,
    plan: Schedule | Interval,
    zone: tzinfo,
    running: list[Object],
    status: Object,
    now: datetime,
) -> tuple[list[Write], list[Write]]:
    """The Job of the latest moment that has passed, unless it is too late or another one runs; and when to return.

    `status.lastScheduleTime` is set to that moment.
    """
    writes: list[Write] = []
    since = datetime.fromisoformat(status.get("lastScheduleTime") or cron_job["metadata"]["creationTimestamp"])
    deadline = cron_job["spec"].get("startingDeadlineSeconds")
    if deadline is not None:
        since = max(since, now - timedelta(seconds=deadline))
    moment, missed = None, 0
    following = plan.after(since, zone)
    while following is not None and following <= now:
        moment, missed = following, missed + 1
        if missed > _MANY_MISSED:
            # What nobody needs one by one is not counted one by one: go on near the present.
            following = plan.after(max(following, now - timedelta(hours=1)), zone)
        else:
            following = plan.after(following, zone)
    again: list[Write] = [] if following is None else [Again((following - now).total_seconds())]
    if moment is None:
        return [], again
    if missed > _MANY_MISSED:
        message = (
            f"too many missed start times: {missed}. Set or decrease .spec.startingDeadlineSeconds or check clock skew"
        )
        writes.append(Record(kinds.CRON_JOB, cron_job, "TooManyMissedTimes", message, _COMPONENT, "Warning"))
    policy = cron_job["spec"].get("concurrencyPolicy", "Allow")
    if policy == "Forbid" and running:
        # Its turn comes, if it is not too late by then, when the one that runs has ended.
        message = "Not starting job because prior execution is running and concurrency policy is Forbid"
        return [*writes, Record(kinds.CRON_JOB, cron_job, "JobAlreadyActive", message, _COMPONENT)], again
    if policy == "Replace":
        writes += [Delete(kinds.JOB, job) for job in running if not is_terminating(job)]
    status["lastScheduleTime"] = timestamp(moment)
    return [*writes, Create(kinds.JOB, _job(cron_job, moment))], again


def _job(cron_job: Object, moment: datetime) -> Object:
    """The Job of one moment: its name follows from the moment, so that it can't be made twice."""
    about, template = cron_job["metadata"], copied(cron_job["spec"]["jobTemplate"])
    metadata = template.get("metadata") or {}
    zone = cron_job["spec"].get("timeZone")
    shown = moment.astimezone(zoneinfo.ZoneInfo(zone)).isoformat() if zone else timestamp(moment)
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": f"{about['name']}-{int(moment.timestamp()) // 60}",
            "namespace": about["namespace"],
            **({"labels": metadata["labels"]} if metadata.get("labels") else {}),
            "annotations": {**(metadata.get("annotations") or {}), SCHEDULED_AT: shown},
            "ownerReferences": [owner_reference(kinds.CRON_JOB, cron_job)],
        },
        "spec": template["spec"],
    }


def _history(cron_job: Object, jobs: list[Object]) -> list[Write]:
    """The deletions of finished Jobs beyond both history limits, the oldest first."""
    spec = cron_job["spec"]
    finished = [job for job in jobs if job_status.is_finished(job) and not is_terminating(job)]
    writes: list[Write] = []
    for well, limit in (
        (True, spec.get("successfulJobsHistoryLimit", 3)),
        (False, spec.get("failedJobsHistoryLimit", 1)),
    ):
        group = [job for job in finished if job_status.has_succeeded(job) is well]
        for job in group[: max(0, len(group) - limit)]:
            message = f"Deleted job {job['metadata']['name']}"
            writes += [
                Delete(kinds.JOB, job),
                Record(kinds.CRON_JOB, cron_job, "SuccessfulDelete", message, _COMPONENT),
            ]
    return writes


def _told_ends(cron_job: Object, jobs: list[Object]) -> list[Write]:
    """An event for each Job that the status still calls active and that is over."""
    active = {reference.get("uid") for reference in (cron_job.get("status") or {}).get("active") or ()}
    writes: list[Write] = []
    for job in jobs:
        if job["metadata"]["uid"] in active and job_status.is_finished(job):
            result = "Complete" if job_status.has_succeeded(job) else "Failed"
            message = f"Saw completed job: {job['metadata']['name']}, condition: {result}"
            writes.append(Record(kinds.CRON_JOB, cron_job, "SawCompletedJob", message, _COMPONENT))
    return writes


def _zone(cron_job: Object) -> tzinfo:
    name = cron_job["spec"].get("timeZone")
    return zoneinfo.ZoneInfo(name) if name else UTC


def _reference(job: Object) -> Object:
    about = job["metadata"]
    return {
        "kind": "Job",
        "namespace": about["namespace"],
        "name": about["name"],
        "uid": about["uid"],
        "apiVersion": "batch/v1",
        "resourceVersion": about["resourceVersion"],
    }


def _ended(job: Object) -> str:
    return str((job.get("status") or {}).get("completionTime") or "")


def _age(job: Object) -> tuple[str, str]:
    return job["metadata"]["creationTimestamp"], job["metadata"]["name"]

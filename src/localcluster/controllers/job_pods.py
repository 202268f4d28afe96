"""The pods of a Job: which have ended, which are counted, which are missing or too many."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from localcluster.apiserver import kinds
from localcluster.controllers import indexes, pods
from localcluster.controllers.state import is_terminating
from localcluster.controllers.templates import new_pod

Object = dict[str, Any]

FINALIZER = "batch.kubernetes.io/job-tracking"
INDEX = "batch.kubernetes.io/job-completion-index"
# A bug or a broken webhook must not flood the API: at most so many pods in one go.
_BURST = 500


@dataclass(frozen=True, slots=True)
class Attempts:
    """What is known of a Job's pods.

    `succeeded` and `failed` count every end, also of pods that are gone. `uncounted` are uids (succeeded, failed)
    that the status names as ended but does not have in its counters yet. `completed` are the indexes that are done.
    `recent_failures` counts failures since the last success.
    """

    active: tuple[Object, ...]
    terminating: tuple[Object, ...]
    counters: tuple[int, int]
    uncounted_succeeded: tuple[str, ...]
    uncounted_failed: tuple[str, ...]
    counted_with_finalizer: tuple[Object, ...]
    completed: frozenset[int]
    recent_failures: int
    last_failure: datetime | None
    failures: tuple[Object, ...]

    @property
    def uncounted(self) -> bool:
        """Whether ends wait to be added to the counters."""
        return bool(self.uncounted_succeeded or self.uncounted_failed)

    @property
    def succeeded(self) -> int:
        """Pods that ended well."""
        return self.counters[0] + len(self.uncounted_succeeded)

    @property
    def failed(self) -> int:
        """Pods that failed."""
        return self.counters[1] + len(self.uncounted_failed)


def attempts(job: Object, owned: list[Object]) -> Attempts:
    """Sort the Job's pods, and move what the last status announced into the counters."""
    status: Object = job.get("status") or {}
    announced = status.get("uncountedTerminatedPods") or {}
    tracked = {pod["metadata"]["uid"] for pod in owned if FINALIZER in (pod["metadata"].get("finalizers") or ())}
    lists: dict[str, list[str]] = {}
    counters: list[int] = []
    for name in ("succeeded", "failed"):
        held = announced.get(name) or []
        lists[name] = [uid for uid in held if uid in tracked]
        counters.append(int(status.get(name) or 0) + len(held) - len(lists[name]))
    known = {*lists["succeeded"], *lists["failed"]}
    completed = set(indexes.parsed(status.get("completedIndexes") or ""))
    failures: list[Object] = []
    for pod in owned:
        uid = pod["metadata"]["uid"]
        well = (pod.get("status") or {}).get("phase") == "Succeeded"
        if not (pods.is_finished(pod) or is_terminating(pod)):
            continue
        if not well:
            failures.append(pod)
        if uid in tracked and uid not in known and not (not well and _is_ignored(job, pod)):
            lists["succeeded" if well else "failed"].append(uid)
        if well and is_indexed(job) and (index := _index(pod)) is not None:
            completed.add(index)
    ended = {pod["metadata"]["uid"]: pod for pod in owned if pods.is_finished(pod) or is_terminating(pod)}
    last_success = max((_ended_at(pod) for pod in owned if pod not in failures and pods.is_finished(pod)), default=None)
    recent = [pod for pod in failures if last_success is None or _ended_at(pod) > last_success]
    return Attempts(
        active=tuple(pod for pod in owned if pods.is_active(pod)),
        terminating=tuple(pod for pod in owned if is_terminating(pod) and not pods.is_finished(pod)),
        counters=(counters[0], counters[1]),
        uncounted_succeeded=tuple(lists["succeeded"]),
        uncounted_failed=tuple(lists["failed"]),
        counted_with_finalizer=tuple(ended[uid] for uid in ended if uid in tracked),
        completed=frozenset(completed),
        recent_failures=len(recent),
        last_failure=max(map(_ended_at, recent), default=None),
        failures=tuple(failures),
    )


def is_indexed(job: Object) -> bool:
    """Whether each completion has a number of its own."""
    return bool(job["spec"].get("completionMode") == "Indexed")


def is_complete(job: Object, known: Attempts) -> bool:
    """Whether enough pods have succeeded; without `completions`, one has and no other one runs."""
    completions = job["spec"].get("completions")
    if completions is None:
        return bool(known.succeeded and not known.active)
    if is_indexed(job):
        return len([index for index in known.completed if index < completions]) >= int(completions)
    return known.succeeded >= int(completions)


def is_past_backoff_limit(job: Object, known: Attempts) -> bool:
    """Whether too many pods have failed, or, with restartPolicy OnFailure, containers were restarted too often."""
    limit = int(job["spec"].get("backoffLimit", 6))
    if known.failed > limit:
        return True
    if job["spec"]["template"]["spec"].get("restartPolicy") != "OnFailure":
        return False
    restarts = sum(
        container.get("restartCount", 0)
        for pod in known.active
        for group in ("initContainerStatuses", "containerStatuses")
        for container in (pod.get("status") or {}).get(group) or ()
    )
    return bool(restarts > 0 if limit == 0 else restarts >= limit)


def missing(job: Object, known: Attempts) -> list[Object]:
    """The pods to create now, as many as parallelism and the completions that are left allow."""
    spec = job["spec"]
    parallelism, completions = int(spec.get("parallelism", 1)), spec.get("completions")
    room = parallelism - len(known.active) - len(known.terminating)
    if completions is None:
        # A work queue: once a pod has succeeded, no new ones come.
        return [] if known.succeeded else [_pod(job, None)] * min(max(0, room), _BURST)
    if is_indexed(job):
        taken = {_index(pod) for pod in (*known.active, *known.terminating)} | known.completed
        free = [index for index in range(int(completions)) if index not in taken]
        return [_pod(job, index) for index in free[: min(max(0, room), _BURST)]]
    left = int(completions) - known.succeeded - len(known.active) - len(known.terminating)
    return [_pod(job, None)] * min(max(0, min(room, left)), _BURST)


def surplus(job: Object, known: Attempts) -> list[Object]:
    """The active pods beyond parallelism: not ready ones first, then the youngest."""
    room = int(job["spec"].get("parallelism", 1))
    completions = job["spec"].get("completions")
    if completions is not None and not is_indexed(job):
        room = min(room, max(0, int(completions) - known.succeeded))
    keep = sorted(known.active, key=lambda pod: (not pods.is_ready(pod), pod["metadata"]["creationTimestamp"]))
    return keep[room:]


def failing_rule(job: Object, known: Attempts) -> str:
    """What spec.podFailurePolicy says against going on, "" if nothing."""
    for pod in known.failures:
        if (found := _rule(job, pod)) is not None and found[1]["action"] == "FailJob":
            where = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
            return f"{found[2]} for pod {where} matching FailJob rule at index {found[0]}"
    return ""


def _is_ignored(job: Object, pod: Object) -> bool:
    found = _rule(job, pod)
    return found is not None and bool(found[1]["action"] == "Ignore")


def _rule(job: Object, pod: Object) -> tuple[int, Object, str] | None:
    """The first rule of the failure policy that fits a failed pod: its number, itself, and what fitted."""
    status = pod.get("status") or {}
    for number, rule in enumerate((job["spec"].get("podFailurePolicy") or {}).get("rules") or ()):
        if wanted := rule.get("onExitCodes"):
            for name, code in _exit_codes(status, wanted.get("containerName")):
                if code and (code in wanted["values"]) is (wanted["operator"] == "In"):
                    return number, rule, f"Container {name}"
        for pattern in rule.get("onPodConditions") or ():
            for condition in status.get("conditions") or ():
                if (condition["type"], condition["status"]) == (pattern["type"], pattern.get("status", "True")):
                    return number, rule, f"Condition {condition['type']}"
    return None


def _exit_codes(status: Object, container: str | None) -> Iterable[tuple[str, int]]:
    for group in ("initContainerStatuses", "containerStatuses"):
        for item in status.get(group) or ():
            ended = (item.get("state") or {}).get("terminated")
            if ended and container in (None, item["name"]):
                yield item["name"], int(ended.get("exitCode", 0))


def _pod(job: Object, index: int | None) -> Object:
    about, template = job["metadata"], job["spec"]["template"]
    if index is None:
        return new_pod(kinds.JOB, job, template, finalizers=(FINALIZER,))
    number = {INDEX: str(index)}
    pod = new_pod(kinds.JOB, job, template, labels=number, annotations=number, finalizers=(FINALIZER,))
    pod["metadata"]["generateName"] = f"{about['name']}-{index}-"
    pod["spec"]["hostname"] = f"{about['name']}-{index}"
    variable = {
        "name": "JOB_COMPLETION_INDEX",
        "valueFrom": {"fieldRef": {"fieldPath": f"metadata.annotations['{INDEX}']"}},
    }
    for group in ("initContainers", "containers"):
        for container in pod["spec"].get(group) or ():
            given = container.get("env") or []
            if all(item["name"] != variable["name"] for item in given):
                container["env"] = [*given, variable]
    return pod


def _index(pod: Object) -> int | None:
    text = (pod["metadata"].get("annotations") or {}).get(INDEX, "")
    return int(text) if text.isdigit() else None


def _ended_at(pod: Object) -> datetime:
    """When the last of its containers ended; when it was asked to end, or made, if none has run."""
    times = [
        ended["finishedAt"]
        for item in (pod.get("status") or {}).get("containerStatuses") or ()
        if (ended := (item.get("state") or {}).get("terminated")) and ended.get("finishedAt")
    ]
    about = pod["metadata"]
    return max(map(datetime.fromisoformat, times or [about.get("deletionTimestamp") or about["creationTimestamp"]]))

"""Tables of the kinds that run pods from a template."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from localcluster.apiserver.tables.cells import (
    AGE,
    NAME,
    NONE,
    Cell,
    Column,
    Printer,
    age,
    container_images,
    container_names,
    duration,
    labels,
    name_of,
    selector,
    since,
    wide,
)

Object = dict[str, Any]

_TEMPLATE_COLUMNS = (wide("Containers"), wide("Images"))
_SELECTOR = wide("Selector")


def _template(spec: Object) -> list[Cell]:
    pod = (spec.get("template") or {}).get("spec") or {}
    return [container_names(pod), container_images(pod)]


def _deployment(item: Object, now: datetime) -> list[Cell]:
    spec, status = item.get("spec") or {}, item.get("status") or {}
    return [
        name_of(item),
        f"{status.get('readyReplicas', 0)}/{spec.get('replicas', 1)}",
        status.get("updatedReplicas", 0),
        status.get("availableReplicas", 0),
        age(item, now),
        *_template(spec),
        selector(spec.get("selector")),
    ]


def _replica_set(item: Object, now: datetime) -> list[Cell]:
    spec, status = item.get("spec") or {}, item.get("status") or {}
    counts = [spec.get("replicas", 1), status.get("replicas", 0), status.get("readyReplicas", 0)]
    return [name_of(item), *counts, age(item, now), *_template(spec), selector(spec.get("selector"))]


def _replication_controller(item: Object, now: datetime) -> list[Cell]:
    spec = item.get("spec") or {}
    as_replica_set = {**item, "spec": {name: value for name, value in spec.items() if name != "selector"}}
    return [*_replica_set(as_replica_set, now)[:-1], labels(spec.get("selector"))]


def _daemon_set(item: Object, now: datetime) -> list[Cell]:
    spec, status = item.get("spec") or {}, item.get("status") or {}
    names = ("desiredNumberScheduled", "currentNumberScheduled", "numberReady", "updatedNumberScheduled",
             "numberAvailable")  # fmt: skip
    node_selector = labels(((spec.get("template") or {}).get("spec") or {}).get("nodeSelector"))
    counts: list[Cell] = [status.get(name, 0) for name in names]
    return [
        name_of(item),
        *counts,
        node_selector,
        age(item, now),
        *_template(spec),
        selector(spec.get("selector")),
    ]


def _stateful_set(item: Object, now: datetime) -> list[Cell]:
    spec, status = item.get("spec") or {}, item.get("status") or {}
    ready = f"{status.get('readyReplicas', 0)}/{spec.get('replicas', 1)}"
    return [name_of(item), ready, age(item, now), *_template(spec)]


def _job(item: Object, now: datetime) -> list[Cell]:
    spec, status = item.get("spec") or {}, item.get("status") or {}
    succeeded = status.get("succeeded", 0)
    if spec.get("completions") is not None:
        completions = f"{succeeded}/{spec['completions']}"
    else:
        parallelism = spec.get("parallelism", 1)
        completions = f"{succeeded}/1 of {parallelism}" if parallelism > 1 else f"{succeeded}/1"
    return [
        name_of(item),
        _job_status(item),
        completions,
        _job_duration(status, now),
        age(item, now),
        *_template(spec),
        selector(spec.get("selector")),
    ]


def _job_status(item: Object) -> str:
    conditions = {c.get("type"): c.get("status") for c in (item.get("status") or {}).get("conditions") or ()}
    for kind, word in (("Complete", "Complete"), ("Failed", "Failed")):
        if conditions.get(kind) == "True":
            return word
    if item["metadata"].get("deletionTimestamp"):
        return "Terminating"
    for kind, word in (("Suspended", "Suspended"), ("FailureTarget", "FailureTarget")):
        if conditions.get(kind) == "True":
            return word
    return "Running"


def _job_duration(status: Object, now: datetime) -> str:
    began, ended = status.get("startTime"), status.get("completionTime")
    if not began:
        return ""
    end = datetime.fromisoformat(ended) if ended else now
    return duration((end - datetime.fromisoformat(began)).total_seconds())


def _cron_job(item: Object, now: datetime) -> list[Cell]:
    spec, status = item.get("spec") or {}, item.get("status") or {}
    last = status.get("lastScheduleTime")
    job = (spec.get("jobTemplate") or {}).get("spec") or {}
    return [
        name_of(item),
        spec.get("schedule", ""),
        spec.get("timeZone") or NONE,
        "True" if spec.get("suspend") else "False",
        len(status.get("active") or ()),
        since(last, now) if last else NONE,
        age(item, now),
        *_template(job),
        selector(job.get("selector")),
    ]


def _controller_revision(item: Object, now: datetime) -> list[Cell]:
    owner = next((r for r in item["metadata"].get("ownerReferences") or () if r.get("controller")), None)
    group = owner["apiVersion"].rpartition("/")[0] if owner else ""
    kind = f"{owner['kind'].lower()}{'.' if group else ''}{group}" if owner else ""
    return [name_of(item), f"{kind}/{owner['name']}" if owner else NONE, item.get("revision", 0), age(item, now)]


DEPLOYMENTS = Printer(
    (
        NAME,
        Column("Ready", description="Ready pods of the pods asked for."),
        Column("Up-to-date", "integer"),
        Column("Available", "integer"),
        AGE,
        *_TEMPLATE_COLUMNS,
        _SELECTOR,
    ),
    _deployment,
)
REPLICA_SETS = Printer(
    (
        NAME,
        Column("Desired", "integer"),
        Column("Current", "integer"),
        Column("Ready", "integer"),
        AGE,
        *_TEMPLATE_COLUMNS,
        _SELECTOR,
    ),
    _replica_set,
)
REPLICATION_CONTROLLERS = Printer(REPLICA_SETS.columns, _replication_controller)
DAEMON_SETS = Printer(
    (
        NAME,
        *(Column(name, "integer") for name in ("Desired", "Current", "Ready", "Up-to-date", "Available")),
        Column("Node Selector"),
        AGE,
        *_TEMPLATE_COLUMNS,
        _SELECTOR,
    ),
    _daemon_set,
)
STATEFUL_SETS = Printer((NAME, Column("Ready"), AGE, *_TEMPLATE_COLUMNS), _stateful_set)
JOBS = Printer(
    (NAME, Column("Status"), Column("Completions"), Column("Duration"), AGE, *_TEMPLATE_COLUMNS, _SELECTOR), _job
)
CRON_JOBS = Printer(
    (
        NAME,
        Column("Schedule"),
        Column("Timezone"),
        Column("Suspend", "boolean"),
        Column("Active", "integer"),
        Column("Last Schedule"),
        AGE,
        *_TEMPLATE_COLUMNS,
        _SELECTOR,
    ),
    _cron_job,
)
CONTROLLER_REVISIONS = Printer((NAME, Column("Controller"), Column("Revision", "integer"), AGE), _controller_revision)

"""Events: how a record becomes an object, and when it goes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from localcluster.apiserver import kinds
from localcluster.apiserver.kinds import KindInfo
from localcluster.controllers.conditions import timestamp
from localcluster.controllers.state import Name, State, name_of
from localcluster.controllers.writes import Again, Delete, Record, Write

Object = dict[str, Any]

# As long as Kubernetes keeps them (kube-apiserver --event-ttl).
TIME_TO_LIVE = timedelta(hours=1)


def keys(state: State, kind: KindInfo, old: Object | None, new: Object | None) -> Iterable[Name]:
    """Every event, as long as it is there."""
    if kind is kinds.EVENT and new is not None:
        yield name_of(new)


def reconcile(state: State, key: Name, now: datetime) -> list[Write]:
    """Delete the event called `key` once it is an hour old."""
    event = state.get(kinds.EVENT, *key)
    if event is None:
        return []
    seen = event.get("lastTimestamp") or event.get("eventTime") or event["metadata"]["creationTimestamp"]
    left = (datetime.fromisoformat(seen) + TIME_TO_LIVE - now).total_seconds()
    return [Again(left)] if left > 0 else [Delete(kinds.EVENT, event)]


def event(record: Record, now: datetime) -> Object:
    """A new core/v1 Event; the same record again has the same name, so that its count can be raised instead."""
    about = record.object["metadata"]
    text = "\n".join((about.get("uid", ""), record.reason, record.message, record.component, record.type))
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    involved = {
        "kind": record.kind.kind,
        "apiVersion": record.kind.api_version,
        "name": about["name"],
        "namespace": about.get("namespace"),
        "uid": about.get("uid"),
        "resourceVersion": about.get("resourceVersion"),
    }
    return {
        "apiVersion": "v1",
        "kind": "Event",
        # Events of cluster-scoped objects live in `default`, as in Kubernetes.
        "metadata": {"name": f"{about['name']}.{digest}", "namespace": about.get("namespace") or "default"},
        "involvedObject": {name: value for name, value in involved.items() if value},
        "reason": record.reason,
        "message": record.message,
        "type": record.type,
        "source": {"component": record.component},
        "reportingComponent": record.component,
        "reportingInstance": "",
        "firstTimestamp": timestamp(now),
        "lastTimestamp": timestamp(now),
        "count": 1,
    }


def repeated(existing: Object, now: datetime) -> Object:
    """The merge patch that counts an event once more."""
    return {"count": (existing.get("count") or 1) + 1, "lastTimestamp": timestamp(now)}

"""Status conditions: setting one without touching the time of its last change when nothing changed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

Object = dict[str, Any]


def timestamp(moment: datetime) -> str:
    """RFC 3339 in UTC with whole seconds, as metav1.Time."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def find(conditions: list[Object] | None, kind: str) -> Object | None:
    """The condition of this type."""
    return next((condition for condition in conditions or () if condition.get("type") == kind), None)


def with_condition(
    conditions: list[Object], condition: Object, now: datetime, *, updates: bool = False
) -> list[Object]:
    """`conditions` with this one (type, status, reason, message) in the place of its former self.

    Status and reason as before: the former one stays, except its message when that differs. `lastTransitionTime` moves
    with the status only. `updates`: the kind also has `lastUpdateTime` (Deployment).
    """
    former = find(conditions, condition["type"])
    fresh = dict(condition)
    if former is not None and all(former.get(name) == condition.get(name) for name in ("status", "reason", "message")):
        return conditions
    since = former.get("lastTransitionTime") if former and former.get("status") == condition["status"] else None
    fresh["lastTransitionTime"] = since or timestamp(now)
    if updates:
        fresh["lastUpdateTime"] = timestamp(now)
    if former is None:
        return [*conditions, fresh]
    return [fresh if item is former else item for item in conditions]


def without(conditions: list[Object], kind: str) -> list[Object]:
    """`conditions` without this type."""
    return [condition for condition in conditions if condition.get("type") != kind]

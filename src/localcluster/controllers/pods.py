"""Questions about pods that several controllers ask."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from localcluster.controllers.conditions import find
from localcluster.controllers.state import is_terminating

Object = dict[str, Any]


def is_active(pod: Object) -> bool:
    """Whether it counts for its controller: neither at its end nor asked to end."""
    return not is_finished(pod) and not is_terminating(pod)


def is_finished(pod: Object) -> bool:
    """Whether all its containers have ended for good."""
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def is_ready(pod: Object) -> bool:
    """Whether its Ready condition is true."""
    condition = find((pod.get("status") or {}).get("conditions"), "Ready")
    return condition is not None and condition.get("status") == "True"


def available_in(pod: Object, min_ready_seconds: int, now: datetime) -> float | None:
    """Seconds until a ready pod counts as available (0: it does); None if it is not ready."""
    condition = find((pod.get("status") or {}).get("conditions"), "Ready")
    if condition is None or condition.get("status") != "True":
        return None
    if not min_ready_seconds:
        return 0.0
    since = condition.get("lastTransitionTime")
    if not since:
        return float(min_ready_seconds)
    left = datetime.fromisoformat(since) + timedelta(seconds=min_ready_seconds) - now
    return max(0.0, left.total_seconds())

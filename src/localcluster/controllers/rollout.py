"""How many pods the ReplicaSets of a Deployment may have at each step of a rolling update."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Limits:
    """Pods above `spec.replicas` (`surge`) and pods that may be missing (`unavailable`)."""

    surge: int
    unavailable: int


def limits(deployment: Object) -> Limits:
    """maxSurge rounded up and maxUnavailable rounded down, as pods; never both zero, else nothing could move."""
    spec = deployment["spec"]
    strategy = spec.get("strategy") or {}
    if strategy.get("type") == "Recreate":
        return Limits(0, 0)
    replicas = spec.get("replicas", 1)
    rolling = strategy.get("rollingUpdate") or {}
    surge = pods_of(rolling.get("maxSurge", "25%"), replicas, up=True)
    unavailable = min(pods_of(rolling.get("maxUnavailable", "25%"), replicas, up=False), replicas)
    if not surge and not unavailable:
        unavailable = 1
    return Limits(surge, unavailable)


def pods_of(amount: int | str, replicas: int, *, up: bool) -> int:
    """A number of pods, or a percentage of `replicas` such as "25%", as a number of pods."""
    if isinstance(amount, int):
        return amount
    share = int(amount.removesuffix("%")) * replicas / 100
    return math.ceil(share) if up else math.floor(share)


def _size(replica_set: Object) -> int:
    return int(replica_set["spec"].get("replicas", 1))


def _available(replica_set: Object) -> int:
    return int((replica_set.get("status") or {}).get("availableReplicas") or 0)


def new_size(deployment: Object, present: int, old: list[Object]) -> int:
    """The size that the new ReplicaSet, now at `present`, should have beside the old ones."""
    wanted = int(deployment["spec"].get("replicas", 1))
    if (deployment["spec"].get("strategy") or {}).get("type") == "Recreate" or present > wanted:
        return wanted
    total = present + sum(_size(item) for item in old)
    room = wanted + limits(deployment).surge - total
    return present + max(0, min(room, wanted - present))


def shrunk(deployment: Object, current: Object, old: list[Object]) -> list[tuple[Object, int]]:
    """The old ReplicaSets that may shrink now, with their new sizes; enough pods stay available throughout.

    Pods that were never available go first: they keep nobody served, and would block the roll-out for ever.
    """
    wanted = int(deployment["spec"].get("replicas", 1))
    minimum = wanted - limits(deployment).unavailable
    everything = [*old, current]
    total = sum(_size(item) for item in everything)
    room = total - minimum - (_size(current) - _available(current))
    if room <= 0:
        return []
    sizes = {item["metadata"]["name"]: _size(item) for item in old}
    for item in old:
        unhealthy = min(max(0, _size(item) - _available(item)), room)
        sizes[item["metadata"]["name"]] -= unhealthy
        room -= unhealthy
    spare = sum(_available(item) for item in everything) - minimum
    for item in old:
        step = max(0, min(sizes[item["metadata"]["name"]], spare, room))
        sizes[item["metadata"]["name"]] -= step
        spare -= step
        room -= step
    return [(item, sizes[item["metadata"]["name"]]) for item in old if sizes[item["metadata"]["name"]] != _size(item)]


def is_complete(deployment: Object) -> bool:
    """Whether the status says that every pod is of the present template and available."""
    wanted, status = deployment["spec"].get("replicas", 1), deployment.get("status") or {}
    return bool(
        status.get("updatedReplicas", 0) == wanted
        and status.get("replicas", 0) == wanted
        and status.get("availableReplicas", 0) == wanted
        and status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0)
    )

"""What is kept for a time only: events (kube-apiserver's --event-ttl) and certificate requests (csrcleaner)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from localcluster.apiserver import certificate_requests, kinds
from localcluster.apiserver.errors import NotFoundError
from localcluster.apiserver.kinds import KindInfo
from localcluster.apiserver.resources import Resources
from localcluster.apiserver.storage import Name

LIFETIME = timedelta(hours=1)
_SHORTEST_PAUSE_SECONDS = 60.0
_LONGEST_PAUSE_SECONDS = 600.0
"""A change may bring an end nearer: a request that is decided is kept for less long than one that waits."""

Object = dict[str, Any]


def event_ends(event: Object) -> datetime:
    """An hour after it happened last: a repeated one begins a new hour with each count."""
    series = event.get("series") or {}
    text = series.get("lastObservedTime") or event.get("lastTimestamp") or event["metadata"]["creationTimestamp"]
    return datetime.fromisoformat(text) + LIFETIME


_ENDS: dict[KindInfo, Callable[[Object], datetime]] = {
    kinds.EVENT: event_ends,
    kinds.CERTIFICATE_SIGNING_REQUEST: certificate_requests.ends,
}


def due(
    objects: list[tuple[Name, Object]], ends_of: Callable[[Object], datetime], now: datetime
) -> tuple[list[Name], float | None]:
    """The objects whose time is up, and the seconds until the next one's; None if there is no other. Pure."""
    ends = [(ends_of(object), name) for name, object in objects]
    later = [(end - now).total_seconds() for end, _ in ends if end > now]
    return [name for end, name in ends if end <= now], min(later, default=None)


async def run(resources: Resources) -> None:
    """Delete what is due, for ever; sleeps until then."""
    async with asyncio.TaskGroup() as group:
        for kind, ends_of in _ENDS.items():
            group.create_task(_run(resources, kind, ends_of))


async def _run(resources: Resources, kind: KindInfo, ends_of: Callable[[Object], datetime]) -> None:
    store, resource = resources.store, kind.storage_key
    while True:
        revision = store.revision
        known = [(name, stored.object()) for name, stored in store.entries(resource)]
        expired, pause = due(known, ends_of, datetime.now(UTC))
        for namespace, name in expired:
            try:
                await resources.delete(kind, namespace, name)
            except NotFoundError:
                continue
        if pause is not None:
            await asyncio.sleep(min(max(pause, _SHORTEST_PAUSE_SECONDS), _LONGEST_PAUSE_SECONDS))
        elif not expired:
            with store.subscribe(resource, None, revision) as changes:
                await changes.next()

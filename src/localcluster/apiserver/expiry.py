"""Events live for an hour, as Kubernetes keeps them (kube-apiserver's --event-ttl)."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

from localcluster.apiserver import kinds
from localcluster.apiserver.errors import NotFoundError
from localcluster.apiserver.resources import Resources
from localcluster.apiserver.storage import Name

LIFETIME = timedelta(hours=1)
_SHORTEST_PAUSE_SECONDS = 60.0


def last_seen(event: dict[str, Any]) -> datetime:
    """When the event happened last: a repeated one begins a new hour with each count."""
    series = event.get("series") or {}
    text = series.get("lastObservedTime") or event.get("lastTimestamp") or event["metadata"]["creationTimestamp"]
    return datetime.fromisoformat(text)


def due(events: list[tuple[Name, dict[str, Any]]], now: datetime) -> tuple[list[Name], float | None]:
    """The events whose time is up, and the seconds until the next one's; None if there is no other. Pure."""
    ends = [(last_seen(event) + LIFETIME, name) for name, event in events]
    later = [(end - now).total_seconds() for end, _ in ends if end > now]
    return [name for end, name in ends if end <= now], min(later, default=None)


async def run(resources: Resources) -> None:
    """Delete events when their time is up, for ever; sleeps until then."""
    store, resource = resources.store, kinds.EVENT.storage_key
    while True:
        revision = store.revision
        known = [(name, stored.object()) for name, stored in store.entries(resource)]
        expired, pause = due(known, datetime.now(UTC))
        for namespace, name in expired:
            try:
                await resources.delete(kinds.EVENT, namespace, name)
            except NotFoundError:
                continue
        if pause is not None:
            await asyncio.sleep(max(pause, _SHORTEST_PAUSE_SECONDS))
        elif not expired:
            with store.subscribe(resource, None, revision) as changes:
                await changes.next()

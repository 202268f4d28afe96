"""Events: what users read at the end of `kubectl describe pod`."""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from localcluster.node.client import ApiClient, ApiStatusError, ApiUnavailableError
from localcluster.node.status import timestamp

_log = logging.getLogger(__name__)
_MOST_WAITING = 512
_MOST_REMEMBERED = 1024
_COMPONENT = "kubelet"
_NOT_FOUND = 404

EventType = Literal["Normal", "Warning"]
_Key = tuple[str, str, str, str, str]


@dataclass(slots=True)
class _Series:
    name: str
    count: int


class EventRecorder:
    """Writes events in the background: repetitions raise a count, a flood is dropped rather than kept for ever."""

    def __init__(self, client: ApiClient, node_name: str) -> None:
        self._client = client
        self._node_name = node_name
        self._waiting: asyncio.Queue[tuple[_Key, dict[str, Any]]] = asyncio.Queue(_MOST_WAITING)
        self._known: OrderedDict[_Key, _Series] = OrderedDict()

    def record(
        self, pod: Mapping[str, Any], kind: EventType, reason: str, message: str, *, container: str | None = None
    ) -> None:
        """Note that something happened to a pod (or one of its containers), or a service. Never blocks."""
        metadata = pod["metadata"]
        involved = {
            "apiVersion": "v1",
            "kind": "Pod" if "containers" in (pod.get("spec") or {}) else "Service",
            "namespace": metadata["namespace"],
            "name": metadata["name"],
            "uid": metadata["uid"],
            "resourceVersion": metadata.get("resourceVersion", ""),
        }
        if container is not None:
            is_init = any(item["name"] == container for item in pod["spec"].get("initContainers") or ())
            involved["fieldPath"] = f"spec.{'initContainers' if is_init else 'containers'}{{{container}}}"
        now = timestamp(datetime.now(UTC))
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"namespace": metadata["namespace"]},
            "involvedObject": involved,
            "type": kind,
            "reason": reason,
            "message": message[:1024],
            "source": {"component": _COMPONENT, "host": self._node_name},
            "reportingComponent": _COMPONENT,
            "reportingInstance": self._node_name,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        key = (metadata["uid"], involved.get("fieldPath", ""), kind, reason, message)
        try:
            self._waiting.put_nowait((key, event))
        except asyncio.QueueFull:
            _log.debug("too many events: one of pod %s was dropped", metadata["name"])

    async def run(self) -> None:
        """Write until cancelled. An event that the API refuses is dropped: events never hold anything up."""
        while True:
            key, event = await self._waiting.get()
            try:
                await self._write(key, event)
            except (ApiStatusError, ApiUnavailableError) as error:
                _log.debug("event %s was not written: %s", event["reason"], error)

    async def _write(self, key: _Key, event: dict[str, Any]) -> None:
        namespace = event["metadata"]["namespace"]
        series = self._known.get(key)
        if series is not None:
            self._known.move_to_end(key)
            series.count += 1
            patch = {"count": series.count, "lastTimestamp": event["lastTimestamp"]}
            try:
                await self._client.merge("events", series.name, patch, namespace)
            except ApiStatusError as error:
                if error.code != _NOT_FOUND:
                    raise
                del self._known[key]  # it has expired, or was deleted: a new one begins
            else:
                return
        # As client-go names them: events of one second are listed in the order in which they happened.
        name = f"{event['involvedObject']['name']}.{time.time_ns():x}"
        event["metadata"]["name"] = name
        await self._client.create("events", event, namespace)
        self._known[key] = _Series(name, 1)
        if len(self._known) > _MOST_REMEMBERED:
            self._known.popitem(last=False)

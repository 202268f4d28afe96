"""A local copy of a part of the API, kept up to date by list and watch."""

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from typing import Any

from localcluster.node.client import ApiClient, ApiStatusError, ApiUnavailableError, Object, resource_path

_log = logging.getLogger(__name__)
_GONE = 410
_FIRST_DELAY_SECONDS = 0.05
_LONGEST_DELAY_SECONDS = 5.0
# Before the first list there is a cluster waiting to start, and soon an API server to ask.
_LONGEST_FIRST_DELAY_SECONDS = 0.1

# (old, new): None for "was not there" and "is no more".
Change = Callable[[Object | None, Object | None], None]
Key = tuple[str, str]


def key_of(item: Mapping[str, Any]) -> Key:
    """(namespace, name) of an object; the namespace of a cluster-wide one is ""."""
    metadata = item["metadata"]
    return metadata.get("namespace", ""), metadata["name"]


class Informer:
    """The objects of one resource (optionally of one selection), and a call for each change.

    `run` never gives up: it lists again when the server has forgotten the version (410), and reconnects with jitter
    when the server goes away, telling the differences afterwards. `on_change` must not block; it also sees the objects
    of the first list.
    """

    def __init__(
        self,
        client: ApiClient,
        resource: str,
        on_change: Change,
        *,
        namespace: str | None = None,
        field_selector: str | None = None,
    ) -> None:
        self._client = client
        self._path = resource_path(resource, namespace)
        self._selection = {"fieldSelector": field_selector} if field_selector else {}
        self._on_change = on_change
        self.items: dict[Key, Object] = {}
        self.synced = asyncio.Event()

    async def run(self) -> None:
        """List and watch until cancelled."""
        delay = _FIRST_DELAY_SECONDS
        while True:
            try:
                version: str | None = await self._list()
                while version is not None:
                    version = await self._watch(version)
                    delay = _FIRST_DELAY_SECONDS
            except (ApiStatusError, ApiUnavailableError) as error:
                _log.debug("%s: %s", self._path, error)
            except Exception:  # an object that nobody expected must not leave the node blind
                _log.exception("watching %s", self._path)
            # Jitter keeps the informers from all returning in the same instant.
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311
            longest = _LONGEST_DELAY_SECONDS if self.synced.is_set() else _LONGEST_FIRST_DELAY_SECONDS
            delay = min(delay * 2, longest)

    async def _list(self) -> str:
        answer = await self._client.request("GET", self._path, parameters=self._selection)
        listed = {key_of(item): item for item in answer.get("items") or ()}
        for key in self.items.keys() - listed.keys():
            self._change(key, None)
        for key, item in listed.items():
            self._change(key, item)
        self.synced.set()
        return str(answer["metadata"]["resourceVersion"])

    async def _watch(self, version: str) -> str | None:
        """Follow one watch to its end; returns the version to go on from, or None to list anew."""
        async with self._client.watch(self._path, {**self._selection, "resourceVersion": version}) as events:
            async for event in events:
                item = event["object"]
                if event["type"] == "ERROR":
                    if item.get("code") == _GONE:
                        return None
                    raise ApiStatusError(int(item.get("code", 500)), str(item.get("reason", "")), str(item))
                version = item["metadata"]["resourceVersion"]
                if event["type"] != "BOOKMARK":
                    self._change(key_of(item), None if event["type"] == "DELETED" else item, item)
        return version

    def _change(self, key: Key, item: Object | None, last: Object | None = None) -> None:
        old = self.items.get(key)
        if item is None:
            if self.items.pop(key, None) is not None:
                self._tell(last or old, None)
            return
        if old is not None and old["metadata"]["resourceVersion"] == item["metadata"]["resourceVersion"]:
            return
        self.items[key] = item
        self._tell(old, item)

    def _tell(self, old: Object | None, new: Object | None) -> None:
        try:
            self._on_change(old, new)
        except Exception:  # one object's mishap must not hide the others
            _log.exception("a change of %s was not handled", self._path)

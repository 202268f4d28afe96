"""Writing one pod's status: at once when it changes, never when it does not, patiently while the API is away."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

from localcluster.node.client import ApiClient, ApiStatusError, ApiUnavailableError

_log = logging.getLogger(__name__)
_FIRST_DELAY_SECONDS = 0.05
_LONGEST_DELAY_SECONDS = 5.0
_NOT_FOUND, _CONFLICT = 404, 409


class StatusWriter:
    """Writes what `compute` returns, whenever `changed` was called. Changes that come together are written together."""

    def __init__(self, client: ApiClient, pod: Mapping[str, Any], compute: Callable[[], dict[str, Any]]) -> None:
        self._client = client
        self._metadata = pod["metadata"]
        self._compute = compute
        self._dirty = asyncio.Event()
        self._settled = asyncio.Event()
        self._settled.set()
        self.written: dict[str, Any] = {}

    def changed(self) -> None:
        """Say that the status may be another one now."""
        self._dirty.set()
        self._settled.clear()

    async def settled(self) -> None:
        """Wait until everything that was said is written."""
        await self._settled.wait()

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self._dirty.wait()
            await asyncio.sleep(0)
            self._dirty.clear()
            status = self._compute()
            if status != self.written:
                await self._write(status)
            if not self._dirty.is_set():
                self._settled.set()

    async def _write(self, status: dict[str, Any]) -> None:
        name, namespace = self._metadata["name"], self._metadata["namespace"]
        # The uid makes the API refuse the patch if another pod has the name by now.
        patch = {"metadata": {"uid": self._metadata["uid"]}, "status": status}
        delay = _FIRST_DELAY_SECONDS
        while True:
            try:
                await self._client.merge("pods", name, patch, namespace, subresource="status")
            except ApiUnavailableError:
                await asyncio.sleep(delay)
                delay = min(delay * 2, _LONGEST_DELAY_SECONDS)
                if self._dirty.is_set():
                    return  # there is newer to write
            except ApiStatusError as error:
                if error.code not in (_NOT_FOUND, _CONFLICT):
                    _log.warning("status of pod %s/%s was refused: %s", namespace, name, error)
                    self._dirty.set()
                    await asyncio.sleep(_LONGEST_DELAY_SECONDS)
                return
            else:
                self.written = status
                return

"""Pods that take too much of the node's disk are ended, as the kubelet ends them."""

import asyncio
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from lightkube.utils.quantity import parse_quantity

LOOK_SECONDS = 10.0
_LEAST_FREE_BYTES = 1 << 30
_LEAST_FREE_SHARE = 0.05
_NOTICEABLE_BYTES = 64 << 20
_BLOCK_BYTES = 512


class Evictable(Protocol):
    """A pod on this node."""

    pod: Mapping[str, Any]

    def evict(self, message: str) -> None:
        """Fail the pod, with that message."""
        ...


class Evictions:
    """Looks at what pods write to the disk: volumes of `root/<pod uid>/<volume>`."""

    def __init__(self, root: Path, pods: Callable[[], Iterable[Evictable]]) -> None:
        self._root = root
        self._pods = pods

    async def run(self) -> None:
        """Look again and again, for ever."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self.look()

    async def look(self) -> None:
        """End pods whose emptyDir is over its limit; and, if the disk is nearly full, the one that takes most of it."""
        for pod in list(self._pods()):
            for name, text in size_limits(pod.pod):
                used = await asyncio.to_thread(disk_bytes, self._root / _uid(pod) / name)
                limit = parse_quantity(text)
                if limit is not None and used > limit:
                    pod.evict(f'Usage of EmptyDir volume "{name}" exceeds the limit "{text}".')
        if not is_nearly_full(os.statvfs(self._root)):
            return
        taken = [(await asyncio.to_thread(disk_bytes, self._root / _uid(pod)), pod) for pod in list(self._pods())]
        most = max((used for used, _ in taken), default=0)
        for used, pod in taken:
            if used == most and used >= _NOTICEABLE_BYTES:
                volumes = f"The pod's volumes take {used >> 20}Mi, more than any other pod's."
                pod.evict(f"The node was low on resource: ephemeral-storage. {volumes}")


def size_limits(pod: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Name and sizeLimit of each emptyDir on the disk that has one. In memory, the kernel keeps the limit."""
    for volume in pod["spec"].get("volumes") or ():
        empty = volume.get("emptyDir") or {}
        if empty.get("sizeLimit") and empty.get("medium") != "Memory":
            yield str(volume["name"]), str(empty["sizeLimit"])


def is_nearly_full(disk: os.statvfs_result) -> bool:
    """Whether less is free than every program of the machine needs to go on."""
    free, total = disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize
    return free < min(_LEAST_FREE_BYTES, total * _LEAST_FREE_SHARE)


def disk_bytes(folder: Path) -> int:
    """What a folder takes of the disk. Links are not followed; what goes while it is looked at counts nothing."""
    total = 0
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            try:
                total += os.lstat(os.path.join(parent, name)).st_blocks * _BLOCK_BYTES  # noqa: PTH118 - many of them
            except OSError:
                continue
    return total


def _uid(pod: Evictable) -> str:
    return str(pod.pod["metadata"]["uid"])

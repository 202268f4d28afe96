"""The images that this node can run, read again when images.json changes while somebody waits for it."""

import asyncio
import logging
from collections.abc import Callable, Mapping

from localcluster import images
from localcluster.images import Image, ImagesError, UnknownImage
from localcluster.paths import ClusterPaths

_log = logging.getLogger(__name__)
_LOOK_SECONDS = 0.5


class ImageTable:
    """Image names to how they run. `on_change` is called after images.json was read anew."""

    def __init__(self, paths: ClusterPaths, table: Mapping[str, Image], on_change: Callable[[], None]) -> None:
        self._paths = paths
        self._table = table
        self._on_change = on_change
        self._seen = self._version()
        self._missed = asyncio.Event()

    def find(self, reference: str) -> Image | UnknownImage:
        """The image, or why there is none, by the file as it is now."""
        if self._version() != self._seen:
            self._read()
        return images.resolve(reference, self._table)

    def watch(self) -> None:
        """Say that somebody waits for an image: the file is looked at until it changes."""
        self._missed.set()

    async def run(self) -> None:
        """Look at the file, but only while an image was asked for in vain: an idle node reads nothing."""
        while True:
            await self._missed.wait()
            await asyncio.sleep(_LOOK_SECONDS)
            if self._version() == self._seen:
                continue
            if self._read():
                self._missed.clear()
                self._on_change()

    def _read(self) -> bool:
        """Take the file's entries; a file that cannot be used changes nothing."""
        self._seen = self._version()
        try:
            self._table = images.load(self._paths)
        except (ImagesError, OSError) as error:
            _log.warning("%s", error)
            return False
        return True

    def _version(self) -> tuple[int, int] | None:
        try:
            status = self._paths.images.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_ino

"""A container's output: into its log file in the CRI format, and live to whoever is attached."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

from localcluster.node.runtime import StreamName

logger = logging.getLogger(__name__)

_CHUNK = 1 << 16
# A longer line is written in parts, as containerd does.
_LONGEST_PART = 1 << 14
_MOST_WAITING_CHUNKS = 1024
# The kubelet's defaults are 10 MiB and five files; one old file is enough for a machine's own use.
_LARGEST_LOG = 10 << 20
# What a container may write to its log at once, and then on and on (bytes of the log file, a second). Beyond that it
# waits, as at a slow terminal: an endless loop of short lines must not keep the node busy, nor the disk.
_LOG_BURST = 16 << 20
_LOG_RATE = 2 << 20


def timestamp(nanoseconds: int) -> str:
    """RFC 3339 with nine digits, in UTC, as the CRI log format wants it."""
    seconds, fraction = divmod(nanoseconds, 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{fraction:09d}Z"


class LogFile:
    """A log in the CRI format: `<time> <stream> <F or P> <text>`. Rotated to `<name>.1` when it is too large.

    A disk that is full costs lines of the log, never the container.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._open()
        self._unfinished: dict[StreamName, bytes] = {}
        self._failed = False

    def write(self, stream: StreamName, output: bytes, now: int) -> int:
        """Append what a stream said at `now` (nanoseconds since 1970); an unfinished line waits for its end.

        Returns how many bytes that is in the log.
        """
        prefix = f"{timestamp(now)} {stream} ".encode()
        *lines, rest = (self._unfinished.pop(stream, b"") + output).split(b"\n")
        entries = bytearray()
        for line in lines:
            *parts, last = _parts(line)
            for part in parts:
                entries += prefix + b"P " + part + b"\n"
            entries += prefix + b"F " + last + b"\n"
        while len(rest) >= _LONGEST_PART:
            entries += prefix + b"P " + rest[:_LONGEST_PART] + b"\n"
            rest = rest[_LONGEST_PART:]
        if rest:
            self._unfinished[stream] = rest
        self._append(entries)
        return len(entries)

    def close(self, now: int) -> None:
        """Write what was never finished, and close the file."""
        for stream, rest in self._unfinished.items():
            self._append(f"{timestamp(now)} {stream} P ".encode() + rest + b"\n")
        self._unfinished.clear()
        os.close(self._descriptor)

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._descriptor = os.open(self._path, flags, 0o600)
        self._size = os.fstat(self._descriptor).st_size

    def _append(self, entries: bytes | bytearray) -> None:
        if not entries:
            return
        try:
            if self._size > _LARGEST_LOG:
                self._path.replace(self._path.with_name(self._path.name + ".1"))
                os.close(self._descriptor)
                self._open()
            os.write(self._descriptor, entries)
            self._size += len(entries)
            self._failed = False
        except OSError as error:
            if not self._failed:
                logger.warning("cannot write %s: %s; its lines are lost until this is cured", self._path, error)
            self._failed = True


def _parts(line: bytes) -> list[bytes]:
    return [line[start : start + _LONGEST_PART] for start in range(0, len(line), _LONGEST_PART)] or [b""]


class OutputPump:
    """Reads a container's output from its pipes (or its terminal) until they end."""

    def __init__(self, streams: dict[StreamName, int], log: LogFile | None) -> None:
        """`streams` are non-blocking descriptors, owned from now on."""
        self._log = log
        self._allowance = _LOG_BURST
        self._paused: dict[StreamName, asyncio.TimerHandle] = {}
        self._open = dict(streams)
        self._listeners: list[asyncio.Queue[tuple[StreamName, bytes] | None]] = []
        self._loop = asyncio.get_running_loop()
        self._refilled_at = self._loop.time()
        self._finished = self._loop.create_future()
        for stream, descriptor in streams.items():
            self._loop.add_reader(descriptor, self._read, stream, descriptor)

    @property
    def is_waiting(self) -> bool:
        """Whether the container has to wait, because it has written more than it may."""
        return bool(self._paused)

    async def finished(self) -> None:
        """Wait until all output was read."""
        await asyncio.shield(self._finished)

    def close(self) -> None:
        """Stop reading, whoever still could write."""
        for stream in list(self._open):
            self._end(stream)

    def listen(self) -> AsyncIterator[tuple[StreamName, bytes]]:
        """The output from now on. A listener who is too slow loses output: a container never waits for one."""
        queue: asyncio.Queue[tuple[StreamName, bytes] | None] = asyncio.Queue()
        if self._finished.done():
            queue.put_nowait(None)
        else:
            self._listeners.append(queue)
        return self._heard(queue)

    async def _heard(
        self, queue: asyncio.Queue[tuple[StreamName, bytes] | None]
    ) -> AsyncIterator[tuple[StreamName, bytes]]:
        try:
            while (item := await queue.get()) is not None:
                yield item
        finally:
            if queue in self._listeners:
                self._listeners.remove(queue)

    def _read(self, stream: StreamName, descriptor: int) -> None:
        try:
            output = os.read(descriptor, _CHUNK)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.EIO:  # how a terminal ends
                logger.warning("cannot read a container's output: %s", error)
            output = b""
        if not output:
            self._end(stream)
            return
        if self._log is not None:
            self._spend(stream, descriptor, self._log.write(stream, output, time.time_ns()))
        for queue in self._listeners:
            if queue.qsize() < _MOST_WAITING_CHUNKS:
                queue.put_nowait((stream, output))

    def _spend(self, stream: StreamName, descriptor: int, written: int) -> None:
        """Count what was written; who has used up the allowance is not read until it is there again."""
        now = self._loop.time()
        refill = int((now - self._refilled_at) * _LOG_RATE)
        self._allowance = min(self._allowance + refill, _LOG_BURST) - written
        self._refilled_at = now
        if self._allowance < 0:
            self._loop.remove_reader(descriptor)
            self._paused[stream] = self._loop.call_later(-self._allowance / _LOG_RATE, self._resume, stream, descriptor)

    def _resume(self, stream: StreamName, descriptor: int) -> None:
        del self._paused[stream]
        self._loop.add_reader(descriptor, self._read, stream, descriptor)

    def _end(self, stream: StreamName) -> None:
        descriptor = self._open.pop(stream)
        if (timer := self._paused.pop(stream, None)) is not None:
            timer.cancel()
        self._loop.remove_reader(descriptor)
        os.close(descriptor)
        if self._open:
            return
        if self._log is not None:
            self._log.close(time.time_ns())
        for queue in self._listeners:
            queue.put_nowait(None)
        self._listeners.clear()
        self._finished.set_result(None)

"""Reading containers' output back from log files in the CRI format, with kubectl's options."""

import asyncio
import mmap
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

from localcluster.node.runtime import Container, StreamName

_BLOCK_BYTES = 65536
# More than the time, the stream and the tag of a record take.
_RECORD_HEAD_BYTES = 64


class LogQueryError(Exception):
    """An option of a log request has no meaning; the text names it."""


@dataclass(frozen=True, slots=True)
class LogQuery:
    """Which part of a container's output is wanted (`PodLogOptions`)."""

    follow: bool = False
    previous: bool = False
    timestamps: bool = False
    tail_lines: int | None = None
    since: datetime | None = None
    limit_bytes: int | None = None

    @classmethod
    def parse(cls, query: Mapping[str, str], now: datetime) -> "LogQuery":
        """The options of a request's query string. Raises LogQueryError."""
        since = None
        if text := query.get("sinceTime"):
            try:
                since = datetime.fromisoformat(text)
            except ValueError as error:
                raise LogQueryError(f"sinceTime: {text!r} is not an RFC 3339 time") from error
            if since.tzinfo is None:
                since = since.replace(tzinfo=UTC)
        if (seconds := _number(query, "sinceSeconds")) is not None:
            since = now - timedelta(seconds=seconds)
        return cls(
            follow=_flag(query, "follow"),
            previous=_flag(query, "previous"),
            timestamps=_flag(query, "timestamps"),
            tail_lines=_number(query, "tailLines"),
            since=since,
            limit_bytes=_number(query, "limitBytes"),
        )


def _flag(query: Mapping[str, str], name: str) -> bool:
    return query.get(name, "").lower() in ("true", "1")


def _number(query: Mapping[str, str], name: str) -> int | None:
    text = query.get(name)
    if text is None or text == "":
        return None
    if not text.isdigit():
        raise LogQueryError(f"{name}: {text!r} is not a whole number of 0 or more")
    return int(text)


def log_path(directory: Path, namespace: str, pod: str, uid: str, container: str, run: int) -> Path:
    """Where one run of one container writes; older output of the same run is beside it, ending in `.1`."""
    return pod_log_directory(directory, namespace, pod, uid) / container / f"{run}.log"


def pod_log_directory(directory: Path, namespace: str, pod: str, uid: str) -> Path:
    """Where all containers of one pod write."""
    return directory / f"{namespace}_{pod}_{uid}"


def rotated(path: Path) -> Path:
    """Where the older part of a log file is."""
    return path.with_name(f"{path.name}.1")


class _Formatter:
    """CRI records to what the client sees: text lines, with timestamps if wanted."""

    def __init__(self, query: LogQuery) -> None:
        self._timestamps = query.timestamps
        self._since = query.since.astimezone(UTC).isoformat().encode()[:26] if query.since else b""
        self._at_line_start = True
        self.left = query.limit_bytes

    def format(self, block: bytes) -> bytes:
        """The visible part of whole records."""
        parts: list[bytes] = []
        for record in block.split(b"\n"):
            fields = record.split(b" ", 3)
            if len(fields) < 4:
                continue
            moment, _stream, tag, text = fields
            # Times are UTC in a fixed form, so their bytes compare as they do.
            if moment[:26] < self._since:
                continue
            if self._timestamps and self._at_line_start:
                parts += (moment, b" ")
            parts.append(text)
            self._at_line_start = tag != b"P"
            if self._at_line_start:
                parts.append(b"\n")
        output = b"".join(parts)
        if self.left is not None:
            output = output[: self.left]
            self.left -= len(output)
        return output


async def read(path: Path, query: LogQuery, container: Container | None = None) -> AsyncIterator[bytes]:
    """The output in `path` and its older part, in pieces; with `follow`, also what `container` writes until it ends."""
    formatter = _Formatter(query)
    watcher = _Watcher(container) if query.follow and container is not None else None
    await asyncio.sleep(0)  # the watcher listens before the first look at the file
    files = _open_at_start(path, query.tail_lines)
    try:
        while files:
            file = files.pop(0)
            with file:
                async for piece in _pieces(file, path, formatter, None if files else watcher):
                    yield piece
                    if formatter.left == 0:
                        return
                if not files and watcher is not None and _was_rotated(file, path):
                    files.append(path.open("rb"))
    finally:
        for file in files:
            file.close()
        if watcher is not None:
            await watcher.close()


def written_so_far(path: Path) -> list[tuple[StreamName, bytes]]:
    """(stream, output) of every record of a log file that is there now; nothing if there is no file."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    output: list[tuple[StreamName, bytes]] = []
    for record in content.split(b"\n"):
        fields = record.split(b" ", 3)
        if len(fields) == 4:
            stream: StreamName = "stderr" if fields[1] == b"stderr" else "stdout"
            output.append((stream, fields[3] if fields[2] == b"P" else fields[3] + b"\n"))
    return output


def _open_at_start(path: Path, tail_lines: int | None) -> list[BinaryIO]:
    """The files to read, oldest first, each where the wanted lines begin."""
    wanted = tail_lines
    opened: list[BinaryIO] = []
    for candidate in (path, rotated(path)):
        if wanted == 0 and opened:
            break
        try:
            file = candidate.open("rb")
        except FileNotFoundError:
            continue
        opened.insert(0, file)
        if wanted is not None:
            wanted = seek_to_tail(file, wanted)
    return opened


def seek_to_tail(file: BinaryIO, lines: int) -> int:
    """Position `file` at the beginning of its last `lines` lines; returns how many it has too few.

    Records tagged P belong to the line that a later record ends.
    """
    position = file.seek(0, os.SEEK_END)
    if lines == 0 or position == 0:
        return lines
    missing = lines
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        while position > 0:
            start = content.rfind(b"\n", 0, position - 1) + 1
            if content[start : start + _RECORD_HEAD_BYTES].split(b" ", 3)[2:3] != [b"P"]:
                if missing == 0:
                    break
                missing -= 1
            position = start
    file.seek(position)
    return missing


async def _pieces(
    file: BinaryIO, path: Path, formatter: _Formatter, watcher: "_Watcher | None"
) -> AsyncIterator[bytes]:
    """What the client sees of `file` from its position on; with a watcher, until the container ends or rotates it."""
    rest = b""
    # Who does not follow gets what is there now: a container may write faster than its log is read.
    left = None if watcher is not None else os.fstat(file.fileno()).st_size - file.tell()
    while True:
        # Asked before reading, so that nothing written in between is missed.
        last_look = watcher is None or watcher.ended or _was_rotated(file, path)
        if watcher is not None:
            watcher.changed.clear()
        block = file.read(_BLOCK_BYTES if left is None else min(_BLOCK_BYTES, left))
        if left is not None:
            left -= len(block)
        if block:
            whole, newline, rest = (rest + block).rpartition(b"\n")
            if piece := formatter.format(whole + newline):
                yield piece
            await asyncio.sleep(0)  # a long log must not keep the other pods waiting
        elif last_look or watcher is None:
            return
        else:
            await watcher.changed.wait()


def _was_rotated(file: BinaryIO, path: Path) -> bool:
    try:
        return path.stat().st_ino != os.fstat(file.fileno()).st_ino
    except FileNotFoundError:
        return False


class _Watcher:
    """Says when a container has written more, or has ended."""

    def __init__(self, container: Container) -> None:
        self.changed = asyncio.Event()
        self.ended = False
        self._task = asyncio.create_task(self._run(container))

    async def _run(self, container: Container) -> None:
        async for _ in container.output():
            self.changed.set()
        self.ended = True
        self.changed.set()

    async def close(self) -> None:
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

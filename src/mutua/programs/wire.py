"""What crossed the bridge between two pods, as the packets say."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterable, Set
from contextlib import asynccontextmanager
from typing import NamedTuple

from localcluster import capture
from localcluster.lifecycle import Cluster

# RFC 8446, section 5.1: content type (20 to 23), then the legacy version 3.1 or 3.3.
_RECORD_TYPES = range(20, 24)
_RECORD_HEADER = 5


class Conversation(NamedTuple):
    """The TCP payloads of one or more connections, each direction of each connection apart.

    `sha256` is over all payloads in the order in which they were captured.
    """

    streams: tuple[bytes, ...]
    segments: int
    sha256: str

    @property
    def octets(self) -> int:
        """Bytes of payload in all."""
        return sum(map(len, self.streams))

    @property
    def start(self) -> bytes:
        """The first bytes of the first stream."""
        return self.streams[0][:_RECORD_HEADER] if self.streams else b""

    @property
    def is_tls(self) -> bool:
        """Whether there is something, and each stream is TLS records from its first byte to its last."""
        return bool(self.streams) and all(map(_only_records, self.streams))

    def holds(self, text: str) -> bool:
        """Whether a text stands readable in the bytes."""
        return any(text.encode() in stream for stream in self.streams)


class Capture:
    """The packets of one capture; complete when its `async with` has ended."""

    def __init__(self) -> None:
        self.packets: list[capture.Packet] = []

    def between(
        self,
        one: Iterable[str],
        other: Iterable[str],
        ports: Set[int] = frozenset(),
        span: tuple[float, float] = (0, float("inf")),
    ) -> Conversation:
        """What went between two sets of addresses, in both directions; `ports`: the other side's, none named is any.

        `span`: only what was captured between these moments, in seconds since 1970.
        """
        ours, theirs = set(one), set(other)
        streams: dict[tuple[str, int, str, int], bytearray] = {}
        segments, together = 0, hashlib.sha256()
        for packet in self.packets:
            ends = {packet.source, packet.destination}
            if not span[0] <= packet.at <= span[1]:
                continue
            if ports and not ports & {packet.source_port, packet.destination_port}:
                continue
            if packet.payload and ends & ours and ends & theirs:
                key = (packet.source, packet.source_port, packet.destination, packet.destination_port)
                streams.setdefault(key, bytearray()).extend(packet.payload)
                together.update(packet.payload)
                segments += 1
        return Conversation(tuple(bytes(stream) for stream in streams.values()), segments, together.hexdigest())


class Wire:
    """The bridge of a local cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    @asynccontextmanager
    async def capture(self, port: int | None = None) -> AsyncIterator[Capture]:
        """Captures while the block runs; `port` limits what is kept. Raises ClusterError."""
        seen = Capture()
        recording = capture.recording(self._cluster, port=port)
        packets = await asyncio.to_thread(recording.__enter__)
        try:
            yield seen
        finally:
            await asyncio.to_thread(recording.__exit__, None, None, None)
            seen.packets = packets.packets


def _only_records(stream: bytes) -> bool:
    position = 0
    while position < len(stream):
        header = stream[position : position + _RECORD_HEADER]
        if len(header) < _RECORD_HEADER or header[0] not in _RECORD_TYPES or header[1] != 3:
            return False
        position += _RECORD_HEADER + int.from_bytes(header[3:5])
    return True

"""What sidecars count: read from all of them at once when somebody asks, and from none of them otherwise."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

import httpcore2

from mutua.envoy.bootstrap import METRICS_PORT, TRAFFIC_PAGE

AT_ONCE: Final = 32
SECONDS: Final = 2.0
PAGE_BYTES: Final = 8 * 1024 * 1024
KEPT_SECONDS: Final = 1.0
"""How long an answer is good enough for the next who asks: two browsers cost one look."""
IDLE_SECONDS: Final = 15.0

_OK: Final = 200


class Target(NamedTuple):
    """A sidecar to ask: `key` says whose it is."""

    key: str
    address: str


class Read(NamedTuple):
    """What one sidecar answered, or why it did not."""

    target: Target
    page: bytes = b""
    trouble: str = ""


class SidecarPages:
    """Asks sidecars for their counters. Connections are kept between looks, for a while."""

    def __init__(self, targets: Callable[[], Iterable[Target]], port: int = METRICS_PORT) -> None:
        self._targets = targets
        self._port = port
        self._connections: dict[str, httpcore2.AsyncHTTPConnection] = {}  # by address
        self._reading: asyncio.Task[list[Read]] | None = None
        self._read_at = float("-inf")

    async def read(self) -> list[Read]:
        """All answers, at most `KEPT_SECONDS` old. No sidecar is waited for longer than `SECONDS`."""
        fresh = time.monotonic() - self._read_at < KEPT_SECONDS
        if self._reading is None or (self._reading.done() and not fresh):
            self._reading = asyncio.create_task(self._all())
        return await asyncio.shield(self._reading)

    async def close(self) -> None:
        """Close what is open."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait((self._reading,))
        for address in list(self._connections):
            await self._forget(address)

    async def _all(self) -> list[Read]:
        targets = list(self._targets())
        for address in self._connections.keys() - {target.address for target in targets}:
            await self._forget(address)
        turn = asyncio.Semaphore(AT_ONCE)
        found = await asyncio.gather(*(self._one(turn, target) for target in targets))
        self._read_at = time.monotonic()
        return found

    async def _one(self, turn: asyncio.Semaphore, target: Target) -> Read:
        async with turn:
            try:
                async with asyncio.timeout(SECONDS):
                    return await self._ask(target)
            except TimeoutError:
                trouble = f"no answer within {SECONDS:g} s"
            except (httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.TimeoutException, OSError) as error:
                trouble = str(error) or type(error).__name__
        await self._forget(target.address)
        return Read(target, trouble=trouble)

    async def _ask(self, target: Target) -> Read:
        host = f"[{target.address}]" if ":" in target.address else target.address
        page = bytearray()
        async with self._connection(target.address, host).stream(
            "GET", f"http://{host}:{self._port}{TRAFFIC_PAGE}"
        ) as response:
            if response.status != _OK:
                return Read(target, trouble=f"it answers {response.status}")
            async for chunk in response.aiter_stream():
                page += chunk
                if len(page) > PAGE_BYTES:
                    return Read(target, trouble=f"it has more than {PAGE_BYTES >> 20} MiB to tell")
        return Read(target, bytes(page))

    def _connection(self, address: str, host: str) -> httpcore2.AsyncHTTPConnection:
        """One for each sidecar, without a pool's search for it among all others at each request."""
        kept = self._connections.get(address)
        if kept is None or kept.is_closed() or kept.has_expired():
            origin = httpcore2.Origin(b"http", host.encode(), self._port)
            # Nobody may look for hours: what is that old is closed by the other side, and made anew.
            kept = self._connections[address] = httpcore2.AsyncHTTPConnection(origin, keepalive_expiry=IDLE_SECONDS)
        return kept

    async def _forget(self, address: str) -> None:
        kept = self._connections.pop(address, None)
        if kept is not None:
            with contextlib.suppress(OSError, httpcore2.NetworkError):
                await kept.aclose()

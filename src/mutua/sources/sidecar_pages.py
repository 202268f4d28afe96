"""What sidecars count: read from all of them at once when somebody asks, and from none of them otherwise."""

import asyncio
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
        self._pool: httpcore2.AsyncConnectionPool | None = None
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
        if self._pool is not None:
            await self._pool.aclose()

    async def _all(self) -> list[Read]:
        if self._pool is None:
            # Closed a little after those who ask every few seconds have gone.
            self._pool = httpcore2.AsyncConnectionPool(max_connections=None, keepalive_expiry=15)
        turn = asyncio.Semaphore(AT_ONCE)
        found = await asyncio.gather(*(self._one(self._pool, turn, target) for target in self._targets()))
        self._read_at = time.monotonic()
        return found

    async def _one(self, pool: httpcore2.AsyncConnectionPool, turn: asyncio.Semaphore, target: Target) -> Read:
        host = f"[{target.address}]" if ":" in target.address else target.address
        url = f"http://{host}:{self._port}{TRAFFIC_PAGE}"
        page = bytearray()
        async with turn:
            try:
                async with asyncio.timeout(SECONDS), pool.stream("GET", url) as response:
                    if response.status != _OK:
                        return Read(target, trouble=f"it answers {response.status}")
                    async for chunk in response.aiter_stream():
                        page += chunk
                        if len(page) > PAGE_BYTES:
                            return Read(target, trouble=f"it has more than {PAGE_BYTES >> 20} MiB to tell")
            except TimeoutError:
                return Read(target, trouble=f"no answer within {SECONDS:g} s")
            except (httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.TimeoutException, OSError) as error:
                return Read(target, trouble=str(error) or type(error).__name__)
        return Read(target, bytes(page))

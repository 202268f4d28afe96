"""The wall clock, and waiting for one of its moments."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

Clock: TypeAlias = Callable[[], datetime]

LONGEST_SLEEP = timedelta(seconds=5)
"""Event loops count the time a machine was awake. After a suspension of ten hours, we notice within this."""


def now() -> datetime:
    """The time in UTC, with its zone."""
    return datetime.now(UTC)


async def sleep_until(moment: datetime, clock: Clock = now) -> None:
    """Return once the wall clock has reached `moment`, also when it was set or the machine slept meanwhile."""
    while (left := moment - clock()) > timedelta(0):  # noqa: ASYNC110 - no event is set when the wall clock moves
        await asyncio.sleep(min(left, LONGEST_SLEEP).total_seconds())

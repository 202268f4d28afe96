"""A running certificate service."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

sys.path.insert(0, str(Path(__file__).parents[2]))

from fakes.mesh_control_plane import ControlPlane


@pytest_asyncio.fixture
async def control_plane() -> AsyncIterator[ControlPlane]:
    """On ports of its own; it knows the token `good` of shop/web."""
    running = ControlPlane()
    running.review.allow("good", "shop", "web")
    await running.start()
    yield running
    await running.stop()

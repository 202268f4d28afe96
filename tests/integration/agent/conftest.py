"""A control plane, and agents with real Envoys beside it."""

import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

sys.path.insert(0, str(Path(__file__).parents[2]))

from fakes.mesh_agent import Agent
from fakes.mesh_control_plane import ControlPlane


@pytest_asyncio.fixture
async def control_plane() -> AsyncIterator[ControlPlane]:
    """On ports of its own; it knows the token `good` of shop/web."""
    running = ControlPlane()
    running.review.allow("good", "shop", "web")
    await running.start()
    yield running
    await running.stop()


@pytest.fixture
def make_agent(control_plane: ControlPlane, tmp_path: Path) -> Iterator[Callable[..., Agent]]:
    """Makes agents; ends them with the test."""
    made: list[Agent] = []

    def make(token: str = "good", **environment: str) -> Agent:  # noqa: S107
        folder = tmp_path / str(len(made))
        folder.mkdir()
        control_plane.write_pod_files(folder, token)
        made.append(Agent(control_plane, folder, environment))
        return made[-1]

    yield make
    for agent in made:
        agent.kill()

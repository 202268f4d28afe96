"""Containers of this machine's own kernel: each scenario runs as PID 1 of a fresh node."""

import inspect
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import node_process
import scenarios

SCENARIOS = [
    name
    for name, function in inspect.getmembers(scenarios, inspect.iscoroutinefunction)
    if list(inspect.signature(function).parameters) == ["node"] and not name.startswith("_")
]


@pytest.mark.linux
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_containers(scenario: str, tmp_path: Path) -> None:
    node_process.run(scenarios.__file__, scenario, tmp_path)

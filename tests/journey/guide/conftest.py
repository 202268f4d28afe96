"""A fresh cluster for the guide's reader: the guide changes settings of the whole mesh, which other tests rely on."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import guide_scene
import pytest
from guide_reader import Reader
from journey_shell import Journey

COMMAND = Path(sys.executable).parent / "mutua"


@pytest.fixture(scope="module")
def reader(kubectl: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """The guide's reader with a running cluster, which is gone afterwards."""
    shell = Journey(home=tmp_path_factory.mktemp("guide-home"), kubectl=kubectl, command=COMMAND)
    started = shell.mutua("up", "--name", "guide")
    assert started.returncode == 0, started.stderr
    shell.kubeconfig = Path(started.stdout.strip().splitlines()[-1].removeprefix("export KUBECONFIG="))
    try:
        reader = Reader(shell, tmp_path_factory.mktemp("guide"))
        guide_scene.set_up(reader)
        yield reader
    finally:
        subprocess.run(
            [COMMAND, "down", "--name", "guide"], env=shell.environment, check=True, capture_output=True, timeout=60
        )

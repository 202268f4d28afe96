"""One local cluster with the mesh in it for the whole journey, driven by the real kubectl and our own command."""

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from journey_shell import COMMAND, Journey

from kubectl import find as find_kubectl


@pytest.fixture(scope="session")
def kubectl() -> Path:
    """The real kubectl."""
    return find_kubectl()


@pytest.fixture(scope="session")
def journey(kubectl: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Journey]:
    """A running cluster, made by `mutua up` with access logs on, gone afterwards."""
    home = tmp_path_factory.mktemp("mutua-home")
    shell = Journey(home=home, kubectl=kubectl, command=COMMAND)
    started = shell.mutua("up", "--set", "meshConfig.accessLogFile=/dev/stdout")
    assert started.returncode == 0, started.stderr
    shell.kubeconfig = Path(started.stdout.strip().splitlines()[-1].removeprefix("export KUBECONFIG="))
    yield shell
    subprocess.run([COMMAND, "down"], env=shell.environment, check=True, capture_output=True, timeout=60)


@pytest.fixture
def eventually() -> Callable[[Callable[[], bool], float], None]:
    """Waits for something to become true: `eventually(condition, seconds)`."""

    def wait(condition: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"not true after {seconds} s"
            time.sleep(0.05)

    return wait

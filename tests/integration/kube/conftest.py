"""A real API server of the local cluster, for clients of ours to talk to."""

import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from localcluster import kubeconfig, pki
from localcluster.paths import ClusterPaths
from mutua.system.kube import KubeClient


@pytest.fixture(scope="session")
def api_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The kubeconfig of an API server that runs for the session; there are no nodes."""
    paths = ClusterPaths(tmp_path_factory.mktemp("cluster"))
    pki.ensure(paths, (), (), datetime.now(UTC))
    listener = socket.create_server(("127.0.0.1", 0))
    configuration = kubeconfig.write(paths, listener.getsockname()[1])
    descriptor = listener.fileno()
    server = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "localcluster.apiserver",
            "--directory",
            paths.directory,
            "--listen-fd",
            str(descriptor),
        ],
        pass_fds=(descriptor,),
    )
    listener.close()
    yield configuration
    server.terminate()
    server.wait(10)


@pytest.fixture
async def kube(api_server: Path) -> AsyncIterator[KubeClient]:
    """A client with all rights. The server's socket listens already, so the first request waits until it answers."""
    async with KubeClient.connect(str(api_server)) as client:
        yield client

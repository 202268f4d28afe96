"""One cluster without mesh for all clients, and the programs among them."""

import gc
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from client_cluster import ClientCluster, Kubectl

import kubectl as kubectl_binary
from localcluster import lifecycle


@pytest.fixture(scope="session")
def cluster() -> Iterator[ClientCluster]:
    """A running cluster with a node, gone afterwards."""
    # Not pytest's own folder: a socket's path must be short.
    root = Path(tempfile.mkdtemp(prefix="clients-"))
    try:
        started = lifecycle.up("clients", images={}, root=root)
        yield ClientCluster(started.kubeconfig, root)
    finally:
        lifecycle.down("clients", root=root)
        shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(
    scope="module", params=kubectl_binary.every(), ids=lambda path: f"1.{kubectl_binary.minor_version(path)}"
)
def kubectl(cluster: ClientCluster, request: pytest.FixtureRequest) -> Kubectl:
    """Each of the kubectls, in a namespace of its own for each module."""
    program: Path = request.param
    module = request.module.__name__.removeprefix("test_client_").replace("_", "-")
    namespace = f"{module}-{kubectl_binary.minor_version(program)}"
    cluster.output(program, "create", "namespace", namespace)
    return Kubectl(cluster, program, namespace)


@pytest.fixture(scope="session")
def helm() -> Path:
    """The real helm 4."""
    return kubectl_binary.find_helm()


@pytest.fixture(autouse=True)
def leftovers() -> Iterator[None]:
    """Some clients leave their sockets to the collector; that is theirs to mend, and no warning of ours."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()

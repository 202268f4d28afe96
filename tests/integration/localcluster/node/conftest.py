"""One cluster with a real node for a module's tests."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from node_cluster import Node

from kubectl import find
from localcluster import lifecycle


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    """A running cluster, gone afterwards."""
    # Not pytest's own folder: a socket's path must be short.
    root = Path(tempfile.mkdtemp(prefix="node-"))
    cluster = lifecycle.up("node", images={}, root=root)
    try:
        yield Node(cluster, root, find())
    finally:
        lifecycle.down("node", root=root)
        shutil.rmtree(root, ignore_errors=True)

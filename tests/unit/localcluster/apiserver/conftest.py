"""An API without HTTP: the real store and pipeline on a file of the test's own."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from localcluster import pki
from localcluster.apiserver import bootstrap, kinds
from localcluster.apiserver.kinds import Kinds
from localcluster.apiserver.resources import Resources
from localcluster.apiserver.settings import Settings
from localcluster.apiserver.storage import Store
from localcluster.paths import ClusterPaths

Object = dict[str, Any]


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Keys and certificates, made once."""
    paths = ClusterPaths(tmp_path_factory.mktemp("cluster"))
    return Settings(paths, pki.ensure(paths, (), (), datetime.now(UTC)))


@pytest.fixture
async def resources(tmp_path: Path, settings: Settings) -> AsyncIterator[Resources]:
    """A new cluster's API, with the system's namespaces and the account `default` in `default`."""
    store = Store(tmp_path / "cluster.db")
    found = Resources(store, Kinds(), settings)
    await bootstrap.populate(found, settings)
    await found.create(kinds.SERVICE_ACCOUNT, {"metadata": {"name": "default", "namespace": "default"}})
    yield found
    await found.close()
    await store.close()

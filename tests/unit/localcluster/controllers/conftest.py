"""The API without HTTP, and controllers at work on it."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from localcluster import pki
from localcluster.apiserver import bootstrap
from localcluster.apiserver.kinds import Kinds
from localcluster.apiserver.resources import Resources
from localcluster.apiserver.settings import Settings
from localcluster.apiserver.storage import Store
from localcluster.paths import ClusterPaths


@pytest.fixture
async def resources(tmp_path: Path) -> AsyncIterator[Resources]:
    """A new cluster's API."""
    paths = ClusterPaths(tmp_path)
    settings = Settings(paths, pki.ensure(paths, (), (), datetime.now(UTC)))
    store = Store(paths.database)
    found = Resources(store, Kinds(), settings)
    await bootstrap.populate(found, settings)
    yield found
    await found.close()
    await store.close()

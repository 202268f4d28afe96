"""One API server for a module's tests."""

from collections.abc import Iterator

import pytest
from api_server import ApiServer


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """A running server, whose log may hold no traceback in the end."""
    found = ApiServer.create(tmp_path_factory.mktemp("cluster"))
    found.start()
    yield found
    found.close()
    assert "Traceback" not in found.log

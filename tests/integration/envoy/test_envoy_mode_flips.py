"""Changes of mutual TLS under load: real Envoys lose no request, whoever of the two ends has to change first."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import envoy_views as views
import pytest
import pytest_asyncio
from envoy_pods import Mesh, Pod, can_make_networks, mesh

from mutua.mesh.proxy_view import ClientTls, ClientTlsMode, MtlsMode
from mutua.xds.rollout import BOUND_SECONDS

pytestmark = [
    pytest.mark.envoy,
    pytest.mark.linux,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(not can_make_networks(), reason="network namespaces need root"),
]

REQUESTS_PER_SECOND = 200
SECONDS = 8
"""Long enough for the flip and the pods' drain time of five seconds: connections of the old kind are gone by then."""

LOAD = f"""
import asyncio, json, sys, time

CONNECTIONS = 10
outcomes = {{}}

async def ask(address, until):
    reader = writer = None
    due = time.monotonic()
    while time.monotonic() < until:
        try:
            if writer is None:
                reader, writer = await asyncio.open_connection(address, 80)
            writer.write(b"GET /load HTTP/1.1\\r\\nhost: named\\r\\n\\r\\n")
            head = await asyncio.wait_for(reader.readuntil(b"\\r\\n\\r\\n"), 5)
            length = int(head.lower().split(b"content-length:")[1].split(b"\\r\\n")[0])
            body = await reader.readexactly(length)
            outcome = head.split(b" ")[1].decode() + (" " + body.decode() if head.split(b" ")[1] != b"200" else "")
            if b"connection: close" in head.lower():
                writer.close()
                writer = None
        except Exception as error:
            outcome, writer = repr(error), None
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
        due += CONNECTIONS / {REQUESTS_PER_SECOND}
        await asyncio.sleep(max(0, due - time.monotonic()))

async def main():
    await asyncio.gather(*(ask(sys.argv[1], time.monotonic() + {SECONDS}) for _ in range(CONNECTIONS)))
    print(json.dumps(outcomes))

asyncio.run(main())
"""


class Flipping:
    """A server and a client, both with sidecars."""

    def __init__(self, mesh: Mesh, backend: Pod, frontend: Pod) -> None:
        self.mesh, self.backend, self.frontend = mesh, backend, frontend

    async def to(self, mode: MtlsMode, tls: ClientTlsMode = ClientTlsMode.AUTO) -> None:
        """One change of both ends at once, as one snapshot of the control plane brings it, until both have it all."""
        server, client = views.server(mode), views.client(ClientTls(tls), mtls=mode is not MtlsMode.DISABLE)
        self.mesh.views[self.backend.name, self.backend.namespace] = server
        self.mesh.views[self.frontend.name, self.frontend.namespace] = client
        await self.mesh.xds.publish()
        async with asyncio.timeout(2 * BOUND_SECONDS):
            await self.mesh.until(lambda: self.mesh.xds.settled)

    @contextlib.asynccontextmanager
    async def under_load(self) -> AsyncIterator[dict[str, int]]:
        """Requests while the block runs, and until connections of an old kind would be gone. What came of them."""
        outcomes: dict[str, int] = {}
        before = self.backend.log.count("/load")
        loading = asyncio.create_task(self.frontend.python(LOAD, views.NAMED))
        await self.backend.logged("/load", more_than=before)
        yield outcomes
        answer = await loading
        outcomes.update(json.loads(answer.text or "{}"))
        assert not answer.error


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def flipping(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Flipping]:
    directory: Path = tmp_path_factory.mktemp("flips")
    async with mesh(directory) as made:
        backend = await made.pod("backend", views.BACKEND_ADDRESS, views.server(MtlsMode.STRICT), account="backend")
        frontend = await made.pod("frontend", views.FRONTEND_ADDRESS, views.client(), account="frontend")
        yield Flipping(made, backend, frontend)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (MtlsMode.PERMISSIVE, MtlsMode.STRICT),
        (MtlsMode.STRICT, MtlsMode.PERMISSIVE),
        (MtlsMode.DISABLE, MtlsMode.STRICT),
        (MtlsMode.STRICT, MtlsMode.DISABLE),
    ],
)
async def test_a_change_of_mode_loses_no_request(flipping: Flipping, before: MtlsMode, after: MtlsMode) -> None:
    await flipping.to(before)

    async with flipping.under_load() as outcomes:
        await flipping.to(after)

    assert outcomes.keys() == {"200"}
    assert outcomes["200"] > REQUESTS_PER_SECOND


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (ClientTlsMode.DISABLE, ClientTlsMode.ISTIO_MUTUAL),
        (ClientTlsMode.ISTIO_MUTUAL, ClientTlsMode.DISABLE),
    ],
)
async def test_a_change_of_the_clients_rule_loses_no_request(
    flipping: Flipping, before: ClientTlsMode, after: ClientTlsMode
) -> None:
    await flipping.to(MtlsMode.PERMISSIVE, before)

    async with flipping.under_load() as outcomes:
        await flipping.to(MtlsMode.PERMISSIVE, after)

    assert outcomes.keys() == {"200"}
    assert outcomes["200"] > REQUESTS_PER_SECOND


async def test_a_rule_and_a_mode_that_change_together_lose_no_request(flipping: Flipping) -> None:
    await flipping.to(MtlsMode.PERMISSIVE, ClientTlsMode.DISABLE)

    async with flipping.under_load() as outcomes:
        await flipping.to(MtlsMode.STRICT, ClientTlsMode.ISTIO_MUTUAL)

    assert outcomes.keys() == {"200"}
    assert outcomes["200"] > REQUESTS_PER_SECOND

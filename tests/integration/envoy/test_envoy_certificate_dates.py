"""Certificates outside their dates between real Envoys: refused by the server, and refused by the client."""

import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import envoy_views as views
import pytest
import pytest_asyncio
from cryptography import x509
from envoy_pods import Mesh, Pod, can_make_networks, mesh

from fakes.issuing_authority import VALID, Issued
from mutua.mesh.proxy_view import MtlsMode
from mutua.secret import Secret

pytestmark = [
    pytest.mark.envoy,
    pytest.mark.linux,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(not can_make_networks(), reason="network namespaces need root"),
]

BACKEND = "spiffe://cluster.local/ns/shop/sa/backend"
ENDED = (-timedelta(hours=2), -timedelta(seconds=1))
NOT_YET = (timedelta(minutes=5), timedelta(hours=1))
VIA = ("--connect-to", f"named:80:{views.NAMED}:80")


class Shop:
    """A backend and a frontend, whose certificates a test replaces."""

    def __init__(self, mesh: Mesh, backend: Pod, frontend: Pod) -> None:
        self.mesh, self.backend, self.frontend = mesh, backend, frontend

    def hold(self, pod: Pod, name: str, valid: tuple[timedelta, timedelta]) -> Issued:
        """Give a pod's Envoy a certificate with these dates."""
        issued = self.mesh.authority.issue(x509.UniformResourceIdentifier(name), valid=valid)
        agent = self.mesh._secrets[(self.backend, self.frontend).index(pod)]
        agent.publish(issued.chain, Secret(issued.key), self.mesh.authority.root)
        return issued

    async def until_held(self, pod: Pod, issued: Issued) -> None:
        """Envoy takes a secret at its own time."""
        end = time.monotonic() + 10
        serial = f"{issued.serial:x}"
        while serial not in str(await pod.admin("/certs")):
            assert time.monotonic() < end

    async def outcome(self) -> int:
        """The status of one request, over a connection of its own."""
        answer = await self.frontend.curl("http://named/x", "-H", "connection: close", *VIA)
        return answer.status


@pytest_asyncio.fixture(loop_scope="module")
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    async with mesh(tmp_path) as made:
        backend = await made.pod("backend", views.BACKEND_ADDRESS, views.server(MtlsMode.STRICT), account="backend")
        frontend = await made.pod("frontend", views.FRONTEND_ADDRESS, views.client(), account="frontend")
        yield Shop(made, backend, frontend)


@pytest.mark.parametrize("side", ["server", "client"])
async def test_before_and_after_its_dates_a_certificate_proves_nothing(shop: Shop, side: str) -> None:
    """Neither the backend's to the frontend, nor the frontend's to the backend; and within them it does."""
    pod, name = (shop.backend, BACKEND) if side == "server" else (shop.frontend, views.FRONTEND)
    found = []
    # The good one comes last: a connection that was made with it would be kept.
    for valid in (NOT_YET, ENDED, VALID):
        await shop.until_held(pod, shop.hold(pod, name, valid))
        found.append(await shop.outcome())

    assert found == [503, 503, 200]

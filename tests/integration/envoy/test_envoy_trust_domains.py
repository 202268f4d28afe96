"""Other meshes' roots in a real Envoy: each vouches for its own trust domain, and for nobody else."""

import time
from collections.abc import AsyncIterator
from pathlib import Path

import envoy_views as views
import pytest
import pytest_asyncio
from cryptography import x509
from envoy_pods import Mesh, Pod, can_make_networks, mesh

from fakes.issuing_authority import Authority
from mutua.mesh.proxy_view import MtlsMode, Trust
from mutua.secret import Secret

pytestmark = [
    pytest.mark.envoy,
    pytest.mark.linux,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(not can_make_networks(), reason="network namespaces need root"),
]

OURS = "spiffe://cluster.local/ns/shop/sa/frontend"
ALIAS = "spiffe://old.td/ns/shop/sa/frontend"
PARTNERS = "spiffe://partner.org/ns/shop/sa/frontend"
STRANGERS = "spiffe://stranger.org/ns/shop/sa/frontend"
TRUST = Trust(("cluster.local", "old.td"), ("partner.org",))

# Prints 200 for an answer; a certificate that is refused shows with the first byte that is read.
ASK = """
import socket, ssl, sys
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
context.set_alpn_protocols(["istio"])
context.load_cert_chain(sys.argv[2])
try:
    with socket.create_connection((sys.argv[1], 8080), 3) as plain, context.wrap_socket(plain) as connection:
        connection.sendall(b"GET / HTTP/1.1\\r\\nhost: shop\\r\\nconnection: close\\r\\n\\r\\n")
        print(connection.recv(65536).split(b" ")[1].decode())
except (ssl.SSLError, ConnectionError) as error:
    print("refused")
"""


class Border:
    """A STRICT backend that believes a partner, and a stranger with certificates of any authority."""

    def __init__(self, mesh: Mesh, backend: Pod, stranger: Pod) -> None:
        self.mesh, self.backend, self.stranger = mesh, backend, stranger
        self.partner = Authority("partner root")

    def believe(self, *, partner: bool) -> None:
        """What the backend's agent gives its Envoy."""
        held, root = self.backend.certificate, self.mesh.authority.root
        trust = {**dict.fromkeys(TRUST.domains, root), "partner.org": self.partner.root} if partner else {}
        self.mesh._secrets[0].publish(held.chain, Secret(held.key), root, trust=trust)

    async def ask(self, authority: Authority, identity: str) -> str:
        """`200`, or `refused` in the handshake."""
        issued = authority.issue(x509.UniformResourceIdentifier(identity))
        path = self.stranger.directory / "client.pem"
        path.write_bytes(issued.key + issued.chain)
        answer = await self.stranger.python(ASK, views.BACKEND_ADDRESS, str(path))
        return answer.text.strip() or answer.error

    async def until(self, authority: Authority, identity: str, outcome: str) -> None:
        """Envoy takes a new secret at its own time."""
        end = time.monotonic() + 10
        while (found := await self.ask(authority, identity)) != outcome:
            assert time.monotonic() < end, found


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def border(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Border]:
    directory: Path = tmp_path_factory.mktemp("border")
    async with mesh(directory) as made:
        view = views.server(MtlsMode.STRICT, trust=TRUST)
        backend = await made.pod("backend", views.BACKEND_ADDRESS, view, account="backend")
        yield Border(made, backend, await made.pod("stranger", "10.9.0.3", None))


async def test_each_root_vouches_for_its_own_trust_domain_alone(border: Border) -> None:
    ours, partner = border.mesh.authority, border.partner
    border.believe(partner=True)
    await border.until(partner, PARTNERS, "200")

    assert await border.ask(ours, OURS) == "200"
    assert await border.ask(ours, ALIAS) == "200"
    assert await border.ask(partner, OURS) == "refused"
    assert await border.ask(partner, ALIAS) == "refused"
    assert await border.ask(ours, PARTNERS) == "refused"
    assert await border.ask(partner, STRANGERS) == "refused"
    assert await border.ask(ours, STRANGERS) == "refused"
    assert await border.ask(Authority("nobody"), PARTNERS) == "refused"


async def test_a_partner_that_is_not_believed_any_more_is_refused(border: Border) -> None:
    ours, partner = border.mesh.authority, border.partner
    border.believe(partner=True)
    await border.until(partner, PARTNERS, "200")

    border.believe(partner=False)
    await border.until(partner, PARTNERS, "refused")

    assert await border.ask(ours, OURS) == "200"
    assert await border.ask(ours, STRANGERS) == "refused"


async def test_the_backend_s_own_certificate_and_roots_stay_visible(border: Border) -> None:
    """`mutua proxy-config secret` and jq lines look at trustedCa, whoever verifies."""
    border.believe(partner=True)
    await border.until(border.partner, PARTNERS, "200")
    dump = await border.backend.admin("/config_dump?resource=dynamic_active_secrets")
    root = next(entry["secret"] for entry in dump["configs"] if entry["name"] == "ROOTCA")
    assert root["validation_context"]["trusted_ca"]["inline_bytes"]
    assert "partner.org" in str(root["validation_context"]["custom_validator_config"])


RESUME = """
import socket, ssl, sys
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
context.set_alpn_protocols(["istio"])
context.minimum_version = context.maximum_version = ssl.TLSVersion[sys.argv[3]]
context.load_cert_chain(sys.argv[2])
session, reused = None, []
for _ in range(3):
    with socket.create_connection((sys.argv[1], 8080), 3) as plain:
        with context.wrap_socket(plain, session=session) as connection:
            connection.sendall(b"GET / HTTP/1.1\\r\\nhost: shop\\r\\nconnection: close\\r\\n\\r\\n")
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")
            reused.append(connection.session_reused)
            session = connection.session or session
print(reused)
"""


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
async def test_no_session_outlives_the_roots_that_it_was_verified_with(border: Border, version: str) -> None:
    """A resumed session skips the peer's certificate, so none is ever resumed (CVE-2022-21654)."""
    border.believe(partner=False)
    ours = border.mesh.authority
    assert await border.ask(ours, OURS) == "200"
    path = border.stranger.directory / "client.pem"
    answer = await border.stranger.python(RESUME, views.BACKEND_ADDRESS, str(path), version)
    assert answer.text.strip() == "[False, False, False]", answer.error

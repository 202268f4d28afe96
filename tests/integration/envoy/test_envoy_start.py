"""From the first moment on at which an Envoy listens, nobody comes in whom its secrets do not vouch for."""

import asyncio
import json
from pathlib import Path
from typing import NamedTuple

import envoy_views as views
import pytest
from cryptography import x509
from envoy_pods import Pod, can_make_networks, mesh

from fakes.issuing_authority import Authority, Issued
from mutua.mesh.proxy_view import MtlsMode

pytestmark = [
    pytest.mark.envoy,
    pytest.mark.linux,
    pytest.mark.skipif(not can_make_networks(), reason="network namespaces need root"),
]

INTRUDE = """
import json, socket, ssl, sys, time
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
context.set_alpn_protocols(["istio"])
context.load_cert_chain(sys.argv[2])
end, shaken, answered = time.monotonic() + float(sys.argv[3]), 0, []
while time.monotonic() < end:
    for port in (8080, 8081, 9000, 9090, 1234):
        for secured in (True, False):
            try:
                with socket.create_connection((sys.argv[1], port), 0.5) as connection:
                    connection.settimeout(0.5)
                    if secured:
                        connection = context.wrap_socket(connection)
                        shaken += 1
                    connection.sendall(b"GET /x HTTP/1.1\\r\\nhost: shop\\r\\n\\r\\n")
                    if connection.recv(100):
                        answered.append([port, secured])
            except OSError:
                continue
print(json.dumps([shaken, answered]))
"""


class Intrusion(NamedTuple):
    """How many handshakes the server went along with, and the ports (and whether by TLS) that answered."""

    shaken: int
    answered: list[tuple[int, bool]]


async def intrude(stranger: Pod, held: Issued, seconds: float) -> Intrusion:
    path = stranger.directory / f"{held.serial:x}.pem"
    await asyncio.to_thread(path.write_bytes, held.key + held.chain)
    told = await stranger.python(INTRUDE, views.BACKEND_ADDRESS, str(path), str(seconds))
    assert told.text, told.error
    shaken, answered = json.loads(told.text)
    return Intrusion(shaken, [(port, secured) for port, secured in answered])


@pytest.mark.parametrize("secrets_after", [0, 0.3, 1.0])
async def test_no_listener_is_open_before_its_secrets(tmp_path: Path, secrets_after: float) -> None:
    """Many filter chains share one secret, and all of them verify by it as soon as they are there (CVE-2020-8664)."""
    name = x509.UniformResourceIdentifier(views.FRONTEND)
    async with mesh(tmp_path) as made:
        stranger = await made.pod("stranger", "10.9.0.3", None)
        forged = asyncio.create_task(intrude(stranger, Authority("another root").issue(name), secrets_after + 4))
        view = views.server(MtlsMode.STRICT)
        await made.pod("backend", views.BACKEND_ADDRESS, view, account="backend", secrets_after=secrets_after)
        honest = await intrude(stranger, made.authority.issue(name), 1)
        found = await forged

    assert honest.answered, "what is tried would be answered, if it were vouched for"
    assert {secured for _, secured in honest.answered} == {True}
    assert found.shaken > 0, "the intruder was there while Envoy listened"
    assert found.answered == []

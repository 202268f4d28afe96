"""A certificate that lies in files on the pod: Envoy gets it, follows it, and keeps the last good one."""

import base64
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from fakes.certificates import issued_authority, signing_request
from fakes.mesh_agent import Agent
from fakes.mesh_control_plane import ControlPlane
from mutua.ca import issue
from mutua.ca.authority import Authority
from mutua.ca.caller import Caller, Credential
from mutua.programs.agent_files import FOLDERS
from mutua.spiffe import SpiffeId
from mutua.system import clock, keys

pytestmark = pytest.mark.envoy

MakeAgent = Callable[..., Agent]
WEB = SpiffeId("cluster.local", "shop", "web")


class Files:
    """Three files, written as another program would: each put in its place in one step."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)

    def put(self, authority: Authority, identity: SpiffeId = WEB, *, lasts: timedelta = timedelta(hours=1)) -> int:
        """A new certificate; its serial number."""
        key, now = keys.generate(), clock.now()
        issued = issue.certificate(
            signing_request(key), Caller(identity, Credential.TOKEN), authority, now, x509.random_serial_number(), lasts
        )
        self.write("key.pem", keys.to_pem(key).reveal())
        self.write("root-cert.pem", issued.chain[-1].encode())
        self.write("cert-chain.pem", "".join(issued.chain[:-1]).encode())
        return issued.serial

    def write(self, name: str, content: bytes) -> None:
        """One file."""
        temporary = self.folder / f".{name}"
        temporary.write_bytes(content)
        temporary.replace(self.folder / name)


async def serial(agent: Agent) -> int:
    """Of the certificate that Envoy holds; 0 while there is none."""
    held: dict[str, Any] = (await agent.secrets()).get("default") or {}
    if not held:
        return 0
    chain = base64.b64decode(held["tls_certificate"]["certificate_chain"]["inline_bytes"])
    return x509.load_pem_x509_certificate(chain).serial_number


@pytest.mark.parametrize("folder", FOLDERS)
async def test_envoy_gets_it_and_follows_it(make_agent: MakeAgent, control_plane: ControlPlane, folder: str) -> None:
    """Nobody is asked for a certificate; the mesh's roots are trusted beside those of the file."""
    agent = make_agent()
    files = Files(agent.folder / folder)
    authority = issued_authority(1, clock.now())
    first = files.put(authority)
    agent.start()
    await agent.until(lambda: "certificate received" in agent.log)

    async def holds(wanted: int) -> bool:
        return await serial(agent) == wanted

    await agent.until(lambda: holds(first))
    root = (await agent.secrets())["ROOTCA"]["validation_context"]["trusted_ca"]["inline_bytes"]
    trusted = x509.load_pem_x509_certificates(base64.b64decode(root))
    assert set(authority.roots) < set(trusted)
    assert set(x509.load_pem_x509_certificates(control_plane.roots)) < set(trusted)

    second = files.put(authority)
    await agent.until(lambda: holds(second))
    assert control_plane.review.calls == 0


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        ("another's", "this workload is spiffe://cluster.local/ns/shop/sa/web"),
        ("half written", "is not the key of cert-chain.pem"),
        ("another root", "does not lead to a certificate of root-cert.pem"),
        ("garbage", "cannot be used"),
        ("gone", "cannot be read"),
    ],
)
async def test_what_cannot_be_used_changes_nothing(make_agent: MakeAgent, spoil: str, says: str) -> None:
    """Envoy keeps the last good certificate, the log says why, and the next good one is taken."""
    agent = make_agent()
    files = Files(agent.folder / FOLDERS[0])
    authority = issued_authority(0, clock.now())
    first = files.put(authority)
    agent.start()

    async def holds(wanted: int) -> bool:
        return await serial(agent) == wanted

    await agent.until(lambda: holds(first))
    match spoil:
        case "another's":
            files.put(authority, SpiffeId("cluster.local", "shop", "admin"))
        case "half written":
            files.write("key.pem", keys.to_pem(keys.generate()).reveal())
        case "another root":
            files.write("root-cert.pem", issued_authority(0, clock.now()).root_bundle.encode())
        case "garbage":
            files.write("cert-chain.pem", b"nonsense")
        case _:
            (files.folder / "cert-chain.pem").unlink()
    await agent.until(lambda: says in agent.log)
    assert await holds(first)
    assert "PRIVATE KEY" not in agent.log

    last = files.put(authority)
    await agent.until(lambda: holds(last))


async def test_files_that_are_demanded_are_waited_for(make_agent: MakeAgent, control_plane: ControlPlane) -> None:
    """`FILE_MOUNTED_CERTS`: no certificate is asked for meanwhile."""
    agent = make_agent(FILE_MOUNTED_CERTS="true")
    agent.start()
    await agent.until(lambda: "no certificate yet" in agent.log)
    wanted = Files(agent.folder / FOLDERS[0]).put(issued_authority(0, clock.now()))

    async def holds() -> bool:
        return await serial(agent) == wanted

    await agent.until(holds)
    assert control_plane.review.calls == 0

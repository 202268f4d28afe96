"""The agent with a real Envoy: from a token to a certificate that Envoy uses, and what happens when something dies."""

import asyncio
import base64
import dataclasses
import json
import os
import signal
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509

from fakes.certificates import revoked, revoking_authority, root_authority
from fakes.mesh_agent import Agent
from fakes.mesh_control_plane import ControlPlane
from mutua.ca import bundle
from mutua.system import clock

pytestmark = pytest.mark.envoy

MakeAgent = Callable[..., Agent]
IDENTITY = "spiffe://cluster.local/ns/shop/sa/web"


def leaf(secret: dict[str, dict[str, dict[str, str]]]) -> x509.Certificate:
    """The certificate that Envoy holds."""
    return x509.load_pem_x509_certificate(
        base64.b64decode(secret["tls_certificate"]["certificate_chain"]["inline_bytes"])
    )


def mode(path: Path) -> int:
    """Who may do what with a file."""
    return stat.S_IMODE(path.stat().st_mode)


def core_limits(pid: int) -> list[str]:
    """How big a core file of a process may become: soft and hard."""
    limits = Path(f"/proc/{pid}/limits").read_text().splitlines()
    (core,) = [line.split() for line in limits if line.startswith("Max core file size")]
    return core[4:6]


def secret_in(path: Path) -> bool:
    """Whether a file that the agent or Envoy wrote holds a key or a token; the kubelet's own mounts are not theirs."""
    written = "var/run/secrets/tokens" not in str(path)
    return written and any(mark in path.read_bytes() for mark in (b"PRIVATE KEY", b"eyJ"))


def is_running(pid: int) -> bool:
    """Whether a process is there."""
    return Path(f"/proc/{pid}").exists()


def everything_visible(agent: Agent) -> str:
    """Logs, files, arguments and environments: where a key must not be."""
    files = "".join(path.read_text(errors="replace") for path in agent.folder.rglob("*") if path.is_file())
    processes = "".join(
        Path(f"/proc/{pid}/{name}").read_text()
        for pid in (agent.pid, agent.envoy_pid())
        for name in ("cmdline", "environ")
    )
    return files + processes


async def test_envoy_gets_its_certificate_and_dials_the_control_plane(
    make_agent: MakeAgent, control_plane: ControlPlane
) -> None:
    """Ready; the identity is right; Envoy's own connection is mutual TLS; nothing private lies about."""
    agent = make_agent()
    agent.start()
    await agent.ready()
    secrets = await agent.secrets()

    names = leaf(secrets["default"]).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [IDENTITY]
    roots = base64.b64decode(secrets["ROOTCA"]["validation_context"]["trusted_ca"]["inline_bytes"])
    assert control_plane.roots == roots
    assert await agent.statistic("cluster.xds-grpc.ssl.handshake") == 1

    bootstrap = json.loads((agent.folder / "etc/istio/proxy/envoy-rev.json").read_text())
    assert bootstrap["node"]["id"] == "sidecar~10.1.2.3~web-0.shop~shop.svc.cluster.local"
    assert bootstrap["node"]["cluster"] == "web.shop"
    assert bootstrap["node"]["metadata"]["LABELS"] == {"app": "web", "version": "v1"}

    socket = agent.folder / "var/run/secrets/workload-spiffe-uds/socket"
    assert mode(socket) == 0o600
    assert mode(agent.folder / "etc/istio/proxy/envoy-rev.json") == 0o600
    assert "PRIVATE KEY" not in everything_visible(agent)
    assert not [path for path in agent.folder.rglob("*") if path.is_file() and mode(path) & 0o077 and secret_in(path)]
    for pid in (agent.pid, agent.envoy_pid()):
        assert core_limits(pid) == ["0", "0"]


async def test_the_two_open_ports_answer_two_paths(make_agent: MakeAgent) -> None:
    """Whoever can reach the pod cannot reach the rest of Envoy's admin interface."""
    agent = make_agent()
    agent.start()
    await agent.ready()

    assert (await agent.get("/stats/prometheus", agent.metrics_port))[0] == 200
    for port in (agent.readiness_port, agent.metrics_port):
        for path in (
            "/config_dump",
            "/ready",
            "/stats",
            "/quitquitquit",
            "/",
            "/stats/prometheus/",
            "/healthz/ready/x",
        ):
            assert (await agent.get(path, port))[0] == 404, path
    assert (await agent.get("/healthz/ready", agent.readiness_port, "POST"))[0] == 404
    assert (await agent.get("/stats/prometheus", agent.readiness_port))[0] == 404


async def test_certificates_rotate_without_the_token(make_agent: MakeAgent, control_plane: ControlPlane) -> None:
    """A new key and serial over the renewal port, pushed to Envoy while its connections stay."""
    agent = make_agent(SECRET_TTL="10s", SECRET_GRACE_PERIOD_RATIO="0.9", SECRET_GRACE_PERIOD_RATIO_JITTER="0")
    agent.start()
    await agent.ready()
    first = leaf((await agent.secrets())["default"])

    async def replaced() -> x509.Certificate | None:
        found = leaf((await agent.secrets())["default"])
        return found if found.serial_number != first.serial_number else None

    second = await agent.until(replaced)
    assert first.public_key() != second.public_key()
    assert control_plane.review.calls == 1
    assert await agent.statistic("cluster.xds-grpc.upstream_cx_total") == 1


async def test_a_control_plane_that_comes_late(make_agent: MakeAgent, control_plane: ControlPlane) -> None:
    """The agent waits, says so, and then needs nobody's help."""
    await control_plane.stop()
    agent = make_agent()
    agent.start()
    await agent.until(lambda: "no certificate yet" in agent.log)
    await control_plane.start()

    await agent.ready()
    assert agent.envoy_pid()


async def test_a_control_plane_that_goes_away(make_agent: MakeAgent, control_plane: ControlPlane) -> None:
    """Envoy stays ready with what it has, and reconnects when there is somebody again."""
    agent = make_agent()
    agent.start()
    await agent.ready()
    await control_plane.stop()

    async def disconnected() -> bool:
        return await agent.statistic("control_plane.connected_state") == 0

    await agent.until(disconnected)
    assert (await agent.get("/healthz/ready", agent.readiness_port))[0] == 200
    await control_plane.start()

    async def connected() -> bool:
        return await agent.statistic("control_plane.connected_state") == 1

    await agent.until(connected)


async def test_a_machine_that_slept_for_longer_than_its_certificate(
    make_agent: MakeAgent, control_plane: ControlPlane
) -> None:
    """Agent and Envoy stand still until the certificate has expired; then they help themselves, by the token."""
    agent = make_agent(SECRET_TTL="6s")
    agent.start()
    await agent.ready()
    first = leaf((await agent.secrets())["default"])
    reviews = control_plane.review.calls
    processes = (agent.pid, agent.envoy_pid())
    for pid in processes:
        os.kill(pid, signal.SIGSTOP)
    try:
        await asyncio.sleep((first.not_valid_after_utc - clock.now()).total_seconds() + 0.5)
    finally:
        for pid in processes:
            os.kill(pid, signal.SIGCONT)
    awake = clock.now()

    async def usable() -> bool:
        found = leaf((await agent.secrets())["default"])
        return found.serial_number != first.serial_number and found.not_valid_after_utc > clock.now()

    await agent.until(usable)
    assert (clock.now() - awake).total_seconds() < 10
    assert control_plane.review.calls > reviews


async def test_a_stop_is_orderly(make_agent: MakeAgent) -> None:
    """SIGTERM: drained, Envoy gone, exit code 0, well before the drain time when nobody is connected."""
    agent = make_agent()
    agent.start()
    await agent.ready()
    envoy = agent.envoy_pid()

    os.kill(agent.pid, signal.SIGTERM)

    assert await agent.exit_code() == 0, agent.log
    assert "drained" in agent.log
    assert not is_running(envoy)


async def test_a_stop_before_anything_is_ready(make_agent: MakeAgent, control_plane: ControlPlane) -> None:
    """Also while there is no certificate."""
    await control_plane.stop()
    agent = make_agent()
    agent.start()
    await agent.until(lambda: "starting" in agent.log)

    os.kill(agent.pid, signal.SIGTERM)

    assert await agent.exit_code() == 0, agent.log


async def test_envoy_dies_with_its_agent(make_agent: MakeAgent) -> None:
    """SIGKILL leaves nothing behind: the kernel ends the child."""
    agent = make_agent()
    agent.start()
    await agent.until(lambda: "certificate received" in agent.log)
    envoy = agent.envoy_pid()
    descriptor = os.pidfd_open(envoy)

    agent.kill()

    ended = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().add_reader(descriptor, lambda: ended.done() or ended.set_result(None))
    try:
        async with asyncio.timeout(5):
            await ended
    finally:
        asyncio.get_running_loop().remove_reader(descriptor)
        os.close(descriptor)


async def test_the_agent_ends_with_its_envoy(make_agent: MakeAgent) -> None:
    """With its code, so that the node restarts the container."""
    agent = make_agent()
    agent.start()
    await agent.until(lambda: "certificate received" in agent.log)

    os.kill(agent.envoy_pid(), signal.SIGKILL)

    assert await agent.exit_code() == 128 + signal.SIGKILL
    assert "Envoy ended" in agent.log


async def test_a_pod_without_its_token_says_so(make_agent: MakeAgent) -> None:
    """The file's name is in the log, and the agent goes on trying."""
    agent = make_agent()
    (agent.folder / "var/run/secrets/tokens/istio-token").unlink()
    agent.start()
    await agent.until(lambda: "istio-token" in agent.log)
    (agent.folder / "var/run/secrets/tokens/istio-token").write_text("good")

    await agent.ready()


async def test_settings_that_are_wrong_are_named(make_agent: MakeAgent) -> None:
    """One error line with the variable, and no Envoy."""
    agent = make_agent(SECRET_TTL="soon")
    agent.start()

    assert await agent.exit_code() == 1
    assert agent.log == "error: SECRET_TTL is 'soon', not a duration\nhint: for example 24h, 90m or 5s\n"


async def test_new_roots_reach_envoy_at_once(make_agent: MakeAgent, control_plane: ControlPlane) -> None:
    """The mounted file changes: Envoy trusts both, gets a certificate of the new issuer, and the agent says so."""
    agent = make_agent()
    agent.start()
    await agent.ready()
    await agent.until(lambda: control_plane.reports)
    old = control_plane.authority
    assert old is not None
    new = root_authority(clock.now())
    # As in a rotation: first everybody trusts both, then the new one signs.
    both = dataclasses.replace(old, roots=(*old.roots, *new.roots))
    folder = agent.folder / "var/run/secrets/istio"
    control_plane.use(both)
    (folder / "root-cert.pem").write_text(both.root_bundle)
    await agent.until(lambda: control_plane.reports[-1].roots == bundle.digest(both.roots))
    signing = dataclasses.replace(new, roots=both.roots)
    control_plane.use(signing)
    (folder / "issuer.json").write_text(json.dumps({"issuer": signing.issuer_id, "nudge": "1"}))
    await agent.until(lambda: control_plane.reports[-1].issuer == new.issuer_id)
    secrets = await agent.secrets()
    leaf(secrets["default"]).verify_directly_issued_by(new.certificate)
    trusted = base64.b64decode(secrets["ROOTCA"]["validation_context"]["trusted_ca"]["inline_bytes"])
    assert set(x509.load_pem_x509_certificates(trusted)) == {*old.roots, *new.roots}
    (folder / "root-cert.pem").write_text(new.root_bundle)
    control_plane.use(new)
    await agent.until(lambda: control_plane.reports[-1].roots == bundle.digest(new.roots))
    assert await agent.statistic("cluster.xds-grpc.upstream_cx_total") == 1


async def test_revocation_lists_reach_envoy(make_agent: MakeAgent, control_plane: ControlPlane) -> None:
    """The authority's list is taken beside the roots, and again when it changes."""
    control_plane.use(revoking_authority(clock.now()))
    agent = make_agent()
    folder = agent.folder / "var/run/secrets/istio"
    (folder / "ca-crl.pem").write_bytes(revocation_list(control_plane))
    agent.start()
    await agent.ready()
    await agent.until(lambda: control_plane.reports)
    newer = revocation_list(control_plane, 4711)
    (folder / "ca-crl.pem").write_bytes(newer)

    async def replaced() -> bool:
        found = (await agent.secrets())["ROOTCA"]["validation_context"]
        return base64.b64decode(found["crl"]["inline_bytes"]) == newer

    await agent.until(replaced)
    assert "Envoy refused a secret" not in agent.log


def revocation_list(control_plane: ControlPlane, *serials: int) -> bytes:
    """Signed by the control plane's authority."""
    assert control_plane.authority is not None
    return revoked(control_plane.authority, *serials)

"""The authority of a mesh, with a real API server: kept, replaced, refused, rolled over, by several replicas."""

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature

from fakes.certificates import issued_authority, revoked, revoking_authority, root_authority
from mutua.api.meshconfig import Certificate, MeshConfig
from mutua.ca import bundle, plugged_in
from mutua.ca.plugged_in import SigningFiles
from mutua.ca.rollover import Holding, Pod, Stage
from mutua.programs.control_plane.authority import AuthorityKeeper, Besides, InForce
from mutua.programs.control_plane.ca_store import PLUGGED_IN, RECORD, SELF_SIGNED, CaStore
from mutua.programs.control_plane.dns_certificates import DnsCertificates
from mutua.system import clock, keys
from mutua.system.kube import KubeClient
from mutua.system.kube_resources import CONFIG_MAPS, NAMESPACES, SECRETS

WEB: Pod = ("shop", "web-0")


def encoded(files: dict[str, bytes]) -> dict[str, str]:
    return {name: base64.b64encode(content).decode() for name, content in files.items()}


def custom(depth: int = 1) -> SigningFiles:
    """An authority as an operator plugs it in."""
    made = issued_authority(depth, clock.now())
    return SigningFiles(
        certificate=bundle.pem([made.certificate]).encode(),
        key=keys.to_pem(made.key),
        chain=bundle.pem([*made.chain, *made.roots]).encode(),
        roots=made.root_bundle.encode(),
    )


class Mesh:
    """A namespace for one control plane's secrets, and the keepers of its replicas."""

    def __init__(self, kube: KubeClient, namespace: str) -> None:
        self.kube = kube
        self.namespace = namespace
        self.proxies: frozenset[Pod] | None = frozenset()
        self.besides = Besides()
        self._running: list[asyncio.Task[None]] = []

    async def keeper(self) -> AuthorityKeeper:
        """One more replica, for tests that see it do something before they end."""
        keeper = self.idle_keeper()
        await keeper.start()
        self._running.append(asyncio.create_task(keeper.run()))
        return keeper

    def idle_keeper(self) -> AuthorityKeeper:
        return AuthorityKeeper(
            CaStore(self.kube, self.namespace),
            "cluster.local",
            lambda: self.proxies,
            announced=lambda: True,
            besides=lambda: self.besides,
        )

    async def plug_in(self, files: dict[str, bytes]) -> None:
        """Create or replace `cacerts`."""
        body: dict[str, Any] = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": PLUGGED_IN}}
        await self.kube.delete(SECRETS, PLUGGED_IN, self.namespace)
        await self.kube.create(SECRETS, body | {"data": encoded(files)}, self.namespace)

    async def ask(self, request: str) -> None:
        """As `mutua ca rotate` does."""
        await self.kube.patch(CONFIG_MAPS, RECORD, {"data": {"request": request}}, self.namespace)

    async def stop(self) -> None:
        """All replicas die."""
        for task in self._running:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self._running.clear()


@pytest.fixture
async def mesh(kube: KubeClient) -> AsyncIterator[Mesh]:
    """A namespace of the test's own."""
    name = f"ca-{uuid4()}"
    await kube.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    made = Mesh(kube, name)
    yield made
    await made.stop()


async def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    """Wait for something to become true."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - looks from outside, as an operator does
            await asyncio.sleep(0.02)


def in_force(keeper: AuthorityKeeper) -> InForce:
    assert keeper.in_force is not None
    return keeper.in_force


async def test_all_replicas_and_restarts_agree_on_one_root(mesh: Mesh) -> None:
    """Two that start at once, and one that starts later, sign under the same root."""
    first, second = await asyncio.gather(mesh.idle_keeper().start(), mesh.idle_keeper().start())
    third = await mesh.idle_keeper().start()
    assert first.authority.id == second.authority.id == third.authority.id
    secret = await mesh.kube.get(SECRETS, SELF_SIGNED, mesh.namespace)
    assert base64.b64decode(secret["data"]["ca-cert.pem"]).decode() == third.authority.root_bundle


@pytest.mark.parametrize("form", ["istio", "tls"])
async def test_a_mesh_that_starts_with_a_custom_authority_uses_it(mesh: Mesh, form: str) -> None:
    """Both forms of the secret; no self-signed root is ever made."""
    files = custom()
    tls = {"tls.crt": files.certificate, "tls.key": files.key.reveal(), "ca.crt": files.roots}
    await mesh.plug_in(files.as_files() if form == "istio" else tls)
    found = await mesh.idle_keeper().start()
    assert found.authority.id == files.load(clock.now()).id
    assert await mesh.kube.find(SECRETS, SELF_SIGNED, mesh.namespace) is None


async def test_a_mesh_that_starts_with_a_broken_one_waits_and_says_why(mesh: Mesh) -> None:
    """Nothing is signed, nothing is made up; mended, it goes on by itself."""
    files = custom().as_files()
    await mesh.plug_in({name: content for name, content in files.items() if name != "ca-key.pem"})
    keeper = mesh.idle_keeper()
    starting = asyncio.create_task(keeper.start())
    await until(lambda: keeper.problem != "")
    assert "ca-key.pem missing" in keeper.problem
    assert keeper.authority is None
    assert await mesh.kube.find(SECRETS, SELF_SIGNED, mesh.namespace) is None
    await mesh.plug_in(files)
    assert (await asyncio.wait_for(starting, 10)).state.origin == PLUGGED_IN


@pytest.mark.parametrize("fault", ["incomplete", "mismatched", "expired", "foreign root", "garbage"])
async def test_a_broken_replacement_changes_nothing(mesh: Mesh, fault: str) -> None:
    """What was in force signs on, also after a restart, and the reason is told."""
    await mesh.plug_in(custom().as_files())
    keeper = await mesh.keeper()
    before = in_force(keeper).authority.id
    files = custom().as_files()
    match fault:
        case "incomplete":
            del files["cert-chain.pem"]
        case "mismatched":
            files["ca-key.pem"] = custom().key.reveal()
        case "expired":
            old = issued_authority(0, clock.now() - timedelta(days=4000))
            pem = old.root_bundle.encode()
            files |= {"ca-cert.pem": pem, "root-cert.pem": pem, "ca-key.pem": keys.to_pem(old.key).reveal()}
        case "foreign root":
            files["root-cert.pem"] = custom().roots
        case _:
            files["ca-cert.pem"] = b"nonsense"
    await mesh.plug_in(files)
    await until(lambda: "It is not used" in keeper.problem)
    assert in_force(keeper).authority.id == before
    await mesh.stop()
    assert (await mesh.idle_keeper().start()).authority.id == before


async def test_a_replacement_is_taken_over_step_by_step(mesh: Mesh) -> None:
    """Two replicas, proxies that tell now this one and now that one; the old key is gone at the end."""
    mesh.proxies = frozenset({WEB})
    keepers = [await mesh.keeper(), await mesh.keeper()]
    old = in_force(keepers[0]).authority
    files = custom(depth=2)
    new = files.load(clock.now())
    await mesh.plug_in(files.as_files())

    def all_at(stage: Stage) -> Callable[[], bool]:
        return lambda: all(in_force(keeper).state.stage is stage for keeper in keepers)

    await until(all_at(Stage.DISTRIBUTE))
    both = in_force(keepers[0]).authority
    assert both.issuer_id == old.issuer_id
    assert set(both.roots) == {*old.roots, *new.roots}
    keepers[0].told(WEB, Holding(bundle.digest(both.roots), old.issuer_id))
    await until(all_at(Stage.RENEW))
    assert in_force(keepers[1]).authority.issuer_id == new.issuer_id
    assert set(in_force(keepers[1]).authority.roots) == {*old.roots, *new.roots}
    keepers[1].told(WEB, Holding(bundle.digest(both.roots), new.issuer_id))
    await until(all_at(Stage.RETIRE))
    assert in_force(keepers[0]).authority.roots == new.roots
    keepers[0].told(WEB, Holding(bundle.digest(new.roots), new.issuer_id))
    await until(all_at(Stage.SETTLED))
    vault = await CaStore(mesh.kube, mesh.namespace).vault()
    assert set(vault) == {new.id}


async def test_a_rotation_outlives_every_replica(mesh: Mesh) -> None:
    """All die in the middle; who comes next goes on where they were, with what proxies had told."""
    mesh.proxies = frozenset({WEB})
    keeper = await mesh.keeper()
    old = in_force(keeper).authority
    await mesh.ask("rotate")
    await until(lambda: in_force(keeper).state.stage is Stage.DISTRIBUTE)
    both = in_force(keeper).authority
    keeper.told(WEB, Holding(bundle.digest(both.roots), old.issuer_id))
    await until(lambda: in_force(keeper).state.stage is Stage.RENEW)
    await mesh.stop()
    again = await mesh.keeper()
    assert in_force(again).state.stage is Stage.RENEW
    assert in_force(again).authority.issuer_id != old.issuer_id
    await until(lambda: [each.pod for each in again.lagging] == ["web-0"])
    assert "old issuer" in again.lagging[0].why


async def test_revocation_lists_wait_for_the_end_of_a_rotation(mesh: Mesh) -> None:
    """While an authority without lists is trusted too, lists would cut off everybody below it."""
    mesh.proxies = frozenset({WEB})
    keeper = await mesh.keeper()
    old = in_force(keeper).authority
    made = revoking_authority(clock.now())
    root = made.root_bundle.encode()
    files = SigningFiles(root, keys.to_pem(made.key), root, root, revoked(made))
    await mesh.plug_in(files.as_files())
    await until(lambda: in_force(keeper).state.stage is Stage.DISTRIBUTE)
    both = bundle.digest(in_force(keeper).authority.roots)
    assert in_force(keeper).revoked == b""
    keeper.told(WEB, Holding(both, old.issuer_id))
    await until(lambda: in_force(keeper).state.stage is Stage.RENEW)
    assert in_force(keeper).revoked == b""
    keeper.told(WEB, Holding(both, made.issuer_id))
    await until(lambda: in_force(keeper).state.stage is Stage.RETIRE)
    assert in_force(keeper).revoked == files.revoked
    keeper.told(WEB, Holding(bundle.digest(made.roots), made.issuer_id))
    await until(lambda: in_force(keeper).state.stage is Stage.SETTLED)
    newer = revoked(made, 4711)
    await mesh.plug_in(files.as_files() | {"ca-crl.pem": newer})
    await until(lambda: in_force(keeper).revoked == newer)


async def test_roots_of_the_settings_are_trusted_besides(mesh: Mesh) -> None:
    """From the moment they are set until they are taken away; the signer stays, and nothing is rotated."""
    keeper = await mesh.keeper()
    own = in_force(keeper).authority
    partner = root_authority(clock.now())
    mesh.besides = Besides(partner.root_bundle.encode(), (("partner.org", partner.root_bundle),))
    keeper.look()
    await until(lambda: in_force(keeper).authority.root_bundle == own.root_bundle + partner.root_bundle)
    assert in_force(keeper).authority.issuer_id == own.issuer_id
    assert in_force(keeper).foreign == (("partner.org", partner.root_bundle),)
    assert settled(keeper)
    mesh.besides = Besides()
    keeper.look()
    await until(lambda: in_force(keeper).authority.root_bundle == own.root_bundle)


async def test_nobody_is_trusted_besides_while_revocation_lists_are_in_force(mesh: Mesh) -> None:
    """Envoy would refuse everybody whose authority has no list; and revocation is never given up for more trust."""
    made = revoking_authority(clock.now())
    root = made.root_bundle.encode()
    await mesh.plug_in(SigningFiles(root, keys.to_pem(made.key), root, root, revoked(made)).as_files())
    partner = root_authority(clock.now())
    mesh.besides = Besides(partner.root_bundle.encode(), (("partner.org", partner.root_bundle),))
    keeper = await mesh.keeper()
    assert in_force(keeper).revoked
    assert in_force(keeper).authority.root_bundle == made.root_bundle
    assert in_force(keeper).foreign == ()


async def test_where_somebody_else_signs_only_the_roots_are_led_over(mesh: Mesh) -> None:
    """Workloads present the external authority's certificates before, in and after the rotation."""
    external = issued_authority(1, clock.now())
    mesh.besides = Besides(external.root_bundle.encode(), signs_workloads=False)
    mesh.proxies = frozenset({WEB})
    keeper = await mesh.keeper()
    assert in_force(keeper).announcement["issuer"] == ""
    old = in_force(keeper).authority
    await mesh.ask("rotate")
    await until(lambda: in_force(keeper).state.stage is Stage.DISTRIBUTE)
    keeper.told(WEB, Holding(bundle.digest(in_force(keeper).authority.roots), external.issuer_id))
    await until(lambda: in_force(keeper).state.stage is Stage.RETIRE)
    new = in_force(keeper).authority
    assert set(external.roots) < set(new.roots)
    assert not set(old.roots) & set(new.roots) - set(external.roots)
    keeper.told(WEB, Holding(bundle.digest(new.roots), external.issuer_id))
    await until(lambda: settled(keeper))


async def test_a_successor_whose_key_was_deleted(mesh: Mesh) -> None:
    """Somebody empties the secret before anybody signs with it: the rotation ends, the old authority signs on."""
    mesh.proxies = frozenset({WEB})
    keeper = await mesh.keeper()
    old = in_force(keeper).authority
    await mesh.ask("rotate")
    await until(lambda: in_force(keeper).state.stage is Stage.DISTRIBUTE)
    await CaStore(mesh.kube, mesh.namespace).keep_only(old.id)
    await until(lambda: in_force(keeper).state.stage is Stage.SETTLED)
    assert in_force(keeper).authority.id == old.id


async def test_pause_resume_abort(mesh: Mesh) -> None:
    """Held, let go on, walked back; the aborted authority is not taken up again."""
    mesh.proxies = frozenset({WEB})
    keeper = await mesh.keeper()
    old = in_force(keeper).authority
    await mesh.plug_in(custom().as_files())
    await until(lambda: in_force(keeper).state.stage is Stage.DISTRIBUTE)
    await mesh.ask("pause")
    await until(lambda: in_force(keeper).state.paused)
    both = bundle.digest(in_force(keeper).authority.roots)
    keeper.told(WEB, Holding(both, old.issuer_id))
    await mesh.ask("resume")
    await until(lambda: in_force(keeper).state.stage is Stage.RENEW)
    await mesh.ask("abort")
    await until(lambda: in_force(keeper).authority.issuer_id == old.issuer_id)
    keeper.told(WEB, Holding(both, old.issuer_id))
    await until(lambda: in_force(keeper).state.stage is Stage.RETIRE)
    keeper.told(WEB, Holding(bundle.digest(old.roots), old.issuer_id))
    await until(lambda: in_force(keeper).state.stage is Stage.SETTLED)
    assert in_force(keeper).authority.id == old.id
    assert in_force(keeper).state.declined


async def test_a_deleted_custom_authority_stays_in_force(mesh: Mesh) -> None:
    """A missing file changes nobody's trust; it is told, and rotation to a root of ours is one request away."""
    await mesh.plug_in(custom().as_files())
    keeper = await mesh.keeper()
    before = in_force(keeper).authority.id
    await mesh.kube.delete(SECRETS, PLUGGED_IN, mesh.namespace)
    await until(lambda: "is gone" in keeper.problem)
    assert in_force(keeper).authority.id == before
    await mesh.ask("rotate")
    await until(lambda: in_force(keeper).state.origin == SELF_SIGNED)


async def test_certificates_for_dns_names(mesh: Mesh) -> None:
    """Written, rewritten for other names and under another issuer, mended; what is not ours is left alone."""
    keeper = await mesh.keeper()
    config = MeshConfig(
        root_namespace=mesh.namespace,
        certificates=(
            Certificate(secret_name="dns-cert", dns_names=("api.example.com",)),
            Certificate(secret_name=SELF_SIGNED, dns_names=("thief.example.com",)),
        ),
    )
    before = await mesh.kube.get(SECRETS, SELF_SIGNED, mesh.namespace)
    named = DnsCertificates(mesh.kube, lambda: config, lambda: keeper.authority)
    keeper.on_change(lambda _: named.look())
    running = asyncio.create_task(named.run())

    async def leaf() -> x509.Certificate | None:
        found = await mesh.kube.find(SECRETS, "dns-cert", mesh.namespace)
        if found is None:
            return None
        assert found["type"] == "kubernetes.io/tls"
        assert found["data"]["tls.crt"] == found["data"]["cert-chain.pem"]
        return x509.load_pem_x509_certificate(base64.b64decode(found["data"]["tls.crt"]))

    first = await eventually(leaf)
    names = first.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [name.value for name in names] == ["api.example.com"]
    before_rotation = in_force(keeper).authority
    await mesh.ask("rotate")
    await until(lambda: in_force(keeper).authority.id not in (before_rotation.id, "") and settled(keeper))
    root = in_force(keeper).authority.certificate

    async def another() -> x509.Certificate | None:
        found = await leaf()
        assert found is not None
        return found if found.issuer == root.subject and is_signed_by(found, root) else None

    second = await eventually(another)
    assert second.serial_number != first.serial_number
    assert (await mesh.kube.get(SECRETS, SELF_SIGNED, mesh.namespace))["metadata"].get("labels") == before[
        "metadata"
    ].get("labels")
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


def settled(keeper: AuthorityKeeper) -> bool:
    return in_force(keeper).state.stage is Stage.SETTLED


def is_signed_by(leaf: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        leaf.verify_directly_issued_by(issuer)
    except InvalidSignature:
        return False
    return True


async def eventually(ask: Callable[[], Awaitable[x509.Certificate | None]]) -> x509.Certificate:
    """The first answer."""
    async with asyncio.timeout(10):
        while (found := await ask()) is None:  # noqa: ASYNC110 - looks from outside, as an operator does
            await asyncio.sleep(0.05)
    return found


def test_the_key_is_never_shown() -> None:
    """Whatever prints these files prints no key."""
    files = custom()
    assert "PRIVATE" not in f"{files} {files!r} {files.load(clock.now())!r}"
    assert plugged_in.read({}, "nowhere") is None

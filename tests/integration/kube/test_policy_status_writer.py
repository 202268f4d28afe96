"""The status of policies, with a real API server and several replicas of the writer."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest

from mutua.analysis.inputs import World
from mutua.api import kinds
from mutua.api.findings import Finding
from mutua.api.meshconfig import MeshConfig
from mutua.installation import values
from mutua.mesh import build
from mutua.mesh.objects import ObjectSet
from mutua.mesh.proxy_view import InboundView, MtlsMode, Trust
from mutua.mesh.snapshot import MeshSnapshot
from mutua.programs.cli import installer
from mutua.programs.control_plane import policy_status
from mutua.programs.control_plane.policy_status import PolicyStatusWriter
from mutua.programs.control_plane.settings import Settings
from mutua.servers.xds_connection import ProxyStatus
from mutua.sources import kubernetes
from mutua.sources.merge import Merge
from mutua.spiffe import SpiffeId
from mutua.system.kube import KubeClient
from mutua.system.kube_errors import KubeError
from mutua.system.kube_resources import CONFIG_MAPS, NAMESPACES, PODS
from mutua.xds.node import Node
from mutua.xds.status import TypeStatus
from mutua.xds.sync_state import SyncState

POLICIES = kubernetes.resource(kinds.PEER_AUTHENTICATION)
TYPES = ("CDS", "EDS", "LDS", "RDS")


def proxy(namespace: str, pod: str, listeners: SyncState = SyncState.SYNCED) -> ProxyStatus:
    """A connected proxy."""
    states = dict.fromkeys(TYPES, SyncState.SYNCED) | {"LDS": listeners}
    return ProxyStatus(
        Node.parse(f"sidecar~10.0.0.1~{pod}.{namespace}~{namespace}.svc.cluster.local"),
        SpiffeId("cluster.local", namespace, "default"),
        tuple(TypeStatus(name, state) for name, state in states.items()),
        InboundView(Trust(), MtlsMode.PERMISSIVE, (), (), ()),
    )


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Waits for something to become true."""
    async with asyncio.timeout(10):
        while True:
            if await condition():
                return
            await asyncio.sleep(0.05)


class Replica:
    """What of a control plane the writer needs: objects that are followed, and proxies that we say are connected."""

    def __init__(self, kube: KubeClient, namespace: str, name: str) -> None:
        self.proxies: list[ProxyStatus] = []
        self.deliveries = 0
        self.writes = 0
        self._kube = kube
        self._settings = Settings(name, namespace)
        self._snapshot: MeshSnapshot | None = None
        self._writer = PolicyStatusWriter(self, self._settings, self._world, self._connected, dict)  # type: ignore[arg-type]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kube, name)

    async def patch(self, *arguments: Any, **options: Any) -> Any:
        """The client's, counted."""
        self.writes += 1
        return await self._kube.patch(*arguments, **options)

    async def run(self) -> None:
        """Until cancelled."""
        inputs = kinds.snapshot_inputs()
        merge = Merge(inputs, self._deliver)
        async with asyncio.TaskGroup() as group:
            group.create_task(kubernetes.follow(self._kube, inputs, merge, lambda _trouble: None, self._writer.observe))
            group.create_task(merge.run())
            group.create_task(self._writer.run())

    def _connected(self) -> Iterator[ProxyStatus]:
        return iter(list(self.proxies))

    async def _deliver(self, objects: ObjectSet, _findings: tuple[Finding, ...]) -> None:
        self.deliveries += 1
        self._snapshot = build.snapshot(objects, MeshConfig(), self._snapshot)
        self._writer.changed()

    def _world(self) -> tuple[World, MeshSnapshot] | None:
        if self._snapshot is None:
            return None
        return World(self._snapshot.objects, istio_namespace=self._settings.namespace, is_complete=True), self._snapshot


@contextlib.asynccontextmanager
async def running(*replicas: Replica) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(replica.run()) for replica in replicas]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Shop:
    """A namespace that is both an application's and a control plane's, so that tests do not meet."""

    def __init__(self, kube: KubeClient, name: str) -> None:
        self.kube, self.name = kube, name

    async def pod(self, name: str, number: int, *, control_plane: bool = False) -> None:
        """A running pod with a sidecar; or one of the control plane, that is ready."""
        labels = {"app": "istiod"} if control_plane else {"app": "web"}
        container = {"name": "discovery" if control_plane else "istio-proxy", "image": "nginx"}
        head = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}}
        await self.kube.create(PODS, head | {"spec": {"containers": [container]}}, self.name)
        ready = [{"type": "Ready", "status": "True"}]
        status = {"phase": "Running", "podIP": f"10.7.0.{number}", "conditions": ready}
        await self.kube.patch(PODS, name, {"status": status}, self.name, subresource="status")

    async def policy(self, name: str = "all", mode: str = "STRICT") -> None:
        """A PeerAuthentication."""
        head = {"apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication", "metadata": {"name": name}}
        await self.kube.create(POLICIES, head | {"spec": {"mtls": {"mode": mode}}}, self.name)

    async def object(self, name: str = "all") -> dict[str, Any]:
        """The policy as the API server has it."""
        return await self.kube.get(POLICIES, name, self.name)

    async def says(self, proxies: str, name: str = "all", **wanted: str) -> dict[str, dict[str, Any]]:
        """Waits for a status; its conditions by type."""
        seen: Any = None
        try:
            async with asyncio.timeout(15):
                while True:
                    seen = (await self.object(name)).get("status") or {}
                    found = {each["type"]: each for each in seen.get("conditions") or () if isinstance(each, dict)}
                    if seen.get("proxies") == proxies and all(
                        found.get(kind, {}).get("status") == value for kind, value in wanted.items()
                    ):
                        return found
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"the status is {seen}") from None


@pytest.fixture
async def shop(kube: KubeClient, monkeypatch: pytest.MonkeyPatch) -> Shop:
    for name, seconds in (("PAUSE_SECONDS", 0.05), ("AGAIN_SECONDS", 0.2), ("RETRY_SECONDS", 0.5)):
        monkeypatch.setattr(policy_status, name, seconds)
    settings = ("profile=empty", "components.base.enabled=true")
    await installer.install(kube, values.installation(values.resolve(settings=settings), "1"), lambda _line: None)
    name = f"status-{uuid4().hex[:8]}"
    await kube.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    made = Shop(kube, name)
    await made.pod("istiod-a", 1, control_plane=True)
    await made.pod("web-1", 11)
    await made.pod("web-2", 12)
    return made


async def test_a_policy_says_on_how_many_proxies_it_is_live(shop: Shop, kube: KubeClient) -> None:
    replica = Replica(kube, shop.name, "istiod-a")
    replica.proxies = [proxy(shop.name, "web-1"), proxy(shop.name, "web-2", SyncState.STALE)]
    async with running(replica):
        await shop.policy()
        found = await shop.says("1/2", Reconciled="False")
        replica.proxies[1] = proxy(shop.name, "web-2")
        later = await shop.says("2/2", Reconciled="True", Effective="True")

    assert found["Reconciled"]["reason"] == "Waiting"
    assert later["Effective"]["lastTransitionTime"] == found["Effective"]["lastTransitionTime"]
    assert {each["observedGeneration"] for each in later.values()} == {1}


async def test_what_is_said_is_not_said_again_and_brings_nothing_about(shop: Shop, kube: KubeClient) -> None:
    replica = Replica(kube, shop.name, "istiod-a")
    replica.proxies = [proxy(shop.name, "web-1"), proxy(shop.name, "web-2")]
    async with running(replica):
        await shop.policy()
        await shop.says("2/2")
        await asyncio.sleep(0.3)
        writes, deliveries, version = replica.writes, replica.deliveries, await shop.object()
        await asyncio.sleep(1.0)

        assert (replica.writes, replica.deliveries, await shop.object()) == (writes, deliveries, version)

        # A program that starts anew finds that all is said.
    again = Replica(kube, shop.name, "istiod-a")
    again.proxies = replica.proxies
    async with running(again):
        await asyncio.sleep(1.5)
    assert (again.writes, await shop.object()) == (0, version)


async def test_a_forged_status_is_put_right_and_moves_nothing(shop: Shop, kube: KubeClient) -> None:
    replica = Replica(kube, shop.name, "istiod-a")
    replica.proxies = [proxy(shop.name, "web-1"), proxy(shop.name, "web-2")]
    async with running(replica):
        await shop.policy()
        await shop.says("2/2")
        deliveries = replica.deliveries
        others = {"type": "Audited", "status": "True", "reason": "Seen", "message": "", "lastTransitionTime": "x"}
        forged = {
            "proxies": "9/9",
            "conditions": [others, {"type": "Effective", "status": "False"}, 7],
            "mode": "DISABLE",
        }
        await kube.patch(POLICIES, "all", {"status": forged}, shop.name, subresource="status")
        found = await shop.says("2/2", Effective="True", Audited="True")

    assert found["Audited"] == others
    assert replica.deliveries == deliveries


async def test_one_replica_writes_for_all(shop: Shop, kube: KubeClient) -> None:
    await shop.pod("istiod-b", 2, control_plane=True)
    first, second = (Replica(kube, shop.name, name) for name in ("istiod-a", "istiod-b"))
    first.proxies, second.proxies = [proxy(shop.name, "web-1")], [proxy(shop.name, "web-2")]
    selector = "mutua.io/report=policy-status"
    async with running(first, second):
        await shop.policy()
        await shop.says("2/2", Reconciled="True")
        (report,) = await kube.list(CONFIG_MAPS, shop.name, label_selector=selector)
        assert [owner["name"] for owner in report["metadata"]["ownerReferences"]] == ["istiod-b"]

        # Without the replica that writes, the other one does; its proxies come to it.
        await kube.delete(PODS, "istiod-a", shop.name)
        await shop.policy("another", "PERMISSIVE")
        second.proxies.append(proxy(shop.name, "web-1"))
        first.proxies.clear()
        await shop.says("2/2", Reconciled="True")
        await shop.says("0/0", "another", Effective="False")


async def test_another_generation_is_told_anew(shop: Shop, kube: KubeClient) -> None:
    replica = Replica(kube, shop.name, "istiod-a")
    replica.proxies = [proxy(shop.name, "web-1"), proxy(shop.name, "web-2")]
    async with running(replica):
        await shop.policy()
        await shop.says("2/2")
        await kube.patch(POLICIES, "all", {"spec": {"mtls": {"mode": "PERMISSIVE"}}}, shop.name)

        async def is_told() -> bool:
            return bool((await shop.object())["status"]["observedGeneration"] == 2)

        await until(is_told)


async def test_without_the_right_to_write_everything_else_goes_on(
    shop: Shop, kube: KubeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica = Replica(kube, shop.name, "istiod-a")

    async def refused(*_arguments: Any, **_options: Any) -> Any:
        replica.writes += 1
        raise KubeError("cannot patch: forbidden", status=403)

    monkeypatch.setattr(replica, "patch", refused)
    async with running(replica):
        await shop.policy()
        await until(lambda: asyncio.sleep(0, replica.writes >= 2))
        deliveries = replica.deliveries
        await shop.policy("another")
        await until(lambda: asyncio.sleep(0, replica.deliveries > deliveries))

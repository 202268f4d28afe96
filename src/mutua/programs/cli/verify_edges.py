"""One connection on an edge: the facts of both Envoys before and after, and its packets where they are ours to see."""

import asyncio
import contextlib
import secrets
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import msgspec

from mutua.envoy import names, telemetry
from mutua.errors import MutuaError
from mutua.mesh.proxy_view import MtlsMode
from mutua.mesh.snapshot import MeshSnapshot
from mutua.mesh.workloads import Workload
from mutua.programs.cli import common
from mutua.programs.wire import Capture, Wire
from mutua.reports import encryption, exposition
from mutua.reports.encryption import Attempt, Counted, Edge, Handshakes, Held, Sample
from mutua.reports.proxy_status import ProxyState
from mutua.system import touch
from mutua.system.kube import KubeClient
from mutua.system.kube_errors import KubeRefusedError
from mutua.system.kube_pod_http import Kept, PodHttp
from mutua.system.kube_resources import PODS
from mutua.system.kube_streams import execute
from mutua.verdict import call
from mutua.verdict.connection import Protection
from mutua.verdict.request import HttpRequest

AT_ONCE: Final = 4
SERVERS_AT_MOST: Final = 20
COUNTED_TRIES: Final = 3
COUNTED_PAUSE_SECONDS: Final = 0.2
_COUNTERS: Final = f"{telemetry.REQUESTS}|{telemetry.OPENED}"
_INIT_CONTAINER: Final = "istio-init"
_BY_MARK: Final = "--exempt-mark"
_NO_ANSWER: Final = frozenset({"000", "502", "503", "504"})
_LEAST_PROTECTED: Final = (Protection.NONE, Protection.TLS, Protection.MUTUAL_TLS)


class Target(NamedTuple):
    """One edge to verify. `host` is a Service's full name, or "" where the server itself is called."""

    client: Workload
    name: str  # of the client, for people: namespace/workload
    host: str
    port: int
    server: Workload | None
    is_http: bool


class Made(NamedTuple):
    """An edge on which a connection was tried, before its packets are looked at. `span`: seconds since 1970."""

    target: Target
    outcomes: tuple[call.Outcome, ...]
    attempt: Attempt | None
    before: Handshakes
    after: Handshakes
    counted: tuple[Counted, ...]
    mark: str
    span: tuple[float, float]
    own: Held | None
    theirs: tuple[Held | None, ...]

    @property
    def servers(self) -> dict[str, int]:
        """The pods that may have answered, and on which port of theirs."""
        return {item.server: item.port for item in self.outcomes if "/" in item.server}


class _Envoys:
    """The admin pages of pods' Envoys, each over one connection that is kept. Use as a context manager."""

    def __init__(self, kube: KubeClient) -> None:
        self._kube = kube
        self._stack = contextlib.AsyncExitStack()
        self._doors: dict[str, Kept] = {}
        self._one_by_one: dict[str, asyncio.Lock] = {}

    async def __aenter__(self) -> None:
        await self._stack.__aenter__()

    async def __aexit__(self, *_: object) -> None:
        self._doors.clear()
        await self._stack.aclose()

    async def page(self, pod: str, path: str) -> bytes:
        """One page; b"" if the Envoy does not answer, which is said."""
        namespace, _, name = pod.partition("/")
        async with self._one_by_one.setdefault(pod, asyncio.Lock()):
            try:
                if pod not in self._doors:
                    opened = PodHttp(self._kube, namespace, name).kept()
                    self._doors[pod] = await self._stack.enter_async_context(opened)
                return await self._doors[pod].request("GET", path)
            except MutuaError as error:
                self._doors.pop(pod, None)
                common.say(f"Warning: {error.message}")
                return b""


class Verifier:
    """Verifies edges of one cluster."""

    def __init__(self, kube: KubeClient, snapshot: MeshSnapshot, proxies: Mapping[tuple[str, str], ProxyState]) -> None:
        self._kube = kube
        self._snapshot = snapshot
        self._proxies = proxies
        self._room = asyncio.Semaphore(AT_ONCE)
        self._one_by_one: dict[str, asyncio.Lock] = {}  # clients: what one of their connections changed is told apart
        self._held: dict[str, Held | None] = {}
        self._envoys = _Envoys(kube)

    async def verify(self, targets: Sequence[Target], wire: Wire | None, why_no_wire: str) -> tuple[Edge, ...]:
        """Makes a connection on each, and says what it was. Raises KubeError if the cluster itself does not answer."""
        async with self._envoys:
            if wire is None:
                made = await asyncio.gather(*(self._make(target) for target in targets))
                return tuple(self._edge(item, Sample(why=why_no_wire)) for item in made)
            async with wire.capture() as capture:
                made = await asyncio.gather(*(self._make(target) for target in targets))
            return tuple(self._edge(item, self._sample(item, capture)) for item in made)

    async def _make(self, target: Target) -> Made:
        async with self._one_by_one.setdefault(target.name, asyncio.Lock()), self._room:
            outcomes = call.judge(
                self._snapshot,
                call.Call(
                    client=target.client,
                    host=target.host,
                    port=target.port,
                    server=target.server,
                    request=HttpRequest() if target.is_http else None,
                ),
            )
            mark = secrets.token_hex(8)
            before, counted = await self._handshakes(target), await self._counted(target)
            began = time.time()
            attempt = await self._attempt(target, mark)
            span = (began, time.time())
            after = await self._handshakes(target)
            more = await self._more(target, counted)
            client = f"{target.client.namespace}/{target.client.name}"
            own = await self._certificate(client) if target.client.has_sidecar else None
            servers = list(dict.fromkeys(item.server for item in outcomes if "/" in item.server))[:SERVERS_AT_MOST]
            theirs = [await self._certificate(name) for name in servers]
            return Made(target, outcomes, attempt, before, after, more, mark, span, own, tuple(theirs))

    def _edge(self, made: Made, sample: Sample) -> Edge:
        target, servers = made.target, made.servers
        protections = [item.protection for item in made.outcomes]
        certificates = tuple(item for item in made.theirs if item is not None)
        new = made.after.since(made.before)
        state, reason = encryption.judge(
            made.attempt,
            min(protections, key=_LEAST_PROTECTED.index, default=Protection.NONE),
            new,
            sample,
            counted=made.counted,
            strict=bool(servers) and all(self._is_strict(name, port) for name, port in servers.items()),
            has_certificates=made.own is not None and bool(certificates) and len(certificates) == len(made.theirs),
        )
        steps = [step for item in made.outcomes for step in item.steps if step.step is call.Step.SERVER]
        return Edge(
            client=target.name,
            server=f"{target.host or next(iter(servers), '?')}:{target.port}",
            state=state,
            reason=reason,
            policy=steps[0].reason if steps else "",
            client_certificate=made.own,
            server_certificates=certificates,
            handshakes=new if new.count else made.after,
            counted=made.counted,
            attempt=made.attempt,
            sample=sample,
        )

    def _sample(self, made: Made, capture: Capture) -> Sample:
        """What crossed the wire between client and servers while the connection was made."""
        theirs = [self._snapshot.workload(*name.split("/", 1)) for name in made.servers]
        addresses = {address for workload in theirs if workload for address in workload.addresses}
        found = capture.between(made.target.client.addresses, addresses, set(made.servers.values()), made.span)
        if not found.segments:
            return Sample(why="no packet was seen")
        return Sample(found.segments, found.octets, found.sha256, found.is_tls, found.holds(made.mark))

    def _is_strict(self, server: str, port: int) -> bool:
        namespace, _, pod = server.partition("/")
        proxy = self._proxies.get((namespace, pod))
        return proxy is not None and proxy.has_its_listeners and proxy.accepts(port) is MtlsMode.STRICT

    async def _handshakes(self, target: Target) -> Handshakes:
        """Those of the client's Envoy with the Service's port so far."""
        if not target.client.has_sidecar or not target.host:
            return Handshakes()
        cluster = names.outbound_cluster(target.port, target.host).replace("|", r"\|").replace(".", r"\.")
        page = await self._page(
            f"{target.client.namespace}/{target.client.name}",
            "/stats?format=json&filter=" + quote(rf"^cluster\.{cluster}\.ssl\."),
        )
        return encryption.handshakes((page or {}).get("stats") or ())

    async def _counted(self, target: Target) -> tuple[Counted, ...]:
        """Requests or connections to the Service's port that the client's Envoy has counted so far."""
        if not target.client.has_sidecar or not target.host:
            return ()
        pod = f"{target.client.namespace}/{target.client.name}"
        page = await self._envoys.page(pod, f"/stats/prometheus?filter={quote(_COUNTERS)}")
        return encryption.counted(exposition.samples(page), target.host, target.port)

    async def _more(self, target: Target, before: tuple[Counted, ...]) -> tuple[Counted, ...]:
        """What was counted since; a request is counted a moment after its answer."""
        for _ in range(COUNTED_TRIES):
            if found := encryption.more(before, await self._counted(target)):
                return found
            await asyncio.sleep(COUNTED_PAUSE_SECONDS)
        return ()

    async def _certificate(self, pod: str) -> Held | None:
        if pod not in self._held:
            page, info = await self._page(pod, "/certs"), await self._page(pod, "/server_info")
            parts = str((info or {}).get("version", "")).split("/")
            self._held[pod] = encryption.held(page or {}, pod, parts[1] if len(parts) > 1 else "")
        return self._held[pod]

    async def _page(self, pod: str, path: str) -> dict[str, Any] | None:
        try:
            page = msgspec.json.decode(await self._envoys.page(pod, path))
        except msgspec.DecodeError:
            return None
        return page if isinstance(page, dict) else None

    async def _attempt(self, target: Target, mark: str) -> Attempt | None:
        """The connection, from a container of the client's pod whose connections the sidecar takes."""
        namespace, pod = target.client.namespace, target.client.name
        described = await self._kube.get(PODS, pod, namespace)
        host = target.host or (target.server.addresses[0] if target.server and target.server.addresses else "")
        way = "http" if target.is_http else "tcp"
        by_python = ("python3", "-c", await asyncio.to_thread(_source_of_touch), host, str(target.port), mark, way)
        names = [str(item["name"]) for item in (described.get("spec") or {}).get("containers") or ()]
        own = [common.PROXY_CONTAINER] if _sidecar_is_captured(described) else []
        for container in (*own, *(name for name in names if name != common.PROXY_CONTAINER)):
            with contextlib.suppress(msgspec.DecodeError):
                said = msgspec.json.decode(await self._output(namespace, pod, container, by_python))
                how = f"{'HEAD' if target.is_http else 'TCP connection'} from container {container}"
                return Attempt(how, bool(said["passed"]), str(said["answer"]))
            url = f"http://{host}:{target.port}/?{touch.AGENT}={mark}"
            by_curl = ("curl", "-s", "-o", "/dev/null", "-I", "-m", "5", "-A", touch.AGENT, "-w", "%{http_code}", url)
            code = (await self._output(namespace, pod, container, by_curl)).decode()[-3:] if target.is_http else ""
            if code.isdigit():
                answer = f"HTTP {code}" if code != "000" else "no answer"
                return Attempt(f"HEAD by curl from container {container}", code not in _NO_ANSWER, answer)
        return None

    async def _output(self, namespace: str, pod: str, container: str, command: Sequence[str]) -> bytes:
        """What a command prints; b"" where there is no such program. Raises KubeRefusedError if nobody may run any."""
        try:
            return (await execute(self._kube, namespace, pod, container, command)).stdout.strip()
        except KubeRefusedError:
            raise
        except MutuaError:
            return b""


def _source_of_touch() -> str:
    """The probe as a text, so that it runs wherever there is a Python, whatever else is installed."""
    return Path(touch.__file__).read_text()


def _sidecar_is_captured(pod: Mapping[str, Any]) -> bool:
    """Whether connections out of the sidecar's own container go through Envoy: so where Envoy's are told by a mark.

    Where they are told by the user, all of that container's pass the capture by.
    """
    for container in (pod.get("spec") or {}).get("initContainers") or ():
        if container.get("name") == _INIT_CONTAINER:
            return _BY_MARK in (container.get("args") or ())
    return False

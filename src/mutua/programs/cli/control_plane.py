"""Asking the control plane: every replica, through a port-forward, over its own TLS, with a token made for it."""

import asyncio
import contextlib
import ssl
import time
from typing import NamedTuple, TypeVar
from urllib.parse import urlencode

import msgspec

from mutua.errors import NotFoundError
from mutua.installation.access import DEBUG_ACCOUNT, DEBUG_AUDIENCE, ROOT_CONFIG_MAP
from mutua.programs.cli.common import PodName
from mutua.programs.cli.main import Options
from mutua.programs.control_plane.settings import WEBHOOK_PORT
from mutua.reports.proxy_status import PlaintextSeen, ProxyState
from mutua.reports.traffic import EdgeTraffic, TrafficPage, merged
from mutua.system import tls
from mutua.system.kube import KubeClient
from mutua.system.kube_errors import KubeError
from mutua.system.kube_pod_http import Kept, PodHttp
from mutua.system.kube_resources import CONFIG_MAPS, PODS
from mutua.xds.sync_state import Sent

T = TypeVar("T")
_TOKEN_SECONDS = 600
_REPLICAS_SECONDS = 2.0
_ANSWER_SECONDS = 3.0


class Traffic(NamedTuple):
    """The mesh's edges. `silent`: "namespace/pod: why" of each sidecar that did not tell what it counted."""

    edges: tuple[EdgeTraffic, ...]
    silent: tuple[str, ...]


async def proxies(kube: KubeClient, chosen: Options) -> list[ProxyState]:
    """Every connected proxy, whichever replica it is connected to. Raises NotFoundError, KubeError."""
    return await _ask(kube, chosen, "/debug/syncz", ProxyState)


async def plaintext(kube: KubeClient, chosen: Options) -> list[PlaintextSeen]:
    """Who was seen to speak without mutual TLS. Raises NotFoundError, KubeError."""
    return await _ask(kube, chosen, "/debug/plaintext", PlaintextSeen)


async def traffic(kube: KubeClient, chosen: Options, namespace: str = "") -> Traffic:
    """Who talks to whom, from all sidecars; "" = in all namespaces. Raises NotFoundError, KubeError."""
    pages = await _ask(kube, chosen, f"/debug/traffic?{urlencode({'namespace': namespace})}", TrafficPage)
    edges = merged(edge for page in pages for edge in page.edges)
    return Traffic(edges, tuple(sorted(each for page in pages for each in page.silent)))


class Look(NamedTuple):
    """What all replicas say of one namespace at one moment. `counted`: (replica, what it saw)."""

    proxies: dict[tuple[str, str], ProxyState]
    counted: tuple[tuple[str, PlaintextSeen], ...]


class Watch:
    """Looks at one namespace several times a second, over connections that are kept. Use as a context manager."""

    def __init__(self, kube: KubeClient, chosen: Options, namespace: str) -> None:
        self._kube = kube
        self._chosen = chosen
        self._query = f"?namespace={namespace}"
        self._stack = contextlib.AsyncExitStack()
        self._doors: dict[str, Kept] = {}
        self._headers: list[tuple[str, str]] = []
        self._listed_at = self._entered_at = float("-inf")

    async def __aenter__(self) -> "Watch":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._forget()

    async def look(self) -> Look:
        """What there is now. Raises KubeError, NotFoundError if one replica does not answer: then nobody knows."""
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                await self._enter()
                answers = await asyncio.gather(*(self._of(name, door) for name, door in self._doors.items()))
        except (TimeoutError, OSError, RuntimeError) as error:
            await self._forget()
            raise KubeError(f"the control plane does not answer: {error!r}") from error
        except BaseException:
            await self._forget()
            raise
        found = {(item.namespace, item.pod): item for states, _ in answers for item in states}
        counted = [(name, item) for name, (_, seen) in zip(self._doors, answers, strict=True) for item in seen]
        return Look(found, tuple(counted))

    async def _of(self, name: str, door: Kept) -> tuple[list[ProxyState], list[PlaintextSeen]]:
        # One after the other: both go over the one connection.
        states = await door.request("GET", f"/debug/syncz{self._query}", self._headers)
        seen = await door.request("GET", f"/debug/plaintext{self._query}", self._headers)
        return _decoded(states, ProxyState, name), _decoded(seen, PlaintextSeen, name)

    async def _enter(self) -> None:
        """Doors to the replicas there are now; all of them anew before the token ends."""
        now = time.monotonic()
        if now - self._entered_at > _TOKEN_SECONDS / 2:
            await self._forget()
        if now - self._listed_at < _REPLICAS_SECONDS and self._doors:
            return
        replicas = await _replicas(self._kube, self._chosen)
        # One that is about to start serves no proxy yet, and does not answer; one that we know may serve some still.
        names = [name for name, is_ready in replicas.items() if is_ready or name in self._doors]
        if not names:
            raise NotFoundError(f"no control plane in namespace {self._chosen.istio_namespace} is ready")
        if set(names) != set(self._doors):
            await self._forget()
            access = await _access(self._kube, self._chosen)
            self._headers = access.headers
            for name in names:
                self._doors[name] = await self._stack.enter_async_context(access.of(self._kube, name).kept())
            self._entered_at = now
        self._listed_at = now

    async def _forget(self) -> None:
        self._doors.clear()
        self._listed_at = self._entered_at = float("-inf")
        stack, self._stack = self._stack, contextlib.AsyncExitStack()
        with contextlib.suppress(Exception):  # whatever ends badly has ended
            await stack.aclose()


class _Access(NamedTuple):
    headers: list[tuple[str, str]]
    tls: ssl.SSLContext
    namespace: str

    def of(self, kube: KubeClient, pod: str) -> PodHttp:
        name = f"istiod.{self.namespace}.svc"
        return PodHttp(kube, self.namespace, pod, WEBHOOK_PORT, tls=self.tls, server_name=name)


async def sent(kube: KubeClient, chosen: Options, pod: PodName, *, bodies: bool = False) -> list[Sent]:
    """What a pod's proxy was sent last, by the replica that it is connected to. Raises NotFoundError, KubeError."""
    query = urlencode({"namespace": pod.namespace, "pod": pod.name, "bodies": str(bodies).lower()})
    return await _ask(kube, chosen, f"/debug/sent?{query}", Sent)


async def _replicas(kube: KubeClient, chosen: Options) -> dict[str, bool]:
    """The replicas that run, and whether each is ready. Raises NotFoundError if there is none, KubeError."""
    namespace = chosen.istio_namespace
    selectors = {"label_selector": "app=istiod", "field_selector": "status.phase=Running"}
    running = await kube.list(PODS, namespace, **selectors)
    replicas = {
        str(pod["metadata"]["name"]): any(
            condition["type"] == "Ready" and condition["status"] == "True"
            for condition in pod["status"].get("conditions") or ()
        )
        for pod in running
        if not pod["metadata"].get("deletionTimestamp")
    }
    if not replicas:
        raise NotFoundError(
            f"no control plane runs in namespace {namespace}", "`mutua verify-install` says what is missing"
        )
    return replicas


async def _access(kube: KubeClient, chosen: Options) -> _Access:
    namespace = chosen.istio_namespace
    token = await kube.service_account_token(DEBUG_ACCOUNT, namespace, (DEBUG_AUDIENCE,), _TOKEN_SECONDS)
    root = await kube.get(CONFIG_MAPS, ROOT_CONFIG_MAP, namespace)
    trust = tls.believing(root["data"]["root-cert.pem"])
    headers = [("Authorization", f"Bearer {token}"), ("Host", f"istiod.{namespace}.svc")]
    return _Access(headers, trust, namespace)


async def _ask(kube: KubeClient, chosen: Options, page: str, kind: type[T]) -> list[T]:
    replicas = await _replicas(kube, chosen)
    access = await _access(kube, chosen)

    async def one(pod: str, *, is_ready: bool) -> list[T]:
        try:
            answer = await access.of(kube, pod).get(page, access.headers)
        except KubeError:
            # One that is about to start serves no proxy yet, and must not keep the others' answers from anybody.
            if is_ready or not any(replicas.values()):
                raise
            return []
        return _decoded(answer, kind, pod)

    answers = await asyncio.gather(*(one(name, is_ready=is_ready) for name, is_ready in replicas.items()))
    return [item for answer in answers for item in answer]


def _decoded(body: bytes, kind: type[T], pod: str) -> list[T]:
    try:
        return msgspec.json.decode(body, type=list[kind])  # type: ignore[valid-type]
    except msgspec.DecodeError as error:
        raise KubeError(
            f"the control plane {pod} answers with something else than this program expects: {error}",
            hint="has it another version? `mutua version` shows both",
        ) from error

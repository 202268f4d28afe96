"""What the proofs are played on: a cluster to change, pods to send requests from, sidecars to ask what they saw."""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from importlib import resources
from typing import Any, NamedTuple

import yaml

from mutua.api import kinds
from mutua.errors import MutuaError
from mutua.programs.demo.narrator import Narrator
from mutua.system.kube import KubeClient
from mutua.system.kube_resources import DEPLOYMENTS, PODS, Resource
from mutua.system.kube_streams import execute

NAMESPACE = "secure-apps"
SIDECAR = "istio-proxy"
EFFECT_WITHIN_SECONDS = 5.0
LOOK_AGAIN_SECONDS = 0.02
REQUEST_SECONDS = 5
# curl's own words for "the server hung up": empty reply, connection reset while receiving or sending.
HUNG_UP = {"52": "empty reply", "55": "reset while sending", "56": "connection reset"}


class Answer(NamedTuple):
    """What a client saw: an HTTP status, or 0 and curl's exit code and words."""

    status: int
    exit_code: int
    error: str
    body: str

    @property
    def refused(self) -> bool:
        """Whether the connection, not the request, was refused."""
        return self.status == 0 and str(self.exit_code) in HUNG_UP

    def __str__(self) -> str:
        if self.status:
            return f"HTTP {self.status}"
        return f"{HUNG_UP.get(str(self.exit_code), self.error or 'no answer')} (curl exit {self.exit_code})"


class Stage:
    """The cluster, seen by the proofs. Every method that waits gives up after EFFECT_WITHIN_SECONDS."""

    def __init__(self, kube: KubeClient, narrator: Narrator) -> None:
        self.kube = kube
        self.narrator = narrator

    async def apply(self, name: str) -> None:
        """Applies one of the demonstration's manifests, every document of it."""
        for document in manifest(name):
            await self.kube.apply(resource_of(document), document, document["metadata"].get("namespace", ""))

    async def delete(self, *names: str) -> None:
        """Deletes what the manifests hold."""
        for name in names:
            for document in manifest(name):
                metadata = document["metadata"]
                await self.kube.delete(resource_of(document), metadata["name"], metadata.get("namespace", ""))

    async def pods(self, app: str) -> tuple[dict[str, Any], ...]:
        """The running pods of one application."""
        found = await self.kube.list(PODS, NAMESPACE, label_selector=f"app={app}")
        return tuple(pod for pod in found if not pod["metadata"].get("deletionTimestamp"))

    async def addresses(self, app: str) -> set[str]:
        """The addresses of an application's pods."""
        return {str(pod["status"]["podIP"]) for pod in await self.pods(app)}

    async def request(
        self, client: str, path: str = "/api/x", *, method: str = "GET", server: str = "backend"
    ) -> Answer:
        """Sends one request from the first pod of `client` to the service `server`, with the pod's own curl."""
        pod = (await self.pods(client))[0]["metadata"]["name"]
        marker = "\n%{http_code} %{exitcode} %{errormsg}"
        command = ["curl", "-sS", "-m", str(REQUEST_SECONDS), "-X", method, "-w", marker, f"http://{server}{path}"]
        done = await execute(self.kube, NAMESPACE, pod, client, command)
        body, _, last = done.stdout.decode(errors="replace").rpartition("\n")
        status, _, error = last.partition(" ")
        _, _, words = error.partition(" ")
        return Answer(int(status) if status.isdigit() else 0, done.code, words, body)

    async def until(
        self, wanted: Callable[[Answer], bool], look: Callable[[], Awaitable[Answer]]
    ) -> tuple[Answer, float]:
        """Looks again and again until the answer is the wanted one; the last answer, and the seconds that it took."""
        started = time.monotonic()
        while True:
            answer = await look()
            elapsed = time.monotonic() - started
            if wanted(answer) or elapsed > EFFECT_WITHIN_SECONDS:
                return answer, elapsed
            await asyncio.sleep(LOOK_AGAIN_SECONDS)

    async def seen_by_server(self, client: str, server: str = "backend") -> str:
        """The line that the server's sidecar logged of one fresh request from `client`. Raises MutuaError if none."""
        path = f"/api/x?proof={secrets.token_hex(8)}"
        answer = await self.request(client, path, server=server)
        deadline = time.monotonic() + EFFECT_WITHIN_SECONDS
        while time.monotonic() < deadline:
            for pod in await self.pods(server):
                log = await self.kube.logs(pod["metadata"]["name"], NAMESPACE, SIDECAR, tail_lines=50)
                for line in log.splitlines():
                    if path in line:
                        return line
            await asyncio.sleep(LOOK_AGAIN_SECONDS)
        raise MutuaError(
            f"no sidecar of {server} logged the request {path}; the client saw {answer}",
            hint=f"look at it with: kubectl logs -n {NAMESPACE} -l app={server} -c {SIDECAR}",
        )


def manifest(name: str) -> list[dict[str, Any]]:
    """The documents of one of the demonstration's manifests."""
    text = (resources.files("mutua.programs.demo") / "manifests" / f"{name}.yaml").read_text()
    return [document for document in yaml.load_all(text, Loader=yaml.CSafeLoader) if document]


def resource_of(document: dict[str, Any]) -> Resource:
    """The collection to which a document of a manifest belongs."""
    if document["kind"] == "Deployment":
        return DEPLOYMENTS
    kind = kinds.by_api_version(document["apiVersion"], document["kind"])
    if kind is None:
        raise MutuaError(f"no kind {document['kind']} in {document['apiVersion']}")
    return Resource(kind.group, document["apiVersion"].rpartition("/")[2], kind.plural)

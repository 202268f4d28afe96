"""Definitions, sources and webhooks together with a real API server."""

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from fakes.serving_certificate import self_signed
from mutua.api import kinds
from mutua.api.findings import Finding
from mutua.api.security import PeerAuthentication
from mutua.injection.settings import InjectorSettings
from mutua.installation import values
from mutua.mesh.objects import ObjectSet
from mutua.programs.cli import installer
from mutua.servers import http, webhooks
from mutua.servers.http import ServingCertificate
from mutua.sources import kubernetes
from mutua.sources.merge import Merge
from mutua.system.kube import KubeClient
from mutua.system.kube_errors import KubeError
from mutua.system.kube_resources import MUTATING_WEBHOOKS, NAMESPACES, PODS, PatchType
from mutua.system.logs import Log

POLICIES = kubernetes.resource(kinds.PEER_AUTHENTICATION)


@pytest.fixture
async def namespace(kube: KubeClient, request: pytest.FixtureRequest) -> str:
    """A namespace of the test's own, in a cluster that knows our kinds."""
    settings = ("profile=empty", "components.base.enabled=true")
    told: list[str] = []
    await installer.install(kube, values.installation(values.resolve(settings=settings), "1"), told.append)
    assert told == ["✔ Istio core installed ⛵️", "✔ Installation complete"]
    name = str(request.node.name).replace("_", "-").removeprefix("test-")[:60].rstrip("-")
    await kube.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    return name


def policy(name: str, mode: str) -> dict[str, Any]:
    head = {"apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication", "metadata": {"name": name}}
    return head | {"spec": {"mtls": {"mode": mode}}}


async def test_changes_arrive_as_typed_objects(kube: KubeClient, namespace: str) -> None:
    """Listed, then followed; each delivery is the whole picture."""
    deliveries: asyncio.Queue[ObjectSet] = asyncio.Queue()

    async def deliver(objects: ObjectSet, _findings: tuple[Finding, ...]) -> None:
        deliveries.put_nowait(objects)

    async def mode(objects: ObjectSet) -> str | None:
        found = objects.get(kinds.PEER_AUTHENTICATION, namespace, "a")
        return found.spec.mtls.mode if isinstance(found, PeerAuthentication) and found.spec.mtls else None

    async def until(wanted: str | None) -> None:
        async with asyncio.timeout(10):
            while await mode(await deliveries.get()) != wanted:
                pass

    inputs = kinds.snapshot_inputs()
    merge = Merge(inputs, deliver)
    troubles: list[str] = []
    tasks = [
        asyncio.create_task(kubernetes.follow(kube, inputs, merge, troubles.append)),
        asyncio.create_task(merge.run()),
    ]
    try:
        await until(None)
        await kube.create(POLICIES, policy("a", "STRICT"), namespace)
        await until("STRICT")
        await kube.patch(POLICIES, "a", {"spec": {"mtls": {"mode": "DISABLE"}}}, namespace)
        await until("DISABLE")
        await kube.delete(POLICIES, "a", namespace)
        await until(None)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert troubles == []


async def test_the_schema_refuses_what_it_can(kube: KubeClient, namespace: str) -> None:
    """Without any control plane: the definition itself knows the modes."""
    with pytest.raises(KubeError, match=r"spec\.mtls\.mode") as caught:
        await kube.create(POLICIES, policy("a", "SOMETIMES"), namespace)

    assert caught.value.status == 422


@contextlib.asynccontextmanager
async def injecting(kube: KubeClient, namespace: str) -> AsyncIterator[None]:
    """The injector of this process, called by the API server for pods of the namespace."""
    chain, key = self_signed("localhost")
    application = webhooks.application(InjectorSettings, lambda _document: (), Log("test"))
    async with http.serving(application, "127.0.0.1", 0, ServingCertificate(chain, key)) as port:
        webhook = {
            "name": "test.sidecar-injector.istio.io",
            "clientConfig": {
                "url": f"https://localhost:{port}/inject",
                "caBundle": base64.b64encode(chain).decode(),
            },
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]}],
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
        }
        head = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration"}
        await kube.create(MUTATING_WEBHOOKS, head | {"metadata": {"name": namespace}, "webhooks": [webhook]})
        try:
            yield
        finally:
            await kube.delete(MUTATING_WEBHOOKS, namespace)


def pod(**metadata: Any) -> dict[str, Any]:
    spec = {"containers": [{"name": "web", "image": "nginx"}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"} | metadata, "spec": spec}


async def test_the_api_server_takes_our_patch(kube: KubeClient, namespace: str) -> None:
    """The stored pod has its sidecar, and passed the server's own validation."""
    async with injecting(kube, namespace):
        stored = await kube.create(PODS, pod(), namespace)

    assert [item["name"] for item in stored["spec"]["containers"]] == ["web", "istio-proxy"]
    assert [item["name"] for item in stored["spec"]["initContainers"]] == ["istio-init"]
    assert stored["metadata"]["labels"]["security.istio.io/tlsMode"] == "istio"


async def test_a_refusal_reaches_the_user(kube: KubeClient, namespace: str) -> None:
    """With annotation, value and what to write instead."""
    async with injecting(kube, namespace):
        with pytest.raises(KubeError, match="proxyMemory: 'much' is not a quantity"):
            await kube.create(PODS, pod(annotations={"sidecar.istio.io/proxyMemory": "much"}), namespace)


async def test_what_is_installed_can_be_removed(kube: KubeClient, namespace: str) -> None:
    """By its labels alone; the namespace stays, and a second time finds nothing."""
    removed = await installer.uninstall(kube, "", lambda _line: None)
    again = await installer.uninstall(kube, "", lambda _line: None)

    assert len(kinds.ours()) == removed
    assert again == 0
    assert await kube.find(NAMESPACES, "istio-system") is not None


async def test_two_writers_of_one_object(kube: KubeClient, namespace: str) -> None:
    """Applying again keeps what others added, as the control plane adds its certificate to the webhooks."""
    installation = values.installation(values.resolve(settings=("components.base.enabled=false",)), "1")
    (component,) = installer.manifests.components(installation)
    (injector,) = [item for item in component.objects if item["kind"] == "MutatingWebhookConfiguration"]
    name = injector["metadata"]["name"]
    await kube.apply(MUTATING_WEBHOOKS, injector)
    try:
        operation = {"op": "add", "path": "/webhooks/0/clientConfig/caBundle", "value": "YQ=="}
        await kube.patch(MUTATING_WEBHOOKS, name, [operation], patch_type=PatchType.JSON)

        applied = await kube.apply(MUTATING_WEBHOOKS, injector)

        assert applied["webhooks"][0]["clientConfig"]["caBundle"] == "YQ=="
    finally:
        await kube.delete(MUTATING_WEBHOOKS, name)

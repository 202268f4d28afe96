"""Bringing a cluster to what was asked for: apply, wait, report; and back."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any

import msgspec

from mutua.errors import NotFoundError, UnavailableError
from mutua.installation import manifests, values
from mutua.installation.control_plane import STATE_CONFIG_MAP
from mutua.installation.labels import MANAGED_BY, MANAGED_BY_LABEL
from mutua.installation.manifests import Component
from mutua.installation.values import Installation
from mutua.system.kube import KubeClient, Object
from mutua.system.kube_errors import KubeError, KubeNotFoundError
from mutua.system.kube_resources import (
    CONFIG_MAPS,
    CUSTOM_RESOURCE_DEFINITIONS,
    DEPLOYMENTS,
    MUTATING_WEBHOOKS,
    NAMESPACES,
    PODS,
    SERVICE_ACCOUNTS,
    SERVICES,
    VALIDATING_WEBHOOKS,
    EventType,
    Resource,
)

READINESS_TIMEOUT_SECONDS = 300.0
_AT_ONCE = 8
_ICONS = {"Istio core": "⛵️", "Istiod": "🧠"}
_RBAC = "rbac.authorization.k8s.io"

# Every kind of object that an installation consists of; removal goes from the last to the first.
RESOURCES: Mapping[str, Resource] = {
    "Namespace": NAMESPACES,
    "CustomResourceDefinition": CUSTOM_RESOURCE_DEFINITIONS,
    "ServiceAccount": SERVICE_ACCOUNTS,
    "ClusterRole": Resource(_RBAC, "v1", "clusterroles"),
    "ClusterRoleBinding": Resource(_RBAC, "v1", "clusterrolebindings"),
    "Role": Resource(_RBAC, "v1", "roles"),
    "RoleBinding": Resource(_RBAC, "v1", "rolebindings"),
    "ConfigMap": CONFIG_MAPS,
    "Service": SERVICES,
    "Deployment": DEPLOYMENTS,
    "MutatingWebhookConfiguration": MUTATING_WEBHOOKS,
    "ValidatingWebhookConfiguration": VALIDATING_WEBHOOKS,
}
_CLUSTER_SCOPED = frozenset(
    kind for kind in RESOURCES if kind.startswith(("Cluster", "Custom", "Mutating", "Validating", "Namespace"))
)

Report = Callable[[str], None]


async def install(
    kube: KubeClient,
    installation: Installation,
    report: Report,
    timeout_seconds: float = READINESS_TIMEOUT_SECONDS,
) -> None:
    """Applies all manifests and waits until they work; doing it again changes nothing.

    `report` gets one line per finished step. Raises KubeError, or UnavailableError if it takes longer than the timeout.
    """
    async with _in_time(kube, installation, timeout_seconds):
        for component in manifests.components(installation):
            try:
                await _install(kube, component)
            except KubeError as error:
                report(f"✘ {component.name} encountered an error: {error.message}")
                raise
            report(f"✔ {component.name} installed {_ICONS.get(component.name, '✅')}")
    report("✔ Installation complete")


async def installed(kube: KubeClient, namespace: str, revision: str = "default") -> Installation:
    """What was asked for when it was installed. Raises NotFoundError."""
    suffix = "" if revision == "default" else f"-{revision}"
    state = await kube.find(CONFIG_MAPS, STATE_CONFIG_MAP + suffix, namespace)
    if state is None:
        raise NotFoundError(
            f"no installation of revision {revision} in namespace {namespace}",
            "install it with `mutua install`; -i chooses another namespace, -r another revision",
        )
    found, decode = state["data"], msgspec.json.decode
    made = values.installation(decode(found["settings"]), found["version"])
    # Who was installed before what was written was kept beside what it came to: that is all that is known then.
    return msgspec.structs.replace(made, chosen=decode(found.get("chosen") or found["settings"]))


async def missing(kube: KubeClient, component: Component) -> list[str]:
    """What of a component is absent or not available, each as `Kind: name`; [] if all is well."""
    found = await asyncio.gather(*(_state(kube, item) for item in component.objects))
    return [problem for problem in found if problem]


async def uninstall(kube: KubeClient, revision: str, report: Report) -> int:
    """Removes what was installed for a revision, or everything with definitions, and so all policies, if it is "".

    The namespace stays: it holds the certificate authority's key. Returns how many objects were removed.
    """
    selector = f"{MANAGED_BY_LABEL}={MANAGED_BY}"
    if revision:
        selector += f",istio.io/rev={revision}"
    removed = 0
    for kind, resource in reversed(tuple(RESOURCES.items())):
        if kind == "Namespace" or (revision and kind == "CustomResourceDefinition"):
            continue
        for item in await kube.list(resource, label_selector=selector):
            metadata = item["metadata"]
            if await kube.delete(resource, metadata["name"], metadata.get("namespace", "")):
                removed += 1
                report(f"  Removed {kind}:{metadata.get('namespace', '')}:{metadata['name']}.")
    return removed


def resource_of(item: Mapping[str, Any]) -> tuple[Resource, str]:
    """Where an object of an installation belongs: its collection, and its namespace or ""."""
    kind = str(item["kind"])
    namespace = "" if kind in _CLUSTER_SCOPED else str(item["metadata"]["namespace"])
    return RESOURCES[kind], namespace


@contextlib.asynccontextmanager
async def _in_time(kube: KubeClient, installation: Installation, seconds: float) -> AsyncIterator[None]:
    """Ends what takes too long, and says what it waited for."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise UnavailableError(
            f"the control plane was not ready within {seconds:g} s{await _why(kube, installation.namespace)}",
            f"`kubectl describe pods -n {installation.namespace} -l app=istiod` says more",
        ) from None


async def _install(kube: KubeClient, component: Component) -> None:
    """The namespace first, then all else at once: nothing that we install waits for another's creation."""
    first = [item for item in component.objects if item["kind"] == "Namespace"]
    for item in first:
        await _apply(kube, item)
    gate = asyncio.Semaphore(_AT_ONCE)

    async def apply_one(item: Object) -> None:
        async with gate:
            await _apply(kube, item)

    await _all(apply_one(item) for item in component.objects if item not in first)
    await _all(_wait(kube, item) for item in component.objects if item["kind"] in _CONDITIONS)


async def _apply(kube: KubeClient, item: Object) -> None:
    resource, namespace = resource_of(item)
    await kube.apply(resource, item, namespace)


async def _wait(kube: KubeClient, item: Object) -> None:
    """Until the object reports that it works."""
    resource, namespace = resource_of(item)
    is_done = _CONDITIONS[item["kind"]]
    async for event in kube.watch(resource, namespace, field_selector=f"metadata.name={item['metadata']['name']}"):
        if event.type is not EventType.DELETED and any(is_done(_decode(raw)) for raw in event.objects):
            return


def _is_available(deployment: Object) -> bool:
    """All replicas are new and available. Source: `kubectl rollout status`."""
    spec, status = deployment.get("spec") or {}, deployment.get("status") or {}
    wanted = spec.get("replicas", 1)
    return bool(
        status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0)
        and status.get("updatedReplicas", 0) >= wanted
        and status.get("availableReplicas", 0) >= wanted
    )


def _is_established(definition: Object) -> bool:
    conditions = (definition.get("status") or {}).get("conditions") or ()
    return any(found["type"] == "Established" and found["status"] == "True" for found in conditions)


_CONDITIONS: Mapping[str, Callable[[Object], bool]] = {
    "Deployment": _is_available,
    "CustomResourceDefinition": _is_established,
}


async def _state(kube: KubeClient, item: Object) -> str:
    resource, namespace = resource_of(item)
    what = f"{item['kind']}: {item['metadata']['name']}" + (f".{namespace}" if namespace else "")
    try:
        found = await kube.get(resource, str(item["metadata"]["name"]), namespace)
    except KubeNotFoundError:
        return f"{what} is missing"
    is_done = _CONDITIONS.get(str(item["kind"]))
    return f"{what} is not available" if is_done and not is_done(found) else ""


async def _why(kube: KubeClient, namespace: str) -> str:
    """What the control plane's pods say of themselves, for the person who waited."""
    try:
        pods = await kube.list(PODS, namespace, label_selector="app=istiod")
    except KubeError:
        return ""
    for pod in pods:
        for container in (pod.get("status") or {}).get("containerStatuses") or ():
            waiting = (container.get("state") or {}).get("waiting")
            if waiting:
                message = waiting.get("message") or waiting.get("reason", "")
                return f": pod {pod['metadata']['name']} waits: {message}"
    return "" if pods else ": it has no pod"


async def _all(work: Iterable[Any]) -> None:
    """Runs all and raises the first error itself, not a group of them."""
    tasks = [asyncio.ensure_future(item) for item in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _decode(raw: msgspec.Raw) -> Object:
    found: Object = msgspec.json.decode(raw)
    return found

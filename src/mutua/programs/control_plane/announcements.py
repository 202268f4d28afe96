"""What the control plane writes into the cluster: its root for every namespace, and how the API server calls it."""

import asyncio
import base64

import msgspec

from mutua.system.kube import KubeClient
from mutua.system.kube_errors import KubeConflictError, KubeError, KubeNotFoundError
from mutua.system.kube_resources import (
    CONFIG_MAPS,
    MUTATING_WEBHOOKS,
    VALIDATING_WEBHOOKS,
    EventType,
    PatchType,
    Resource,
)
from mutua.system.logs import Log

ROOT_CONFIG_MAP = "istio-ca-root-cert"
ROOT_FILE = "root-cert.pem"
# Source: Istio's namespace controller. kube-system is not among them.
WITHOUT_ROOT = frozenset({"kube-public", "kube-node-lease", "local-path-storage"})
RETRY_SECONDS = 2.0

_LOG = Log("announcements")


class _Metadata(msgspec.Struct):
    namespace: str


class _ConfigMap(msgspec.Struct):
    metadata: _Metadata
    data: dict[str, str] | None = None


class RootAnnouncer:
    """Keeps `istio-ca-root-cert` true in every namespace: written when missing, mended when changed."""

    def __init__(self, kube: KubeClient, root: str) -> None:
        self._kube = kube
        self._root = root
        self._namespaces: frozenset[str] = frozenset()
        self._true: set[str] = set()
        self._changed = asyncio.Event()

    def namespaces(self, names: frozenset[str]) -> None:
        """These namespaces exist now."""
        if names - WITHOUT_ROOT != self._namespaces:
            self._namespaces = names - WITHOUT_ROOT
            self._true &= self._namespaces
            self._changed.set()

    async def run(self) -> None:
        """Writes until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow())
            group.create_task(self._write())

    async def _follow(self) -> None:
        selector = f"metadata.name={ROOT_CONFIG_MAP}"
        async for event in self._kube.watch(CONFIG_MAPS, field_selector=selector):
            if event.type is EventType.LISTED:
                self._true.clear()
            for raw in event.objects:
                found = msgspec.json.decode(raw, type=_ConfigMap)
                is_true = event.type is not EventType.DELETED and (found.data or {}).get(ROOT_FILE) == self._root
                (self._true.add if is_true else self._true.discard)(found.metadata.namespace)
            self._changed.set()

    async def _write(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                for namespace in sorted(self._namespaces - self._true):
                    await self._write_one(namespace)
            except KubeError as error:
                _LOG.warn("cannot write the root certificate", error=str(error), retry_seconds=RETRY_SECONDS)
                await asyncio.sleep(RETRY_SECONDS)
                self._changed.set()

    async def _write_one(self, namespace: str) -> None:
        data = {ROOT_FILE: self._root}
        body = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": ROOT_CONFIG_MAP, "namespace": namespace, "labels": {"istio.io/config": "true"}},
            "data": data,
        }
        try:
            await self._kube.create(CONFIG_MAPS, body, namespace)
        except KubeConflictError:
            await self._kube.patch(CONFIG_MAPS, ROOT_CONFIG_MAP, {"data": data}, namespace)
        except KubeNotFoundError:
            return  # the namespace went away meanwhile; its deletion follows on the watch
        except KubeError as error:
            if error.status != 403:
                raise
            # A namespace that is being deleted takes nothing new; a right that we lack shows in the other namespaces.
            _LOG.debug("the namespace takes no root certificate", namespace=namespace, error=str(error))
        self._true.add(namespace)


async def announce_webhooks(kube: KubeClient, mutating: str, validating: str, root: str) -> None:
    """Keeps the API server told by which root our webhooks are known, also after an installation wrote them anew."""
    bundle = base64.b64encode(root.encode()).decode()
    async with asyncio.TaskGroup() as group:
        group.create_task(_announce(kube, MUTATING_WEBHOOKS, mutating, bundle))
        group.create_task(_announce(kube, VALIDATING_WEBHOOKS, validating, bundle))


class _ClientConfig(msgspec.Struct, rename="camel"):
    ca_bundle: str = msgspec.field(default="", name="caBundle")


class _Webhook(msgspec.Struct, rename="camel"):
    client_config: _ClientConfig


class _Version(msgspec.Struct, rename="camel"):
    resource_version: str


class _Configuration(msgspec.Struct):
    metadata: _Version
    webhooks: list[_Webhook] = []


async def _announce(kube: KubeClient, resource: Resource, name: str, bundle: str) -> None:
    async for event in kube.watch(resource, field_selector=f"metadata.name={name}"):
        if event.type is EventType.DELETED:
            continue
        for raw in event.objects:
            configuration = msgspec.json.decode(raw, type=_Configuration)
            stale = [
                {"op": "add", "path": f"/webhooks/{index}/clientConfig/caBundle", "value": bundle}
                for index, webhook in enumerate(configuration.webhooks)
                if webhook.client_config.ca_bundle != bundle
            ]
            if not stale:
                continue
            # The guard keeps us from writing into a list that changed meanwhile; the change itself comes back here.
            version = configuration.metadata.resource_version
            guard = {"op": "test", "path": "/metadata/resourceVersion", "value": version}
            try:
                await kube.patch(resource, name, [guard, *stale], patch_type=PatchType.JSON)
                _LOG.info("webhook announced", configuration=name)
            except KubeError as error:
                _LOG.warn("cannot announce the webhook; a change of it will bring us back", name=name, error=str(error))

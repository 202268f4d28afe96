"""What the control plane writes into the cluster: its root for every namespace, and how the API server calls it."""

import asyncio
import base64
from collections.abc import Iterable, Mapping

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
ANNOUNCEMENT_FILE = "issuer.json"
CRL_CONFIG_MAP = "istio-ca-crl"
CRL_FILE = "ca-crl.pem"
TRUST_FILE = "trust-domains.json"
# Source: Istio's namespace controller. kube-system is not among them.
WITHOUT_ROOT = frozenset({"kube-public", "kube-node-lease", "local-path-storage"})
RETRY_SECONDS = 2.0

_LOG = Log("announcements")


class _Metadata(msgspec.Struct):
    namespace: str


class _ConfigMap(msgspec.Struct):
    metadata: _Metadata
    data: dict[str, str] | None = None


def root_data(
    root: str, announcement: Mapping[str, str], revoked: bytes, domains: Iterable[str], foreign: Mapping[str, str]
) -> dict[str, str]:
    """Content of the root's config map: the roots (PEM), what agents compare with what they hold, revocation lists.

    `domains` are those that the roots vouch for; `foreign` the roots (PEM) of others' trust domains, by domain.
    """
    said = msgspec.json.encode(announcement, order="sorted").decode()
    trust = msgspec.json.encode({"domains": list(domains), "foreign": foreign}, order="sorted").decode()
    return {ROOT_FILE: root, ANNOUNCEMENT_FILE: said, CRL_FILE: revoked.decode(), TRUST_FILE: trust if foreign else ""}


def crl_data(revoked: bytes) -> dict[str, str] | None:
    """Content of the revocation lists' config map; None if the authority has none. Source: Istio's istio-ca-crl."""
    return {CRL_FILE: revoked.decode()} if revoked.strip() else None


class ConfigMapAnnouncer:
    """Keeps one config map true in every namespace: written when missing, mended when changed.

    With `data` of None there is nothing to say, and what was written before is left.
    """

    def __init__(self, kube: KubeClient, name: str, data: Mapping[str, str] | None) -> None:
        self._kube = kube
        self._name = name
        self._data = data
        self._namespaces: frozenset[str] = frozenset()
        self._true: set[str] = set()
        self._changed = asyncio.Event()

    @property
    def done(self) -> bool:
        """Whether every namespace has it."""
        return self._data is None or self._namespaces <= self._true

    def announce(self, data: Mapping[str, str] | None) -> None:
        """From now on this is true."""
        if data != self._data:
            self._data = data
            self._true.clear()
            self._changed.set()

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
        selector = f"metadata.name={self._name}"
        async for event in self._kube.watch(CONFIG_MAPS, field_selector=selector):
            if event.type is EventType.LISTED:
                self._true.clear()
            for raw in event.objects:
                found = msgspec.json.decode(raw, type=_ConfigMap)
                is_true = event.type is not EventType.DELETED and self._holds(found.data or {})
                (self._true.add if is_true else self._true.discard)(found.metadata.namespace)
            self._changed.set()

    async def _write(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                for namespace in sorted(self._namespaces - self._true):
                    if self._data is not None:
                        await self._write_one(namespace, dict(self._data))
            except KubeError as error:
                _LOG.warn("cannot write a config map", name=self._name, error=str(error), retry_seconds=RETRY_SECONDS)
                await asyncio.sleep(RETRY_SECONDS)
                self._changed.set()

    def _holds(self, data: Mapping[str, str]) -> bool:
        return self._data is not None and all(data.get(key) == value for key, value in self._data.items())

    async def _write_one(self, namespace: str, data: dict[str, str]) -> None:
        body = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": self._name, "namespace": namespace, "labels": {"istio.io/config": "true"}},
            "data": data,
        }
        try:
            await self._kube.create(CONFIG_MAPS, body, namespace)
        except KubeConflictError:
            await self._kube.patch(CONFIG_MAPS, self._name, {"data": data}, namespace)
        except KubeNotFoundError:
            return  # the namespace went away meanwhile; its deletion follows on the watch
        except KubeError as error:
            if error.status != 403:
                raise
            # A namespace that is being deleted takes nothing new; a right that we lack shows in the other namespaces.
            _LOG.debug("the namespace takes no root certificate", namespace=namespace, error=str(error))
        if data == self._data:
            self._true.add(namespace)


class WebhookAnnouncer:
    """Keeps the API server told by which roots our webhooks are known, also after an installation wrote them anew."""

    def __init__(self, kube: KubeClient, mutating: str, validating: str, root: str) -> None:
        self._kube = kube
        self._targets = ((MUTATING_WEBHOOKS, mutating), (VALIDATING_WEBHOOKS, validating))
        self._bundle = _encoded(root)
        self._changed = asyncio.Event()
        self._missing: set[str] = set()

    @property
    def done(self) -> bool:
        """Whether every configuration that exists has the roots."""
        return not self._missing and not self._changed.is_set()

    def announce(self, root: str) -> None:
        """From now on these are the roots."""
        if _encoded(root) != self._bundle:
            self._bundle = _encoded(root)
            self._changed.set()

    async def run(self) -> None:
        """Writes until cancelled."""
        async with asyncio.TaskGroup() as group:
            for resource, name in self._targets:
                group.create_task(self._follow(resource, name))
            group.create_task(self._rewrite())

    async def _follow(self, resource: Resource, name: str) -> None:
        async for event in self._kube.watch(resource, field_selector=f"metadata.name={name}"):
            if event.type is EventType.DELETED:
                self._missing.discard(name)
                continue
            for raw in event.objects:
                await self._mend(resource, name, raw)

    async def _rewrite(self) -> None:
        while True:
            await self._changed.wait()
            try:
                bundle = self._bundle
                for resource, name in self._targets:
                    found = await self._kube.list_raw(resource, field_selector=f"metadata.name={name}")
                    for raw in found.objects:
                        await self._mend(resource, name, raw)
                if bundle == self._bundle and not self._missing:
                    self._changed.clear()
                    continue
            except KubeError as error:
                _LOG.warn("cannot announce the webhooks", error=error.message, retry_seconds=RETRY_SECONDS)
            await asyncio.sleep(RETRY_SECONDS)

    async def _mend(self, resource: Resource, name: str, raw: msgspec.Raw) -> None:
        configuration = msgspec.json.decode(raw, type=_Configuration)
        stale = [
            {"op": "add", "path": f"/webhooks/{index}/clientConfig/caBundle", "value": self._bundle}
            for index, webhook in enumerate(configuration.webhooks)
            if webhook.client_config.ca_bundle != self._bundle
        ]
        if not stale:
            self._missing.discard(name)
            return
        self._missing.add(name)
        # The guard keeps us from writing into a list that changed meanwhile; the change itself comes back here.
        version = configuration.metadata.resource_version
        guard = {"op": "test", "path": "/metadata/resourceVersion", "value": version}
        try:
            await self._kube.patch(resource, name, [guard, *stale], patch_type=PatchType.JSON)
            self._missing.discard(name)
            _LOG.info("webhook announced", configuration=name)
        except KubeError as error:
            _LOG.warn("cannot announce the webhook; a change of it will bring us back", name=name, error=str(error))


def _encoded(root: str) -> str:
    return base64.b64encode(root.encode()).decode()


class _ClientConfig(msgspec.Struct, rename="camel"):
    ca_bundle: str = msgspec.field(default="", name="caBundle")


class _Webhook(msgspec.Struct, rename="camel"):
    client_config: _ClientConfig


class _Version(msgspec.Struct, rename="camel"):
    resource_version: str


class _Configuration(msgspec.Struct):
    metadata: _Version
    webhooks: list[_Webhook] = []

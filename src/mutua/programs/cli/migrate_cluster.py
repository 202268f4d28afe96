"""What a migration reads of the cluster, and what it writes: policies, and the record of itself."""

import asyncio
import ipaddress
from collections.abc import Iterable
from datetime import timedelta
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from mutua.api import decode, kinds
from mutua.api.core import Pod
from mutua.api.kinds import AnyObject, Kind
from mutua.api.security import PeerAuthentication
from mutua.errors import ConflictError, NotFoundError
from mutua.mesh import workloads
from mutua.mesh.objects import ObjectSet
from mutua.mesh.proxy_view import MtlsMode
from mutua.mesh.workloads import Workload
from mutua.migration import machine, policies
from mutua.migration.machine import Migration
from mutua.migration.scene import Scene
from mutua.migration.scene import scene as scene_of
from mutua.programs.cli import analyze_sources, live
from mutua.programs.cli.main import Options
from mutua.sources import kubernetes
from mutua.system import clock
from mutua.system.kube import KubeClient, Object
from mutua.system.kube_errors import KubeConflictError, KubeError, KubeNotFoundError, KubeRefusedError
from mutua.system.kube_resources import CONFIG_MAPS, NAMESPACES, NODES, SELF_SUBJECT_REVIEWS

RECORD: Final = "mutua-migrate"
HISTORY_AT_MOST: Final = 10
_WEBHOOKS: Final = (kinds.MUTATING_WEBHOOK_CONFIGURATION, kinds.VALIDATING_WEBHOOK_CONFIGURATION)
_POLICIES: Final = kubernetes.resource(policies.KIND)
T = TypeVar("T", bound=AnyObject)


class Here(NamedTuple):
    """A namespace at one moment: its pods, and the policies that can concern it."""

    workloads: tuple[Workload, ...]
    policies: tuple[PeerAuthentication, ...]  # of the namespace and of the root namespace

    def difference(self, state: Migration) -> str:
        """What somebody else has done to the policies that the state wants; "" if nothing."""
        wanted = machine.wanted(state)
        modes = {
            item.metadata.name: _mode(item)
            for item in self.policies
            if item.metadata.namespace == state.namespace and policies.is_ours(item)
        }
        for name in map(policies.name_of, wanted.steps):
            if modes.get(name) != MtlsMode.STRICT.value:
                done = "changed" if name in modes else "deleted"
                return f"somebody else has {done} PeerAuthentication {state.namespace}/{name}"
        current = policies.namespace_policy(ObjectSet.of(self.policies), state.namespace)
        if wanted.mode is not None and (current is None or _mode(current) != wanted.mode.value):
            return f"somebody else has changed the policy of namespace {state.namespace}"
        return ""


class Record(msgspec.Struct, frozen=True):
    """What the cluster keeps of migrations of one namespace: the last or current one, and those before it."""

    state: Migration | None = None
    history: tuple[Migration, ...] = ()


class Cluster:
    """One namespace of the cluster. Every method raises KubeError."""

    def __init__(self, kube: KubeClient, chosen: Options, namespace: str) -> None:
        self.kube = kube
        self.chosen = chosen
        self.namespace = namespace

    async def scene(self, target: MtlsMode, window: timedelta) -> Scene:
        """Everything that a plan is made from. Raises NotFoundError if there is no such namespace."""
        await self.demand_namespace()
        world, (webhooks, _), nodes = await asyncio.gather(
            live.world(self.kube, self.chosen),
            analyze_sources.from_cluster(self.kube, _WEBHOOKS),
            self._nodes(),
        )
        objects = ObjectSet.of([*(item for _, item in world.objects), *(item for _, item in webhooks)])
        complete = msgspec.structs.replace(world, objects=objects)
        return scene_of(complete, self.namespace, target, nodes, clock.now(), window)

    async def demand_namespace(self) -> None:
        """Raises NotFoundError if the namespace does not exist, or is on its way out."""
        found = await self.kube.find(NAMESPACES, self.namespace)
        if found is None or found["metadata"].get("deletionTimestamp"):
            what = "is being deleted" if found else "does not exist"
            raise NotFoundError(f"namespace {self.namespace} {what}", "another namespace is chosen with -n")

    async def here(self, root_namespace: str) -> Here:
        """Pods and policies as they are now."""
        pods, own, root = await asyncio.gather(
            self._typed(kinds.POD, Pod, self.namespace),
            self._typed(policies.KIND, PeerAuthentication, self.namespace),
            self._typed(policies.KIND, PeerAuthentication, root_namespace),
        )
        alive = [pod for pod in pods if not pod.metadata.deletion_timestamp]
        found = [workload for pod in alive if (workload := workloads.from_pod(pod)) is not None]
        return Here(
            tuple(found),
            tuple({(item.metadata.namespace, item.metadata.name): item for item in (*own, *root)}.values()),
        )

    async def apply(self, state: Migration) -> None:
        """Make the policies what the state wants, in an order in which nothing is open or refused in between."""
        wanted = machine.wanted(state)
        found = await self._typed(policies.KIND, PeerAuthentication, self.namespace)
        ours = {item.metadata.name for item in found if policies.is_ours(item) and item.spec.selector}
        names = {policies.name_of(step): step for step in wanted.steps}
        await asyncio.gather(
            *(self._create(policies.of_workload(state, step)) for name, step in names.items() if name not in ours)
        )
        await self._apply_namespace(state, wanted.mode, found)
        await asyncio.gather(*(self.kube.delete(_POLICIES, name, self.namespace) for name in ours - names.keys()))

    async def record(self) -> Record:
        """What is kept of migrations; an empty record if there was none."""
        found = await self.kube.find(CONFIG_MAPS, RECORD, self.namespace)
        text = str(((found or {}).get("data") or {}).get("record.json", ""))
        try:
            return msgspec.json.decode(text, type=Record) if text else Record()
        except msgspec.DecodeError as error:
            raise ConflictError(
                f"config map {self.namespace}/{RECORD} cannot be read: {error}",
                "it was made by another version, or changed by hand; delete it to begin anew",
            ) from error

    async def save(self, record: Record) -> None:
        """Keep the record."""
        data = {"record.json": msgspec.json.format(msgspec.json.encode(record), indent=1).decode()}
        body = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": RECORD,
                "namespace": self.namespace,
                "labels": {policies.OWNER_LABEL: policies.OWNER},
            },
            "data": data,
        }
        try:
            await self.kube.patch(CONFIG_MAPS, RECORD, {"data": data}, self.namespace)
        except KubeNotFoundError:
            await self.kube.create(CONFIG_MAPS, body, self.namespace)

    async def user(self) -> str:
        """Who we are to the cluster."""
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        try:
            answer = await self.kube.create(SELF_SUBJECT_REVIEWS, review)
        except KubeError:  # older clusters do not tell; that is no reason not to migrate
            return "unknown"
        return str(((answer.get("status") or {}).get("userInfo") or {}).get("username") or "unknown")

    async def _apply_namespace(self, state: Migration, mode: MtlsMode | None, found: list[PeerAuthentication]) -> None:
        objects = ObjectSet.of(found)
        current = policies.namespace_policy(objects, self.namespace)
        if mode is not None:
            if current is None:
                await self._create(policies.of_namespace(state, policies.free_name(objects, self.namespace)))
            elif _mode(current) != mode.value:
                await self._patch(current.metadata.name, policies.namespace_patch(mode.value), state.by)
            return
        # Back to what was before, unless somebody else has changed it since.
        if (
            current is None
            or not policies.was_changed_by(current, state.target)
            or state.before.mode == state.target.value
        ):
            return
        if policies.is_ours(current) and not state.before.name:
            await self.kube.delete(_POLICIES, current.metadata.name, self.namespace)
        else:
            await self._patch(current.metadata.name, policies.namespace_patch(state.before.mode), None)

    async def _patch(self, name: str, patch: dict[str, Any], by: str | None) -> None:
        marked = patch | {"metadata": {"annotations": {policies.CHANGED_BY: by}}}
        await self.kube.patch(_POLICIES, name, marked, self.namespace)

    async def _create(self, document: dict[str, Any]) -> None:
        try:
            await self.kube.create(_POLICIES, document, self.namespace)
        except KubeConflictError as error:
            name = document["metadata"]["name"]
            raise ConflictError(
                f"PeerAuthentication {self.namespace}/{name} exists already, and no migration made it",
                "rename or delete it",
            ) from error

    async def _typed(self, kind: Kind, struct: type[T], namespace: str) -> list[T]:
        listed = await self.kube.list_raw(kubernetes.resource(kind), namespace)
        values = (decode.from_json(kind, bytes(raw)).value for raw in listed.objects)
        return [value for value in values if isinstance(value, struct)]

    async def _nodes(self) -> frozenset[str]:
        """Addresses that kubelets ask from: the nodes' own, and the first of their pods' network."""
        try:
            nodes = await self.kube.list(NODES)
        except KubeRefusedError:
            return frozenset()
        return frozenset(address for node in nodes for address in _addresses(node))


def _addresses(node: Object) -> Iterable[str]:
    for item in (node.get("status") or {}).get("addresses") or ():
        if item.get("type") in ("InternalIP", "ExternalIP"):
            yield str(item["address"])
    spec = node.get("spec") or {}
    for block in spec.get("podCIDRs") or [spec.get("podCIDR")]:
        if block:
            yield str(ipaddress.ip_network(block, strict=False)[1])


def _mode(item: PeerAuthentication) -> str | None:
    return item.spec.mtls.mode.value if item.spec.mtls else None

"""What checks read: objects by kind, the mesh's settings, and what the objects mean together."""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, Final, TypeVar

import msgspec

from mutua.analysis import projection
from mutua.analysis.projection import SNAPSHOT_INPUTS
from mutua.api import kinds
from mutua.api.findings import Finding
from mutua.api.kinds import AnyObject, Key, Kind
from mutua.api.meshconfig import MeshConfig
from mutua.errors import InternalError
from mutua.injection.settings import InjectorSettings
from mutua.mesh import build
from mutua.mesh.objects import ObjectSet
from mutua.mesh.selectors import NO_LABELS, Labels
from mutua.mesh.snapshot import MeshSnapshot
from mutua.mesh.workloads import Workload

T = TypeVar("T", bound=AnyObject)
V = TypeVar("V")

SYSTEM_NAMESPACES: Final = frozenset({"kube-system", "kube-public", "kube-node-lease", "local-path-storage"})


class World(msgspec.Struct, frozen=True, eq=False):
    """Everything that is analysed. `is_complete`: the objects are a whole cluster's, so what is missing is not there.

    `unreadable` are the findings about objects that could not be read, or only without some fields. `now` None: no
    question of time is asked.
    """

    objects: ObjectSet
    mesh_config: MeshConfig = MeshConfig()
    injector: InjectorSettings = InjectorSettings()
    istio_namespace: str = "istio-system"
    is_complete: bool = False
    unreadable: tuple[Finding, ...] = ()
    now: datetime | None = None


class Shared:
    """What several checks need and only one has to work out; remembers, and depends on nothing but its world."""

    def __init__(self, world: World, snapshot: MeshSnapshot | None = None) -> None:
        self.world = world
        self._values: dict[str, Any] = {} if snapshot is None else {"snapshot": snapshot}

    def value(self, name: str, make: Callable[[], V]) -> V:
        """The value of that name, made when first asked for."""
        if name not in self._values:
            self._values[name] = make()
        found: V = self._values[name]
        return found

    def snapshot(self) -> MeshSnapshot:
        """What the objects mean, workloads that have no pods yet included."""
        return self.value("snapshot", self._build)

    def _build(self) -> MeshSnapshot:
        world = self.world
        objects = projection.project(world.objects, world.injector)
        return build.snapshot(objects, world.mesh_config, cluster_domain=world.injector.cluster_domain)


class Inputs:
    """The part of the world that one check declared. Reading anything else is a mistake of the check: InternalError."""

    def __init__(self, shared: Shared, declared: Iterable[Kind], about: tuple[Kind, Key] | None = None) -> None:
        self._shared = shared
        self._declared = frozenset(kind.name for kind in declared)
        self._scope = " ".join(sorted(self._declared))
        self._about = about

    def all(self, kind: Kind, struct: type[T]) -> Mapping[Key, T]:
        """Every object of a declared kind, by (namespace, name)."""
        self._demand(kind)
        return self._shared.world.objects.typed(kind, struct)

    def subjects(self, kind: Kind, struct: type[T]) -> Iterable[T]:
        """The objects of a kind that are to be judged: all, or if one of this kind is being applied, only that one."""
        objects = self.all(kind, struct)
        if self._about is None or self._about[0] is not kind:
            return objects.values()
        found = objects.get(self._about[1])
        return () if found is None else (found,)

    def knows(self, kind: Kind) -> bool:
        """Whether objects of a declared kind were looked for at all: a reader may have no right to."""
        self._demand(kind)
        return self._shared.world.objects.knows(kind)

    @property
    def snapshot(self) -> MeshSnapshot:
        """What all objects mean together; only for checks that declare every kind of it."""
        for kind in SNAPSHOT_INPUTS:
            self._demand(kind)
        return self._shared.snapshot()

    def shared(self, name: str, make: Callable[[], V]) -> V:
        """A value that several checks with the same declared inputs need."""
        return self._shared.value(f"{name} of {self._scope}", make)

    def workloads(self, namespace: str, selector: Labels = NO_LABELS) -> list[Workload]:
        """The workloads of a namespace ("" = all namespaces) that a selector means, pods or not; as `snapshot`."""
        here = self.shared("workloads", self._workloads_by_namespace).get(namespace, [])
        return [workload for workload in here if selector <= workload.labels] if selector else here

    def _workloads_by_namespace(self) -> Mapping[str, list[Workload]]:
        everywhere = [*self.snapshot.workloads.values(), *self.snapshot.machines]
        found: dict[str, list[Workload]] = {}
        for workload in everywhere:
            found.setdefault(workload.namespace, []).append(workload)
        # Manifests may name no namespace; their workloads are among all of them, and have no list of their own.
        return found | {"": everywhere}

    @property
    def mesh_config(self) -> MeshConfig:
        """Settings of the whole mesh."""
        return self._shared.world.mesh_config

    @property
    def root_namespace(self) -> str:
        """Where policies are the whole mesh's."""
        return self.mesh_config.root_namespace

    @property
    def istio_namespace(self) -> str:
        """Where the control plane runs."""
        return self._shared.world.istio_namespace

    @property
    def injector(self) -> InjectorSettings:
        """How pods are injected."""
        return self._shared.world.injector

    @property
    def is_complete(self) -> bool:
        """Whether what is not among the objects does not exist."""
        return self._shared.world.is_complete

    @property
    def unreadable(self) -> tuple[Finding, ...]:
        """What was wrong with objects' own shape."""
        return self._shared.world.unreadable

    @property
    def now(self) -> datetime | None:
        """The moment to judge validity at."""
        return self._shared.world.now

    def _demand(self, kind: Kind) -> None:
        if kind.name not in self._declared:
            raise InternalError(f"a check reads {kind.name}, which it does not declare")


def of_world(world: World, declared: Iterable[Kind] = kinds.KINDS) -> Inputs:
    """Inputs on their own, for one check."""
    return Inputs(Shared(world), declared)

"""The frozen meaning of all objects at one moment; `build.snapshot` makes it, `view.for_proxy` reads it."""

from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from mutua.api import kinds
from mutua.api.kinds import Key
from mutua.api.meshconfig import MeshConfig
from mutua.mesh.destination_rule import DestinationRules
from mutua.mesh.endpoints import Reachable
from mutua.mesh.inbound import NamespaceInbound
from mutua.mesh.objects import ObjectSet
from mutua.mesh.outbound import Loads, Outbound
from mutua.mesh.peer_authentication import EffectiveMode
from mutua.mesh.proxy_view import (
    Discovery,
    InboundView,
    LoadAssignment,
    MeshView,
    OutboundService,
    OutboundView,
    ProxyView,
    Trust,
)
from mutua.mesh.registry import Registry
from mutua.mesh.service_entry import Outside
from mutua.mesh.services import Service
from mutua.mesh.workloads import Workload

DEFAULT_CLUSTER_DOMAIN: Final = "cluster.local"
ANY_OTHER_NAMESPACE: Final = ""
"""Under this name, what a namespace accepts in which there is nothing of its own."""

_ViewKey = tuple[int, int, int]
_Endpoints = tuple[tuple[OutboundService, ...], tuple[LoadAssignment, ...]]


class Settings(msgspec.Struct, frozen=True):
    """What is set for the whole mesh. `upstream_mark` is the SO_MARK of Envoy's own sockets; 0 = none.

    `key_sets` are the JSON Web Key Sets that were fetched for RequestAuthentications, (location, content), sorted.
    """

    mesh_config: MeshConfig = MeshConfig()
    cluster_domain: str = DEFAULT_CLUSTER_DOMAIN
    upstream_mark: int = 0
    key_sets: tuple[tuple[str, str], ...] = ()


class Parts(msgspec.Struct, frozen=True, eq=False):
    """What a snapshot consists of. A part whose inputs did not change is the previous snapshot's own object."""

    settings: Settings
    mesh: MeshView
    trust: Trust
    registry: Registry
    inbound: Mapping[str, NamespaceInbound]  # by namespace
    reachable: Mapping[Key, Reachable]  # by the Service's key
    outside: Mapping[str, tuple[Outside, ...]]  # hosts of ServiceEntries, by namespace
    loads: Loads
    rules: DestinationRules
    outbound: Outbound


class MeshSnapshot:
    """A value: snapshots of the same objects and settings answer alike. What it works out on demand it remembers."""

    __slots__ = (
        "_earlier_endpoints",
        "_earlier_views",
        "_endpoints",
        "_views",
        "objects",
        "parts",
    )

    def __init__(self, objects: ObjectSet, parts: Parts, previous: "MeshSnapshot | None" = None) -> None:
        self.objects = objects
        self.parts = parts
        # Memories are keyed by identity of what they were made from, which the value keeps alive. Of the previous
        # snapshot's, only what somebody asked for is passed on, so that nothing piles up.
        self._endpoints: dict[int, _Endpoints] = {}
        self._earlier_endpoints: dict[int, _Endpoints] = {}
        if previous is not None and previous.parts.loads is parts.loads:
            self._earlier_endpoints = previous._endpoints or previous._earlier_endpoints
        self._views: dict[_ViewKey, ProxyView] = {}
        self._earlier_views: dict[_ViewKey, ProxyView] = {}
        if previous is not None and previous.parts.mesh is parts.mesh:
            self._earlier_views = previous._views or previous._earlier_views

    @property
    def mesh(self) -> MeshView:
        """Settings of the mesh as proxies see them."""
        return self.parts.mesh

    @property
    def trust(self) -> Trust:
        """Whom the mesh believes."""
        return self.parts.trust

    @property
    def settings(self) -> Settings:
        """Settings of the mesh as users wrote them."""
        return self.parts.settings

    @property
    def workloads(self) -> Mapping[Key, Workload]:
        """Running pods, by (namespace, name)."""
        return self.parts.registry.workloads

    @property
    def services(self) -> Mapping[Key, Service]:
        """Services with endpoints, by (namespace, name)."""
        return self.parts.registry.services

    @property
    def namespaces(self) -> frozenset[str]:
        """Every namespace that exists, or that holds an object."""
        named = {name for _, name in self.objects.of_kind(kinds.NAMESPACE)}
        return frozenset(named.union(self.parts.inbound) - {ANY_OTHER_NAMESPACE})

    def workload(self, namespace: str, name: str) -> Workload | None:
        """A running pod by name."""
        return self.workloads.get((namespace, name))

    def workload_by_address(self, address: str) -> Workload | None:
        """The running pod that has this IP; never one in the node's own network."""
        return self.parts.registry.find(address)

    def service(self, namespace: str, name: str) -> Service | None:
        """A Service by name."""
        return self.services.get((namespace, name))

    def mode_of(self, workload: Workload) -> EffectiveMode:
        """What a workload's ports accept, and which object says so."""
        return self.inbound(workload.namespace).mode(workload.labels)

    def inbound(self, namespace: str) -> NamespaceInbound:
        """What decides about the workloads of a namespace, whether or not anything is in it."""
        found = self.parts.inbound.get(namespace)
        return self.parts.inbound[ANY_OTHER_NAMESPACE] if found is None else found

    @property
    def machines(self) -> tuple[Workload, ...]:
        """Workloads outside of pods, by namespace and name."""
        here = self.parts.registry.machines
        return tuple(machine.workload for namespace in sorted(here) for machine in here[namespace])

    def load(self, namespace: str, host: str) -> tuple[LoadAssignment, ...]:
        """Where connections to a host of this namespace's Services and entries go, by port; () for an unknown one."""
        return self.parts.loads.get((namespace, host), ())

    def endpoints_of(self, services: tuple[OutboundService, ...]) -> tuple[LoadAssignment, ...]:
        """The assignments of all these Services, ascending by host and port."""
        remembered = self._endpoints.get(id(services)) or self._earlier_endpoints.get(id(services))
        if remembered is None:
            loads = self.parts.loads
            remembered = (services, tuple(each for service in services for each in _told(service, loads)))
        self._endpoints[id(services)] = remembered
        return remembered[1]

    def view_of(self, inbound: InboundView, outbound: OutboundView) -> ProxyView:
        """The view that consists of these parts; the same object for the same parts."""
        endpoints = self.endpoints_of(outbound.services)
        key = (id(inbound), id(outbound), id(endpoints))
        view = self._views.get(key)
        if view is None:
            view = self._earlier_views.get(key) or ProxyView(self.mesh, inbound, outbound, endpoints)
            self._views[key] = view
        return view


def _told(service: OutboundService, loads: Loads) -> Iterator[LoadAssignment]:
    """What a sidecar is told of where a host's connections go, for each port and each subset of it."""
    if service.discovery is not Discovery.PUSHED:
        return
    subsets = {port.number: port.subsets for port in service.ports}
    for load in loads.get((service.namespace, service.host), ()):
        yield load
        for subset in subsets.get(load.port, ()):
            chosen = tuple(endpoint for endpoint in load.endpoints if subset.labels <= endpoint.labels)
            yield LoadAssignment(load.host, load.port, chosen, subset.name)

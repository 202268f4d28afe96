"""The mesh's traffic as this replica of the control plane can tell it: from the sidecars that are connected to it."""

from collections import defaultdict
from collections.abc import Callable, Iterable

from mutua.envoy.telemetry_tags import Names
from mutua.mesh.snapshot import MeshSnapshot
from mutua.mesh.workloads import Workload
from mutua.reports import traffic
from mutua.reports.exposition import samples
from mutua.reports.proxy_status import PlaintextSeen
from mutua.reports.traffic import EdgeTraffic, Name, Sidecar, TrafficPage
from mutua.sources.sidecar_pages import SidecarPages, Target
from mutua.spiffe import SpiffeId
from mutua.xds.node import Node


class SnapshotDirectory:
    """Who is who in one snapshot. `departed`: who had an address until a moment ago."""

    def __init__(self, snapshot: MeshSnapshot, departed: Callable[[str], Workload | None]) -> None:
        self._snapshot = snapshot
        self._departed = departed
        self._owners: defaultdict[tuple[str, str], set[str]] | None = None
        self._guarded: frozenset[Name] | None = None

    def at(self, address: str) -> Name | None:
        """The workload of the pod with this address."""
        found = self._snapshot.workload_by_address(address) or self._departed(address)
        return _name(found) if found else None

    def pod(self, name: str) -> Name | None:
        """The workload of `namespace/pod`."""
        namespace, _, pod = name.partition("/")
        found = self._snapshot.workload(namespace, pod)
        return _name(found) if found else None

    def only_one_as(self, identity: SpiffeId) -> str:
        """The workload that runs as this identity; "" if there is none, or more than one."""
        if self._owners is None:
            self._owners = defaultdict(set)
            for each in self._snapshot.workloads.values():
                self._owners[each.namespace, each.service_account].add(_name(each).workload)
        found = self._owners.get((identity.namespace, identity.service_account), set())
        return next(iter(found)) if len(found) == 1 else ""

    def counts(self, name: Name) -> bool:
        """Whether the workload has a sidecar."""
        if self._guarded is None:
            self._guarded = frozenset(_name(each) for each in self._snapshot.workloads.values() if each.has_sidecar)
        return name in self._guarded


class MeshTraffic:
    """Reads the sidecars when somebody asks."""

    def __init__(
        self,
        replica: str,
        connected: Callable[[], Iterable[Node]],
        snapshot: Callable[[], MeshSnapshot | None],
        departed: Callable[[str], Workload | None],
        ledger: Callable[[], Iterable[PlaintextSeen]],
    ) -> None:
        self._replica = replica
        self._connected = connected
        self._snapshot = snapshot
        self._departed = departed
        self._ledger = ledger
        self._directory: SnapshotDirectory | None = None
        self._directory_of: MeshSnapshot | None = None
        self.pages = SidecarPages(self._targets)

    async def page(self, namespace: str) -> TrafficPage:
        """All edges from or to a namespace; "" = all."""
        snapshot = self._snapshot()
        if snapshot is None:
            return TrafficPage(self._replica)
        if self._directory is None or self._directory_of is not snapshot:
            self._directory, self._directory_of = SnapshotDirectory(snapshot, self._departed), snapshot
        sidecars, silent = [], []
        for read in await self.pages.read():
            name = self._directory.pod(read.target.key)
            if read.trouble:
                silent.append(f"{read.target.key}: {read.trouble}")
            elif name is not None:
                sidecars.append(Sidecar(name, samples(read.page, Names(name.workload, name.namespace))))
        edges = traffic.edges(sidecars, self._ledger(), self._directory)
        return TrafficPage(self._replica, tuple(each for each in edges if _touches(each, namespace)), tuple(silent))

    def _targets(self) -> list[Target]:
        snapshot, found = self._snapshot(), []
        for node in self._connected():
            workload = snapshot.workload(node.namespace, node.pod) if snapshot else None
            if workload and workload.addresses:
                found.append(Target(f"{workload.namespace}/{workload.name}", workload.addresses[0]))
        return found


def _touches(edge: EdgeTraffic, namespace: str) -> bool:
    return not namespace or namespace in (edge.source_namespace, edge.destination_namespace)


def _name(workload: Workload) -> Name:
    return Name(workload.namespace, workload.owner or workload.name)

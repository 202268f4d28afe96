"""What a change of a namespace's mode would do: its steps, whom it cuts off and why, and what it leaves as it is."""

from collections.abc import Iterable, Iterator

import msgspec

from mutua.api.security import PeerAuthentication
from mutua.mesh.proxy_view import MtlsMode
from mutua.mesh.selectors import NO_LABELS
from mutua.migration import obstacles, policies
from mutua.migration.groups import Group
from mutua.migration.machine import Progress, Step
from mutua.migration.scene import Obstacle, Scene
from mutua.reports.proxy_status import PlaintextSeen


class Plan(msgspec.Struct, frozen=True):
    """All of it. `rest`: workloads that change with the namespace's policy only; `notes`: what stays as it is."""

    namespace: str
    target: MtlsMode
    steps: tuple[Step, ...]
    rest: tuple[str, ...]
    obstacles: tuple[Obstacle, ...]
    notes: tuple[str, ...]
    mode: MtlsMode  # of a pod that nothing else is said about, now

    @property
    def blockers(self) -> tuple[Obstacle, ...]:
        """The obstacles on account of which nothing is begun."""
        return tuple(item for item in self.obstacles if item.blocks)

    @property
    def is_done(self) -> bool:
        """Whether every workload, and the namespace, is as wanted already."""
        return not self.steps and not self.rest and self.mode is self.target


def steps(found: Scene) -> tuple[tuple[Step, ...], tuple[str, ...]]:
    """The workloads to switch one by one, and those that only the namespace's policy reaches.

    A workload that an earlier run has proven is proven still. One that its user gave a mode of its own is neither.
    """
    ours = {
        name
        for (namespace, name), item in found.world.objects.typed(policies.KIND, PeerAuthentication).items()
        if namespace == found.namespace and policies.is_ours(item)
    }
    inbound = found.now.inbound(found.namespace)
    one_by_one: list[Step] = []
    rest: list[str] = []
    for group in found.groups:
        labels = _labels(found, group)
        before, after = inbound.mode(labels), found.then.inbound(found.namespace).mode(labels)
        own = next((item for item in inbound.peer_policies.workloads if item.selector <= labels), None)
        is_proven = own is not None and own.source.name in ours
        selector = tuple(sorted(group.selector))
        changes = before.default is not after.default
        if is_proven:
            one_by_one.append(Step(group.name, selector, Progress.PROVEN))
        elif changes and own is None and selector and found.target is MtlsMode.STRICT:
            one_by_one.append(Step(group.name, selector))
        elif changes or before.ports != after.ports:
            rest.append(group.name)
    return tuple(one_by_one), tuple(rest)


def exceptions(found: Scene) -> Iterator[str]:
    """What the change does not reach: workloads with a mode of their own, and pods that nothing guards."""
    bare = sorted(
        item.name for item in found.now.workloads.values() if item.namespace == found.namespace and not item.has_sidecar
    )
    for group in found.groups:
        mode = found.then.inbound(found.namespace).mode(_labels(found, group))
        if mode.default is not found.target and mode.decided_by:
            yield f"{group.name} stays {mode.default.value}, by PeerAuthentication {mode.decided_by.name}"
        for port, port_mode in mode.ports:
            if port_mode is not found.target and mode.ports_decided_by:
                by = f"PeerAuthentication {mode.ports_decided_by.name}"
                yield f"port {port} of {group.name} stays {port_mode.value}, by {by}"
    if bare:
        shown = ", ".join(bare[:5]) + (f" and {len(bare) - 5} more" if len(bare) > 5 else "")
        yield f"without a sidecar, so that whatever arrives reaches them in any mode: {shown}"


def make(found: Scene, seen: Iterable[PlaintextSeen]) -> Plan:
    """The plan. `seen` is all that was seen without mutual TLS, of every control plane."""
    one_by_one, rest = steps(found)
    todo = found.target is MtlsMode.STRICT and bool(one_by_one or rest)
    stops = obstacles.all_of(found, tuple(seen)) if todo else ()
    mode = found.now.inbound(found.namespace).mode(NO_LABELS).default
    return Plan(found.namespace, found.target, one_by_one, rest, stops, tuple(exceptions(found)), mode)


def _labels(found: Scene, group: Group) -> frozenset[tuple[str, str]]:
    workload = found.now.workload(found.namespace, group.pods[0])
    return workload.labels if workload else group.selector

"""For which pods each policy decides, and where another one does in its place."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from mutua.api import core, kinds, networking
from mutua.mesh import hosts, peer_authentication
from mutua.mesh.destination_rule import MergedRule
from mutua.mesh.proxy_view import Frozen, MtlsMode, ObjectRef
from mutua.mesh.selectors import NO_LABELS, Labels
from mutua.mesh.snapshot import MeshSnapshot
from mutua.mesh.workloads import Workload


class Decided(Frozen, frozen=True):
    """The policies that count for one pod as client and as server, and those in whose place another one counts."""

    by: frozenset[ObjectRef]
    instead: frozenset[tuple[ObjectRef, ObjectRef]] = frozenset()  # (the one without effect, the one that counts)
    strict: frozenset[ObjectRef] = frozenset()  # those that make a port refuse plaintext


class Effect(msgspec.Struct):
    """What one policy decides. `overridden_by` counts the pods for which another one of its kind does so instead."""

    pods: int = 0
    strict_pods: int = 0
    overridden_by: Counter[ObjectRef] = msgspec.field(default_factory=Counter)


class Profile(Frozen, frozen=True):
    """Pods to which the same policies apply."""

    namespace: str
    labels: Labels
    example: Workload
    names: tuple[str, ...]


def profiles(snapshot: MeshSnapshot) -> list[Profile]:
    """The pods that have a sidecar, an address and a future, by what policies can tell apart."""
    pods = snapshot.objects.typed(kinds.POD, core.Pod)
    found: dict[tuple[str, Labels], list[Workload]] = {}
    for key, workload in snapshot.workloads.items():
        if workload.has_sidecar and workload.addresses and not pods[key].metadata.deletion_timestamp:
            found.setdefault((workload.namespace, workload.labels), []).append(workload)
    return [
        Profile(*key, example=members[0], names=tuple(member.name for member in members))
        for key, members in found.items()
    ]


def decided(snapshot: MeshSnapshot, workload: Workload) -> Decided:
    """The policies that count for a workload."""
    inbound, outbound = snapshot.inbound(workload.namespace), snapshot.parts.outbound
    mode, view = inbound.mode(workload.labels), inbound.view(workload)
    deciding = {ref for ref in (mode.decided_by, mode.ports_decided_by) if ref is not None}
    instead = {
        (policy.source, mode.decided_by)
        for policy in peer_authentication.selected(inbound.peer_policies, workload.labels)
        if policy.source not in deciding and mode.decided_by is not None
    }
    strict = {mode.decided_by} if mode.default is MtlsMode.STRICT else set()
    strict |= {mode.ports_decided_by for _, port_mode in mode.ports if port_mode is MtlsMode.STRICT}
    deciding |= {ObjectRef(kinds.AUTHORIZATION_POLICY.name, each.namespace, each.name) for each in view.policies}
    deciding |= {rule.source for rule in view.token_rules}
    for rule in outbound.rules_followed(workload.namespace, workload.labels):
        deciding |= set(rule.sources)
        instead |= set(_ignored(snapshot, rule))
    return Decided(frozenset(deciding), frozenset(instead), frozenset(ref for ref in strict if ref is not None))


def tally(found: Iterable[tuple[Decided, int]]) -> Mapping[ObjectRef, Effect]:
    """The effect of every policy that has one, from what counts for how many pods."""
    effects: dict[ObjectRef, Effect] = {}
    for counted, pods in found:
        for ref in counted.by:
            effect = effects.setdefault(ref, Effect())
            effect.pods += pods
            effect.strict_pods += pods if ref in counted.strict else 0
        for ref, by in counted.instead:
            effects.setdefault(ref, Effect()).overridden_by[by] += pods
    return effects


def rule_in_its_place(snapshot: MeshSnapshot, item: networking.DestinationRule) -> ObjectRef | None:
    """For a DestinationRule that no client follows: one that clients of its hosts follow instead, if there is any."""
    metadata = item.metadata
    host = hosts.resolve(item.spec.host, metadata.namespace, snapshot.settings.cluster_domain)
    clients = {workload.namespace for workload in snapshot.workloads.values() if workload.has_sidecar}
    for reachable in snapshot.parts.outbound.directory.entries:
        if hosts.matches(host, reachable.service.host):
            for namespace in sorted(clients):
                if rule := snapshot.parts.outbound.rule(namespace, NO_LABELS, reachable):
                    return rule.source
    return None


def _ignored(snapshot: MeshSnapshot, rule: MergedRule) -> Iterator[tuple[ObjectRef, ObjectRef]]:
    """Of rules that were merged, those whose traffic policy is ignored, since an older one has one."""
    first: ObjectRef | None = None
    for source in rule.sources if len(rule.sources) > 1 else ():
        item = snapshot.objects.get(kinds.DESTINATION_RULE, source.namespace, source.name)
        if not isinstance(item, networking.DestinationRule) or item.spec.traffic_policy is None:
            continue
        if first is not None:
            yield source, first
        first = first or source

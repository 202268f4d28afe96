"""What a workload's ports accept: mesh, namespace, workload and port level merged. Source: Istio PeerAuthentication."""

from collections.abc import Iterable
from typing import Final, NamedTuple

import msgspec

from mutua.api.dry_run import is_dry_run
from mutua.api.meta import age_order
from mutua.api.security import MutualTls, MutualTlsMode, PeerAuthentication
from mutua.mesh.proxy_view import Frozen, MtlsMode, ObjectRef
from mutua.mesh.selectors import NO_LABELS, Labels, labels_of

_RESOLVED: Final = {
    MutualTlsMode.STRICT: MtlsMode.STRICT,
    MutualTlsMode.PERMISSIVE: MtlsMode.PERMISSIVE,
    MutualTlsMode.DISABLE: MtlsMode.DISABLE,
}
KIND: Final = "PeerAuthentication"


class Policy(Frozen, frozen=True):
    """One PeerAuthentication; `mode` and a port's mode are None where they inherit."""

    source: ObjectRef
    selector: Labels
    mode: MtlsMode | None
    ports: tuple[tuple[int, MtlsMode | None], ...] = ()
    dry_run: bool = False


class PeerPolicies(Frozen, frozen=True):
    """All that can decide about workloads of one namespace. Workload-level policies are in order of age.

    `rehearsed`: the same as if each policy in dry run decided its level; None if there is no dry run.
    """

    mesh: Policy | None = None
    namespace: Policy | None = None
    workloads: tuple[Policy, ...] = ()
    rehearsed: "PeerPolicies | None" = None

    @property
    def can_disable(self) -> bool:
        """Whether DISABLE is said anywhere; only then can an endpoint be one that takes no mutual TLS."""
        policies = (*self.workloads, *(policy for policy in (self.mesh, self.namespace) if policy))
        return any(MtlsMode.DISABLE in (policy.mode, *(mode for _, mode in policy.ports)) for policy in policies)


class EffectiveMode(Frozen, frozen=True):
    """What one workload accepts, and who said so (None: nobody, the default)."""

    default: MtlsMode = MtlsMode.PERMISSIVE
    ports: tuple[tuple[int, MtlsMode], ...] = ()  # ascending
    decided_by: ObjectRef | None = None
    ports_decided_by: ObjectRef | None = None

    def on_port(self, number: int) -> MtlsMode:
        """The mode of one workload port."""
        return next((mode for port, mode in self.ports if port == number), self.default)

    def decider(self, number: int) -> ObjectRef | None:
        """Who decided about one workload port."""
        return self.ports_decided_by if any(port == number for port, _ in self.ports) else self.decided_by


def policies_for(namespace: str, root_namespace: str, objects: Iterable[PeerAuthentication]) -> PeerPolicies:
    """What can decide about workloads of the namespace, from the objects of it and of the root namespace.

    Per level the oldest object wins. A policy with a selector in the root namespace decides nothing, nor does one in
    dry run; among the rehearsed, those in dry run come before the others.
    """
    policies = [_policy(item) for item in sorted(objects, key=lambda item: age_order(item.metadata))]
    live = [policy for policy in policies if not policy.dry_run]
    decided = _by_level(namespace, root_namespace, live)
    if len(live) == len(policies):
        return decided
    tried = [policy for policy in policies if policy.dry_run]
    return msgspec.structs.replace(decided, rehearsed=_by_level(namespace, root_namespace, [*tried, *live]))


def _by_level(namespace: str, root_namespace: str, policies: Iterable[Policy]) -> PeerPolicies:
    mesh = own = None
    workloads: list[Policy] = []
    for policy in policies:
        if policy.source.namespace == root_namespace:
            if not policy.selector:
                mesh = mesh or policy
        elif policy.source.namespace == namespace:
            if policy.selector:
                workloads.append(policy)
            else:
                own = own or policy
    return PeerPolicies(mesh, own, tuple(workloads))


def selected(policies: PeerPolicies, labels: Labels) -> tuple[Policy, ...]:
    """The policies that apply to a workload, its namespace's first, then the mesh's; each from the oldest."""
    own = [policy for policy in policies.workloads if policy.selector <= labels]
    if policies.namespace:
        own.insert(0, policies.namespace)
    return (*own, *((policies.mesh,) if policies.mesh else ()))


def effective(policies: PeerPolicies, labels: Labels) -> EffectiveMode:
    """What a workload with these labels accepts. UNSET inherits from the level above; nothing said is PERMISSIVE."""
    mode, decided_by = MtlsMode.PERMISSIVE, None
    workload = next((policy for policy in policies.workloads if policy.selector <= labels), None)
    for policy in (policies.mesh, policies.namespace, workload):
        if policy and policy.mode:
            mode, decided_by = policy.mode, policy.source
    if workload is None or not workload.ports:
        return EffectiveMode(mode, (), decided_by)
    ports = tuple((port, port_mode or mode) for port, port_mode in workload.ports)
    return EffectiveMode(mode, ports, decided_by, workload.source)


def refused_by_dry_run(policies: PeerPolicies, labels: Labels, port: int) -> ObjectRef | None:
    """The policy in dry run that would make a port STRICT which takes plaintext now; None if there is none."""
    rehearsed = policies.rehearsed
    if rehearsed is None or effective(policies, labels).on_port(port) is MtlsMode.STRICT:
        return None
    if effective(rehearsed, labels).on_port(port) is not MtlsMode.STRICT:
        return None
    workload = next((policy for policy in rehearsed.workloads if policy.selector <= labels), None)
    levels = (workload, rehearsed.namespace, rehearsed.mesh)
    return next((policy.source for policy in levels if policy and policy.dry_run), None)


def namespace_mode(policies: PeerPolicies) -> MtlsMode | None:
    """What the mesh and namespace levels alone say; None if there is neither."""
    if policies.mesh is None and policies.namespace is None:
        return None
    return effective(PeerPolicies(policies.mesh, policies.namespace), NO_LABELS).default


class Ineffective(NamedTuple):
    """A policy that decides nothing: an older one covers the same, or (None) it selects in the root namespace.

    One in dry run stands in nobody's way, and is none of these.
    """

    policy: PeerAuthentication
    older: PeerAuthentication | None


def ineffective(objects: Iterable[PeerAuthentication], root_namespace: str) -> list[Ineffective]:
    """The policies that decide nothing, from the oldest."""
    found: list[Ineffective] = []
    levels: dict[tuple[str, Labels], PeerAuthentication] = {}
    for item in sorted(objects, key=lambda item: age_order(item.metadata)):
        policy = _policy(item)
        if policy.dry_run:
            continue
        if policy.selector and item.metadata.namespace == root_namespace:
            found.append(Ineffective(item, None))
            continue
        older = levels.setdefault((item.metadata.namespace, policy.selector), item)
        if older is not item:
            found.append(Ineffective(item, older))
    return found


def _policy(item: PeerAuthentication) -> Policy:
    metadata, spec = item.metadata, item.spec
    ports = ((int(port), _mode(mtls)) for port, mtls in (spec.port_level_mtls or {}).items() if port.isdecimal())
    return Policy(
        source=ObjectRef(KIND, metadata.namespace, metadata.name),
        selector=labels_of(spec.selector.match_labels) if spec.selector else NO_LABELS,
        mode=_mode(spec.mtls),
        ports=tuple(sorted(ports, key=lambda entry: entry[0])),
        dry_run=is_dry_run(metadata),
    )


def _mode(mtls: MutualTls | None) -> MtlsMode | None:
    return _RESOLVED.get(mtls.mode) if mtls else None

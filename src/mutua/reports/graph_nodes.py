"""The workloads of the graph: pods by who owns them, what they accept, prove and hold, and what is wrong with them."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from mutua.api import core, kinds
from mutua.api.kinds import Key
from mutua.mesh import owners, peer_authentication, view
from mutua.mesh.proxy_view import ObjectRef
from mutua.mesh.snapshot import MeshSnapshot
from mutua.mesh.workloads import Workload
from mutua.reports.graph_model import Accepts, Certificate, Node, Overview, PodLine, Ref
from mutua.reports.proxy_status import ProxyState
from mutua.reports.traffic_window import End
from mutua.spiffe import SpiffeId
from mutua.xds.sync_state import SyncState


class Owned(msgspec.Struct, frozen=True, eq=False):
    """The pods of one workload."""

    end: End
    kind: str
    workloads: tuple[Workload, ...]


def owned(snapshot: MeshSnapshot) -> dict[End, Owned]:
    """All running pods by the workload that made them, each from the first name on."""
    pods = snapshot.objects.typed(kinds.POD, core.Pod)
    found: dict[End, tuple[str, list[Workload]]] = {}
    for key in sorted(snapshot.workloads):
        workload = snapshot.workloads[key]
        kind = _kind(pods[key]) if key in pods else kinds.WORKLOAD_ENTRY.name
        found.setdefault(End(key[0], workload.owner or key[1]), (kind, []))[1].append(workload)
    return {end: Owned(end, kind, tuple(pods)) for end, (kind, pods) in sorted(found.items())}


def _kind(pod: core.Pod) -> str:
    controller = next((each for each in pod.metadata.owner_references if each.controller), None)
    if controller is None:
        return kinds.POD.name
    return owners.kind_and_name(controller.kind, controller.name, pod.metadata.labels)[0]


class Knowledge:
    """What is known of each pod beyond its object, looked up by (namespace, pod)."""

    def __init__(self, overview: Overview) -> None:
        self._certificates: Mapping[Key, Mapping[str, Any]] = {
            (str(each["namespace"]), str(each["pod"])): each for each in overview.certificates
        }
        self._proxies = {(each.namespace, each.pod): each for each in overview.proxies}
        self._snapshot = overview.snapshot

    def pod(self, workload: Workload) -> PodLine:
        """One pod as the page shows it."""
        key = (workload.namespace, workload.name)
        told = self._certificates.get(key)
        return PodLine(
            workload.name,
            workload.ready,
            workload.has_sidecar,
            identity(self._snapshot, workload) if workload.has_sidecar else "",
            _certificate(told) if told is not None and workload.has_sidecar else None,
            _configuration(self._proxies.get(key)) if workload.has_sidecar else "",
        )


def identity(snapshot: MeshSnapshot, workload: Workload) -> str:
    """The SPIFFE id that the workload's sidecar proves."""
    return str(SpiffeId(snapshot.trust.domains[0], workload.namespace, workload.service_account))


def node(item: Owned, snapshot: MeshSnapshot, knowledge: Knowledge, issues: Mapping[Ref, Iterable[int]]) -> Node:
    """One workload. `issues` are the findings by the object that they are about."""
    first = next((each for each in item.workloads if each.has_sidecar), item.workloads[0])
    inbound = snapshot.inbound(first.namespace)
    services = [service.name for service in inbound.services_of(first.labels)]
    policies = _policies(snapshot, first) if first.has_sidecar else ()
    about = {
        Ref(item.kind, item.end.namespace, item.end.name),
        *(Ref("Pod", each.namespace, each.name) for each in item.workloads),
        *(Ref("Service", first.namespace, name) for name in services),
        *(Ref(each.kind, each.namespace, each.name) for each in policies),
    }
    return Node(
        f"{item.end.namespace}/{item.end.name}",
        item.end.namespace,
        item.end.name,
        item.kind,
        tuple(knowledge.pod(each) for each in item.workloads),
        accepts(snapshot, first) if first.has_sidecar else (),
        tuple(services),
        policies,
        tuple(sorted({place for ref in about for place in issues.get(ref, ())})),
    )


def accepts(snapshot: MeshSnapshot, workload: Workload) -> tuple[Accepts, ...]:
    """The mode of all ports first, then of those that a policy names."""
    effective = snapshot.mode_of(workload)
    return (
        Accepts(effective.default.value, 0, reference(effective.decided_by)),
        *(Accepts(mode.value, port, reference(effective.ports_decided_by)) for port, mode in effective.ports),
    )


def reference(found: ObjectRef | None) -> Ref | None:
    """The same object, for the page."""
    return Ref(found.kind, found.namespace, found.name) if found else None


def _policies(snapshot: MeshSnapshot, workload: Workload) -> tuple[Ref, ...]:
    """Everything that has a say about connections and requests to the workload."""
    inbound = snapshot.inbound(workload.namespace)
    seen = inbound.view(workload)
    peers = peer_authentication.selected(inbound.peer_policies, workload.labels)
    outbound = view.for_proxy(snapshot, view.Proxy(workload.namespace, workload.name)).outbound
    hosts = {service.host for service in inbound.services_of(workload.labels)}
    rules = {
        port.destination_rule
        for service in outbound.services
        if service.host in hosts
        for port in service.ports
        if port.destination_rule
    }
    return (
        *(
            Ref(each.source.kind, each.source.namespace, each.source.name, each.mode.value if each.mode else "UNSET")
            for each in peers
        ),
        *(
            Ref(
                "AuthorizationPolicy",
                each.namespace,
                each.name,
                each.action.value + (", dry run: refuses nobody" if each.dry_run else ""),
            )
            for each in seen.policies
        ),
        *sorted({Ref(each.source.kind, each.source.namespace, each.source.name) for each in seen.token_rules}),
        *sorted(Ref(each.kind, each.namespace, each.name) for each in rules),
    )


def _certificate(told: Mapping[str, Any]) -> Certificate:
    return msgspec.convert({field: told.get(field) for field in Certificate.__struct_fields__}, Certificate)


def _configuration(proxy: ProxyState | None) -> str:
    if proxy is None:
        return "not connected to the control plane"
    if proxy.error:
        return f"cannot be made: {proxy.error}"
    refused = [f"{kind.type} {item.resource}: {item.reason}" for kind in proxy.types for item in kind.rejected]
    if refused:
        return f"refused: {refused[0]}"
    stale = [kind.type for kind in proxy.types if kind.state is SyncState.STALE]
    return f"not acknowledged yet: {', '.join(stale)}" if stale else "current"

"""PeerAuthentications that do not do what they say."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from mutua.analysis import words
from mutua.analysis.check import Check
from mutua.analysis.inputs import Inputs
from mutua.analysis.message import Message, Subject, own, subject
from mutua.analysis.projection import SNAPSHOT_INPUTS
from mutua.api import kinds, security
from mutua.api.meta import age_order
from mutua.mesh import peer_authentication
from mutua.mesh.peer_authentication import Policy
from mutua.mesh.proxy_view import ObjectRef
from mutua.mesh.selectors import labels_of
from mutua.mesh.snapshot import MeshSnapshot
from mutua.mesh.workloads import Workload

KIND: Final = kinds.PEER_AUTHENTICATION
_STRUCT: Final = security.PeerAuthentication


def shadowed(inputs: Inputs) -> Iterator[Message]:
    """An older object of the same level covers the same workloads; it wins, and the younger is ignored."""
    judged = {subject(KIND, item) for item in inputs.subjects(KIND, _STRUCT)}
    everything = inputs.all(KIND, _STRUCT).values()
    for item in peer_authentication.ineffective(everything, inputs.root_namespace):
        about = subject(KIND, item.policy)
        if item.older is None or (about not in judged and subject(KIND, item.older) not in judged):
            continue
        yield _is_shadowed(about, subject(KIND, item.older), mode_of(item.older))


def partly_shadowed(inputs: Inputs) -> Iterator[Message]:
    """Policies with different selectors that meet in a workload: only the oldest counts there."""
    snapshot = inputs.snapshot
    for namespace, policies in _workload_policies(snapshot, inputs.subjects(KIND, _STRUCT)).items():
        covered: dict[ObjectRef, dict[ObjectRef, list[str]]] = {}
        for workload in inputs.workloads(namespace):
            matching = [policy for policy in policies if policy.selector <= workload.labels]
            for younger in matching[1:]:
                if younger.selector != matching[0].selector:
                    covered.setdefault(younger.source, {}).setdefault(matching[0].source, []).append(workload.name)
        for ignored, winners in covered.items():
            for older, names in winners.items():
                by = f"{older.namespace}/{older.name} is older and selects them too"
                text = f"is ignored for {words.listed(names)}: {by}"
                yield own("MUT0001", _about(ignored), text, f"edit or delete {older.name}", related=(_about(older),))


def selector_in_root(inputs: Inputs) -> Iterator[Message]:
    """In the root namespace a policy is the whole mesh's, and a selector makes it nobody's."""
    for item in peer_authentication.ineffective(inputs.subjects(KIND, _STRUCT), inputs.root_namespace):
        if item.older is None:
            text = f"is ignored: a selector has no effect in the root namespace {inputs.root_namespace}"
            hint = "move it to the workload's namespace"
            yield own("MUT0002", subject(KIND, item.policy), text, hint, field="spec.selector")


def port_keys(inputs: Inputs) -> Iterator[Message]:
    """Keys of portLevelMtls count the workload's own ports; a Service's port there does nothing."""
    snapshot = inputs.snapshot
    for item in inputs.subjects(KIND, _STRUCT):
        ports, selector = item.spec.port_level_mtls, item.spec.selector
        if not ports or not selector or item.metadata.namespace == inputs.root_namespace:
            continue
        selected = inputs.workloads(item.metadata.namespace, labels_of(selector.match_labels))
        for key in sorted(port for port in ports if port.isdecimal()):
            yield from _service_port(snapshot, subject(KIND, item), selected, int(key))


def _service_port(
    snapshot: MeshSnapshot, about: Subject, selected: Iterable[Workload], number: int
) -> Iterator[Message]:
    meant: dict[str, set[int]] = {}
    for workload in selected:
        for service in snapshot.inbound(workload.namespace).services_of(workload.labels):
            targets = {port.number: workload.port_number(port.target) for port in service.ports}
            if number in targets.values():
                return
            target = targets.get(number)
            if target is not None:
                meant.setdefault(service.name, set()).add(target)
    if not meant:
        return
    target_ports = words.joined([str(port) for port in sorted(set().union(*meant.values()))])
    text = f"port {number} is a port of Service {words.listed(meant)}, not of the workload, so this has no effect"
    hint = f"write the workload's port: {target_ports}"
    yield own("MUT0004", about, text, hint, field=f"spec.portLevelMtls[{number}]")


def mode_of(item: security.PeerAuthentication) -> str:
    """The mode as written; UNSET where the object says none."""
    return (item.spec.mtls.mode if item.spec.mtls else security.MutualTlsMode.UNSET).value


def _is_shadowed(about: Subject, older: Subject, older_mode: str) -> Message:
    winner = f"{older.namespace}/{older.name} ({older_mode})"
    text = f"is ignored: {winner} is older and covers the same workloads; the oldest wins"
    return own("MUT0001", about, text, f"edit or delete {older.name}", related=(older,))


def _workload_policies(
    snapshot: MeshSnapshot, judged: Iterable[security.PeerAuthentication]
) -> Mapping[str, tuple[Policy, ...]]:
    namespaces = {item.metadata.namespace for item in sorted(judged, key=lambda item: age_order(item.metadata))}
    found = {namespace: snapshot.inbound(namespace).peer_policies.workloads for namespace in namespaces}
    return {namespace: policies for namespace, policies in found.items() if len(policies) > 1}


def _about(source: ObjectRef) -> Subject:
    return Subject(source.kind, source.namespace, source.name)


CHECKS: Final = (
    Check(
        "peerauthentication.ShadowedAnalyzer",
        "PeerAuthentications that an older one of the same level overrides",
        ("MUT0001",),
        (KIND,),
        shadowed,
        (KIND,),
    ),
    Check(
        "peerauthentication.PartlyShadowedAnalyzer",
        "PeerAuthentications that an older one overrides for some of their workloads",
        ("MUT0001",),
        SNAPSHOT_INPUTS,
        partly_shadowed,
        (KIND,),
    ),
    Check(
        "peerauthentication.RootSelectorAnalyzer",
        "PeerAuthentications with a selector in the root namespace",
        ("MUT0002",),
        (KIND,),
        selector_in_root,
        (KIND,),
    ),
    Check(
        "peerauthentication.PortKeyAnalyzer",
        "Keys of portLevelMtls that are ports of a Service and not of the workload",
        ("MUT0004",),
        SNAPSHOT_INPUTS,
        port_keys,
        (KIND,),
    ),
)

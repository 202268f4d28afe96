"""DestinationRules that break connections, demand what cannot be, or lead nowhere."""

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from mutua.analysis import words
from mutua.analysis.check import Check
from mutua.analysis.inputs import Inputs
from mutua.analysis.message import Message, Subject, istio, own, subject
from mutua.analysis.projection import SNAPSHOT_INPUTS, WORKLOAD_KINDS, template_pod
from mutua.api import core, kinds
from mutua.api.networking import ClientTlsSettings, ClientTlsSettingsMode, DestinationRule, PortTrafficPolicy
from mutua.api.service_entry import ServiceEntry
from mutua.mesh import destination_rule, hosts, visibility
from mutua.mesh.destination_rule import MergedRule
from mutua.mesh.proxy_view import ClientTlsMode, ObjectRef
from mutua.mesh.selectors import Labels
from mutua.mesh.services import Service
from mutua.mesh.snapshot import MeshSnapshot
from mutua.mesh.workloads import Workload
from mutua.verdict import connection

KIND: Final = kinds.DESTINATION_RULE
_VERIFYING_MODES: Final = frozenset({ClientTlsSettingsMode.SIMPLE, ClientTlsSettingsMode.MUTUAL})
# Labels that a node gives its pods' endpoints; the last one stands on neither.
_NODE_LABELS: Final = ("topology.kubernetes.io/region", "topology.kubernetes.io/zone", "kubernetes.io/hostname")
_CLUSTER_LABEL: Final = "topology.istio.io/cluster"
_NETWORK_LABEL: Final = "topology.istio.io/network"


class _Break(NamedTuple):
    """One Service port that a rule makes unreachable."""

    rule: ObjectRef
    mode: ClientTlsMode
    host: str
    port: int
    server: str
    reason: str
    policy: ObjectRef | None
    has_sidecar: bool


def breaks_connections(inputs: Inputs) -> Iterator[Message]:
    """What clients are told to send against what servers accept, for every client, Service and port."""
    snapshot = inputs.snapshot
    rules = {subject(KIND, item): item for item in inputs.subjects(KIND, DestinationRule)}
    found: dict[_Break, set[str]] = {}
    clients = list(_clients(snapshot))
    by_rule = snapshot.parts.rules
    for reachable in snapshot.parts.outbound.directory.entries:
        service = reachable.service
        judged: dict[int, tuple[_Break, ...]] = {}  # by identity of the rule, which the snapshot keeps alive
        for client in clients:
            merged = by_rule.select(client.namespace, client.labels, service.host, service.namespace)
            if merged is None or not visibility.can_see(service.visible_to, client.namespace):
                continue
            if id(merged) not in judged:
                judged[id(merged)] = tuple(_breaks(snapshot, service, merged, inputs.mesh_config.enable_auto_mtls))
            for item in judged[id(merged)]:
                found.setdefault(item, set()).add(client.namespace)
    without_sidecar: dict[Subject, set[str]] = {}
    for item, senders in found.items():
        about = Subject(item.rule.kind, item.rule.namespace, item.rule.name)
        rule = rules.get(about)
        if rule is None:
            continue
        if not item.has_sidecar and hosts.is_wildcard(rule.spec.host):
            without_sidecar.setdefault(about, set()).add(item.host)
            continue
        yield _broken(about, item, senders)
    for about, names in without_sidecar.items():
        host = rules[about].spec.host
        text = f'ISTIO_MUTUAL for "{host}" breaks hosts without a sidecar: {words.listed(names, 6)}'
        hint = "delete the rule, mutual TLS is automatic; or add a rule with tls mode DISABLE for each of them"
        yield own("MUT0011", about, text, hint, field="spec.trafficPolicy.tls.mode")


def _broken(about: Subject, item: _Break, clients: set[str]) -> Message:
    what = "plaintext" if item.mode is ClientTlsMode.DISABLE else item.mode.value
    sender = f"clients in {words.listed(clients)}"
    text = f"{what} from {sender} to {item.host}:{item.port} fails at {item.server}: {item.reason}"
    related = (Subject(item.policy.kind, item.policy.namespace, item.policy.name),) if item.policy else ()
    hint = "leave `tls` out of the rule: mutual TLS is automatic where the server takes it"
    return own("MUT0005", about, text, hint, field="spec.trafficPolicy.tls.mode", related=related)


def _clients(snapshot: MeshSnapshot) -> Iterator[Workload]:
    """One client with a sidecar for each way to dial: per namespace, and per labels where rules single clients out."""
    singling_out = {rule.source.namespace for rule in snapshot.parts.rules.with_selector}
    seen: set[tuple[str, Labels]] = set()
    for workload in snapshot.workloads.values():
        labels = workload.labels if workload.namespace in singling_out else frozenset()
        if workload.has_sidecar and (workload.namespace, labels) not in seen:
            seen.add((workload.namespace, labels))
            yield workload


def _breaks(snapshot: MeshSnapshot, service: Service, rule: MergedRule, auto_mtls: bool) -> Iterator[_Break]:
    load = {item.port: item for item in snapshot.load(service.namespace, service.host)}
    for port in service.ports:
        tls = destination_rule.tls_for(rule, port.number, auto_mtls=auto_mtls)
        if tls.mode is ClientTlsMode.AUTO or port.number not in load:
            continue
        for endpoint in load[port.number].endpoints:
            sent = connection.protection(tls, endpoint)
            server = snapshot.workload_by_address(endpoint.address)
            name = f"{server.namespace}/{server.name}" if server else endpoint.address
            if server is None:
                if sent is connection.Protection.MUTUAL_TLS and not endpoint.mtls:
                    reason = f"{name} has no sidecar to answer mutual TLS"
                    yield _Break(rule.source, tls.mode, service.host, port.number, name, reason, None, False)
                    break
                continue
            verdict = connection.to_workload(snapshot, server, endpoint.port, sent, rule.source)
            if not verdict.succeeds:
                yield _Break(
                    rule.source,
                    tls.mode,
                    service.host,
                    port.number,
                    name,
                    verdict.reason,
                    verdict.server_policy,
                    server.has_sidecar,
                )
                break  # one endpoint tells enough; the others of a Service are most often its replicas


def server_certificates(inputs: Inputs) -> Iterator[Message]:
    """TLS to a server whose certificate nobody looks at."""
    for item in inputs.subjects(KIND, DestinationRule):
        policy = item.spec.traffic_policy
        if policy is None:
            continue
        about, metadata, host = subject(KIND, item), item.metadata, item.spec.host
        by_selector = item.spec.workload_selector is not None
        if policy.tls is not None and _is_unverified(policy.tls, by_selector):
            mode = policy.tls.mode.value
            yield istio("IST0128", about, metadata.name, metadata.namespace, mode, host, field="spec.trafficPolicy.tls")
        for index, settings in enumerate(policy.port_level_settings):
            if settings.tls is not None and _is_unverified(settings.tls, by_selector):
                field = f"spec.trafficPolicy.portLevelSettings[{index}].tls"
                mode, number = settings.tls.mode.value, _number(settings)
                yield istio("IST0129", about, metadata.name, metadata.namespace, mode, host, number, field=field)


def _is_unverified(tls: ClientTlsSettings, by_selector: bool) -> bool:
    # A credential is read by gateways, and by sidecars only under a rule for chosen workloads.
    verified = tls.ca_certificates or (tls.credential_name and by_selector)
    return tls.mode in _VERIFYING_MODES and not verified


def _number(settings: PortTrafficPolicy) -> int:
    return settings.port.number or 0 if settings.port else 0


def targets(inputs: Inputs) -> Iterator[Message]:
    """Hosts that nobody serves, and subsets without pods."""
    domain = inputs.injector.cluster_domain
    services = inputs.all(kinds.SERVICE, core.Service)
    by_host = {hosts.service_host(key[1], key[0], domain): item for key, item in services.items()}
    entries = inputs.all(kinds.SERVICE_ENTRY, ServiceEntry).values()
    external = [(host, item) for item in entries for host in item.spec.hosts]
    pods = [*inputs.all(kinds.POD, core.Pod).values(), *workload_templates(inputs)]
    nodes = inputs.all(kinds.NODE, core.Node)
    for item in inputs.subjects(KIND, DestinationRule):
        host = hosts.resolve(item.spec.host, item.metadata.namespace, domain)
        service = by_host.get(host)
        about = subject(KIND, item)
        if service is None:
            if not _exists(host, item.metadata.namespace, by_host, external):
                yield istio("IST0174", about, item.spec.host, field="spec.host")
            continue
        selected = [
            _endpoint_labels(pod, nodes)
            for pod in pods
            if pod.metadata.namespace == service.metadata.namespace
            and service.spec.selector.items() <= pod.metadata.labels.items()
        ]
        for index, subset in enumerate(item.spec.subsets):
            wanted = {key: value for key, value in subset.labels.items() if key not in (_CLUSTER_LABEL, _NETWORK_LABEL)}
            empty = any(key in _NODE_LABELS and not value for key, value in wanted.items())
            if service.spec.selector and (empty or not any(wanted.items() <= labels.items() for labels in selected)):
                yield istio("IST0173", about, subset.name, field=f"spec.subsets[{index}]")


def workload_templates(inputs: Inputs) -> Iterator[core.Pod]:
    """The pods that workloads would make, also of those whose pods are there."""
    for kind, struct in WORKLOAD_KINDS:
        yield from (template_pod(item) for item in inputs.all(kind, struct).values())


def _exists(
    host: str,
    namespace: str,
    by_host: Mapping[str, core.Service],
    external: list[tuple[str, ServiceEntry]],
) -> bool:
    if hosts.is_wildcard(host) and any(hosts.matches(host, known) for known in by_host):
        return True
    return any(
        hosts.matches(known, host)
        and visibility.can_see(visibility.read(entry.spec.export_to, entry.metadata.namespace), namespace)
        for known, entry in external
    )


def _endpoint_labels(pod: core.Pod, nodes: Mapping[tuple[str, str], core.Node]) -> dict[str, str]:
    """The labels of a pod, with those that its node adds."""
    node = nodes.get(("", pod.spec.node_name))
    there = node.metadata.labels if node else {}
    return {**pod.metadata.labels, **{key: there[key] for key in _NODE_LABELS if there.get(key)}}


CHECKS: Final = (
    Check(
        "destinationrule.ConnectionAnalyzer",
        "DestinationRules that make clients send what servers refuse",
        ("MUT0005", "MUT0011"),
        SNAPSHOT_INPUTS,
        breaks_connections,
        (kinds.DESTINATION_RULE, kinds.PEER_AUTHENTICATION),
    ),
    Check(
        "destinationrule.CaCertificateAnalyzer",
        "DestinationRules with TLS that verify no server certificate",
        ("IST0128", "IST0129"),
        (KIND,),
        server_certificates,
        (KIND,),
    ),
    Check(
        "destinationrule.SubsetSelectPodAnalyzer",
        "DestinationRules for hosts that do not exist, and subsets without pods",
        ("IST0173", "IST0174"),
        (KIND, kinds.SERVICE, kinds.SERVICE_ENTRY, kinds.POD, kinds.NODE, *(kind for kind, _ in WORKLOAD_KINDS)),
        targets,
    ),
)

"""What a pod or a Service is to the mesh, in words: ports, rules, policies, and who decided the mode."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from mutua.mesh import peer_authentication, view
from mutua.mesh.proxy_view import ClientTlsMode, Discovery, ObjectRef, OutboundPort, Protocol
from mutua.mesh.services import Service
from mutua.mesh.snapshot import MeshSnapshot
from mutua.mesh.workloads import Workload
from mutua.reports.authorization import NOTHING_MATCHES, InForce

_LINE = "--------------------\n"
_PROXY = "istio-proxy"
_RESERVED_UID = 1337
_FOUND = {
    Discovery.PUSHED: "Endpoints: as written, or selected",
    Discovery.DNS: "Endpoints: all that the names resolve to, in the client's pod",
    Discovery.DNS_ROUND_ROBIN: "Endpoints: one that the name resolves to, in the client's pod",
    Discovery.ORIGINAL: "Endpoints: where the application's connection was going",
    Discovery.NONE: "Endpoints: none, DYNAMIC_DNS is not supported",
}


def pod(
    document: Mapping[str, Any], snapshot: MeshSnapshot, policies: Iterable[InForce], shown_name: str, *, unmeshed: bool
) -> str:
    """One pod as the API has it. `policies`: of its live Envoy; `unmeshed`: nothing is said of a missing sidecar."""
    metadata, spec, status = document["metadata"], document.get("spec") or {}, document.get("status") or {}
    lines = [f"Pod: {shown_name}", f"   Pod Revision: {(metadata.get('labels') or {}).get('istio.io/rev', 'default')}"]
    lines += [*_ports(spec), *_warnings(metadata, spec, status, unmeshed=unmeshed)]
    text = "\n".join(lines) + "\n"
    workload = snapshot.workload(str(metadata["namespace"]), str(metadata["name"]))
    if workload is None:
        return text
    services = _services(snapshot, workload)
    if not services:
        text += (
            f"Warning: No Kubernetes Services select pod {metadata['name']} (see "
            "https://istio.io/docs/setup/kubernetes/additional-setup/requirements/ )\n"
        )
    for service in services:
        text += _LINE + "\n".join(_service(snapshot, service, workload)) + "\n"
    names = [item.name for item in policies if item.name != NOTHING_MATCHES]
    if names:
        text += f"RBAC policies: {', '.join(names)}\n"
    if workload.has_sidecar:
        text += _LINE + "\n".join(_modes(snapshot, workload)) + "\n"
    return text


def service(found: Service, snapshot: MeshSnapshot) -> str:
    """One Service, with the rules of its clients and the modes of the workloads behind it."""
    workloads = [
        item
        for item in (*snapshot.workloads.values(), *snapshot.machines)
        if item.namespace == found.namespace and found.selector and found.selector <= item.labels
    ]
    if not workloads:
        return f"Service: {found.name}\nWarning: no pods are behind this service\n"
    first = min(workloads, key=lambda item: item.name)
    text = "\n".join(_service(snapshot, found, first)) + "\n"
    guarded = [item for item in workloads if item.has_sidecar]
    if guarded:
        text += _LINE + "\n".join(_modes(snapshot, guarded[0])) + "\n"
    bare = sorted(item.name for item in workloads if not item.has_sidecar)
    return text + "".join(f"WARNING: {name} is not part of mesh; no Istio sidecar\n" for name in bare)


def entry(host: str, namespace: str, snapshot: MeshSnapshot) -> str:
    """A host of a ServiceEntry as clients of a namespace dial it; "" if they see none of that name."""
    found = snapshot.parts.outbound.view(namespace, frozenset()).find(host)
    if found is None or not found.is_entry:
        return ""
    lines = [f'ServiceEntry: {found.name}.{found.namespace} for "{found.host}"', f"   {_FOUND[found.discovery]}"]
    dialled = (*found.addresses, *found.blocks)
    if dialled:
        lines.append(f"   Addresses: {', '.join(dialled)}")
    load = {item.port: item.endpoints for item in snapshot.load(found.namespace, found.host)}
    for port in found.ports:
        protocol = "auto-detect" if port.protocol is Protocol.AUTO else port.protocol.value
        lines.append(f"   Port: {port.name} {port.number}/{protocol}, {_dialled_with(port)}")
        for endpoint in load.get(port.number, ()):
            takes = " takes mutual TLS" if endpoint.mtls else ""
            lines.append(f"      {endpoint.address}:{endpoint.port}{takes}")
    lines += _rules_of(found.host, found.ports)
    return "\n".join(lines) + "\n"


def _dialled_with(port: OutboundPort) -> str:
    """What clients protect connections with, in a few words."""
    tls = port.tls
    match tls.mode:
        case ClientTlsMode.AUTO:
            return "mutual TLS where it is taken"
        case ClientTlsMode.DISABLE:
            return "as the application sends it"
        case ClientTlsMode.ISTIO_MUTUAL:
            return "mutual TLS of the mesh"
    secret = f" with secret {tls.credential_name}" if tls.credential_name else ""
    return f"TLS ({tls.mode.value}){secret}"


def _ports(spec: Mapping[str, Any]) -> Iterator[str]:
    found = [
        f"{port['containerPort']}{'' if port.get('protocol', 'TCP') == 'TCP' else '/' + port['protocol']}"
        f" ({container['name']})"
        for container in spec.get("containers") or ()
        for port in container.get("ports") or ()
    ]
    yield f"   Pod Ports: {', '.join(found)}" if found else "   Pod does not expose ports"


def _warnings(
    metadata: Mapping[str, Any], spec: Mapping[str, Any], status: Mapping[str, Any], *, unmeshed: bool
) -> Iterator[str]:
    name = metadata["name"]
    containers = list(spec.get("containers") or ())
    everywhere = [*containers, *(spec.get("initContainers") or ())]
    if status.get("phase") != "Running":
        yield f"   Pod is not Running ({status.get('phase', 'Unknown')})"
    for item in status.get("containerStatuses") or ():
        if not item.get("ready", False) and status.get("phase") == "Running":
            yield f"WARNING: Pod {name} Container {item['name']} NOT READY"
    users = [(spec.get("securityContext") or {}).get("runAsUser")]
    users += [(item.get("securityContext") or {}).get("runAsUser") for item in containers if item["name"] != _PROXY]
    if _RESERVED_UID in users:
        yield f"   WARNING: User ID (UID) {_RESERVED_UID} is reserved for the sidecar proxy."
    if not unmeshed and not any(item.get("name") == _PROXY for item in everywhere):
        yield f"WARNING: {name} is not part of mesh; no Istio sidecar"


def _services(snapshot: MeshSnapshot, workload: Workload) -> list[Service]:
    own = (item for item in snapshot.services.values() if item.namespace == workload.namespace)
    return sorted(
        (item for item in own if item.selector and item.selector <= workload.labels), key=lambda one: one.name
    )


def _service(snapshot: MeshSnapshot, found: Service, workload: Workload) -> Iterator[str]:
    yield f"Service: {found.name}"
    for port in found.ports:
        target = workload.port_number(port.target) or port.target
        protocol = "auto-detect" if port.protocol is Protocol.AUTO else port.protocol.value.upper()
        yield f"   Port: {port.name} {port.number}/{protocol} targets pod port {target}".replace("Port:  ", "Port: ")
    yield from _rules(snapshot, found)


def _rules(snapshot: MeshSnapshot, found: Service) -> Iterator[str]:
    """The DestinationRules of the Service's ports, as clients of its own namespace see them."""
    client = next((item for item in snapshot.workloads.values() if item.namespace == found.namespace), None)
    if client is None:
        return
    outbound = view.for_proxy(snapshot, view.Proxy(client.namespace, client.name)).outbound
    yield from _rules_of(found.host, next((item.ports for item in outbound.services if item.host == found.host), ()))


def _rules_of(host: str, ports: Iterable[OutboundPort]) -> Iterator[str]:
    by_rule: dict[ObjectRef, set[ClientTlsMode]] = {}
    for port in ports:
        if port.destination_rule:
            by_rule.setdefault(port.destination_rule, set()).add(port.tls.mode)
    for rule, modes in by_rule.items():
        yield f'DestinationRule: {rule.name}.{rule.namespace} for "{host}"'
        told = ", ".join(sorted(mode.value for mode in modes if mode is not ClientTlsMode.AUTO))
        yield f"   Traffic Policy TLS Mode: {told}" if told else "   No Traffic Policy"


def _modes(snapshot: MeshSnapshot, workload: Workload) -> Iterator[str]:
    effective = snapshot.mode_of(workload)
    yield "Effective PeerAuthentication:"
    yield f"   Workload mTLS mode: {effective.default.value}"
    if effective.ports:
        yield "   Port Level mTLS mode:"
        for number, mode in effective.ports:
            yield f"      {number}: {mode.value}"
    applied = peer_authentication.selected(snapshot.inbound(workload.namespace).peer_policies, workload.labels)
    if applied:
        yield "Applied PeerAuthentication:"
        root = snapshot.mesh.root_namespace
        sources = sorted((item.source for item in applied), key=lambda item: (item.namespace != root, item.name))
        yield "   " + ", ".join(f"{item.name}.{item.namespace}" for item in sources)

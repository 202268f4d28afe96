"""Hosts that no Service names: what the ServiceEntries of one namespace mean together. Source: Istio."""

import ipaddress
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from mutua.api.meta import age_order
from mutua.api.service_entry import Location, Resolution, ServiceEntry, WorkloadEntrySpec
from mutua.mesh import endpoints, machines, protocols, visibility
from mutua.mesh.endpoints import Reachable, Seen
from mutua.mesh.machines import Machine
from mutua.mesh.proxy_view import Discovery, Endpoint, LoadAssignment, ObjectRef
from mutua.mesh.selectors import NO_LABELS, labels_of
from mutua.mesh.services import Service, ServicePort
from mutua.mesh.workloads import Workload

KIND: Final = "ServiceEntry"

_DISCOVERY: Final = {
    Resolution.NONE: Discovery.ORIGINAL,
    Resolution.STATIC: Discovery.PUSHED,
    Resolution.DNS: Discovery.DNS,
    Resolution.DNS_ROUND_ROBIN: Discovery.DNS_ROUND_ROBIN,
    Resolution.DYNAMIC_DNS: Discovery.NONE,
}
BY_DNS: Final = frozenset({Discovery.DNS, Discovery.DNS_ROUND_ROBIN})
_UNSEEN: Final = "udp"


class Outside(NamedTuple):
    """One host of a namespace's ServiceEntries, and where its ports' connections go."""

    reachable: Reachable
    load: tuple[LoadAssignment, ...]


class Surroundings(NamedTuple):
    """What the entries of one namespace may depend on."""

    namespace: str
    machines: tuple[Machine, ...]  # its WorkloadEntries
    pods: Callable[[], Iterable[Workload]]  # its pods; asked only if an entry selects workloads
    taken: Callable[[str], bool]  # whether a Service of this namespace has the host
    seen: Seen
    trust_domains: tuple[str, ...]
    default_export_to: tuple[str, ...]


def outside(entries: Iterable[ServiceEntry], around: Surroundings) -> tuple[Outside, ...]:
    """The hosts of one namespace's entries, ascending.

    Entries for one host are one: the oldest says what it is, younger ones of the same location and resolution add
    ports and endpoints. A Service of the namespace that has the host stays what it is.
    """
    by_host: dict[str, list[ServiceEntry]] = {}
    for entry in sorted(entries, key=lambda entry: age_order(entry.metadata)):
        for host in dict.fromkeys(entry.spec.hosts):
            if not around.taken(host):
                by_host.setdefault(host, []).append(entry)
    return tuple(_host(host, by_host[host], around) for host in sorted(by_host))


def _host(host: str, entries: list[ServiceEntry], around: Surroundings) -> Outside:
    first = entries[0]
    alike = [entry for entry in entries if _kind_of(entry) == _kind_of(first)]
    ports: dict[int, ServicePort] = {}
    found: dict[int, dict[tuple[str, int], Endpoint]] = {}
    behind: list[Workload] = []
    for entry in alike:
        behind_entry = _machines(host, entry, around)
        behind += (machine.workload for machine in behind_entry)
        for item in entry.spec.ports:
            if item.protocol.lower() == _UNSEEN:
                continue
            protocol = protocols.of_entry(item.number, item.protocol)
            port = ports.setdefault(
                item.number, ServicePort(item.number, item.name, protocol, item.target_port or item.number)
            )
            known = found.setdefault(item.number, {})
            for machine in behind_entry:
                for endpoint in _endpoints(machine, port, first.spec.resolution, around.seen):
                    known.setdefault((endpoint.address, endpoint.port), endpoint)
    service = _service(host, alike, tuple(ports[number] for number in sorted(ports)), around)
    load = tuple(
        LoadAssignment(host, port.number, tuple(found[port.number][key] for key in sorted(found[port.number])))
        for port in service.ports
    )
    named = endpoints.identities((item for item in behind if item.service_account), around.trust_domains)
    identities = tuple(sorted({*named, *service.subject_alt_names}))
    return Outside(Reachable(service, identities, (), load if service.discovery in BY_DNS else ()), load)


def _kind_of(entry: ServiceEntry) -> tuple[Location, Resolution]:
    return entry.spec.location, entry.spec.resolution


def _service(host: str, entries: list[ServiceEntry], ports: tuple[ServicePort, ...], around: Surroundings) -> Service:
    first, namespace = entries[0], around.namespace
    addresses = [_network(address) for entry in entries for address in entry.spec.addresses]
    return Service(
        host=host,
        namespace=namespace,
        name=first.metadata.name,
        age=age_order(first.metadata),
        addresses=tuple(dict.fromkeys(text for text, is_block in addresses if text and not is_block)),
        selector=NO_LABELS,
        ports=ports,
        visible_to=visibility.read(first.spec.export_to, namespace, around.default_export_to),
        entries=tuple(ObjectRef(KIND, namespace, entry.metadata.name) for entry in entries),
        blocks=tuple(dict.fromkeys(text for text, is_block in addresses if is_block)),
        discovery=_DISCOVERY[first.spec.resolution],
        is_external=first.spec.location is Location.MESH_EXTERNAL,
        subject_alt_names=tuple(sorted({name for entry in entries for name in entry.spec.subject_alt_names})),
    )


def _network(text: str) -> tuple[str, bool]:
    """An address, or a block and True, in the one way to write it; "" for neither."""
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        return "", False
    single = network.prefixlen == network.max_prefixlen
    return (str(network.network_address), False) if single else (str(network), True)


def _machines(host: str, entry: ServiceEntry, around: Surroundings) -> list[Machine]:
    """What stands behind a host of an entry; the host itself where nothing is named and DNS is to find it."""
    spec, namespace = entry.spec, around.namespace
    if spec.workload_selector is not None:
        wanted = labels_of(spec.workload_selector.labels)
        selected = [machine for machine in around.machines if wanted <= machine.workload.labels]
        pods = (pod for pod in around.pods() if pod.ready and wanted <= pod.labels)
        return selected + [Machine(pod, (), 1) for pod in pods]
    if spec.endpoints:
        return [machines.from_spec(endpoint, namespace) for endpoint in spec.endpoints]
    if _DISCOVERY[spec.resolution] in BY_DNS:
        return [machines.from_spec(WorkloadEntrySpec(address=host), namespace)]
    return []


def _endpoints(machine: Machine, port: ServicePort, resolution: Resolution, seen: Seen) -> Iterable[Endpoint]:
    workload = machine.workload
    number = machine.port(port.name, port.target, port.number)
    if number is None or resolution is Resolution.NONE:
        return
    for address in workload.addresses:
        if _DISCOVERY[resolution] in BY_DNS or endpoints.is_address(address):
            yield seen.endpoint(workload, address, number, machine.weight)

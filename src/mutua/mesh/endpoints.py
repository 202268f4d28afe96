"""Where a Service's connections may go, and which identities may answer there."""

import ipaddress
from collections.abc import Callable, Iterable
from typing import NamedTuple

from mutua.api.discovery import EndpointSlice
from mutua.mesh.machines import Machine
from mutua.mesh.peer_authentication import EffectiveMode
from mutua.mesh.proxy_view import Endpoint, Frozen, LoadAssignment, MtlsMode
from mutua.mesh.services import Service, ServicePort
from mutua.mesh.workloads import Workload
from mutua.spiffe import SpiffeId, in_trust_domains

FindWorkload = Callable[[str], Workload | None]
"""The workload that has an address."""

ModeOf = Callable[[Workload], EffectiveMode]
"""What a workload accepts."""


class Seen(NamedTuple):
    """What clients may know of workloads: what they accept, and the labels (by key) that subsets choose by."""

    mode_of: ModeOf
    label_keys: frozenset[str]

    def endpoint(self, workload: Workload, address: str, number: int, weight: int = 1) -> Endpoint:
        """One address of a workload as clients dial it."""
        return Endpoint(
            address=address,
            port=number,
            mtls=workload.has_sidecar and self.mode_of(workload).on_port(number) is not MtlsMode.DISABLE,
            service_account=workload.service_account,
            namespace=workload.namespace,
            workload=workload.owner or workload.name,
            labels=frozenset(pair for pair in workload.labels if pair[0] in self.label_keys),
            weight=weight,
        )


class Reachable(Frozen, frozen=True):
    """A Service as clients dial it, apart from where its connections go."""

    service: Service
    identities: tuple[str, ...]  # SPIFFE ids of the service accounts behind it, in all trust domains, sorted
    headless_addresses: tuple[tuple[str, int], ...] = ()
    named: tuple[LoadAssignment, ...] = ()  # of a host that clients' sidecars find by DNS: what they look up


def identities(workloads: Iterable[Workload], trust_domains: tuple[str, ...]) -> tuple[str, ...]:
    """Who may answer for a Service. Pods that are not ready count, so that a restart changes nothing for clients."""
    own = trust_domains[0]
    accounts = {str(SpiffeId(own, workload.namespace, workload.service_account)) for workload in workloads}
    return tuple(sorted(in_trust_domains(accounts, trust_domains)))


def workloads_behind(slices: Iterable[EndpointSlice], find: FindWorkload) -> list[Workload]:
    """The workloads that slices name by address, ready or not."""
    found = (find(address) for item in slices for endpoint in item.endpoints for address in endpoint.addresses)
    return [workload for workload in found if workload is not None]


def assignments(
    service: Service,
    slices: Iterable[EndpointSlice],
    selected: Iterable[Machine],
    find: FindWorkload,
    seen: Seen,
) -> tuple[LoadAssignment, ...]:
    """The endpoints of each port, ascending by port; only those that are ready (unknown counts as ready).

    `selected` are the workloads outside of pods that have the Service's labels.
    """
    usable = [item for item in slices if item.address_type in ("IPv4", "IPv6")]
    beside = list(selected)
    return tuple(
        LoadAssignment(service.host, port.number, _endpoints(service, port, usable, beside, find, seen))
        for port in sorted(service.ports, key=lambda port: port.number)
    )


def is_address(text: str) -> bool:
    """Whether it is an IP address, which needs no look-up."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def headless_addresses(service: Service, load: tuple[LoadAssignment, ...]) -> tuple[tuple[str, int], ...]:
    """(pod address, workload port) that clients of a headless Service connect to."""
    if not service.is_headless:
        return ()
    return tuple(sorted({(endpoint.address, endpoint.port) for item in load for endpoint in item.endpoints}))


def _endpoints(
    service: Service,
    port: ServicePort,
    slices: list[EndpointSlice],
    selected: list[Machine],
    find: FindWorkload,
    seen: Seen,
) -> tuple[Endpoint, ...]:
    found: dict[tuple[str, int], Endpoint] = {}
    for item in slices:
        number = next((entry.port for entry in item.ports if entry.name == port.name and entry.port), 0)
        if not number:
            continue
        for endpoint in item.endpoints:
            if endpoint.conditions.ready is False:
                continue
            for address in endpoint.addresses:
                workload = find(address)
                found[address, number] = (
                    seen.endpoint(workload, address, number)
                    if workload is not None
                    else Endpoint(address, number, mtls=False, service_account="", namespace=service.namespace)
                )
    for machine in selected:
        own = machine.port(port.name, port.target, port.number)
        for address in machine.workload.addresses:
            if own is not None and is_address(address):
                found[address, own] = seen.endpoint(machine.workload, address, own, machine.weight)
    return tuple(found[key] for key in sorted(found))

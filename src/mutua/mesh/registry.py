"""Services, workloads and endpoint slices with their indexes, brought up to date object by object."""

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import msgspec

from mutua.api import core, discovery, kinds, service_entry
from mutua.api.kinds import Key
from mutua.mesh import machines, services, workloads
from mutua.mesh.machines import Machine
from mutua.mesh.objects import ObjectSet
from mutua.mesh.selectors import SelectorTable
from mutua.mesh.services import Service
from mutua.mesh.workloads import Workload

V = TypeVar("V")
Slices = tuple[discovery.EndpointSlice, ...]


class Registry(msgspec.Struct, frozen=True, eq=False):
    """Who is there. Every mapping that a change does not touch is the previous registry's own."""

    workloads: Mapping[Key, Workload]
    workload_keys: Mapping[str, Key]  # by address
    services: Mapping[Key, Service]
    slices: Mapping[Key, Slices]  # by the Service's key
    service_tables: Mapping[str, SelectorTable[Service]]  # by namespace
    without_selector: frozenset[Key]  # Services whose endpoints are written by somebody else
    namespaces: frozenset[str]  # in which there is a workload or a Service
    machines: Mapping[str, tuple[Machine, ...]] = {}  # workloads outside of pods, by namespace, ascending by name
    machine_addresses: Mapping[str, Workload] = {}  # by address or name
    leading_to: Mapping[str, frozenset[Key]] = {}  # Services whose slices name an address

    def find(self, address: str) -> Workload | None:
        """The workload that has this address: a pod, or else one outside of pods."""
        key = self.workload_keys.get(address)
        found = self.workloads.get(key) if key is not None else None
        return found or self.machine_addresses.get(address)

    def selected(self, service: Service) -> list[Machine]:
        """The workloads outside of pods that a Service selects."""
        if not service.selector:
            return []
        here = self.machines.get(service.namespace, ())
        return [machine for machine in here if service.selector <= machine.workload.labels]


class Touched(msgspec.Struct, frozen=True):
    """What differs from the previous registry."""

    services: frozenset[Key]  # what these answer, or where they lead, may differ
    service_namespaces: frozenset[str]  # a Service itself came, went or changed here
    workload_namespaces: frozenset[str]  # a workload came, went or changed here


EMPTY = Registry({}, {}, {}, {}, {}, frozenset(), frozenset())


def changed_keys(old: Mapping[Key, Any], new: Mapping[Key, Any]) -> set[Key]:
    """Keys whose object is not the same one any more. Costs nothing for an untouched kind."""
    if old is new:
        return set()
    changed = {key for key, value in new.items() if old.get(key) is not value}
    if len(old) != len(new) or changed:
        changed.update(key for key in old if key not in new)
    return changed


def update(
    previous: Registry, old: ObjectSet, new: ObjectSet, cluster_domain: str, default_export_to: Iterable[str]
) -> tuple[Registry, Touched]:
    """The registry of the new objects, from the one of the old objects."""
    pods = new.typed(kinds.POD, core.Pod)
    changed_pods = changed_keys(old.of_kind(kinds.POD), pods)
    new_workloads, touched_workloads = _replace(
        previous.workloads, {key: workloads.from_pod(pods[key]) if key in pods else None for key in changed_pods}
    )

    objects = new.typed(kinds.SERVICE, core.Service)
    new_services, touched_services = _replace(
        previous.services,
        {
            key: services.from_object(objects[key], cluster_domain, default_export_to) if key in objects else None
            for key in changed_keys(old.of_kind(kinds.SERVICE), objects)
        },
    )
    service_namespaces = frozenset(namespace for namespace, _ in touched_services)

    new_slices, services_of_touched_slices = _slices(
        previous.slices,
        old.typed(kinds.ENDPOINT_SLICE, discovery.EndpointSlice),
        new.typed(kinds.ENDPOINT_SLICE, discovery.EndpointSlice),
    )

    new_machines, machine_namespaces = _machines(previous, old, new)
    registry = Registry(
        workloads=new_workloads,
        workload_keys=_addresses(previous, new_workloads, touched_workloads),
        services=new_services,
        slices=new_slices,
        service_tables=_tables(previous.service_tables, new_services, service_namespaces),
        without_selector=_without_selector(previous.without_selector, new_services, touched_services),
        namespaces=_namespaces(previous, new_workloads, touched_workloads, new_services, touched_services),
        machines=new_machines,
        machine_addresses=_machine_addresses(new_machines) if machine_namespaces else previous.machine_addresses,
        leading_to=_leading_to(previous, new_slices, services_of_touched_slices),
    )
    touched = {*touched_services, *services_of_touched_slices}
    if touched_workloads:
        touched.update(_services_of(previous, registry, touched_workloads))
    if machine_namespaces:
        # A Service without selector may lead to an address of any of them.
        touched |= registry.without_selector | {key for key in new_services if key[0] in machine_namespaces}
    namespaces = machine_namespaces.union(namespace for namespace, _ in touched_workloads)
    return registry, Touched(frozenset(touched), service_namespaces, frozenset(namespaces))


def _machines(previous: Registry, old: ObjectSet, new: ObjectSet) -> tuple[Mapping[str, tuple[Machine, ...]], set[str]]:
    """The workloads outside of pods, and the namespaces in which they are not the same any more."""
    objects = new.typed(kinds.WORKLOAD_ENTRY, service_entry.WorkloadEntry)
    touched = {namespace for namespace, _ in changed_keys(old.of_kind(kinds.WORKLOAD_ENTRY), objects)}
    if not touched:
        return previous.machines, touched
    current = {namespace: here for namespace, here in previous.machines.items() if namespace not in touched}
    for key in sorted(key for key in objects if key[0] in touched):
        current[key[0]] = (*current.get(key[0], ()), machines.from_entry(objects[key]))
    return current, {name for name in touched if current.get(name) != previous.machines.get(name)}


def _machine_addresses(current: Mapping[str, tuple[Machine, ...]]) -> Mapping[str, Workload]:
    found: dict[str, Workload] = {}
    for namespace in sorted(current):
        for machine in current[namespace]:
            for address in machine.workload.addresses:
                found.setdefault(address, machine.workload)
    return found


def _replace(current: Mapping[Key, V], updates: Mapping[Key, V | None]) -> tuple[Mapping[Key, V], set[Key]]:
    """Apply updates; an equal value changes nothing, so that what does not matter to us is not seen as a change."""
    touched = {key for key, value in updates.items() if current.get(key) != value}
    if not touched:
        return current, touched
    copy = dict(current)
    for key in touched:
        value = updates[key]
        if value is None:
            del copy[key]
        else:
            copy[key] = value
    return copy, touched


def _addresses(previous: Registry, current: Mapping[Key, Workload], touched: set[Key]) -> Mapping[str, Key]:
    if not touched:
        return previous.workload_keys
    addresses = dict(previous.workload_keys)
    for key in touched:
        gone = previous.workloads.get(key)
        for address in gone.addresses if gone else ():
            if addresses.get(address) == key:
                del addresses[address]
    for key in sorted(touched):
        here = current.get(key)
        addresses.update((address, key) for address in (here.addresses if here else ()))
    return addresses


def _slices(
    previous: Mapping[Key, Slices],
    old: Mapping[Key, discovery.EndpointSlice],
    new: Mapping[Key, discovery.EndpointSlice],
) -> tuple[Mapping[Key, Slices], set[Key]]:
    touched: dict[Key, set[Key]] = {}
    for key in changed_keys(old, new):
        for item in (old.get(key), new.get(key)):
            if item is not None and item.service_name:
                touched.setdefault((key[0], item.service_name), set()).add(key)
    if not touched:
        return previous, set()
    slices = dict(previous)
    for service, changed in touched.items():
        kept = [item for item in slices.get(service, ()) if kinds.ENDPOINT_SLICE.key(item.metadata) not in changed]
        here = [new[key] for key in changed if key in new and new[key].service_name == service[1]]
        slices[service] = tuple(sorted((*kept, *here), key=lambda item: item.metadata.name))
        if not slices[service]:
            del slices[service]
    return slices, set(touched)


def _leading_to(previous: Registry, current: Mapping[Key, Slices], touched: set[Key]) -> Mapping[str, frozenset[Key]]:
    if not touched:
        return previous.leading_to
    leading_to = dict(previous.leading_to)
    for service in touched:
        before, now = (_addresses_in(slices.get(service, ())) for slices in (previous.slices, current))
        for address in before - now:
            leading_to[address] -= {service}
            if not leading_to[address]:
                del leading_to[address]
        for address in now - before:
            leading_to[address] = leading_to.get(address, frozenset()) | {service}
    return leading_to


def _addresses_in(slices: Slices) -> set[str]:
    return {address for item in slices for endpoint in item.endpoints for address in endpoint.addresses}


def _tables(
    previous: Mapping[str, SelectorTable[Service]], current: Mapping[Key, Service], namespaces: Iterable[str]
) -> Mapping[str, SelectorTable[Service]]:
    rebuilt: dict[str, list[Service]] = {namespace: [] for namespace in namespaces}
    if not rebuilt:
        return previous
    for (namespace, _), service in current.items():
        if namespace in rebuilt:
            rebuilt[namespace].append(service)
    tables = {
        namespace: SelectorTable((service.selector, service) for service in here) for namespace, here in rebuilt.items()
    }
    return {**previous, **tables}


def _without_selector(previous: frozenset[Key], current: Mapping[Key, Service], touched: set[Key]) -> frozenset[Key]:
    here = {key for key in touched if (service := current.get(key)) is not None and not service.selector}
    return (previous - touched) | here if touched else previous


def _namespaces(
    previous: Registry,
    new_workloads: Mapping[Key, Workload],
    touched_workloads: set[Key],
    new_services: Mapping[Key, Service],
    touched_services: set[Key],
) -> frozenset[str]:
    gone = any(key not in new_workloads for key in touched_workloads)
    if gone or any(key not in new_services for key in touched_services):
        return frozenset(namespace for here in (new_workloads, new_services) for namespace, _ in here)
    return previous.namespaces.union(namespace for namespace, _ in touched_workloads | touched_services)


def _services_of(previous: Registry, registry: Registry, touched: set[Key]) -> set[Key]:
    """Services that lead, or led, to the touched workloads: by their selectors, or by what their slices say."""
    found = set(registry.without_selector)
    # Whoever writes slices need not agree with the selector, nor be as fast as the pods' own events.
    for key in touched:
        table = registry.service_tables.get(key[0])
        for workload in (previous.workloads.get(key), registry.workloads.get(key)):
            for address in workload.addresses if workload else ():
                found |= registry.leading_to.get(address, frozenset())
            if table is not None and workload is not None:
                found.update((service.namespace, service.name) for service in table.matching(workload.labels))
    return found

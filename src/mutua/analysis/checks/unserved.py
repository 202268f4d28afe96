"""ServiceEntries, Sidecars and EnvoyFilters that contradict each other or themselves, and deprecated fields."""

from collections.abc import Iterator
from typing import Final

from mutua.analysis import words
from mutua.analysis.check import Check
from mutua.analysis.inputs import Inputs
from mutua.analysis.message import Message, istio, subject
from mutua.api import core, kinds
from mutua.api.service_entry import ServiceEntry
from mutua.api.traffic import EnvoyFilter, Sidecar, VirtualService
from mutua.mesh import visibility

_WITHOUT_HOST: Final = frozenset({"TCP", ""})
_ALLOCATE: Final = ("ISTIO_META_DNS_CAPTURE", "ISTIO_META_DNS_AUTO_ALLOCATE")
_RELATIVE: Final = frozenset({"INSERT_BEFORE", "INSERT_AFTER", "REPLACE", "MERGE", "REMOVE"})
_ROUTES: Final = frozenset({"ROUTE_CONFIGURATION", "HTTP_ROUTE"})
_FILTERS: Final = frozenset({"HTTP_FILTER", "NETWORK_FILTER"})


def addresses(inputs: Inputs) -> Iterator[Message]:
    """ServiceEntries whose connections cannot be told apart without addresses."""
    metadata = inputs.mesh_config.default_config.get("proxyMetadata") or {}
    if isinstance(metadata, dict) and all(str(metadata.get(name)).lower() == "true" for name in _ALLOCATE):
        return
    for item in inputs.subjects(kinds.SERVICE_ENTRY, ServiceEntry):
        if item.spec.addresses or item.status.get("addresses"):
            continue
        for index, port in enumerate(item.spec.ports):
            if port.protocol.upper() in _WITHOUT_HOST:
                yield istio("IST0134", subject(kinds.SERVICE_ENTRY, item), field=f"spec.ports[{index}]")


def protocols(inputs: Inputs) -> Iterator[Message]:
    """One host and port with different protocols, where one client sees both."""
    by_host: dict[tuple[str, int], list[tuple[ServiceEntry, str]]] = {}
    for item in inputs.all(kinds.SERVICE_ENTRY, ServiceEntry).values():
        for host in item.spec.hosts:
            for port in item.spec.ports:
                by_host.setdefault((host, port.number), []).append((item, port.protocol.upper()))
    for (host, number), entries in by_host.items():
        for item, protocol in entries:
            seen = _seen_by(item)
            others = [(one, said) for one, said in entries if said != protocol and _meet(seen, _seen_by(one))]
            if others:
                names = sorted({f"{one.metadata.namespace}/{one.metadata.name}" for one, _ in (*others, (item, ""))})
                said = sorted({protocol, *(one for _, one in others)})
                arguments = (", ".join(names), host, number, ", ".join(said))
                yield istio("IST0177", subject(kinds.SERVICE_ENTRY, item), *arguments)


def _seen_by(item: ServiceEntry) -> visibility.Visibility:
    return visibility.read(item.spec.export_to, item.metadata.namespace)


def _meet(first: visibility.Visibility, second: visibility.Visibility) -> bool:
    return visibility.EVERYWHERE in first | second or bool(first & second)


def sidecars(inputs: Inputs) -> Iterator[Message]:
    """Sidecars for nobody, and several for one."""
    by_namespace: dict[str, list[Sidecar]] = {}
    for item in inputs.all(kinds.SIDECAR, Sidecar).values():
        by_namespace.setdefault(item.metadata.namespace, []).append(item)
    pods = inputs.all(kinds.POD, core.Pod).values()
    for namespace, here in by_namespace.items():
        general = [item for item in here if item.spec.workload_selector is None]
        names = sorted(item.metadata.name for item in general)
        for item in general if len(general) > 1 else ():
            yield istio("IST0111", subject(kinds.SIDECAR, item), names, namespace)
        selecting: dict[str, list[Sidecar]] = {}
        for item in here:
            if item.spec.workload_selector is None:
                continue
            wanted = item.spec.workload_selector.labels
            matched = [
                pod.metadata.name
                for pod in pods
                if pod.metadata.namespace == namespace and wanted.items() <= pod.metadata.labels.items()
            ]
            if not matched:
                yield istio("IST0101", subject(kinds.SIDECAR, item), "selector", words.selector(wanted))
            for name in matched:
                selecting.setdefault(name, []).append(item)
        for name, several in sorted(selecting.items()):
            for item in several if len(several) > 1 else ():
                shown = sorted(one.metadata.name for one in several)
                yield istio("IST0110", subject(kinds.SIDECAR, item), shown, namespace, name)


def patches(inputs: Inputs) -> Iterator[Message]:
    """EnvoyFilters whose patches do nothing, or only sometimes."""
    for item in inputs.subjects(kinds.ENVOY_FILTER, EnvoyFilter):
        about = subject(kinds.ENVOY_FILTER, item)
        for index, patch in enumerate(item.spec.config_patches):
            operation = patch.patch.operation if patch.patch else ""
            field = f"spec.configPatches[{index}]"
            if operation in ("ADD", "REMOVE") and patch.apply_to in _ROUTES:
                yield istio("IST0153" if operation == "ADD" else "IST0154", about, field=field)
            elif operation in _RELATIVE and not item.spec.priority:
                yield istio("IST0151", about, field=field)
                if patch.match and patch.match.proxy and patch.match.proxy.proxy_version:
                    yield istio("IST0155", about, field=field)
            elif operation == "REPLACE" and patch.apply_to not in _FILTERS:
                yield istio("IST0152", about, field=field)


def deprecated(inputs: Inputs) -> Iterator[Message]:
    """Fields that have a successor."""
    for item in inputs.subjects(kinds.VIRTUAL_SERVICE, VirtualService):
        if any(route.fault and route.fault.delay and route.fault.delay.percent for route in item.spec.http):
            detail = "HTTPFaultInjection.Delay.percent; use .percentage"
            yield istio("IST0002", subject(kinds.VIRTUAL_SERVICE, item), detail)
    for sidecar in inputs.subjects(kinds.SIDECAR, Sidecar):
        policy = sidecar.spec.outbound_traffic_policy
        if policy is not None and policy.egress_proxy is not None:
            detail = "OutboundTrafficPolicy.egressProxy"
            yield istio("IST0002", subject(kinds.SIDECAR, sidecar), detail)


CHECKS: Final = (
    Check(
        "serviceentry.Analyzer",
        "ServiceEntries that need addresses",
        ("IST0134",),
        (kinds.SERVICE_ENTRY,),
        addresses,
    ),
    Check(
        "serviceentry.ConflictingServiceEntryProtocolAnalyzer",
        "ServiceEntries that contradict each other about a protocol",
        ("IST0177",),
        (kinds.SERVICE_ENTRY,),
        protocols,
    ),
    Check(
        "sidecar.SelectorAnalyzer",
        "Sidecars for no workload, or several for one",
        ("IST0101", "IST0110", "IST0111"),
        (kinds.SIDECAR, kinds.POD),
        sidecars,
    ),
    Check(
        "envoyfilter.EnvoyPatchAnalyzer",
        "EnvoyFilters whose patches may do nothing",
        ("IST0151", "IST0152", "IST0153", "IST0154", "IST0155"),
        (kinds.ENVOY_FILTER,),
        patches,
    ),
    Check(
        "deprecation.DeprecationAnalyzer",
        "Deprecated fields",
        ("IST0002",),
        (kinds.VIRTUAL_SERVICE, kinds.SIDECAR),
        deprecated,
    ),
)

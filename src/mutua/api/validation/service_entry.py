"""Rules about one ServiceEntry or WorkloadEntry. Source: Istio's ValidateServiceEntry and ValidateWorkloadEntry."""

import re
from collections.abc import Iterator
from typing import Final

from mutua.api.findings import Violation, error, warning
from mutua.api.service_entry import (
    ENCRYPTED,
    PROTOCOLS,
    REQUESTS,
    EndpointSelector,
    Resolution,
    ServiceEntry,
    ServiceEntrySpec,
    WorkloadEntry,
    WorkloadEntrySpec,
)
from mutua.api.validation import common

UNIX: Final = "unix://"
_LABEL: Final = re.compile(r"[a-zA-Z0-9]([-_a-zA-Z0-9]*[a-zA-Z0-9])?")
_PORT_NAME: Final = re.compile(r"[a-zA-Z0-9](?:[-a-zA-Z0-9]*[a-zA-Z0-9])?")
_LABEL_VALUE: Final = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")
_LABEL_KEY: Final = re.compile(r"([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_BY_DNS: Final = (Resolution.DNS, Resolution.DNS_ROUND_ROBIN)


def violations(item: ServiceEntry) -> Iterator[Violation]:
    """Everything that the entry alone tells."""
    spec = item.spec
    if spec.workload_selector is not None:
        yield from _selector(spec.workload_selector)
        if spec.endpoints:
            yield error("spec.endpoints", "only one of WorkloadSelector or Endpoints is allowed in Service Entry")
    for index, host in enumerate(spec.hosts):
        yield from _host(host, f"spec.hosts[{index}]")
    yield from _addresses(spec)
    yield from _ports(spec)
    yield from _resolution(spec)
    yield from common.export_to(spec.export_to)


def entry_violations(item: WorkloadEntry) -> Iterator[Violation]:
    """Everything that the workload alone tells."""
    yield from _endpoint(item.spec, "spec", names=True)


def _selector(selector: EndpointSelector) -> Iterator[Violation]:
    field = "spec.workloadSelector.labels"
    if not selector.labels:
        yield warning(field, "workload selector specified without labels; it selects every workload")
    for key, value in selector.labels.items():
        if not key:
            yield error(field, f'empty key is not supported in selector: "{key}={value}"')
        if "*" in key or "*" in value:
            yield error(field, f'wildcard is not supported in selector: "{key}={value}"')


def _host(host: str, field: str) -> Iterator[Violation]:
    if host == "*":
        yield error(field, "invalid host *", "name a domain, such as *.example.com")
        return
    if host.startswith("*") and not host.startswith("*."):
        yield warning(field, f"partial wildcard {host!r}: it is compared in HTTP requests only, not in TLS handshakes")
    if not _is_name(host.removeprefix("*.").removeprefix("*").removeprefix("-")):
        yield error(field, f"invalid host {host!r}: a name of labels with 1 to 63 letters, digits and hyphens")


def _addresses(spec: ServiceEntrySpec) -> Iterator[Violation]:
    for index, address in enumerate(spec.addresses):
        yield from common.address_block(address, f"spec.addresses[{index}]")
    blocks = any("/" in address for address in spec.addresses)
    if blocks and spec.resolution not in (Resolution.NONE, Resolution.STATIC):
        yield error("spec.addresses", "CIDR addresses are allowed only for NONE/STATIC resolution types")


def _ports(spec: ServiceEntrySpec) -> Iterator[Violation]:
    names: set[str] = set()
    numbers: set[int] = set()
    for index, port in enumerate(spec.ports):
        field, protocol = f"spec.ports[{index}]", port.protocol.lower()
        if port.name in names:
            yield error(f"{field}.name", f"service entry port name {port.name!r} already defined")
        if port.number in numbers:
            yield error(f"{field}.number", f"service entry port {port.number} already defined")
        names.add(port.name)
        numbers.add(port.number)
        if not _is_port_name(port.name):
            yield error(f"{field}.name", f"invalid port name: {port.name!r}", "letters, digits and hyphens, below 63")
        if protocol and protocol not in PROTOCOLS:
            known = ", ".join(sorted(PROTOCOLS))
            yield error(f"{field}.protocol", f"unsupported protocol: {port.protocol}", f"one of {known}, in any case")
        if protocol == "udp":
            yield warning(f"{field}.protocol", "UDP is not captured: the port has no effect")
        elif protocol in ("", "tcp") and not spec.addresses:
            message = "without addresses every connection to this port number goes to these hosts"
            yield warning("spec.addresses", f"addresses are required for ports of protocol TCP or none: {message}")
    tells_hosts_apart = all(port.protocol.lower() in REQUESTS | ENCRYPTED for port in spec.ports)
    if len(spec.hosts) > 1 and spec.resolution is not Resolution.NONE and not tells_hosts_apart:
        yield error("spec.hosts", "multiple hosts provided with non-HTTP, non-TLS ports")


def _resolution(spec: ServiceEntrySpec) -> Iterator[Violation]:
    resolution, endpoints = spec.resolution, spec.endpoints
    if resolution is Resolution.DYNAMIC_DNS:
        yield error("spec.resolution", "DYNAMIC_DNS is not supported: the hosts would not be dialled")
    if resolution is Resolution.NONE and endpoints:
        yield error("spec.endpoints", "no endpoints should be provided for resolution type none")
    if resolution in _BY_DNS and not endpoints and spec.workload_selector is None:
        for index, host in enumerate(spec.hosts):
            if not _is_name(host):
                message = f"hosts must be FQDN if no endpoints are provided for resolution mode {resolution}"
                yield error(f"spec.hosts[{index}]", message, "resolution NONE sends requests where the client resolved")
    if resolution is Resolution.DNS_ROUND_ROBIN and len(endpoints) > 1:
        yield error("spec.endpoints", "there must only be 0 or 1 endpoint for resolution mode DNS_ROUND_ROBIN")
    defined = {port.name for port in spec.ports}
    for index, endpoint in enumerate(endpoints):
        field = f"spec.endpoints[{index}]"
        yield from _endpoint(endpoint, field, names=resolution in _BY_DNS)
        for name, number in endpoint.ports.items():
            if name not in defined:
                yield error(f"{field}.ports.{name}", f"endpoint port {number} is not defined by the service entry")


def _endpoint(endpoint: WorkloadEntrySpec, field: str, *, names: bool) -> Iterator[Violation]:
    """One endpoint; `names`: its address may be a name for DNS."""
    address = endpoint.address
    if not address:
        if not endpoint.network:
            yield error(f"{field}.address", "address is required")
        else:
            yield warning(f"{field}.address", "without an address it is not dialled: there is one network per mesh")
    elif address.startswith(UNIX):
        path = address.removeprefix(UNIX)
        if not path.startswith(("/", "@")) or path.endswith("/"):
            yield error(f"{field}.address", f"{address!r} is not an absolute path or abstract socket")
        if endpoint.ports:
            yield error(f"{field}.ports", f"unix endpoint {address} must not include ports")
        yield warning(f"{field}.address", "unix sockets are not supported: the endpoint is not dialled")
    elif not common.is_address(address):
        if not names:
            yield error(f"{field}.address", f"endpoint address {address!r} is not a valid IP address")
        elif not _is_name(address):
            yield error(f"{field}.address", f"endpoint address {address!r} is not a valid FQDN or an IP address")
    for name in endpoint.ports:
        if not _is_port_name(name):
            yield error(f"{field}.ports.{name}", f"invalid port name: {name!r}")
    for key, value in endpoint.labels.items():
        if not _LABEL_KEY.fullmatch(key):
            yield error(f"{field}.labels", f"invalid tag key: {key!r}")
        if len(value) > 63 or not _LABEL_VALUE.fullmatch(value):
            yield error(f"{field}.labels", f"invalid tag value: {value!r}")


def _is_name(text: str) -> bool:
    """Whether the text is a DNS name without wildcard; a dot at the end is allowed."""
    name = text.removesuffix(".")
    return 0 < len(name) <= 255 and all(len(part) <= 63 and _LABEL.fullmatch(part) for part in name.split("."))


def _is_port_name(text: str) -> bool:
    return len(text) < 63 and _PORT_NAME.fullmatch(text) is not None

"""Services: names, addresses and ports, without the pods behind them."""

from collections.abc import Iterable
from typing import Final

from mutua.api import core
from mutua.api.meta import age_order
from mutua.mesh import hosts, protocols, visibility
from mutua.mesh.proxy_view import Discovery, Frozen, ObjectRef, Protocol
from mutua.mesh.selectors import Labels, labels_of
from mutua.mesh.visibility import Visibility

_HEADLESS: Final = "None"


class ServicePort(Frozen, frozen=True):
    """One TCP port of a Service. `target` is the workload's port: a number or the name of a container port."""

    number: int
    name: str
    protocol: Protocol
    target: int | str


class Service(Frozen, frozen=True):
    """One Service, or one host of ServiceEntries of one namespace, that leads to endpoints."""

    host: str
    namespace: str
    name: str
    age: tuple[str, str, str]  # sorts the oldest first
    addresses: tuple[str, ...]  # that clients dial; a Service without is headless
    selector: Labels  # empty: the endpoints are written by somebody else
    ports: tuple[ServicePort, ...]
    visible_to: Visibility
    entries: tuple[ObjectRef, ...] = ()  # the ServiceEntries, from the oldest; () = a Service
    blocks: tuple[str, ...] = ()  # CIDR blocks that clients dial
    discovery: Discovery = Discovery.PUSHED
    is_external: bool = False  # what answers does not belong to the mesh
    subject_alt_names: tuple[str, ...] = ()  # names that may answer, beside those of the workloads behind it

    @property
    def is_entry(self) -> bool:
        """Whether ServiceEntries made it."""
        return bool(self.entries)

    @property
    def rank(self) -> tuple[bool, tuple[str, str, str]]:
        """Sorts what has one host: what comes first counts for clients of other namespaces."""
        return self.is_entry, self.age

    @property
    def is_headless(self) -> bool:
        """Whether clients connect to the pods' own addresses."""
        return not self.addresses and not self.is_entry

    @property
    def kind(self) -> str:
        """The kind of the object that it was made of."""
        return "ServiceEntry" if self.entries else "Service"


def from_object(service: core.Service, cluster_domain: str, default_export_to: Iterable[str]) -> Service | None:
    """The Service's meaning; None for ExternalName, which is an alias in DNS and has neither address nor endpoints."""
    metadata, spec = service.metadata, service.spec
    if spec.type == "ExternalName":
        return None
    addresses = spec.cluster_ips or ((spec.cluster_ip,) if spec.cluster_ip else ())
    export_to = metadata.annotations.get(visibility.EXPORT_TO_ANNOTATION, "").split(",")
    return Service(
        host=hosts.service_host(metadata.name, metadata.namespace, cluster_domain),
        namespace=metadata.namespace,
        name=metadata.name,
        age=age_order(metadata),
        addresses=tuple(address for address in addresses if address and address != _HEADLESS),
        selector=labels_of(spec.selector),
        ports=tuple(_port(port) for port in spec.ports if port.protocol in ("", "TCP")),
        visible_to=visibility.read(export_to, metadata.namespace, default_export_to),
    )


def _port(port: core.ServicePort) -> ServicePort:
    target = port.target_port
    if isinstance(target, str) and target.isdecimal():
        target = int(target)
    protocol = protocols.select(port.port, port.name, port.app_protocol)
    return ServicePort(port.port, port.name, protocol, target or port.port)

"""Kinds of the group networking.istio.io about what no Service and no pod stands for: hosts and workloads outside."""

from enum import StrEnum
from typing import Annotated, Any, Final

import msgspec

from mutua.api.meta import IstioObject, PortNumber, Strict, UnsignedInteger

PROTOCOLS: Final = frozenset(
    {"http", "http_proxy", "http2", "grpc", "grpc-web", "tcp", "udp", "tls", "https", "mongo", "mysql", "redis"}
)
"""What a port of a ServiceEntry may speak, in any case. Nothing said: looked at on the wire."""

REQUESTS: Final = frozenset({"http", "http_proxy", "http2", "grpc", "grpc-web"})
"""Those whose connections name the host that they are for in each request."""

ENCRYPTED: Final = frozenset({"https", "tls"})
"""Those whose connections name the host that they are for in the TLS handshake."""

_Labels = Annotated[dict[str, str], msgspec.Meta(max_length=256)]
_Ports = Annotated[dict[str, PortNumber], msgspec.Meta(max_length=128)]


class Location(StrEnum):
    """Whether what answers belongs to the mesh."""

    MESH_EXTERNAL = "MESH_EXTERNAL"
    MESH_INTERNAL = "MESH_INTERNAL"


class Resolution(StrEnum):
    """How the addresses behind a host are found."""

    NONE = "NONE"
    STATIC = "STATIC"
    DNS = "DNS"
    DNS_ROUND_ROBIN = "DNS_ROUND_ROBIN"
    DYNAMIC_DNS = "DYNAMIC_DNS"


class ServiceEntryPort(Strict, frozen=True):
    """A port of the hosts."""

    number: PortNumber
    name: Annotated[str, msgspec.Meta(max_length=256)]
    protocol: Annotated[str, msgspec.Meta(max_length=256)] = ""
    target_port: PortNumber | None = None


class WorkloadEntrySpec(Strict, frozen=True):
    """One workload outside of pods, or one endpoint of a ServiceEntry. `ports`: a Service port's name to its number."""

    address: Annotated[str, msgspec.Meta(max_length=256)] = ""
    ports: _Ports = msgspec.field(default_factory=dict)
    labels: _Labels = msgspec.field(default_factory=dict)
    network: Annotated[str, msgspec.Meta(max_length=2048)] = ""
    locality: Annotated[str, msgspec.Meta(max_length=2048)] = ""
    weight: UnsignedInteger = 0
    service_account: Annotated[str, msgspec.Meta(max_length=253)] = ""


class WorkloadEntry(IstioObject, frozen=True, kw_only=True):
    """networking.istio.io WorkloadEntry."""

    spec: WorkloadEntrySpec


class EndpointSelector(Strict, frozen=True):
    """Which workloads stand behind the hosts. Source: WorkloadSelector of the group networking.istio.io."""

    labels: Annotated[dict[str, Annotated[str, msgspec.Meta(max_length=63)]], msgspec.Meta(max_length=256)] = (
        msgspec.field(default_factory=dict)
    )


class ServiceEntrySpec(Strict, frozen=True):
    """Hosts that no Service names."""

    hosts: Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=256)]
    addresses: Annotated[tuple[Annotated[str, msgspec.Meta(max_length=64)], ...], msgspec.Meta(max_length=256)] = ()
    ports: Annotated[tuple[ServiceEntryPort, ...], msgspec.Meta(max_length=256)] = ()
    location: Location = Location.MESH_EXTERNAL
    resolution: Resolution = Resolution.NONE
    endpoints: Annotated[tuple[WorkloadEntrySpec, ...], msgspec.Meta(max_length=4096)] = ()
    workload_selector: EndpointSelector | None = None
    export_to: tuple[str, ...] = ()
    subject_alt_names: tuple[str, ...] = ()


class ServiceEntry(IstioObject, frozen=True, kw_only=True):
    """networking.istio.io ServiceEntry. Istio tells in its status which addresses it gave to the hosts."""

    spec: ServiceEntrySpec
    status: dict[str, Any] = msgspec.field(default_factory=dict)

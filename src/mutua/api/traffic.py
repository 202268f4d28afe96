"""Kinds of networking.istio.io that the mesh does not serve: the fields by which they refer to others.

They are read leniently, for the analysis; the control plane neither installs nor follows them.
"""

from typing import Any

import msgspec

from mutua.api.meta import KubernetesObject, Lenient


class PortSelector(Lenient, frozen=True):
    """A port by number."""

    number: int = 0


class Destination(Lenient, frozen=True):
    """Where a route leads."""

    host: str = ""
    subset: str = ""
    port: PortSelector | None = None


class RouteDestination(Lenient, frozen=True):
    """One weighted destination; None where the user left it out."""

    destination: Destination | None = None


class Mirror(Lenient, frozen=True):
    """One further destination that gets copies."""

    destination: Destination | None = None


class HttpMatch(Lenient, frozen=True):
    """One condition of a route; `headers` and `without_headers` may name claims as `@request.auth.claims.x`."""

    gateways: tuple[str, ...] = ()
    headers: dict[str, Any] = msgspec.field(default_factory=dict)
    without_headers: dict[str, Any] = msgspec.field(default_factory=dict)


class FaultDelay(Lenient, frozen=True):
    """A delay that is put in; `percent` has a successor."""

    percent: int = 0


class HttpFault(Lenient, frozen=True):
    """Faults that are put in on purpose."""

    delay: FaultDelay | None = None


class HttpRoute(Lenient, frozen=True):
    """One HTTP route."""

    match: tuple[HttpMatch, ...] = ()
    route: tuple[RouteDestination, ...] = ()
    mirror: Destination | None = None
    mirrors: tuple[Mirror, ...] = ()
    fault: HttpFault | None = None


class StreamMatch(Lenient, frozen=True):
    """One condition of a TCP or TLS route."""

    gateways: tuple[str, ...] = ()


class StreamRoute(Lenient, frozen=True):
    """One TCP or TLS route."""

    match: tuple[StreamMatch, ...] = ()
    route: tuple[RouteDestination, ...] = ()


class VirtualServiceSpec(Lenient, frozen=True):
    """How requests to hosts are routed."""

    hosts: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    export_to: tuple[str, ...] = ()
    http: tuple[HttpRoute, ...] = ()
    tls: tuple[StreamRoute, ...] = ()
    tcp: tuple[StreamRoute, ...] = ()


class VirtualService(KubernetesObject, frozen=True):
    """networking.istio.io VirtualService."""

    spec: VirtualServiceSpec = VirtualServiceSpec()


class GatewayPort(Lenient, frozen=True):
    """A port that a gateway opens."""

    number: int = 0
    name: str = ""
    protocol: str = ""


class ServerTls(Lenient, frozen=True):
    """How a gateway's port protects connections."""

    mode: str = ""
    credential_name: str = ""


class GatewayServer(Lenient, frozen=True):
    """One server of a gateway."""

    hosts: tuple[str, ...] = ()
    port: GatewayPort = GatewayPort()
    bind: str = ""
    tls: ServerTls | None = None


class GatewaySpec(Lenient, frozen=True):
    """What a gateway's pods open."""

    selector: dict[str, str] = msgspec.field(default_factory=dict)
    servers: tuple[GatewayServer, ...] = ()


class Gateway(KubernetesObject, frozen=True):
    """networking.istio.io Gateway."""

    spec: GatewaySpec = GatewaySpec()


class SidecarSelector(Lenient, frozen=True):
    """Which workloads."""

    labels: dict[str, str] = msgspec.field(default_factory=dict)


class SidecarOutboundTrafficPolicy(Lenient, frozen=True):
    """What happens to unknown hosts."""

    egress_proxy: dict[str, Any] | None = None


class SidecarSpec(Lenient, frozen=True):
    """What sidecars are told."""

    workload_selector: SidecarSelector | None = None
    outbound_traffic_policy: SidecarOutboundTrafficPolicy | None = None


class Sidecar(KubernetesObject, frozen=True):
    """networking.istio.io Sidecar."""

    spec: SidecarSpec = SidecarSpec()


class EnvoyPatchBody(Lenient, frozen=True):
    """What a patch does."""

    operation: str = ""


class EnvoyPatchProxy(Lenient, frozen=True):
    """For which proxies."""

    proxy_version: str = ""


class EnvoyPatchMatch(Lenient, frozen=True):
    """Where a patch applies."""

    proxy: EnvoyPatchProxy | None = None


class EnvoyPatch(Lenient, frozen=True):
    """One patch."""

    apply_to: str = ""
    match: EnvoyPatchMatch | None = None
    patch: EnvoyPatchBody | None = None


class EnvoyFilterSpec(Lenient, frozen=True):
    """Patches to Envoy's configuration."""

    priority: int = 0
    config_patches: tuple[EnvoyPatch, ...] = ()


class EnvoyFilter(KubernetesObject, frozen=True):
    """networking.istio.io EnvoyFilter."""

    spec: EnvoyFilterSpec = EnvoyFilterSpec()

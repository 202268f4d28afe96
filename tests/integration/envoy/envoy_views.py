"""A small shop as proxies see it: the backend on every kind of port, and its clients."""

from mutua.mesh.proxy_view import (
    ClientTls,
    EffectivePolicy,
    Endpoint,
    InboundPort,
    InboundView,
    LoadAssignment,
    MeshView,
    MtlsMode,
    OutboundPort,
    OutboundService,
    OutboundView,
    Protocol,
    ProxyView,
    Trust,
)

MESH = MeshView(access_log_file="/dev/stdout", upstream_mark=1337)
BACKEND_ADDRESS = "10.9.0.2"
FRONTEND_ADDRESS = "10.9.0.1"
BACKEND = "spiffe://cluster.local/ns/shop/sa/backend"
FRONTEND = "spiffe://cluster.local/ns/shop/sa/frontend"

NAMED = "10.10.0.1"
"""The service whose ports say what they are: 80 HTTP, 90 TCP, 9090 gRPC."""

UNNAMED = "10.10.0.2"
"""The service whose ports say nothing: the same three."""

WORKLOAD_PORTS = {("named", 80): 8080, ("unnamed", 80): 8081}


def host(name: str) -> str:
    """The service's full name."""
    return f"{name}.shop.svc.cluster.local"


def outbound(tls: ClientTls = ClientTls(), *, identities: tuple[str, ...] = (BACKEND,)) -> OutboundView:  # noqa: B008
    """What the namespace can dial, all of it in one way."""

    def ports(*protocols: Protocol) -> tuple[OutboundPort, ...]:
        return tuple(
            OutboundPort(
                number=number, name="", protocol=protocol, tls=tls, destination_rule=None, identities=identities
            )
            for number, protocol in zip((80, 90, 9090), protocols, strict=True)
        )

    def service(name: str, addresses: tuple[str, ...], *protocols: Protocol, **more: object) -> OutboundService:
        return OutboundService(
            host=host(name), name=name, namespace="shop", addresses=addresses, ports=ports(*protocols), **more
        )

    auto = (Protocol.AUTO, Protocol.AUTO, Protocol.AUTO)
    pods = ((BACKEND_ADDRESS, 8080), (BACKEND_ADDRESS, 9000))
    headless = OutboundService(
        host=host("headless"),
        name="headless",
        namespace="shop",
        addresses=(),
        ports=(
            OutboundPort(8080, "", Protocol.HTTP, tls, None, identities),
            OutboundPort(9000, "", Protocol.TCP, tls, None, identities),
        ),
        headless_addresses=pods,
    )
    return OutboundView(
        namespace="shop",
        cluster_domain="cluster.local",
        services=(
            headless,
            service("named", (NAMED,), Protocol.HTTP, Protocol.TCP, Protocol.GRPC),
            service("unnamed", (UNNAMED,), *auto),
        ),
    )


def endpoints(*, mtls: bool = True, address: str = BACKEND_ADDRESS) -> tuple[LoadAssignment, ...]:
    """Where the backend is, and whether it takes mutual TLS."""
    workload_ports = {80: 8080, 90: 9000, 9090: 9090, 8080: 8080, 9000: 9000}
    return tuple(
        LoadAssignment(
            host=host(name),
            port=number,
            endpoints=(
                Endpoint(
                    address=address,
                    port=WORKLOAD_PORTS.get((name, number), workload_ports[number]),
                    mtls=mtls,
                    service_account="backend",
                    namespace="shop",
                    workload="backend",
                ),
            ),
        )
        for name, numbers in (("headless", (8080, 9000)), ("named", (80, 90, 9090)), ("unnamed", (80, 90, 9090)))
        for number in numbers
    )


def inbound(
    mode: MtlsMode,
    *,
    policies: tuple[EffectivePolicy, ...] = (),
    trust: Trust = Trust(),  # noqa: B008
    port_modes: tuple[tuple[int, MtlsMode], ...] = (),
    default_mode: MtlsMode | None = None,
) -> InboundView:
    """What the backend accepts: 8080 HTTP, 8081 whatever comes, 9000 and 9001 TCP, 9090 gRPC, others unknown."""
    kinds = {
        8080: Protocol.HTTP,
        8081: Protocol.AUTO,
        9000: Protocol.TCP,
        9001: Protocol.TCP,
        9090: Protocol.GRPC,
    }
    return InboundView(
        trust=trust,
        default_mode=default_mode or mode,
        port_modes=port_modes,
        ports=tuple(InboundPort(number, protocol, mode, host("named")) for number, protocol in kinds.items()),
        policies=policies,
    )


def nothing_inbound(mode: MtlsMode = MtlsMode.PERMISSIVE) -> InboundView:
    """A workload without services."""
    return InboundView(trust=Trust(), default_mode=mode, port_modes=(), ports=(), policies=())


def client(tls: ClientTls = ClientTls(), *, mtls: bool = True, mesh: MeshView = MESH) -> ProxyView:  # noqa: B008
    """A client of the shop."""
    return ProxyView(mesh=mesh, inbound=nothing_inbound(), outbound=outbound(tls), endpoints=endpoints(mtls=mtls))


def server(
    mode: MtlsMode,
    policies: tuple[EffectivePolicy, ...] = (),
    *,
    mesh: MeshView = MESH,
    trust: Trust = Trust(),  # noqa: B008
) -> ProxyView:
    """The backend."""
    accepted = inbound(mode, policies=policies, trust=trust)
    return ProxyView(mesh=mesh, inbound=accepted, outbound=outbound(), endpoints=endpoints())

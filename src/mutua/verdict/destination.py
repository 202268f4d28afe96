"""What a client dials when it calls a host: the Service or ServiceEntry that it sees, and what stands behind it."""

from mutua.mesh import view
from mutua.mesh.proxy_view import Discovery, Endpoint, Frozen, OutboundPort, OutboundService
from mutua.mesh.snapshot import MeshSnapshot
from mutua.mesh.workloads import Workload


class Destination(Frozen, frozen=True):
    """One port of a host. `port` None: the client has no sidecar, or its namespace does not see the host."""

    port: OutboundPort | None
    endpoints: tuple[Endpoint, ...]


def of(snapshot: MeshSnapshot, client: Workload, host: str, number: int) -> Destination:
    """What a call of this client leads to. `host` is a full name; no endpoints: nothing answers there.

    Where the client itself chooses the address, as for resolution NONE, the one endpoint is the host by its name, and
    takes what it is sent.
    """
    service = _seen(snapshot, client, host) if client.has_sidecar else None
    port = next((item for item in service.ports if item.number == number), None) if service is not None else None
    if service is not None and port is not None and service.discovery is Discovery.ORIGINAL:
        return Destination(port, (Endpoint(host, port.target or number, True, "", service.namespace),))
    name, namespace = (service.host, service.namespace) if service else (host, _namespace(snapshot, host))
    load = next((item for item in snapshot.load(namespace, name) if item.port == number), None)
    return Destination(port, load.endpoints if load is not None else ())


def at_address(snapshot: MeshSnapshot, client: Workload, address: str, number: int) -> OutboundPort | None:
    """The port of a ServiceEntry by which a sidecar dials an address as it is; None if no entry is about it."""
    outbound = view.for_proxy(snapshot, view.Proxy(client.namespace, client.name)).outbound
    return next(
        (
            port
            for service in outbound.services
            if service.discovery is Discovery.ORIGINAL and address in service.addresses
            for port in service.ports
            if port.number == number and not port.protocol.is_http  # requests are told apart by their host
        ),
        None,
    )


def _seen(snapshot: MeshSnapshot, client: Workload, host: str) -> OutboundService | None:
    return view.for_proxy(snapshot, view.Proxy(client.namespace, client.name)).outbound.find(host)


def _namespace(snapshot: MeshSnapshot, host: str) -> str:
    """Whose host it is, for a client that does not see it or has no sidecar: a Service's, else of the oldest entry."""
    found = [entry.service for entry in snapshot.parts.outbound.directory.entries if entry.service.host == host]
    return found[0].namespace if found else ""

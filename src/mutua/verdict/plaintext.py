"""A connection that came without mutual TLS: who made it, to whom, and why it has none."""

from typing import Final

from mutua.mesh import peer_authentication, view
from mutua.mesh.proxy_view import ClientTlsMode, Frozen, MtlsMode, ObjectRef
from mutua.mesh.snapshot import MeshSnapshot
from mutua.mesh.workloads import Workload

NO_SIDECAR: Final = "the client has no sidecar"


class PlaintextEdge(Frozen, frozen=True):
    """One client, one server port. `client` is `namespace/pod`, or an address that no pod has."""

    client: str
    server: str  # namespace/pod
    port: int
    refused: bool
    mode: MtlsMode
    policy: ObjectRef | None  # who decided the mode; None: nobody, the default
    reason: str
    would_refuse: ObjectRef | None = None  # the policy in dry run that would have refused it; None if none would


def explain(
    snapshot: MeshSnapshot,
    client_address: str,
    server: Workload,
    port: int,
    *,
    refused: bool,
    departed: Workload | None = None,
) -> PlaintextEdge:
    """What one such connection means among the objects of the snapshot. `refused` is what the server's Envoy did.

    `departed` is the pod that had the client's address until a moment ago.
    """
    client = snapshot.workload_by_address(client_address) or departed
    effective = snapshot.mode_of(server)
    return PlaintextEdge(
        client=f"{client.namespace}/{client.name}" if client else client_address,
        server=f"{server.namespace}/{server.name}",
        port=port,
        refused=refused,
        mode=effective.on_port(port),
        policy=effective.decider(port),
        reason=_reason(snapshot, client, server, port),
        would_refuse=None
        if refused
        else peer_authentication.refused_by_dry_run(
            snapshot.inbound(server.namespace).peer_policies, server.labels, port
        ),
    )


def _reason(snapshot: MeshSnapshot, client: Workload | None, server: Workload, port: int) -> str:
    if client is None:
        return "the client is no pod of this cluster: a node, a probe, or something outside"
    if not client.has_sidecar:
        return NO_SIDECAR
    outbound = view.for_proxy(snapshot, view.Proxy(client.namespace, client.name)).outbound
    for service in outbound.services:
        dialled = {item.number: item for item in service.ports}
        for load in snapshot.load(service.namespace, service.host):
            if not any(end.address in server.addresses and end.port == port for end in load.endpoints):
                continue
            way = dialled.get(load.port)
            if way and way.destination_rule and way.tls.mode not in (ClientTlsMode.AUTO, ClientTlsMode.ISTIO_MUTUAL):
                rule = way.destination_rule
                return f"DestinationRule {rule.namespace}/{rule.name} makes the client's sidecar use {way.tls.mode}"
    if snapshot.mode_of(server).on_port(port) is MtlsMode.DISABLE:
        return "the port's mode is DISABLE, so the client's sidecar sends plaintext"
    return "the connection does not pass the client's sidecar, or it dials an address that no Service has"

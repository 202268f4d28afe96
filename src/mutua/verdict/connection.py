"""Whether a connection from one workload to a Service's endpoint comes about, how it is protected, and who decided."""

from enum import StrEnum
from typing import Final

from mutua.mesh.proxy_view import (
    ClientTls,
    ClientTlsMode,
    Endpoint,
    Frozen,
    MtlsMode,
    ObjectRef,
    OutboundPort,
)
from mutua.mesh.snapshot import MeshSnapshot
from mutua.mesh.workloads import Workload
from mutua.verdict import destination


class Protection(StrEnum):
    """What the client's side puts around the bytes of its application."""

    NONE = "plaintext"
    TLS = "TLS"  # of the user's own: the mesh's identities play no part
    MUTUAL_TLS = "mutual TLS"  # with the workload's certificate


class Verdict(Frozen, frozen=True):
    """What becomes of one connection. The two objects are what decided each side; None is a default."""

    succeeds: bool
    protection: Protection
    reason: str
    client_rule: ObjectRef | None = None
    server_policy: ObjectRef | None = None

    @property
    def uses_mutual_tls(self) -> bool:
        """Whether both sides prove who they are."""
        return self.succeeds and self.protection is Protection.MUTUAL_TLS


_BY_MODE: Final = {
    ClientTlsMode.DISABLE: Protection.NONE,
    ClientTlsMode.SIMPLE: Protection.TLS,
    ClientTlsMode.MUTUAL: Protection.TLS,
    ClientTlsMode.ISTIO_MUTUAL: Protection.MUTUAL_TLS,
}


def protection(tls: ClientTls, endpoint: Endpoint) -> Protection:
    """What a sidecar sends to an endpoint under these settings."""
    if tls.mode is ClientTlsMode.AUTO:
        return Protection.MUTUAL_TLS if endpoint.mtls else Protection.NONE
    return _BY_MODE[tls.mode]


def judge(snapshot: MeshSnapshot, client: Workload, host: str, port: int) -> tuple[Verdict, ...]:
    """One verdict per endpoint of a Service port, in order of address; () if there is no such port or no endpoint."""
    called = destination.of(snapshot, client, host, port)
    return tuple(_to_endpoint(snapshot, called.port, endpoint) for endpoint in called.endpoints)


def _to_endpoint(snapshot: MeshSnapshot, dialled: OutboundPort | None, endpoint: Endpoint) -> Verdict:
    sent = protection(dialled.tls, endpoint) if dialled else Protection.NONE
    rule = dialled.destination_rule if dialled else None
    server = snapshot.workload_by_address(endpoint.address)
    if server is not None:
        return to_workload(snapshot, server, endpoint.port, sent, rule)
    return _unguarded(endpoint.address, sent, rule)


def to_workload(
    snapshot: MeshSnapshot, server: Workload, port: int, sent: Protection, client_rule: ObjectRef | None = None
) -> Verdict:
    """What becomes of a connection that is protected like this, to a workload's own port, with or without a Service."""
    if not server.has_sidecar:
        return _unguarded(f"{server.namespace}/{server.name}", sent, client_rule)
    effective = snapshot.mode_of(server)
    mode = effective.on_port(port)
    policy = effective.decider(port)
    accepted, reason = _accepts(mode, sent)
    said_by = f"{policy.kind} {policy.namespace}/{policy.name}" if policy else "the default"
    return Verdict(accepted, sent, f"{reason}: port {port} is {mode.value} by {said_by}", client_rule, policy)


def _unguarded(name: str, sent: Protection, client_rule: ObjectRef | None) -> Verdict:
    if sent is Protection.MUTUAL_TLS:
        return Verdict(False, sent, f"{name} has no sidecar to answer mutual TLS", client_rule)
    return Verdict(True, sent, f"{name} has no sidecar: whatever arrives reaches the application", client_rule)


def _accepts(mode: MtlsMode, sent: Protection) -> tuple[bool, str]:
    if sent is Protection.MUTUAL_TLS:
        if mode is MtlsMode.DISABLE:
            return False, "mutual TLS reaches an application that does not expect it"
        return True, "mutual TLS is accepted"
    if mode is MtlsMode.STRICT:
        return False, f"{sent.value} is refused"
    return True, f"{sent.value} is accepted"

"""What becomes of one call, step by step: from the client's sidecar to the server's policies, and who decided each."""

import ipaddress
from collections.abc import Mapping
from enum import StrEnum
from typing import Final

import msgspec

from mutua.api import kinds, security
from mutua.envoy import names
from mutua.mesh import request_authentication, view
from mutua.mesh.endpoints import is_address
from mutua.mesh.proxy_view import (
    AuthorizationAction,
    AuthorizationProvider,
    ClientTls,
    ClientTlsMode,
    Endpoint,
    Frozen,
    InboundView,
    ObjectRef,
    OutboundPort,
    Protocol,
    TokenRule,
)
from mutua.mesh.snapshot import MeshSnapshot
from mutua.mesh.workloads import Workload
from mutua.spiffe import SpiffeId
from mutua.verdict import connection, destination, tokens
from mutua.verdict.authorization import Answer, Authorization, Decision
from mutua.verdict.connection import Protection
from mutua.verdict.request import Connection, HttpRequest, Peer
from mutua.verdict.tokens import Token

NO_ADDRESS: Final = "0.0.0.0"  # noqa: S104 - stands for a client that has no address yet
_CHANNELS: Final = (Protocol.TCP, Protocol.TLS)


class Step(StrEnum):
    """The steps in the order in which they are taken."""

    CLIENT = "client"  # how the client's side dials
    SERVER = "server"  # whether the server's port takes such a connection
    SECURE_NAMING = "secure naming"  # whether the client believes the server
    CUSTOM = "CUSTOM"
    TOKEN = "token"  # noqa: S105 - the end user's token, RequestAuthentication
    DENY = "DENY"
    ALLOW = "ALLOW"


class Taken(Frozen, frozen=True):
    """One step as it was taken. `rule` is a policy's rule as the access log names it."""

    step: Step
    passed: bool
    reason: str
    decided_by: ObjectRef | None = None
    rule: str = ""
    details: tuple[str, ...] = ()


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """Who calls what. `request` None: bytes that are no HTTP. `host` is a Service's full name; "": the server itself.

    `answers` is what each external authorizer would say; `now`, in seconds since 1970, is when a token is looked at.
    """

    client: Workload
    port: int
    host: str = ""
    server: Workload | None = None
    request: HttpRequest | None = None
    token: Token | None = None
    answers: Mapping[str, Answer] = msgspec.field(default_factory=dict)
    now: float | None = None


class Outcome(Frozen, frozen=True):
    """What becomes of the call at one endpoint. Steps after the one that refuses are not taken."""

    server: str  # namespace/name, or the address where no workload is known
    port: int  # the server's own
    protection: Protection
    steps: tuple[Taken, ...]

    @property
    def allowed(self) -> bool:
        """Whether the call reaches the application."""
        return all(step.passed for step in self.steps)

    @property
    def decisive(self) -> Taken:
        """The step that refused; of an allowed call, the last."""
        return next((step for step in self.steps if not step.passed), self.steps[-1])


class _Dialled(msgspec.Struct, frozen=True):
    """How the client's side dials one endpoint."""

    endpoint: Endpoint
    protection: Protection
    step: Taken
    tls: ClientTls = ClientTls()
    port: OutboundPort | None = None
    server_name: str = ""


def judge(snapshot: MeshSnapshot, call: Call) -> tuple[Outcome, ...]:
    """One outcome per endpoint that the call can reach, in order of address; () if there is none."""
    return tuple(_outcome(snapshot, call, dialled) for dialled in _endpoints(snapshot, call))


def _endpoints(snapshot: MeshSnapshot, call: Call) -> list[_Dialled]:
    if not call.host:
        server = call.server
        if server is None:
            return []
        address = server.addresses[0] if server.addresses else NO_ADDRESS
        endpoint = Endpoint(address, call.port, False, server.service_account, server.namespace, server.name)
        port = destination.at_address(snapshot, call.client, address, call.port) if call.client.has_sidecar else None
        if port is not None:
            return [_dialled(snapshot, call, port, endpoint)]
        # Nobody asks for a certificate of whom no Service names: Istio's passthrough sends what the application sends.
        step = Taken(Step.CLIENT, True, f"no Service is dialled: {Protection.NONE.value}")
        return [_Dialled(endpoint, Protection.NONE, step)]
    called = destination.of(snapshot, call.client, call.host, call.port)
    wanted = call.server.addresses if call.server is not None else None
    endpoints = [item for item in called.endpoints if wanted is None or item.address in wanted]
    return [_dialled(snapshot, call, called.port, endpoint) for endpoint in endpoints]


def _dialled(snapshot: MeshSnapshot, call: Call, port: OutboundPort | None, endpoint: Endpoint) -> _Dialled:
    """What the client's sidecar, or the client without one, sends to the endpoint of a Service."""
    client = call.client
    if not client.has_sidecar:
        reason = f"{client.namespace}/{client.name} has no sidecar: {Protection.NONE.value}"
        return _Dialled(endpoint, Protection.NONE, Taken(Step.CLIENT, True, reason))
    if port is None:
        return _Dialled(endpoint, Protection.NONE, _unknown_host(snapshot, call))
    tls, sent = port.tls, connection.protection(port.tls, endpoint)
    missing = _missing_certificate(tls)
    reason = missing or f"{sent.value}, {_why(port, endpoint)}"
    step = Taken(Step.CLIENT, not missing, reason, port.destination_rule)
    server_name = tls.sni or (names.server_name(port.number, call.host) if sent is Protection.MUTUAL_TLS else "")
    return _Dialled(endpoint, sent, step, tls, port, server_name)


def _unknown_host(snapshot: MeshSnapshot, call: Call) -> Taken:
    who = f"namespace {call.client.namespace} does not see {call.host}"
    if snapshot.mesh.outbound_allow_any:
        return Taken(Step.CLIENT, True, f"{who}: {Protection.NONE.value}, as to any unknown host")
    return Taken(Step.CLIENT, False, f"{who}, and unknown hosts are not dialled (REGISTRY_ONLY)")


def _missing_certificate(tls: ClientTls) -> str:
    """What the settings name and the proxy does not have. Then nobody dials: never without what was asked for."""
    if tls.mode not in (ClientTlsMode.SIMPLE, ClientTlsMode.MUTUAL):
        return ""
    if tls.credential_refused:
        named = f"credentialName {tls.credential_name}"
        return f"{named} counts in rules with a workloadSelector only: the port is not dialled"
    if tls.mode is ClientTlsMode.MUTUAL and not (tls.credential_name or (tls.client_certificate and tls.private_key)):
        return "mode MUTUAL without clientCertificate and privateKey: the port is not dialled"
    return ""


def _why(port: OutboundPort, endpoint: Endpoint) -> str:
    if port.tls.mode is ClientTlsMode.DISABLE and port.protocol is Protocol.TLS:
        return "what the application encrypts itself stays as it is"
    if port.tls.mode is ClientTlsMode.DISABLE and port.destination_rule is None:
        return "since no rule says otherwise"
    if port.tls.mode is not ClientTlsMode.AUTO:
        said = f"as mode {port.tls.mode.value} says"
        return f"{said}, with secret {port.tls.credential_name}" if port.tls.credential_name else said
    return "since the server takes it" if endpoint.mtls else "since the server takes no mutual TLS"


def _outcome(snapshot: MeshSnapshot, call: Call, dialled: _Dialled) -> Outcome:
    endpoint = dialled.endpoint
    server = call.server if not call.host else snapshot.workload_by_address(endpoint.address)
    name = f"{server.namespace}/{server.name}" if server else endpoint.address
    steps = [dialled.step]
    if dialled.step.passed:
        steps += _at_server(snapshot, call, dialled, server)
    return Outcome(name, endpoint.port, dialled.protection, tuple(steps))


def _at_server(snapshot: MeshSnapshot, call: Call, dialled: _Dialled, server: Workload | None) -> list[Taken]:
    sent = dialled.protection
    if server is None:
        # A workload that no pod and no WorkloadEntry stands for may well answer, if its entry says that it does.
        accepted = sent is not Protection.MUTUAL_TLS or dialled.endpoint.mtls
        says = "whatever arrives reaches it" if accepted else "it cannot answer mutual TLS"
        return [Taken(Step.SERVER, accepted, f"{dialled.endpoint.address} is no workload of the mesh: {says}")]
    verdict = connection.to_workload(snapshot, server, dialled.endpoint.port, sent)
    steps = [Taken(Step.SERVER, verdict.succeeds, verdict.reason, verdict.server_policy)]
    if not verdict.succeeds or not server.has_sidecar:
        return steps
    inbound = snapshot.inbound(server.namespace).view(server)
    protocol = _protocol(inbound, dialled.endpoint.port)
    if sent is Protection.TLS and protocol.is_http:
        reason = f"port {dialled.endpoint.port} is read as {protocol.value}, and TLS of the client's own is none"
        return [Taken(Step.SERVER, False, reason)]
    if sent is Protection.MUTUAL_TLS:
        steps.append(_secure_naming(inbound, dialled, server))
        if not steps[-1].passed:
            return steps
    request = call.request if _reads_requests(protocol, dialled) else None
    return [*steps, *_policies(snapshot, call, dialled, server, inbound, request)]


def _protocol(inbound: InboundView, number: int) -> Protocol:
    return next((port.protocol for port in inbound.ports if port.number == number), Protocol.AUTO)


def _reads_requests(protocol: Protocol, dialled: _Dialled) -> bool:
    """Whether the server's sidecar sees requests rather than bytes, if the client sends any."""
    if protocol in _CHANNELS or dialled.protection is Protection.TLS:
        return False
    # On a port of unknown protocol the client's sidecar tells with its ALPN what it carries.
    told = dialled.port is not None and dialled.protection is Protection.MUTUAL_TLS and not protocol.is_http
    return not (told and dialled.port is not None and dialled.port.protocol in _CHANNELS)


def _secure_naming(inbound: InboundView, dialled: _Dialled, server: Workload) -> Taken:
    """Whether the name in the server's certificate is one that the client expects for this host."""
    own = str(SpiffeId(inbound.trust.domains[0], server.namespace, server.service_account))
    expected = dialled.tls.subject_alt_names or (dialled.port.identities if dialled.port else ())
    rule = dialled.port.destination_rule if dialled.port and dialled.tls.subject_alt_names else None
    if not expected or own in expected:
        return Taken(Step.SECURE_NAMING, True, f"the server proves to be {own}", rule)
    wanted = ", ".join(expected)
    return Taken(Step.SECURE_NAMING, False, f"the server proves to be {own}, and the client expects {wanted}", rule)


def _policies(
    snapshot: MeshSnapshot,
    call: Call,
    dialled: _Dialled,
    server: Workload,
    inbound: InboundView,
    request: HttpRequest | None,
) -> list[Taken]:
    providers = _providers(snapshot, server)
    authorization = Authorization(inbound.policies, inbound.trust, snapshot.mesh.path_normalization, providers)
    asked = _connection(call, dialled, inbound)
    verdict = tokens.judge(_token_rules(snapshot, server), call.token if request else None, call.now)
    # CUSTOM policies are asked before the token is looked at, the others after it.
    decision = authorization.decide(asked, request, verdict.claims, call.answers, explain=True)
    taken = _taken(decision)
    if taken.step is Step.CUSTOM:
        return [taken]
    token = Taken(Step.TOKEN, verdict.accepted, verdict.reason, verdict.policy)
    steps = [token] if call.token is not None and request is not None else []
    return [*steps, taken] if verdict.accepted else [token]


def _providers(snapshot: MeshSnapshot, server: Workload) -> tuple[AuthorizationProvider, ...]:
    """The external authorizers of the mesh config that the server's sidecar has a Service for."""
    declared = snapshot.mesh.authorization_providers
    if not declared:
        return ()
    services = view.for_proxy(snapshot, view.Proxy(server.namespace, server.name)).outbound.services
    dialled = {(service.host, port.number) for service in services for port in service.ports}
    return tuple(each for each in declared if (each.host, each.port) in dialled)


def _connection(call: Call, dialled: _Dialled, inbound: InboundView) -> Connection:
    client = call.client
    identity = str(SpiffeId(inbound.trust.domains[0], client.namespace, client.service_account))
    mutual = dialled.protection is Protection.MUTUAL_TLS
    return Connection(
        source_ip=_same_family(client.addresses, dialled.endpoint.address),
        destination_ip=dialled.endpoint.address if is_address(dialled.endpoint.address) else NO_ADDRESS,
        destination_port=dialled.endpoint.port,
        peer=Peer((identity,)) if mutual else None,
        server_name=dialled.server_name,
    )


def _same_family(addresses: tuple[str, ...], other: str) -> str:
    if not is_address(other):
        return addresses[0] if addresses else NO_ADDRESS
    version = ipaddress.ip_address(other).version
    return next((each for each in addresses if ipaddress.ip_address(each).version == version), NO_ADDRESS)


def _token_rules(snapshot: MeshSnapshot, server: Workload) -> tuple[TokenRule, ...]:
    objects = snapshot.objects.typed(kinds.REQUEST_AUTHENTICATION, security.RequestAuthentication)
    root_namespace = snapshot.mesh.root_namespace
    return request_authentication.applying(objects.values(), root_namespace, server.namespace, server.labels)


def _taken(decision: Decision) -> Taken:
    step = {AuthorizationAction.CUSTOM: Step.CUSTOM, AuthorizationAction.DENY: Step.DENY}.get(
        decision.action or AuthorizationAction.ALLOW, Step.ALLOW
    )
    details = (
        *decision.lacks,
        *(f"{name} notes it (AUDIT)" for name in decision.audited),
        *(
            f"dry run: {tried.action.value} would {'let it pass' if tried.allowed else 'refuse it'}"
            + (f" by {tried.rule}" if tried.rule else "")
            for tried in decision.dry_run
        ),
    )
    return Taken(step, decision.allowed, decision.reason, decision.policy, decision.rule, details)

"""All that one proxy's configuration may depend on, as frozen values; equal values give equal bytes."""

from enum import StrEnum

import msgspec

from mutua.api.networking import ConnectionPool, ConsistentHash, LoadBalancerMode, OutlierDetection
from mutua.mesh.hosts import HostTable


class MtlsMode(StrEnum):
    """What a server port accepts. Source: PeerAuthentication.spec.mtls.mode; UNSET is resolved before it gets here."""

    STRICT = "STRICT"
    PERMISSIVE = "PERMISSIVE"
    DISABLE = "DISABLE"


class Protocol(StrEnum):
    """How a port's bytes are read. AUTO: looked at on the wire (a port without name and appProtocol)."""

    HTTP = "HTTP"
    HTTP2 = "HTTP2"
    GRPC = "GRPC"
    TCP = "TCP"
    TLS = "TLS"
    AUTO = "AUTO"

    @property
    def is_http(self) -> bool:
        """Whether requests, not only bytes, are seen."""
        return self in (Protocol.HTTP, Protocol.HTTP2, Protocol.GRPC)


class ClientTlsMode(StrEnum):
    """How a client dials one service port. AUTO: mutual TLS to endpoints that take it, else plaintext."""

    AUTO = "AUTO"
    DISABLE = "DISABLE"
    SIMPLE = "SIMPLE"
    MUTUAL = "MUTUAL"
    ISTIO_MUTUAL = "ISTIO_MUTUAL"


class Discovery(StrEnum):
    """How a client's sidecar finds the addresses behind a host. Source: ServiceEntry.spec.resolution."""

    PUSHED = "PUSHED"  # the control plane tells
    DNS = "DNS"  # all that the names resolve to
    DNS_ROUND_ROBIN = "DNS_ROUND_ROBIN"  # what the name resolves to at the moment
    ORIGINAL = "ORIGINAL"  # wherever the application's connection was going
    NONE = "NONE"  # not at all: nobody dials it


class Frozen(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A value: hashable, comparable, never changed. Fields are tuples and scalars only."""


class ObjectRef(Frozen, frozen=True):
    """The user's object that decided something; names it in messages and Envoy metadata."""

    kind: str
    namespace: str
    name: str


class InboundPort(Frozen, frozen=True):
    """One port that the workload's Services name."""

    number: int  # the workload's port, not the Service's
    protocol: Protocol
    mode: MtlsMode
    host: str  # the oldest Service's host, for the cluster's name and statistics


class StringMatch(Frozen, frozen=True):
    """One value of a policy as written: exact, `prefix*`, `*suffix` or `*`; the filter decides what it means."""

    value: str


class Source(Frozen, frozen=True):
    """`rules[].from[].source`; every field as the user wrote it, in order. Source: Istio AuthorizationPolicy."""

    principals: tuple[str, ...] = ()
    not_principals: tuple[str, ...] = ()
    request_principals: tuple[str, ...] = ()
    not_request_principals: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    not_namespaces: tuple[str, ...] = ()
    service_accounts: tuple[str, ...] = ()
    not_service_accounts: tuple[str, ...] = ()
    trust_domains: tuple[str, ...] = ()
    not_trust_domains: tuple[str, ...] = ()
    ip_blocks: tuple[str, ...] = ()
    not_ip_blocks: tuple[str, ...] = ()
    remote_ip_blocks: tuple[str, ...] = ()
    not_remote_ip_blocks: tuple[str, ...] = ()


class Operation(Frozen, frozen=True):
    """`rules[].to[].operation`; as the user wrote it."""

    hosts: tuple[str, ...] = ()
    not_hosts: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    not_ports: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    not_methods: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    not_paths: tuple[str, ...] = ()


class Condition(Frozen, frozen=True):
    """`rules[].when[]`."""

    key: str
    values: tuple[str, ...] = ()
    not_values: tuple[str, ...] = ()


class Rule(Frozen, frozen=True):
    """One rule: any source, and any operation, and all conditions. Empty means anything."""

    sources: tuple[Source, ...] = ()
    operations: tuple[Operation, ...] = ()
    conditions: tuple[Condition, ...] = ()


class AuthorizationAction(StrEnum):
    """What a matching rule does. Source: AuthorizationPolicy.spec.action."""

    ALLOW = "ALLOW"
    DENY = "DENY"
    AUDIT = "AUDIT"
    CUSTOM = "CUSTOM"


class EffectivePolicy(Frozen, frozen=True):
    """One AuthorizationPolicy that applies to the workload, by namespace and name within an action."""

    namespace: str
    name: str
    action: AuthorizationAction
    rules: tuple[Rule, ...]
    dry_run: bool = False
    provider: str = ""


class TokenRule(Frozen, frozen=True):
    """Which end-user tokens of one issuer are accepted, where they are found, and what becomes of them.

    Source: `RequestAuthentication.spec.jwtRules[]`.
    """

    source: ObjectRef
    issuer: str  # "": any
    audiences: tuple[str, ...] = ()  # (): any
    space_delimited_claims: tuple[str, ...] = ()
    key_set: str = ""  # JSON Web Key Set; "" = none could be had, so that no token of the issuer is accepted
    from_headers: tuple[tuple[str, str], ...] = ()  # (name, prefix of the value)
    from_params: tuple[str, ...] = ()
    from_cookies: tuple[str, ...] = ()
    payload_header: str = ""  # header that gets the payload, base64url
    claim_headers: tuple[tuple[str, str], ...] = ()  # (header, claim that it gets)
    forward: bool = False  # whether the application gets the token itself


class Trust(Frozen, frozen=True):
    """Whom this mesh believes. The first domain is its own; the others are aliases.

    `foreign` are trust domains of others, each vouched for by roots of its own: they may call, and are never ours.
    """

    domains: tuple[str, ...] = ("cluster.local",)
    foreign: tuple[str, ...] = ()


class InboundView(Frozen, frozen=True):
    """What the workload accepts; depends on its profile (namespace, labels, account, ports), not on the pod."""

    trust: Trust
    default_mode: MtlsMode  # for ports that no Service names
    port_modes: tuple[tuple[int, MtlsMode], ...]  # portLevelMtls of ports that no Service names
    ports: tuple[InboundPort, ...]  # ascending by number
    policies: tuple[EffectivePolicy, ...]  # root namespace first, then by name
    token_rules: tuple[TokenRule, ...] = ()  # oldest object first

    @property
    def all_port_modes(self) -> tuple[tuple[int, MtlsMode], ...]:
        """The mode of every port that a Service or a policy names, ascending."""
        return tuple(sorted((*self.port_modes, *((port.number, port.mode) for port in self.ports))))


class Endpoint(Frozen, frozen=True):
    """One address behind a service port."""

    address: str
    port: int
    mtls: bool  # it has a sidecar, and the port's mode is not DISABLE
    service_account: str  # name within the namespace; "" where unknown
    namespace: str
    workload: str = ""  # what the pod belongs to: a Deployment, a StatefulSet, …
    labels: frozenset[tuple[str, str]] = frozenset()  # by which subsets choose; metrics take names from them
    weight: int = 1


class ClientTls(Frozen, frozen=True):
    """How to dial one service port, decided by DestinationRule and mesh config."""

    mode: ClientTlsMode = ClientTlsMode.AUTO
    sni: str = ""  # "" = the default for the mode
    subject_alt_names: tuple[str, ...] = ()  # as the user wrote them; () = secure naming
    client_certificate: str = ""  # file paths, MUTUAL
    private_key: str = ""
    ca_certificates: str = ""
    revocation_list: str = ""
    credential_name: str = ""  # a secret of the client's own namespace, in the place of files
    credential_refused: bool = False  # the rule that names the secret is not for chosen workloads: nobody gets it
    insecure_skip_verify: bool = False


class TrafficSettings(Frozen, frozen=True):
    """How one service port is used, apart from TLS; as users wrote it. Source: DestinationRule.trafficPolicy."""

    balancing: LoadBalancerMode | None = None
    hashing: ConsistentHash | None = None
    connection_pool: ConnectionPool | None = None
    outlier_detection: OutlierDetection | None = None
    tunnel: bool = False  # asked for, which nobody here can do


class OutboundSubset(Frozen, frozen=True):
    """Some endpoints of a port, under a name of their own. Source: DestinationRule.spec.subsets[]."""

    name: str
    labels: frozenset[tuple[str, str]]
    tls: ClientTls
    traffic: TrafficSettings = TrafficSettings()


class OutboundPort(Frozen, frozen=True):
    """One port of a Service as a client of this namespace must dial it."""

    number: int  # the Service's port
    name: str
    protocol: Protocol
    tls: ClientTls
    destination_rule: ObjectRef | None
    identities: tuple[str, ...]  # SPIFFE ids that may answer (secure naming), sorted; all trust domains
    traffic: TrafficSettings = TrafficSettings()
    subsets: tuple[OutboundSubset, ...] = ()
    named_endpoints: tuple[Endpoint, ...] = ()  # of a host found by DNS; their addresses may be names
    target: int = 0  # the port that is dialled in the place of the client's, only for ORIGINAL; 0 = the client's


class OutboundService(Frozen, frozen=True):
    """One Service, or one host of a ServiceEntry, that the proxy's namespace can see.

    Endpoints are apart: a roll changes no cluster or listener.
    """

    host: str  # backend.secure-apps.svc.cluster.local
    name: str
    namespace: str
    addresses: tuple[str, ...]  # that clients dial
    ports: tuple[OutboundPort, ...]
    headless_addresses: tuple[tuple[str, int], ...] = ()  # (pod IP, workload port), only for headless services
    is_entry: bool = False  # of a ServiceEntry
    blocks: tuple[str, ...] = ()  # CIDR blocks that clients dial, only of a ServiceEntry
    takes_any_address: bool = False  # nothing but the port tells connections that name no host, only of a ServiceEntry
    discovery: Discovery = Discovery.PUSHED

    @property
    def is_headless(self) -> bool:
        """Whether clients connect to the pods' own addresses."""
        return not self.addresses and not self.is_entry


class OutboundView(Frozen, frozen=True):
    """What the workload can dial; depends on the namespace only, so all its proxies share it."""

    namespace: str
    cluster_domain: str
    services: tuple[OutboundService, ...]  # ascending by host

    def find(self, host: str) -> OutboundService | None:
        """The service of this name, else the one with the longest wildcard that covers it; None if there is none."""
        return HostTable((service.host, service) for service in self.services).most_specific(host)


class LoadAssignment(Frozen, frozen=True):
    """Where one `outbound|port|subset|host` cluster's connections may go."""

    host: str
    port: int
    endpoints: tuple[Endpoint, ...]  # ascending by address
    subset: str = ""


class AuthorizationProvider(Frozen, frozen=True):
    """Who decides for CUSTOM policies that name it. Source: `MeshConfig.extensionProviders[]`."""

    name: str
    host: str
    port: int
    http: bool  # asked over HTTP; else over gRPC
    timeout_ms: int = 600_000
    fail_open: bool = False
    status_on_error: int = 403
    body_bytes: int = 0  # of the request's body, sent along; 0 = none
    partial_body: bool = False  # a longer body is cut; else such a request is refused
    body_as_bytes: bool = False
    path_prefix: str = ""
    request_headers: tuple[str, ...] = ()  # sent along, as matches like Istio's: exact, `prefix*`, `*suffix`
    additional_headers: tuple[tuple[str, str], ...] = ()
    upstream_headers_on_allow: tuple[str, ...] = ()
    client_headers_on_deny: tuple[str, ...] = ()
    client_headers_on_allow: tuple[str, ...] = ()


class MeshView(Frozen, frozen=True):
    """Settings of the whole mesh that a proxy's configuration reads. Source: MeshConfig."""

    root_namespace: str = "istio-system"
    access_log_file: str = ""  # meshConfig.accessLogFile; "" = none
    access_log_encoding: str = "TEXT"
    access_log_format: str = ""  # as Envoy takes it; "" = Istio's, and what explains a refusal
    min_tls_version: str = "TLSV1_2"
    ecdh_curves: tuple[str, ...] = ("X25519MLKEM768", "X25519", "P-256")
    cipher_suites: tuple[str, ...] = ()
    outside_ecdh_curves: tuple[str, ...] = ecdh_curves  # of TLS that is not the mesh's own: modes SIMPLE and MUTUAL
    outside_cipher_suites: tuple[str, ...] = ()
    outbound_allow_any: bool = True  # outboundTrafficPolicy.mode
    path_normalization: str = "BASE"
    protocol_detection_timeout_ms: int = 5000  # 0 = wait for the client's first bytes without limit
    authorization_providers: tuple[AuthorizationProvider, ...] = ()  # ascending by name
    telemetry: bool = True  # whether sidecars count requests and connections
    upstream_mark: int = 0  # SO_MARK that exempts Envoy's own sockets; 0 = exempt by uid


class ProxyView(Frozen, frozen=True):
    """The one argument of the translator. The three parts are shared between proxies wherever they are equal."""

    mesh: MeshView
    inbound: InboundView
    outbound: OutboundView
    endpoints: tuple[LoadAssignment, ...]  # ascending by host and port

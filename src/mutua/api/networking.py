"""Kinds of the group networking.istio.io: how clients dial."""

from enum import StrEnum
from typing import Annotated

import msgspec

from mutua.api.meta import (
    Duration,
    IstioObject,
    LabelSelector,
    Percentage,
    PortNumber,
    Strict,
    UnsignedInteger,
)


class ClientTlsSettingsMode(StrEnum):
    """How a client protects a connection. Absent `tls` is not the same as DISABLE: it leaves the choice to the mesh."""

    DISABLE = "DISABLE"
    SIMPLE = "SIMPLE"
    MUTUAL = "MUTUAL"
    ISTIO_MUTUAL = "ISTIO_MUTUAL"


class ClientTlsSettings(Strict, frozen=True):
    """`trafficPolicy.tls`."""

    mode: ClientTlsSettingsMode = ClientTlsSettingsMode.DISABLE
    client_certificate: str = ""
    private_key: str = ""
    ca_certificates: str = ""
    ca_crl: str = ""
    credential_name: str = ""
    subject_alt_names: tuple[str, ...] = ()
    sni: str = ""
    insecure_skip_verify: bool | None = None


class LoadBalancerMode(StrEnum):
    """How one endpoint is chosen."""

    UNSPECIFIED = "UNSPECIFIED"
    LEAST_CONN = "LEAST_CONN"
    RANDOM = "RANDOM"
    PASSTHROUGH = "PASSTHROUGH"
    ROUND_ROBIN = "ROUND_ROBIN"
    LEAST_REQUEST = "LEAST_REQUEST"


class CookieAttribute(Strict, frozen=True):
    """An attribute of the cookie."""

    name: str
    value: str = ""


class HttpCookie(Strict, frozen=True):
    """A cookie that keeps a client at one endpoint."""

    name: str
    path: str = ""
    ttl: Duration | None = None
    attributes: tuple[CookieAttribute, ...] = ()


class RingHash(Strict, frozen=True):
    """Ketama ring."""

    minimum_ring_size: int = 0


class Maglev(Strict, frozen=True):
    """Maglev table."""

    table_size: int = 0


class ConsistentHash(Strict, frozen=True):
    """What is hashed to choose an endpoint."""

    http_header_name: str | None = None
    http_cookie: HttpCookie | None = None
    use_source_ip: bool | None = None
    http_query_parameter_name: str | None = None
    ring_hash: RingHash | None = None
    maglev: Maglev | None = None
    minimum_ring_size: int = 0


class Distribute(Strict, frozen=True):
    """Share of traffic per destination, in percent."""

    from_: str = msgspec.field(default="", name="from")
    to: dict[str, UnsignedInteger] = msgspec.field(default_factory=dict)


class Failover(Strict, frozen=True):
    """Where traffic goes when a region fails."""

    from_: str = msgspec.field(default="", name="from")
    to: str = ""


class LocalityLoadBalancer(Strict, frozen=True):
    """Preference by locality; Istio's LocalityLoadBalancerSetting."""

    distribute: tuple[Distribute, ...] = ()
    failover: tuple[Failover, ...] = ()
    failover_priority: tuple[str, ...] = ()
    enabled: bool | None = None


class ZoneAwareLoadBalancer(Strict, frozen=True):
    """Preference by zone."""

    enabled: bool | None = None
    min_cluster_size: Annotated[int, msgspec.Meta(ge=1)] | None = None
    failover: tuple[Failover, ...] = ()
    failover_priority: tuple[str, ...] = ()


class Warmup(Strict, frozen=True):
    """Slow start of new endpoints."""

    duration: Duration
    minimum_percent: float | None = None
    aggression: float | None = None


class LoadBalancer(Strict, frozen=True):
    """`trafficPolicy.loadBalancer`."""

    simple: LoadBalancerMode | None = None
    consistent_hash: ConsistentHash | None = None
    locality_lb_setting: LocalityLoadBalancer | None = None
    zone_aware_lb_setting: ZoneAwareLoadBalancer | None = None
    warmup_duration_secs: Duration | None = None
    warmup: Warmup | None = None


class TcpKeepalive(Strict, frozen=True):
    """Keepalive probes."""

    probes: UnsignedInteger = 0
    time: Duration | None = None
    interval: Duration | None = None


class TcpSettings(Strict, frozen=True):
    """Limits of connections."""

    max_connections: int = 0
    connect_timeout: Duration | None = None
    tcp_keepalive: TcpKeepalive | None = None
    max_connection_duration: Duration | None = None
    idle_timeout: Duration | None = None


class Http2KeepAlive(Strict, frozen=True):
    """HTTP/2 pings."""

    interval: Duration | None = None
    timeout: Duration | None = None


class H2UpgradePolicy(StrEnum):
    """Whether HTTP/1.1 is carried over HTTP/2."""

    DEFAULT = "DEFAULT"
    DO_NOT_UPGRADE = "DO_NOT_UPGRADE"
    UPGRADE = "UPGRADE"


class HttpSettings(Strict, frozen=True):
    """Limits of requests."""

    http1_max_pending_requests: int = msgspec.field(default=0, name="http1MaxPendingRequests")
    http2_max_requests: int = msgspec.field(default=0, name="http2MaxRequests")
    max_requests_per_connection: int = 0
    max_retries: int = 0
    idle_timeout: Duration | None = None
    h2_upgrade_policy: H2UpgradePolicy = msgspec.field(default=H2UpgradePolicy.DEFAULT, name="h2UpgradePolicy")
    use_client_protocol: bool = False
    max_concurrent_streams: int = 0
    http2_keep_alive: Http2KeepAlive | None = msgspec.field(default=None, name="http2KeepAlive")


class ConnectionPool(Strict, frozen=True):
    """`trafficPolicy.connectionPool`."""

    tcp: TcpSettings | None = None
    http: HttpSettings | None = None


HttpErrorCode = Annotated[int, msgspec.Meta(ge=100, le=599)]


class OutlierDetection(Strict, frozen=True):
    """`trafficPolicy.outlierDetection`: when an endpoint is left out for a while."""

    consecutive_errors: int = 0
    consecutive_gateway_errors: UnsignedInteger | None = None
    consecutive_5xx_errors: UnsignedInteger | None = msgspec.field(default=None, name="consecutive5xxErrors")
    consecutive_local_origin_failures: UnsignedInteger | None = None
    split_external_local_origin_errors: bool = False
    interval: Duration | None = None
    base_ejection_time: Duration | None = None
    max_ejection_percent: int = 0
    min_health_percent: int = 0
    outlier_detection_http_error_codes: tuple[HttpErrorCode, ...] = ()


class Tunnel(Strict, frozen=True):
    """Connections inside an HTTP CONNECT or POST."""

    target_host: str
    target_port: UnsignedInteger
    protocol: str = ""


class ProxyProtocolVersion(StrEnum):
    """Version of the PROXY protocol."""

    V1 = "V1"
    V2 = "V2"


class ProxyProtocol(Strict, frozen=True):
    """PROXY protocol towards the endpoint."""

    version: ProxyProtocolVersion = ProxyProtocolVersion.V1


class RetryBudget(Strict, frozen=True):
    """Retries as a share of the requests."""

    percent: Percentage | None = None
    min_retry_concurrency: UnsignedInteger = 0
    budget_interval: Duration | None = None


class PortSelector(Strict, frozen=True):
    """A Service port by number."""

    number: PortNumber | None = None


class PortTrafficPolicy(Strict, frozen=True):
    """Settings of one Service port; they stand in the place of the host's, and inherit nothing."""

    port: PortSelector | None = None
    load_balancer: LoadBalancer | None = None
    connection_pool: ConnectionPool | None = None
    outlier_detection: OutlierDetection | None = None
    tls: ClientTlsSettings | None = None


class TrafficPolicy(Strict, frozen=True):
    """Settings of a host or a subset."""

    load_balancer: LoadBalancer | None = None
    connection_pool: ConnectionPool | None = None
    outlier_detection: OutlierDetection | None = None
    tls: ClientTlsSettings | None = None
    port_level_settings: Annotated[tuple[PortTrafficPolicy, ...], msgspec.Meta(max_length=4096)] = ()
    tunnel: Tunnel | None = None
    proxy_protocol: ProxyProtocol | None = None
    retry_budget: RetryBudget | None = None


class Subset(Strict, frozen=True):
    """Some of a host's endpoints under a name."""

    name: str
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    traffic_policy: TrafficPolicy | None = None


class DestinationRuleSpec(Strict, frozen=True):
    """How clients dial a host."""

    host: str
    traffic_policy: TrafficPolicy | None = None
    subsets: tuple[Subset, ...] = ()
    export_to: tuple[str, ...] = ()
    workload_selector: LabelSelector | None = None


class DestinationRule(IstioObject, frozen=True, kw_only=True):
    """networking.istio.io DestinationRule."""

    spec: DestinationRuleSpec

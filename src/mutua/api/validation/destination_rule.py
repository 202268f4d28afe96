"""Rules about one DestinationRule. Source: Istio's ValidateDestinationRule."""

from collections.abc import Iterator

from mutua.api.findings import Violation, error, warning
from mutua.api.networking import (
    ClientTlsSettings,
    ClientTlsSettingsMode,
    ConnectionPool,
    DestinationRule,
    LoadBalancerMode,
    OutlierDetection,
    PortTrafficPolicy,
    TrafficPolicy,
)
from mutua.api.validation import common, load_balancer


def violations(item: DestinationRule) -> Iterator[Violation]:
    """Everything that the rule alone tells."""
    spec = item.spec
    yield from common.selector(spec.workload_selector, "spec.workloadSelector")
    yield from _host(spec.host)
    yield from common.export_to(spec.export_to)
    if spec.traffic_policy is not None:
        yield from _policy(spec.traffic_policy, "spec.trafficPolicy")
    names: set[str] = set()
    for index, subset in enumerate(spec.subsets):
        field = f"spec.subsets[{index}]"
        if not subset.name:
            yield error(f"{field}.name", "subset name cannot be empty")
        if subset.name in names:
            yield error(f"{field}.name", f"duplicate subset name: {subset.name}")
        names.add(subset.name)
        if subset.traffic_policy is not None:
            yield from _policy(subset.traffic_policy, f"{field}.trafficPolicy")


def _host(host: str) -> Iterator[Violation]:
    field = "spec.host"
    if not host:
        yield error(field, "empty domain name not allowed")
        return
    name = host[2:] if host.startswith("*.") else host
    if "*" in name and host != "*":
        yield error(field, f"invalid host {host!r}: a wildcard stands alone or in front, as *.example.org")
    elif len(host) > 255 or any(not label or len(label) > 63 for label in name.rstrip(".").split(".")):
        yield error(field, f"invalid host {host!r}: labels have 1 to 63 characters, names at most 255")


def _policy(policy: TrafficPolicy | PortTrafficPolicy, field: str) -> Iterator[Violation]:
    if policy.connection_pool is not None:
        yield from _connection_pool(policy.connection_pool, f"{field}.connectionPool")
    if policy.outlier_detection is not None:
        yield from _outlier_detection(policy.outlier_detection, f"{field}.outlierDetection")
    if policy.load_balancer is not None:
        if policy.load_balancer.simple is LoadBalancerMode.PASSTHROUGH:
            message = (
                "PASSTHROUGH has no effect here: endpoints are looked up, so that it is known which take mutual TLS"
            )
            yield warning(f"{field}.loadBalancer.simple", message)
        detects_outliers = policy.outlier_detection is not None
        yield from load_balancer.violations(
            policy.load_balancer, f"{field}.loadBalancer", detects_outliers=detects_outliers
        )
    if policy.tls is not None:
        yield from _tls(policy.tls, f"{field}.tls")
    if isinstance(policy, PortTrafficPolicy):
        if policy.port is None or policy.port.number is None:
            yield error(f"{field}.port.number", "portLevelSettings must name a port")
        return
    if policy.tunnel is not None:
        yield error(f"{field}.tunnel", "tunnel is not supported: connections to the host would be refused")
    if policy.proxy_protocol is not None:
        yield warning(f"{field}.proxyProtocol", "proxyProtocol has no effect here")
    if policy.retry_budget is not None:
        yield warning(f"{field}.retryBudget", "retryBudget has no effect here")
    for index, settings in enumerate(policy.port_level_settings):
        yield from _policy(settings, f"{field}.portLevelSettings[{index}]")


def _connection_pool(pool: ConnectionPool, field: str) -> Iterator[Violation]:
    tcp, http = pool.tcp, pool.http
    if tcp is None and http is None:
        yield error(field, "connection pool must have at least one field")
    if tcp is not None:
        yield from _non_negative(tcp.max_connections, f"{field}.tcp.maxConnections", "max connections")
        yield from common.duration(tcp.connect_timeout, f"{field}.tcp.connectTimeout")
        yield from common.duration(tcp.max_connection_duration, f"{field}.tcp.maxConnectionDuration")
    if http is not None:
        for name, value, words in (
            ("http1MaxPendingRequests", http.http1_max_pending_requests, "http1 max pending requests"),
            ("http2MaxRequests", http.http2_max_requests, "http2 max requests"),
            ("maxRequestsPerConnection", http.max_requests_per_connection, "max requests per connection"),
            ("maxRetries", http.max_retries, "max retries"),
            ("maxConcurrentStreams", http.max_concurrent_streams, "max concurrent streams"),
        ):
            yield from _non_negative(value, f"{field}.http.{name}", words)
        yield from common.duration(http.idle_timeout, f"{field}.http.idleTimeout")
        if http.http2_keep_alive is not None:
            yield from common.duration(http.http2_keep_alive.interval, f"{field}.http.http2KeepAlive.interval")
            yield from common.duration(http.http2_keep_alive.timeout, f"{field}.http.http2KeepAlive.timeout")


def _non_negative(value: int, field: str, words: str) -> Iterator[Violation]:
    if value < 0:
        yield error(field, f"{words} must be non-negative")


def _outlier_detection(detection: OutlierDetection, field: str) -> Iterator[Violation]:
    yield from common.duration(detection.interval, f"{field}.interval")
    yield from common.duration(detection.base_ejection_time, f"{field}.baseEjectionTime")
    for name, value in (
        ("maxEjectionPercent", detection.max_ejection_percent),
        ("minHealthPercent", detection.min_health_percent),
    ):
        if not 0 <= value <= 100:
            yield error(f"{field}.{name}", f"percentage {value} is not in range 0..100")
    if detection.consecutive_errors:
        yield warning(
            f"{field}.consecutiveErrors", "is deprecated, use consecutiveGatewayErrors or consecutive5xxErrors"
        )


def _tls(settings: ClientTlsSettings, field: str) -> Iterator[Violation]:
    mode = settings.mode
    files = settings.client_certificate or settings.private_key or settings.ca_certificates or settings.ca_crl
    checks_nothing = settings.insecure_skip_verify is True
    if mode is ClientTlsSettingsMode.SIMPLE and checks_nothing:
        if settings.ca_certificates or settings.credential_name or settings.subject_alt_names:
            message = (
                "cannot specify CaCertificates or CredentialName or SubjectAltNames when InsecureSkipVerify is set true"
            )
            yield error(field, message)
    elif (
        mode is ClientTlsSettingsMode.MUTUAL
        and checks_nothing
        and (settings.ca_certificates or settings.subject_alt_names)
    ):
        yield error(field, "cannot specify CaCertificates or SubjectAltNames when InsecureSkipVerify is set true")
    if mode in (ClientTlsSettingsMode.SIMPLE, ClientTlsSettingsMode.MUTUAL) and settings.credential_name and files:
        message = "cannot specify client certificates or CA certificate or CA CRL If credentialName is set"
        yield error(field, message)
    if mode is ClientTlsSettingsMode.MUTUAL and not settings.credential_name:
        if not settings.client_certificate:
            yield error(f"{field}.clientCertificate", "client certificate required for mutual tls")
        if not settings.private_key:
            yield error(f"{field}.privateKey", "private key required for mutual tls")
    if mode is ClientTlsSettingsMode.ISTIO_MUTUAL and (files or settings.credential_name):
        yield error(field, "ISTIO_MUTUAL uses the workload's own certificate: leave the certificate fields empty")

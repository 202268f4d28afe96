"""MeshConfig: settings of the whole mesh, from the config map `istio`."""

from enum import StrEnum
from typing import Any

import msgspec

from mutua.api.meta import Duration, Lenient


class OutboundMode(StrEnum):
    """What happens to connections to unknown hosts."""

    ALLOW_ANY = "ALLOW_ANY"
    REGISTRY_ONLY = "REGISTRY_ONLY"


class OutboundTrafficPolicy(Lenient, frozen=True):
    """`outboundTrafficPolicy`."""

    mode: OutboundMode = OutboundMode.ALLOW_ANY


class TlsProtocol(StrEnum):
    """The lowest TLS version; TLS_AUTO is our default, TLS 1.2."""

    TLS_AUTO = "TLS_AUTO"
    TLSV1_2 = "TLSV1_2"
    TLSV1_3 = "TLSV1_3"


CIPHER_SUITES = frozenset(
    f"ECDHE-{key}-{suite}"
    for key in ("ECDSA", "RSA")
    for suite in (
        *("AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305"),
        *("AES128-SHA", "AES256-SHA"),
    )
)
"""Of TLS 1.2: what Envoy takes, and what keeps past traffic secret when a key is stolen. TLS 1.3's are no setting."""

ECDH_CURVES = frozenset({"X25519MLKEM768", "X25519", "P-256", "P-384", "P-521"})
"""What Envoy takes; with any other name it refuses every listener and cluster."""


class TlsConfig(Lenient, frozen=True):
    """`meshMTLS`: between sidecars; `tlsDefaults`: TLS of DestinationRules, whose lowest version is no setting.

    `ecdhCurves`, `cipherSuites`: empty means ours, and unknown names are left out.
    """

    min_protocol_version: TlsProtocol = TlsProtocol.TLS_AUTO
    ecdh_curves: tuple[str, ...] = ()
    cipher_suites: tuple[str, ...] = ()


class AccessLogEncoding(StrEnum):
    """Form of a line of the access log."""

    TEXT = "TEXT"
    JSON = "JSON"


class Normalization(StrEnum):
    """What is done to a path before it is matched."""

    DEFAULT = "DEFAULT"
    NONE = "NONE"
    BASE = "BASE"
    MERGE_SLASHES = "MERGE_SLASHES"
    DECODE_AND_MERGE_SLASHES = "DECODE_AND_MERGE_SLASHES"


class PathNormalization(Lenient, frozen=True):
    """`pathNormalization`."""

    normalization: Normalization = Normalization.DEFAULT


class Certificate(Lenient, frozen=True):
    """One entry of `certificates`: the mesh keeps a certificate for these names in a secret of the root namespace."""

    secret_name: str = ""
    dns_names: tuple[str, ...] = ()


class CertificateData(Lenient, frozen=True):
    """One entry of `caCertificates`: roots to believe besides the mesh's authority, as PEM or from a SPIFFE end point.

    `trust_domains`: for whose identities they vouch. `cert_signers`: the external signers whose certificates end there.
    """

    pem: str = ""
    spiffe_bundle_url: str = ""
    cert_signers: tuple[str, ...] = ()
    trust_domains: tuple[str, ...] = ()


class RequestBodyInCheck(Lenient, frozen=True):
    """How much of a request's body is sent along to an external authorizer."""

    max_request_bytes: int = 0
    allow_partial_message: bool = False
    pack_as_bytes: bool = False


class HttpAuthorizationProvider(Lenient, frozen=True):
    """An external authorizer over HTTP."""

    service: str = ""
    port: int = 0
    timeout: Duration | None = None
    path_prefix: str = ""
    fail_open: bool = False
    status_on_error: str = ""
    include_request_body_in_check: RequestBodyInCheck | None = None
    include_request_headers_in_check: tuple[str, ...] = ()
    include_additional_headers_in_check: dict[str, str] = msgspec.field(default_factory=dict)
    headers_to_upstream_on_allow: tuple[str, ...] = ()
    headers_to_downstream_on_deny: tuple[str, ...] = ()
    headers_to_downstream_on_allow: tuple[str, ...] = ()


class GrpcAuthorizationProvider(Lenient, frozen=True):
    """An external authorizer over gRPC."""

    service: str = ""
    port: int = 0
    timeout: Duration | None = None
    fail_open: bool = False
    status_on_error: str = ""
    include_request_body_in_check: RequestBodyInCheck | None = None


class ExtensionProvider(Lenient, frozen=True):
    """One entry of `extensionProviders`."""

    name: str = ""
    envoy_ext_authz_http: HttpAuthorizationProvider | None = None
    envoy_ext_authz_grpc: GrpcAuthorizationProvider | None = None


class DefaultProviders(Lenient, frozen=True):
    """`defaultProviders`: who gets metrics where nobody says so; None = as if it said `prometheus`."""

    metrics: tuple[str, ...] | None = None


class MeshConfig(Lenient, frozen=True):
    """Settings of the whole mesh; every field has Istio's default, but one. Source: istio.mesh.v1alpha1.MeshConfig.

    `protocol_detection_timeout`: Istio waits without limit (`0s`), so that a server that speaks first never does on
    a port whose protocol is not declared. Here its bytes are carried unread after five seconds.
    """

    root_namespace: str = "istio-system"
    trust_domain: str = "cluster.local"
    trust_domain_aliases: tuple[str, ...] = ()
    access_log_file: str = ""
    access_log_encoding: AccessLogEncoding = AccessLogEncoding.TEXT
    access_log_format: str = ""
    enable_auto_mtls: bool = True
    outbound_traffic_policy: OutboundTrafficPolicy = OutboundTrafficPolicy()
    mesh_mtls: TlsConfig = msgspec.field(default=TlsConfig(), name="meshMTLS")
    tls_defaults: TlsConfig = TlsConfig()
    path_normalization: PathNormalization = PathNormalization()
    protocol_detection_timeout: Duration = "5s"
    enable_prometheus_merge: bool = True
    default_providers: DefaultProviders = DefaultProviders()
    default_config: dict[str, Any] = msgspec.field(default_factory=dict)  # ProxyConfig, read by the injector
    certificates: tuple[Certificate, ...] = ()
    ca_certificates: tuple[CertificateData, ...] = ()
    extension_providers: tuple[ExtensionProvider, ...] = ()
    default_destination_rule_export_to: tuple[str, ...] = ()
    default_service_export_to: tuple[str, ...] = ()

    @property
    def wants_metrics(self) -> bool:
        """Whether sidecars count requests and connections: yes, unless the list of providers leaves Prometheus out."""
        metrics = self.default_providers.metrics
        return metrics is None or "prometheus" in metrics

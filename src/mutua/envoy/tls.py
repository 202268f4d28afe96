"""TLS contexts: what a sidecar shows and demands, as server and as client."""

import re
from ipaddress import ip_address
from typing import Any, Final

from envoy.config.core.v3 import backoff_pb2, base_pb2, config_source_pb2, grpc_service_pb2
from envoy.extensions.transport_sockets.raw_buffer.v3 import raw_buffer_pb2
from envoy.extensions.transport_sockets.tls.v3 import common_pb2, secret_pb2, tls_pb2
from envoy.type.matcher.v3 import regex_pb2, string_pb2
from google.protobuf import wrappers_pb2

from mutua.envoy import bootstrap, names
from mutua.envoy.pack import duration, packed
from mutua.mesh.proxy_view import ClientTls, ClientTlsMode, MeshView, Trust

HTTP_SERVER_ALPN: Final = ("h2", "http/1.1")
TCP_SERVER_ALPN: Final = ("istio-peer-exchange", "h2", "http/1.1")

ISTIO_HTTP_ALPN: Final = ("istio-http/1.0", "istio-http/1.1", "istio-h2")
ISTIO_TCP_ALPN: Final = ("istio-peer-exchange", "istio")

HTTP1_CLIENT_ALPN: Final = ("istio-http/1.1", "istio")
HTTP2_CLIENT_ALPN: Final = ("istio-h2", "istio")
SNIFFED_HTTP_CLIENT_ALPN: Final = ("istio-http/1.1", "istio-h2", "istio")
"""None of these is a protocol that a server could select, so its codec looks at the bytes and can't be misled."""

DEFAULT_CIPHER_SUITES: Final = (
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
)
"""For TLS 1.2 only; the suites of TLS 1.3 are not a setting."""

_VERSIONS: Final = {
    "TLSV1_2": common_pb2.TlsParameters.TLSv1_2,
    "TLSV1_3": common_pb2.TlsParameters.TLSv1_3,
}

FILE_SECRET_PATIENCE_SECONDS: Final = 2.0
"""How long a cluster waits for what the agent or the cluster may not have, before it is there and refuses traffic."""

_PATIENTLY: Final = backoff_pb2.BackoffStrategy(base_interval=duration(1), max_interval=duration(30))


def server(mesh: MeshView, trust: Trust, alpn: tuple[str, ...]) -> base_pb2.TransportSocket:
    """Mutual TLS towards callers: a certificate of one of the trusted domains or no connection."""
    context = tls_pb2.DownstreamTlsContext(
        common_tls_context=_workload_context(mesh, alpn, _well_formed((*trust.domains, *trust.foreign))),
        require_client_certificate=wrappers_pb2.BoolValue(value=True),
        # A resumed session skips the check of the peer's certificate, so it could outlive the trust in its issuer.
        disable_stateless_session_resumption=True,
        disable_stateful_session_resumption=True,
    )
    return _socket(context)


def client(
    mesh: MeshView, trust: Trust, tls: ClientTls, server_name: str, identities: tuple[str, ...], alpn: tuple[str, ...]
) -> base_pb2.TransportSocket | None:
    """TLS towards one service port as `tls` says; None if something that it needs is not given: then nobody may dial.

    `identities` are the SPIFFE ids that may answer. If none is known, any identity of the trusted domains may:
    never just anyone.
    """
    if tls.mode in (ClientTlsMode.AUTO, ClientTlsMode.ISTIO_MUTUAL):
        common = _workload_context(mesh, alpn, _expected(trust, tls.subject_alt_names or identities))
        return _socket(_upstream(common, tls.sni or server_name))
    has_files = bool(tls.client_certificate and tls.private_key)
    if tls.credential_refused or (tls.mode is ClientTlsMode.MUTUAL and not (tls.credential_name or has_files)):
        return None
    common = _parameters(alpn, "", mesh.outside_cipher_suites, mesh.outside_ecdh_curves)
    if tls.credential_name:
        authorities = _given_secret(names.credential_authorities(tls.credential_name))
    else:
        authorities = _file_secret(names.authorities_file(tls.ca_certificates or "system", tls.revocation_list))
    if tls.mode is ClientTlsMode.MUTUAL:
        shown = (
            _given_secret(names.credential(tls.credential_name))
            if tls.credential_name
            else _file_secret(names.certificate_file(tls.client_certificate, tls.private_key))
        )
        common.tls_certificate_sds_secret_configs.append(shown)
    if not tls.insecure_skip_verify:
        validation = common.combined_validation_context
        validation.validation_context_sds_secret_config.CopyFrom(authorities)
        validation.default_validation_context.match_typed_subject_alt_names.extend(
            matcher for name in tls.subject_alt_names for matcher in _exactly(name)
        )
    return _socket(_upstream(common, tls.sni))


def raw() -> base_pb2.TransportSocket:
    """No TLS, said explicitly: what an endpoint that speaks plaintext is dialled with."""
    return base_pb2.TransportSocket(
        name="envoy.transport_sockets.raw_buffer", typed_config=packed(raw_buffer_pb2.RawBuffer())
    )


def _parameters(alpn: tuple[str, ...], least: str, suites: tuple[str, ...], curves: tuple[str, ...]) -> Any:
    """Versions, suites and curves of one side."""
    return tls_pb2.CommonTlsContext(
        alpn_protocols=alpn,
        tls_params=common_pb2.TlsParameters(
            tls_minimum_protocol_version=_VERSIONS.get(least, common_pb2.TlsParameters.TLSv1_2),
            # As a client Envoy offers at most TLS 1.2 unless told otherwise.
            tls_maximum_protocol_version=common_pb2.TlsParameters.TLSv1_3,
            cipher_suites=suites or DEFAULT_CIPHER_SUITES,
            ecdh_curves=curves,
        ),
    )


def _workload_context(mesh: MeshView, alpn: tuple[str, ...], expected: list[Any]) -> Any:
    """The workload's own certificate, and a check against the mesh's roots and `expected` names."""
    common = _parameters(alpn, mesh.min_tls_version, mesh.cipher_suites, mesh.ecdh_curves)
    common.tls_certificate_sds_secret_configs.append(_workload_secret(names.WORKLOAD_CERTIFICATE))
    validation = common.combined_validation_context
    validation.default_validation_context.match_typed_subject_alt_names.extend(expected)
    validation.validation_context_sds_secret_config.CopyFrom(_workload_secret(names.TRUST_BUNDLE))
    return common


def _any_identity_of(domains: tuple[str, ...]) -> list[Any]:
    return [_san(common_pb2.SubjectAltNameMatcher.URI, prefix=f"spiffe://{domain}/") for domain in domains]


def _well_formed(domains: tuple[str, ...]) -> list[Any]:
    """The same for callers, of whom the application is told: a name holds no sign that separates fields there."""
    patterns = (f"spiffe://{re.escape(domain)}/[-_.a-zA-Z0-9/]+" for domain in domains)
    return [
        common_pb2.SubjectAltNameMatcher(
            san_type=common_pb2.SubjectAltNameMatcher.URI,
            matcher=string_pb2.StringMatcher(safe_regex=regex_pb2.RegexMatcher(regex=pattern)),
        )
        for pattern in patterns
    ]


def _expected(trust: Trust, identities: tuple[str, ...]) -> list[Any]:
    return [matcher for name in identities for matcher in _exactly(name)] or _any_identity_of(trust.domains)


def _exactly(name: str) -> list[Any]:
    """A user's `subjectAltNames` entry does not say its type: a URI, an address, or else a DNS name."""
    if "://" in name:
        return [_san(common_pb2.SubjectAltNameMatcher.URI, exact=name)]
    try:
        ip_address(name)
    except ValueError:
        return [_san(common_pb2.SubjectAltNameMatcher.DNS, exact=name)]
    return [_san(common_pb2.SubjectAltNameMatcher.IP_ADDRESS, exact=name)]


def _san(san_type: int, **pattern: str) -> Any:
    return common_pb2.SubjectAltNameMatcher(san_type=san_type, matcher=string_pb2.StringMatcher(**pattern))


def _workload_secret(name: str) -> Any:
    """The pod's own certificate or the mesh's roots; nothing that uses them opens before they are there.

    The bootstrap asks for them with the very same source: Envoy then keeps one copy, and shows one.
    """
    return _secret(name, 0, backoff_pb2.BackoffStrategy(base_interval=duration(0.02), max_interval=duration(0.05)))


def _file_secret(name: str) -> Any:
    """A secret that the agent reads from the pod's files, if it is there."""
    return _secret(name, FILE_SECRET_PATIENCE_SECONDS, _PATIENTLY)


def _given_secret(name: str) -> Any:
    """A secret that the control plane reads from the cluster, if the workload's account may read it."""
    return _secret(name, FILE_SECRET_PATIENCE_SECONDS, _PATIENTLY, bootstrap.XDS_CLUSTER)


def _secret(name: str, patience_seconds: float, retry: Any, server: str = names.SDS_CLUSTER) -> Any:
    source = config_source_pb2.ConfigSource(
        resource_api_version=config_source_pb2.V3,
        initial_fetch_timeout=duration(patience_seconds),
        api_config_source=config_source_pb2.ApiConfigSource(
            api_type=config_source_pb2.ApiConfigSource.GRPC,
            transport_api_version=config_source_pb2.V3,
            set_node_on_first_message_only=True,
            grpc_services=[
                grpc_service_pb2.GrpcService(
                    envoy_grpc=grpc_service_pb2.GrpcService.EnvoyGrpc(
                        cluster_name=server, retry_policy=base_pb2.RetryPolicy(retry_back_off=retry)
                    )
                )
            ],
        ),
    )
    return secret_pb2.SdsSecretConfig(name=name, sds_config=source)


def _upstream(common: Any, sni: str) -> Any:
    # No session is kept for resumption, for the same reason as on the server's side.
    return tls_pb2.UpstreamTlsContext(
        common_tls_context=common, sni=sni, max_session_keys=wrappers_pb2.UInt32Value(value=0)
    )


def _socket(context: Any) -> base_pb2.TransportSocket:
    return base_pb2.TransportSocket(name="envoy.transport_sockets.tls", typed_config=packed(context))

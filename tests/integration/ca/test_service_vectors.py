"""CreateCertificate as Istio's own tests have it, row by row over real gRPC and TLS."""

import dataclasses
from datetime import timedelta
from typing import Any

import grpc
import grpc.aio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from fakes.certificates import issued_authority, signing_request, vectors
from fakes.mesh_control_plane import NAME, ControlPlane
from mutua.ca.authority import Authority
from mutua.protos import istio_ca_pb2 as protos
from mutua.system import clock, keys
from mutua.system.ca_client import METHOD

KEY = keys.generate()
OTHERWISE = {
    # Any URI is an identity in Istio. Here it must be a service account's of this mesh, or it is nobody.
    "create-clientcert/With client certificate": {"code": "UNAUTHENTICATED"},
}
"""Where the answer here is another one on purpose; docs/certificates.md says so too."""


@pytest.mark.parametrize("row", vectors("create-certificate"))
async def test_answers_as_istio_s(control_plane: ControlPlane, row: dict[str, Any]) -> None:
    expected = OTHERWISE.get(row["id"], row["expect"])
    depth = len(expected.get("cert_chain", ("leaf", "root"))) - 2
    control_plane.use(issued_authority(depth, clock.now()))
    answer = await call(control_plane, row)
    if expected["code"] != "OK":
        assert answer is getattr(grpc.StatusCode, expected["code"])
        return
    assert not isinstance(answer, grpc.StatusCode)
    assert len(answer) == len(expected["cert_chain"])
    assert answer[-1] == control_plane.roots.decode()


@pytest.mark.parametrize("row", vectors("node-authorization"))
async def test_nobody_asks_for_other_workloads(control_plane: ControlPlane, row: dict[str, Any]) -> None:
    """Istio lets its node proxies do so for pods of their node; here not even those."""
    request = protos.IstioCertificateRequest(csr=signing_request(KEY))
    request.metadata["ImpersonatedIdentity"] = row["requestedIdentity"]
    good = (("authorization", "Bearer good"),)
    credentials = grpc.ssl_channel_credentials(control_plane.roots)

    assert await ask(control_plane.token_port, credentials, request, good) is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize("row", vectors("xfcc", "xfcc-trusted-address"))
@pytest.mark.parametrize("token", ["", "bad"])
async def test_a_header_is_no_credential(
    control_plane: ControlPlane, row: dict[str, Any], token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Istio believes X-Forwarded-Client-Cert from loopback and from addresses of a setting; here nobody does."""
    monkeypatch.setenv("TRUSTED_GATEWAY_CIDR", row.get("trustedCIDRs", "") or "127.0.0.0/8")
    header = row.get("header", "Hash=x;URI=spiffe://cluster.local/ns/shop/sa/web")
    metadata = [("x-forwarded-client-cert", header)]
    if token:
        metadata.append(("authorization", f"Bearer {token}"))
    request = protos.IstioCertificateRequest(csr=signing_request(KEY))
    credentials = grpc.ssl_channel_credentials(control_plane.roots)

    answer = await ask(control_plane.token_port, credentials, request, tuple(metadata))

    assert answer is grpc.StatusCode.UNAUTHENTICATED


async def call(control_plane: ControlPlane, row: dict[str, Any]) -> grpc.StatusCode | tuple[str, ...]:
    """The chain or the code, in the situation that the row describes."""
    request = protos.IstioCertificateRequest(csr=signing_request(KEY))
    metadata: list[tuple[str, str]] = []
    peer = row.get("peer") or {}
    authority = control_plane.authority
    assert authority is not None
    credentials = grpc.ssl_channel_credentials(control_plane.roots)
    port = control_plane.token_port
    if peer.get("authType") == "not-tls":
        credentials, port = None, control_plane.plain_port
    elif chains := peer.get("verifiedChains"):
        chain = client_certificate(authority, chains[0][0].get("uri_san"))
        credentials = grpc.ssl_channel_credentials(control_plane.roots, keys.to_pem(KEY).reveal(), chain)
        port = control_plane.renewal_port
    else:
        metadata.append(("authorization", f"Bearer {'bad' if 'fails' in row['authenticators'][0] else 'good'}"))
    match row.get("ca_sign_error"):
        case "CA_NOT_READY":
            control_plane.authority = None
        case "CSR_ERROR":
            request.csr = "dummy CSR"
        case "TTL_ERROR":
            request.validity_duration = int(timedelta(days=91).total_seconds())
        case "CERT_GEN_ERROR":
            # A signer whose key is not its certificate's: what it signs is caught before it leaves.
            control_plane.authority = dataclasses.replace(authority, key=keys.generate())
    return await ask(port, credentials, request, tuple(metadata))


async def ask(
    port: int,
    credentials: grpc.ChannelCredentials | None,
    request: protos.IstioCertificateRequest,
    metadata: tuple[tuple[str, str], ...],
) -> grpc.StatusCode | tuple[str, ...]:
    """The chain or the code; without credentials over plaintext."""
    options = (("grpc.ssl_target_name_override", NAME), ("grpc.use_local_subchannel_pool", 1))
    address = f"127.0.0.1:{port}"
    channel = (
        grpc.aio.secure_channel(address, credentials, options) if credentials else grpc.aio.insecure_channel(address)
    )
    async with channel:
        method = channel.unary_unary(
            METHOD, protos.IstioCertificateRequest.SerializeToString, protos.IstioCertificateResponse.FromString
        )
        try:
            return tuple((await method(request, metadata=metadata, timeout=5)).cert_chain)
        except grpc.aio.AioRpcError as error:
            return error.code()


def client_certificate(authority: Authority, name: str | None) -> bytes:
    """A certificate that the handshake believes, with this URI or no name at all."""
    now = clock.now()
    builder = (
        x509.CertificateBuilder(authority.certificate.subject, x509.Name([]), KEY.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False)
    )
    if name is not None:
        names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(name)])
        builder = builder.add_extension(names, critical=True)
    leaf = builder.sign(authority.key, hashes.SHA256()).public_bytes(Encoding.PEM)
    return leaf + b"".join(each.public_bytes(Encoding.PEM) for each in authority.chain)

"""IstioCertificateService over real gRPC and TLS."""

import asyncio
import logging
import random
import socket
import ssl
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fakes.certificates import issued_authority, root_authority, signing_request
from fakes.mesh_control_plane import NAME, ControlPlane
from mutua.ca.caller import TokenReviewUser
from mutua.errors import InvalidInputError, MutuaError, UnavailableError
from mutua.protos import istio_ca_pb2 as protos
from mutua.spiffe import SpiffeId
from mutua.system import clock, keys
from mutua.system.ca_client import METHOD, CaClient, CaClientSettings, WorkloadCertificate

IDENTITY = SpiffeId("cluster.local", "shop", "web")
KEY = keys.generate()


async def call(
    control_plane: ControlPlane,
    *,
    token: str | None = None,
    certificate: WorkloadCertificate | None = None,
    request: protos.IstioCertificateRequest | None = None,
    metadata: Sequence[tuple[str, str]] = (),
) -> Any:
    """One call as any client could make it: over 15012 with a certificate, over 15013 without."""
    port = control_plane.token_port
    credentials = grpc.ssl_channel_credentials(control_plane.roots)
    if certificate is not None:
        port = control_plane.renewal_port
        credentials = grpc.ssl_channel_credentials(control_plane.roots, certificate.key.reveal(), certificate.chain)
    headers = [*metadata, *([("authorization", f"Bearer {token}")] if token is not None else [])]
    options = (("grpc.ssl_target_name_override", NAME), ("grpc.use_local_subchannel_pool", 1))
    async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options) as channel:
        method = channel.unary_unary(
            METHOD,
            request_serializer=protos.IstioCertificateRequest.SerializeToString,
            response_deserializer=protos.IstioCertificateResponse.FromString,
        )
        message = request or protos.IstioCertificateRequest(csr=signing_request(KEY))
        return await method(message, metadata=tuple(headers), timeout=5)


async def refusal(control_plane: ControlPlane, **arguments: Any) -> tuple[grpc.StatusCode, str]:
    """Code and text of a call that must fail."""
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call(control_plane, **arguments)
    return raised.value.code(), raised.value.details() or ""


def client(control_plane: ControlPlane, folder: Path, token: str = "good", **changes: Any) -> CaClient:  # noqa: S107
    """Our own agent's client."""
    control_plane.write_pod_files(folder, token)
    settings = CaClientSettings(
        identity=IDENTITY,
        token_address=f"127.0.0.1:{control_plane.token_port}",
        renewal_address=f"127.0.0.1:{control_plane.renewal_port}",
        server_name=NAME,
        token_path=folder / "var/run/secrets/tokens/istio-token",
        root_path=folder / "var/run/secrets/istio/root-cert.pem",
        ttl=timedelta(hours=24),
        first_back_off=timedelta(milliseconds=1),
    )
    return CaClient(replace(settings, **changes))


async def test_a_token_gives_a_chain(control_plane: ControlPlane) -> None:
    """The leaf for the token's account, then the root bundle."""
    answer = await call(control_plane, token="good")

    leaf = x509.load_pem_x509_certificate(answer.cert_chain[0].encode())
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(IDENTITY)] == names.get_values_for_type(x509.UniformResourceIdentifier)
    assert KEY.public_key() == leaf.public_key()
    assert control_plane.roots.decode() == answer.cert_chain[-1]


async def test_intermediates_come_between(control_plane: ControlPlane) -> None:
    """Leaf, two intermediates, root bundle: four elements."""
    control_plane.use(issued_authority(2, clock.now()))

    assert len((await call(control_plane, token="good")).cert_chain) == 4


async def test_an_authority_that_signs_slowly(control_plane: ControlPlane) -> None:
    """RSA signatures are made off the event loop, and are as good."""
    authority = issued_authority(1, clock.now(), rsa_key=True)
    control_plane.use(authority)

    assert authority.signs_slowly
    assert len((await call(control_plane, token="good")).cert_chain) == 3


async def test_the_first_of_several_authorization_headers_that_is_a_bearer(control_plane: ControlPlane) -> None:
    """A header with another scheme does not hide the token."""
    basic = [("authorization", "Basic callername")]

    assert (await call(control_plane, token="good", metadata=basic)).cert_chain
    assert (await refusal(control_plane, metadata=basic))[0] == grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize("token", [None, "", "bad", "good ", "Bearer good"])
async def test_without_a_good_token_nobody(control_plane: ControlPlane, token: str | None) -> None:
    """And the answer does not say why."""
    code, text = await refusal(control_plane, token=token)

    assert code == grpc.StatusCode.UNAUTHENTICATED
    assert text.startswith("request authenticate failure (reference ")


async def test_a_token_for_another_audience(control_plane: ControlPlane) -> None:
    """As when a pod's token for the API server is stolen."""
    control_plane.review.allow("api", "shop", "web", audiences=("https://kubernetes.default.svc",))

    assert (await refusal(control_plane, token="api"))[0] == grpc.StatusCode.UNAUTHENTICATED


async def test_a_users_token(control_plane: ControlPlane) -> None:
    """Not a service account's."""
    control_plane.review.allow("user", "shop", "web", user=TokenReviewUser(username="admin"))

    assert (await refusal(control_plane, token="user"))[0] == grpc.StatusCode.UNAUTHENTICATED


async def test_a_caller_from_another_cluster(control_plane: ControlPlane) -> None:
    """Its token is not even looked at."""
    code, _ = await refusal(control_plane, token="good", metadata=[("clusterid", "elsewhere")])

    assert code == grpc.StatusCode.UNAUTHENTICATED
    assert control_plane.review.calls == 0


async def test_an_api_server_that_does_not_answer(control_plane: ControlPlane) -> None:
    """Is not the caller's fault: the code is one that agents retry."""
    control_plane.review.failure = OSError("connection refused")

    code, text = await refusal(control_plane, token="good")

    assert code == grpc.StatusCode.UNAVAILABLE
    assert "refused" not in text


async def test_an_authority_that_is_not_ready(control_plane: ControlPlane) -> None:
    """Neither."""
    roots = control_plane.authority
    control_plane.authority = None
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        credentials = grpc.ssl_channel_credentials(roots.root_bundle.encode() if roots else None)
        options = (("grpc.ssl_target_name_override", NAME),)
        async with grpc.aio.secure_channel(f"127.0.0.1:{control_plane.token_port}", credentials, options) as channel:
            method = channel.unary_unary(METHOD, protos.IstioCertificateRequest.SerializeToString)
            message = protos.IstioCertificateRequest(csr=signing_request(KEY))
            await method(message, metadata=(("authorization", "Bearer good"),), timeout=5)

    assert raised.value.code() == grpc.StatusCode.INTERNAL


@pytest.mark.parametrize(
    "request_message",
    [
        protos.IstioCertificateRequest(),
        protos.IstioCertificateRequest(csr="x" * 65536),
        protos.IstioCertificateRequest(csr=signing_request(KEY, ["spiffe://cluster.local/ns/kube-system/sa/admin"])),
        protos.IstioCertificateRequest(csr=signing_request(KEY), validity_duration=2**62),
    ],
    ids=["no CSR", "64 KB", "another identity", "a lifetime without end"],
)
async def test_requests_that_are_refused(
    control_plane: ControlPlane, request_message: protos.IstioCertificateRequest
) -> None:
    """With the code that tells the agent not to try again."""
    code, _ = await refusal(control_plane, token="good", request=request_message)

    assert code == grpc.StatusCode.INVALID_ARGUMENT


async def test_nobody_may_ask_for_another(control_plane: ControlPlane) -> None:
    """The field that Istio's node proxies use."""
    message = protos.IstioCertificateRequest(csr=signing_request(KEY))
    message.metadata["ImpersonatedIdentity"] = "spiffe://cluster.local/ns/a/sa/b"

    assert (await refusal(control_plane, token="good", request=message))[0] == grpc.StatusCode.UNAUTHENTICATED


async def test_a_connection_without_tls_is_nobody(control_plane: ControlPlane) -> None:
    """Loopback is no credential, and a token is not read from plaintext."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{control_plane.plain_port}") as channel:
        method = channel.unary_unary(METHOD, protos.IstioCertificateRequest.SerializeToString)
        message = protos.IstioCertificateRequest(csr=signing_request(KEY))
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await method(message, metadata=(("authorization", "Bearer good"),), timeout=5)

    assert raised.value.code() == grpc.StatusCode.UNAUTHENTICATED
    assert control_plane.review.calls == 0


async def test_the_renewal_port_refuses_clients_without_a_certificate(control_plane: ControlPlane) -> None:
    """In the handshake, whatever token they bring."""
    options = (("grpc.ssl_target_name_override", NAME),)
    credentials = grpc.ssl_channel_credentials(control_plane.roots)
    async with grpc.aio.secure_channel(f"127.0.0.1:{control_plane.renewal_port}", credentials, options) as channel:
        method = channel.unary_unary(METHOD, protos.IstioCertificateRequest.SerializeToString)
        message = protos.IstioCertificateRequest(csr=signing_request(KEY))
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await method(message, metadata=(("authorization", "Bearer good"),), timeout=5)

    assert raised.value.code() == grpc.StatusCode.UNAVAILABLE
    assert control_plane.review.calls == 0


async def test_our_client_renews_with_its_certificate(control_plane: ControlPlane, tmp_path: Path) -> None:
    """First by token, then by certificate, with another key and serial each time."""
    agent = client(control_plane, tmp_path)

    first = await agent.certificate()
    second = await agent.certificate(first)
    third = await agent.certificate(second)

    assert control_plane.review.calls == 1
    assert len({certificate.key.reveal() for certificate in (first, second, third)}) == 3
    assert len({certificate.serial for certificate in (first, second, third)}) == 3


async def test_a_thousand_rotations_are_a_thousand_keys(control_plane: ControlPlane, tmp_path: Path) -> None:
    """No key is ever certified twice."""
    agent = client(control_plane, tmp_path)
    gate = asyncio.Semaphore(50)

    async def rotated() -> bytes:
        async with gate:
            leaf = x509.load_pem_x509_certificate((await agent.certificate()).chain)
            return leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    assert len(set(await asyncio.gather(*(rotated() for _ in range(1000))))) == 1000


async def test_an_expired_certificate_falls_back_to_the_token(control_plane: ControlPlane, tmp_path: Path) -> None:
    """As after a long suspension."""
    agent = client(control_plane, tmp_path)
    first = await agent.certificate()

    await agent.certificate(replace(first, expires=clock.now()))

    assert control_plane.review.calls == 2


async def test_a_certificate_of_another_mesh_is_nobody(control_plane: ControlPlane, tmp_path: Path) -> None:
    """The handshake fails against our roots."""
    other = ControlPlane()
    other.review.allow("good", "shop", "web")
    await other.start()
    try:
        foreign = await client(other, tmp_path).certificate()
    finally:
        await other.stop()

    code, _ = await refusal(control_plane, certificate=foreign)

    assert code == grpc.StatusCode.UNAVAILABLE


async def test_roots_and_server_certificate_are_swapped_while_serving(
    control_plane: ControlPlane, tmp_path: Path
) -> None:
    """The next handshake sees the new authority, and clients of the old one are not believed any more."""
    old = await client(control_plane, tmp_path).certificate()
    control_plane.use(root_authority(clock.now()))

    assert (await client(control_plane, tmp_path).certificate()).roots == control_plane.roots
    assert (await refusal(control_plane, certificate=old))[0] == grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_no_session_outlives_the_roots_that_it_was_verified_with(
    control_plane: ControlPlane, tmp_path: Path, version: ssl.TLSVersion
) -> None:
    """A resumed session shows no certificate, so it must not be taken once the roots are others (CVE-2022-21654)."""
    held = await client(control_plane, tmp_path).certificate()
    (tmp_path / "both.pem").write_bytes(held.key.reveal() + held.chain)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    context.minimum_version = context.maximum_version = version
    context.load_cert_chain(tmp_path / "both.pem")

    def greeted(session: ssl.SSLSession | None) -> tuple[ssl.SSLSession | None, bool]:
        """The session after the server's first frame, and whether it was resumed; raises if the server refuses us."""
        plain = socket.create_connection(("127.0.0.1", control_plane.renewal_port), 5)
        with context.wrap_socket(plain, session=session) as connection:
            if not connection.recv(100):
                raise ConnectionError("closed without a word")
            return connection.session, bool(connection.session_reused)

    session, _ = await asyncio.to_thread(greeted, None)
    session, resumed = await asyncio.to_thread(greeted, session)
    assert resumed  # as long as the roots are the same
    control_plane.use(root_authority(clock.now()))

    with pytest.raises((ssl.SSLError, ConnectionError)):
        await asyncio.to_thread(greeted, session)


async def test_our_client_refuses_an_unknown_server(control_plane: ControlPlane, tmp_path: Path) -> None:
    """The token is never sent to a server that the mounted root does not verify."""
    agent = client(control_plane, tmp_path)
    (tmp_path / "var/run/secrets/istio/root-cert.pem").write_text(root_authority(clock.now()).root_bundle)

    with pytest.raises(UnavailableError):
        await agent.certificate()
    assert control_plane.review.calls == 0


async def test_our_client_refuses_another_server_name(control_plane: ControlPlane, tmp_path: Path) -> None:
    """A workload of the mesh cannot play the control plane."""
    with pytest.raises(UnavailableError):
        await client(control_plane, tmp_path, server_name="other.istio-system.svc").certificate()
    assert control_plane.review.calls == 0


async def test_our_client_gives_up_at_once_when_it_is_refused(control_plane: ControlPlane, tmp_path: Path) -> None:
    """A bad token is not sent six times; the error says what to look at."""
    with pytest.raises(InvalidInputError, match="UNAUTHENTICATED") as raised:
        await client(control_plane, tmp_path, token="bad").certificate()
    assert control_plane.review.calls == 1
    assert "istio-ca" in raised.value.hint


async def test_our_client_tries_again_when_nobody_answers(control_plane: ControlPlane, tmp_path: Path) -> None:
    """Six calls, then the caller's own back-off begins."""
    control_plane.review.failure = OSError("down")

    with pytest.raises(UnavailableError, match="token review unavailable"):
        await client(control_plane, tmp_path).certificate()
    assert control_plane.review.calls == 6


async def test_no_log_line_holds_a_secret(
    control_plane: ControlPlane, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Tokens and keys stay out of audit records and refusals, on both sides."""
    caplog.set_level(logging.DEBUG)
    control_plane.review.allow("eyJhbGciOi.eyJpc3MiOi.c2lnbmF0dXJl", "shop", "web")
    agent = client(control_plane, tmp_path, token="eyJhbGciOi.eyJpc3MiOi.c2lnbmF0dXJl")
    certificate = await agent.certificate()
    await agent.certificate(certificate)
    with pytest.raises(MutuaError):
        await client(control_plane, tmp_path, token="wrong-token-4711").certificate()

    lines = [str(vars(record)) for record in caplog.records if record.name.startswith("mutua")]
    assert any("certificate issued" in line and f"{certificate.serial:x}" in line for line in lines)
    assert any("certificate refused" in line for line in lines)
    assert not [line for line in lines if "eyJ" in line or "4711" in line or "PRIVATE KEY" in line]


async def test_a_certificate_that_expired_on_an_open_connection(tmp_path: Path) -> None:
    """TLS looked at its dates when the connection began; the service looks again."""
    times = [clock.now()]
    running = ControlPlane(now=lambda: times[-1])
    running.review.allow("good", "shop", "web")
    await running.start()
    try:
        certificate = await client(running, tmp_path).certificate()
        assert (await call(running, certificate=certificate)).cert_chain
        times.append(certificate.expires)
        assert (await refusal(running, certificate=certificate))[0] == grpc.StatusCode.UNAUTHENTICATED
    finally:
        await running.stop()


async def test_garbage_on_every_port_harms_nobody(control_plane: ControlPlane) -> None:
    """Random bytes, half a TLS record, half an HTTP/2 preface: the next caller is served as ever."""
    generator = random.Random(4711)  # noqa: S311 - the same bytes each time
    beginnings = [
        b"",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
    ]
    for _ in range(25):
        for port in (control_plane.renewal_port, control_plane.token_port, control_plane.plain_port):
            for beginning in beginnings:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(beginning + generator.randbytes(generator.randrange(2000)))
                writer.transport.abort()

    assert (await call(control_plane, token="good")).cert_chain


async def test_strangers_cannot_fill_the_log(control_plane: ControlPlane, caplog: pytest.LogCaptureFixture) -> None:
    """A thousand bad tokens are a few lines; whoever is proven and refused is always told about."""
    caplog.set_level(logging.INFO)
    await asyncio.gather(*(refusal(control_plane, token="bad") for _ in range(100)))
    foreign = protos.IstioCertificateRequest(csr=signing_request(KEY, ["spiffe://cluster.local/ns/shop/sa/admin"]))
    await refusal(control_plane, token="good", request=foreign)

    fields = [vars(record)["fields"] for record in caplog.records if record.getMessage() == "certificate refused"]
    unknown = [each for each in fields if each["identity"] == "unknown"]
    assert 10 <= len(unknown) < 100
    assert str(fields[-1]["identity"]) == str(IDENTITY)

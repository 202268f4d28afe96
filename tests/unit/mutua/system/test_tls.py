"""An authority without key usage and key identifiers is believed, as kubectl and Envoy believe it; others are not."""

import ssl
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from localcluster.apiserver.admission import endpoint
from mutua.system import tls

NAME = "istiod.istio-system.svc"


def bare_authority() -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """What `openssl req -x509` made for years: a certificate that may sign, and says nothing else."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name.from_rfc4514_string("CN=bare")
    return signed(name, key, name, key, x509.BasicConstraints(ca=True, path_length=None)), key


def signed(
    subject: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Name,
    issuer_key: ec.EllipticCurvePrivateKey,
    *extensions: x509.ExtensionType,
) -> x509.Certificate:
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(minutes=1)).not_valid_after(now + timedelta(hours=1))
    for extension in extensions:
        builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
    return builder.sign(issuer_key, hashes.SHA256())


def shake_hands(client: ssl.SSLContext, server: ssl.SSLContext) -> None:
    """A handshake in memory. Raises ssl.SSLError."""
    inbox, outbox = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(inbox, outbox, server_hostname=NAME)
    theirs = server.wrap_bio(outbox, inbox, server_side=True)
    for _ in range(4):
        for side in (ours, theirs):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue


@pytest.fixture
def authority(tmp_path: Path) -> tuple[str, ssl.SSLContext]:
    """The authority as PEM, and a server that it certified."""
    root, root_key = bare_authority()
    key = ec.generate_private_key(ec.SECP256R1())
    leaf = signed(
        x509.Name.from_rfc4514_string("CN=leaf"),
        key,
        root.subject,
        root_key,
        x509.SubjectAlternativeName([x509.DNSName(NAME)]),
    )
    (tmp_path / "leaf.pem").write_bytes(
        leaf.public_bytes(Encoding.PEM) + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "leaf.pem")
    return root.public_bytes(Encoding.PEM).decode(), server


def strict(roots: str) -> ssl.SSLContext:
    """What Python 3.13 and newer give by default."""
    context = ssl.create_default_context(cadata=roots)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    return context


def test_an_authority_of_the_old_form_is_believed(authority: tuple[str, ssl.SSLContext]) -> None:
    roots, server = authority
    with pytest.raises(ssl.SSLCertVerificationError, match=r"key usage|[Kk]ey [Ii]dentifier"):
        shake_hands(strict(roots), server)
    shake_hands(tls.as_kubernetes(strict(roots)), server)
    shake_hands(tls.believing(roots), server)


def test_the_local_cluster_believes_it_of_a_webhook(
    authority: tuple[str, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    roots, server = authority
    as_in_newer_python = strict(roots)
    monkeypatch.setattr(endpoint.ssl, "create_default_context", lambda cadata: as_in_newer_python)
    endpoint.trust.cache_clear()
    shake_hands(endpoint.trust(b64encode(roots.encode()).decode()), server)


def test_another_authority_is_not(authority: tuple[str, ssl.SSLContext]) -> None:
    _, server = authority
    other, _ = bare_authority()
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(tls.believing(other.public_bytes(Encoding.PEM).decode()), server)

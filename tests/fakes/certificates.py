"""Keys, requests and authorities for tests; every certificate is real."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from mutua.ca import authority, creation, self_signed
from mutua.ca.authority import Authority
from mutua.ca.bundle import pem
from mutua.ca.template import key_usage
from mutua.system import keys

NOW = datetime(2024, 1, 1, tzinfo=UTC)
VECTORS = Path(__file__).parents[3] / "shared" / "vectors" / "certs.jsonl"

SigningKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


def vectors(*kinds: str) -> list[Any]:
    """All rows of these kinds as pytest parameters, or one skipped parameter where the vectors are absent."""
    if not VECTORS.exists():
        return [pytest.param({}, marks=pytest.mark.skip(reason="conformance vectors not present"), id="absent")]
    rows = [json.loads(line) for line in VECTORS.read_text().splitlines()]
    return [pytest.param(row, id=row["id"]) for row in rows if row["kind"] in kinds]


def signing_request(
    key: SigningKey,
    names: Sequence[str] = (),
    *,
    common_name: str = "",
    organization: str = "",
    extensions: Sequence[x509.ExtensionType] = (),
    general_names: Sequence[x509.GeneralName] = (),
) -> str:
    """A CSR in PEM that asks for whatever a test wants to forge."""
    attributes = []
    if common_name:
        attributes.append(x509.NameAttribute(NameOID.COMMON_NAME, common_name))
    if organization:
        attributes.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(attributes))
    wanted = [
        *(x509.UniformResourceIdentifier(name) if "://" in name else x509.DNSName(name) for name in names),
        *general_names,
    ]
    if wanted:
        builder = builder.add_extension(x509.SubjectAlternativeName(wanted), critical=False)
    for extension in extensions:
        builder = builder.add_extension(extension, critical=True)
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(key, algorithm).public_bytes(Encoding.PEM).decode()


def root_authority(now: datetime = NOW, ttl: timedelta = timedelta(days=3650)) -> Authority:
    """A self-signed ECDSA root."""
    return self_signed.authority(keys.generate(), "cluster.local", now, x509.random_serial_number(), ttl)


def issued_authority(depth: int, now: datetime = NOW, *, rsa_key: bool = False) -> Authority:
    """An authority `depth` certificates below a root, loaded from PEM as a plugged-in one is."""
    root_key = keys.generate()
    root = _authority_certificate("root", root_key, None, None, now)
    chain, issuer, issuer_key = [], root, root_key
    key = root_key
    for level in range(depth):
        key = keys.generate(keys.KeyAlgorithm.RSA_2048) if rsa_key and level == depth - 1 else keys.generate()
        issuer = _authority_certificate(f"intermediate {level}", key, issuer, issuer_key, now)
        issuer_key = key
        chain.insert(0, issuer)
    return authority.load(
        pem([chain[0] if chain else root]).encode(),
        keys.to_pem(key),
        pem([root]).encode(),
        pem([*chain, root]).encode(),
        now,
    )


def revoking_authority(now: datetime = NOW) -> Authority:
    """A root that may sign revocation lists."""
    level = creation.Level("root", keys.generate(), timedelta(days=3650), x509.random_serial_number())
    (root,) = creation.chain((level,), "acme", now)
    return Authority(certificate=root, chain=(), roots=(root,), key=level.key)


def revoked(issuer: Authority, *serials: int, now: datetime | None = None) -> bytes:
    """A revocation list (PEM) of an authority that names these serial numbers."""
    moment = now or datetime.now(UTC)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(moment - timedelta(minutes=1))
        .next_update(moment + timedelta(days=1))
    )
    for serial in serials:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(moment).build()
        builder = builder.add_revoked_certificate(entry)
    return builder.sign(issuer.key, hashes.SHA256()).public_bytes(Encoding.PEM)


def _authority_certificate(
    name: str,
    key: keys.PrivateKey,
    issuer: x509.Certificate | None,
    issuer_key: keys.PrivateKey | None,
    now: datetime,
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, name)])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=3650))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(key_usage(signs=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key((issuer_key or key).public_key()), critical=False
        )
        .sign(issuer_key or key, hashes.SHA256())
    )

"""Secrets that DestinationRules name: both kinds are read, and what cannot be used is said without showing it."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from mutua.api import credential
from mutua.errors import InvalidInputError
from mutua.secret import Secret

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "somebody")])
KEY, OTHER = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())


def pem(key: ec.EllipticCurvePrivateKey, password: bytes = b"") -> Secret:
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return Secret(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption))


def certificate() -> Secret:
    builder = x509.CertificateBuilder().subject_name(NAME).issuer_name(NAME).public_key(KEY.public_key())
    builder = builder.serial_number(7).not_valid_before(NOW).not_valid_after(NOW + timedelta(days=1))
    return Secret(builder.sign(KEY, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))


def revocations() -> Secret:
    builder = x509.CertificateRevocationListBuilder().issuer_name(NAME).last_update(NOW)
    made = builder.next_update(NOW + timedelta(days=1)).sign(KEY, hashes.SHA256())
    return Secret(made.public_bytes(serialization.Encoding.PEM))


CERTIFICATE, REVOKED, JUNK = certificate(), revocations(), Secret(b"-----BEGIN PRIVATE KEY-----\nsecret\n")


@pytest.mark.parametrize(
    ("chain", "key", "roots", "lists"), [("cert", "key", "cacert", "crl"), ("tls.crt", "tls.key", "ca.crt", "ca.crl")]
)
def test_both_kinds_of_secrets(chain: str, key: str, roots: str, lists: str) -> None:
    data = {chain: CERTIFICATE, key: pem(KEY), roots: CERTIFICATE, lists: REVOKED}
    pair = credential.key_pair(data)
    assert (pair.chain, pair.key) == (CERTIFICATE.reveal(), pem(KEY))
    found = credential.authorities(data)
    assert (found.roots, found.revoked) == (CERTIFICATE.reveal(), REVOKED.reveal())
    assert "PRIVATE" not in repr(pair)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ({}, "it has no entries cert and key or tls.crt and tls.key"),
        ({"tls.crt": CERTIFICATE}, "it has no entries"),
        ({"tls.crt": JUNK, "tls.key": pem(KEY)}, "entry tls.crt holds no certificate in PEM"),
        ({"cert": CERTIFICATE, "key": JUNK}, "entry key is no private key in PEM without a password"),
        ({"cert": CERTIFICATE, "key": pem(KEY, b"password")}, "entry key is no private key"),
        ({"cert": CERTIFICATE, "key": pem(OTHER)}, "entry key is not the key of the certificate in cert"),
    ],
)
def test_key_pairs_that_cannot_be_used(data: dict[str, Secret], problem: str) -> None:
    with pytest.raises(InvalidInputError, match=problem) as raised:
        credential.key_pair(data)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ({"tls.crt": CERTIFICATE}, "it has no entry cacert or ca.crt"),
        ({"ca.crt": JUNK}, "entry ca.crt holds no certificate in PEM"),
        ({"ca.crt": CERTIFICATE, "ca.crl": JUNK}, "entry ca.crl holds no certificate revocation list in PEM"),
    ],
)
def test_authorities_that_cannot_be_used(data: dict[str, Secret], problem: str) -> None:
    with pytest.raises(InvalidInputError, match=problem):
        credential.authorities(data)


@pytest.mark.parametrize("text", ["a", "api-credential", "a.b-cacert", "x" * 253])
def test_names(text: str) -> None:
    assert credential.is_name(text)


@pytest.mark.parametrize("text", ["", "other/name", "../name", "A", "a b", "-a", "a\n", "x" * 254])
def test_what_is_no_name(text: str) -> None:
    assert not credential.is_name(text)

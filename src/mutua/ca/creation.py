"""A new plugged-in authority: a root, and below it the intermediate that the mesh signs with."""

from datetime import datetime, timedelta
from typing import NamedTuple

from cryptography import x509
from cryptography.x509.oid import NameOID

from mutua.ca.authority import PrivateKey, signature_hash
from mutua.ca.bundle import pem

ROOT_TTL = timedelta(days=3650)
INTERMEDIATE_TTL = timedelta(days=730)

# Certificates and revocation lists: without the latter, no list of this authority is believed (RFC 5280, 4.2.1.3).
_SIGNS = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


class Level(NamedTuple):
    """One certificate of the chain to be, and the key that it is for."""

    name: str  # common name
    key: PrivateKey
    ttl: timedelta
    serial: int


class Root(NamedTuple):
    """A root that there is already."""

    certificate: x509.Certificate
    key: PrivateKey


def chain(
    levels: tuple[Level, ...], organization: str, now: datetime, root: Root | None = None
) -> tuple[x509.Certificate, ...]:
    """The root first, then each intermediate, signed by the one before it; the last one may sign leaves only.

    No certificate outlives the one above it. `levels` holds at least one; below a `root`, they are intermediates.
    """
    made = [root.certificate] if root else []
    key = root.key if root else levels[0].key
    for index, level in enumerate(levels):
        made.append(
            _certificate(level, organization, now, made[-1] if made else None, key, below=len(levels) - 1 - index)
        )
        key = level.key
    return tuple(made)


def files(made: tuple[x509.Certificate, ...]) -> dict[str, bytes]:
    """The three certificates' files of a `cacerts` secret: the signer, its chain up to the root, the root."""
    root, signer = made[0], made[-1]
    return {
        "ca-cert.pem": pem([signer]).encode(),
        "cert-chain.pem": pem(reversed(made)).encode(),
        "root-cert.pem": pem([root]).encode(),
    }


def _certificate(
    level: Level,
    organization: str,
    now: datetime,
    issuer: x509.Certificate | None,
    issuer_key: PrivateKey,
    *,
    below: int,
) -> x509.Certificate:
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization[:64]),
            x509.NameAttribute(NameOID.COMMON_NAME, level.name),
        ]
    )
    start = now.replace(microsecond=0)
    end = start + level.ttl if issuer is None else min(start + level.ttl, issuer.not_valid_after_utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer.subject if issuer else name)
        .public_key(level.key.public_key())
        .serial_number(level.serial)
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(_SIGNS, critical=True)
        .add_extension(x509.BasicConstraints(ca=True, path_length=below), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(level.key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    return builder.sign(issuer_key, signature_hash(issuer_key))

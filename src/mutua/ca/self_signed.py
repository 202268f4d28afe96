"""The mesh's own root, where nobody plugged in an authority."""

from datetime import datetime, timedelta

from cryptography import x509
from cryptography.x509.oid import NameOID

from mutua.ca.authority import Authority, PrivateKey, signature_hash
from mutua.ca.template import key_usage

ROOT_TTL = timedelta(days=3650)
"""Source: Istio's CITADEL_SELF_SIGNED_CA_CERT_TTL."""

ORGANIZATION_MAX = 64  # RFC 5280, ub-organization-name; a trust domain may be longer


def authority(key: PrivateKey, organization: str, now: datetime, serial: int, ttl: timedelta = ROOT_TTL) -> Authority:
    """A root that signs for `ttl` from now; `organization` is the trust domain.

    Called again with the same key and organization it renews: leaves of the old root verify with the new one. May sign
    leaves only (path length 0). Not back-dated. Source: Istio's createSelfSignedCACertificateOptions.
    """
    name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization[:ORGANIZATION_MAX])])
    start = now.replace(microsecond=0)
    root = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(start)
        .not_valid_after(start + ttl)
        .add_extension(key_usage(signs=True), critical=True)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, signature_hash(key))
    )
    return Authority(certificate=root, chain=(), roots=(root,), key=key)

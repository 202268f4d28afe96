"""The signer: a certificate that may sign, its key, and the way from it to the roots."""

import hashlib
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from mutua.ca import template as templates
from mutua.ca.bundle import certificates, digest, pem
from mutua.ca.errors import AuthorityError
from mutua.secret import Secret

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True, slots=True)
class Authority:
    """All that signing needs; made by `load`, which has checked that the parts fit."""

    certificate: x509.Certificate
    chain: tuple[x509.Certificate, ...]  # from the signer up to just below the root; () for a self-signed root
    roots: tuple[x509.Certificate, ...]
    key: PrivateKey = field(repr=False)
    # What every leaf has in common, made once: a fleet that starts at once asks for thousands.
    chain_pem: tuple[str, ...] = field(init=False, repr=False, compare=False)
    root_bundle: str = field(init=False, repr=False, compare=False)  # the roots as PEM, as every peer must hold them
    _begun: dict[templates.Usage, x509.CertificateBuilder] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Prepare what follows from the parts."""
        begun = {usage: _begin(self.certificate, usage) for usage in templates.Usage}
        object.__setattr__(self, "chain_pem", tuple(pem((each,)) for each in self.chain))
        object.__setattr__(self, "root_bundle", pem(self.roots))
        object.__setattr__(self, "_begun", begun)

    @property
    def issuer_id(self) -> str:
        """By which a chain is recognised as this authority's: `issuer_id(leaf, intermediates)` of what it signs."""
        return _issuer_id(_authority_key_identifier(self.certificate).key_identifier or b"", self.chain)

    @property
    def id(self) -> str:
        """The issuer id and, after the last dash, which roots belong to it: another id means a rollover."""
        return f"{self.issuer_id}-{digest(self.roots)[:16]}"

    @property
    def signs_slowly(self) -> bool:
        """RSA signing takes milliseconds, so it does not belong on an event loop; ECDSA takes microseconds."""
        return isinstance(self.key, rsa.RSAPrivateKey)

    def sign(self, template: templates.Template) -> x509.Certificate:
        """The certificate that the template describes. It must still be checked before it leaves."""
        builder = (
            self._begun[template.usage]
            .subject_name(templates.subject(template))
            .public_key(template.public_key)
            .serial_number(template.serial)
            .not_valid_before(template.not_before)
            .not_valid_after(template.not_after)
            .add_extension(templates.alternative_names(template), critical=True)
        )
        return builder.sign(self.key, signature_hash(self.key))


def _begin(issuer: x509.Certificate, usage: templates.Usage) -> x509.CertificateBuilder:
    """The part of a leaf that its template does not change. Builders are values: each step gives another one."""
    return (
        x509.CertificateBuilder()
        .issuer_name(issuer.subject)
        .add_extension(templates.LEAF_KEY_USAGE, critical=True)
        .add_extension(templates.EXTENDED_KEY_USAGE[usage], critical=False)
        .add_extension(templates.NO_AUTHORITY, critical=True)
        .add_extension(_authority_key_identifier(issuer), critical=False)
    )


def load(certificate_pem: bytes, key_pem: Secret, roots_pem: bytes, chain_pem: bytes, now: datetime) -> Authority:
    """Read the parts of a signing bundle and check that they fit together.

    Raises AuthorityError: something cannot be read, the key is another certificate's, the certificate may not sign
    or has expired, or no path leads from it over the chain to a root. Source: Istio's keycertbundle.go.
    """
    try:
        certificate = certificates(certificate_pem)[0]
        chain = certificates(chain_pem) if chain_pem.strip() else ()
        roots = certificates(roots_pem)
        key = load_pem_private_key(key_pem.reveal(), password=None)
    except (ValueError, TypeError, IndexError, UnsupportedAlgorithm) as error:
        # The library's messages about keys hold no key material; the PEM itself is never repeated.
        raise AuthorityError(f"the signing bundle cannot be read: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise AuthorityError(f"the signing key is a {type(key).__name__}; use ECDSA or RSA")
    if key.public_key() != certificate.public_key():
        raise AuthorityError("the cert does not match the key: the public keys differ")
    _may_sign(certificate)
    if now >= certificate.not_valid_after_utc:
        raise AuthorityError(f"signing certificate has expired at {certificate.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}")
    path = _path(certificate, chain, roots)
    return Authority(certificate=certificate, chain=path, roots=roots, key=key)


def issuer_id(leaf: x509.Certificate, intermediates: Iterable[x509.Certificate]) -> str:
    """Who issued a presented chain: the signer's key and the way to the root, without the root; "" if it does not say.

    A root renewed with its key stays the same issuer, since what it signed before verifies with it.
    """
    try:
        identifier = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    except (x509.ExtensionNotFound, ValueError):
        return ""
    return _issuer_id(identifier or b"", intermediates)


def _issuer_id(key_identifier: bytes, intermediates: Iterable[x509.Certificate]) -> str:
    way = hashlib.sha256(b"".join(hashlib.sha256(der(each)).digest() for each in intermediates)).hexdigest()[:16]
    return f"{key_identifier.hex()}-{way}"


def signature_hash(key: PrivateKey) -> hashes.SHA256 | hashes.SHA384:
    """SHA-384 for P-384, SHA-256 for everything else: what Go, and so Istio, picks for the same key."""
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.key_size > 256:
        return hashes.SHA384()
    return hashes.SHA256()


def _may_sign(certificate: x509.Certificate) -> None:
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        constraints = None
    try:
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    except x509.ExtensionNotFound:
        usage = True  # RFC 5280 4.2.1.3: without the extension nothing is forbidden
    if constraints is None or not constraints.ca or not usage:
        raise AuthorityError("certificate is not authorized to sign other certificates")


def _path(
    certificate: x509.Certificate, chain: tuple[x509.Certificate, ...], roots: tuple[x509.Certificate, ...]
) -> tuple[x509.Certificate, ...]:
    """The intermediates to send with each leaf: the signer first, up to just below a root.

    A root among the candidates ends the path even where the chain file repeats it, so a self-signed signer gives ().
    """
    path: list[x509.Certificate] = []
    current = certificate
    while current not in roots:
        path.append(current)
        if any(issued(root, current) for root in roots):
            return tuple(path)
        issuers = [candidate for candidate in chain if candidate not in path and issued(candidate, current)]
        if not issuers:
            raise AuthorityError(f"no chain to a root from the certificate with serial {current.serial_number:x}")
        current = issuers[0]
    return tuple(path)


def issued(issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
    """Whether the issuer's name stands in the certificate and its key has signed it."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def leads_to(roots: Iterable[x509.Certificate], chain: Sequence[x509.Certificate]) -> bool:
    """Whether each certificate of a chain, the leaf first, is issued by the next, and the last by a root."""
    return all(issued(above, below) for below, above in itertools.pairwise(chain)) and any(
        issued(root, chain[-1]) for root in roots
    )


def _authority_key_identifier(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    try:
        identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key())  # type: ignore[arg-type]
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)


def der(certificate: x509.Certificate) -> bytes:
    """The bytes that were signed, as they travel."""
    return certificate.public_bytes(Encoding.DER)

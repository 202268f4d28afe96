"""A certificate signing request: only its public key, and the fact that the sender holds the private one, are used."""

from typing import TypeAlias

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from mutua.ca.errors import CsrError

MAX_BYTES = 16 * 1024
"""A request with an RSA-8192 key and a long name is under 4 KiB; more is an attack or a mistake."""

RSA_MIN_BITS = 2048
RSA_MAX_BITS = 8192
"""Verifying grows with the square of the size; nobody needs more."""

CURVES = ("secp256r1", "secp384r1")
SIGNATURE_HASHES = ("sha256", "sha384", "sha512")

PublicKey: TypeAlias = ec.EllipticCurvePublicKey | rsa.RSAPublicKey


class SigningRequest(msgspec.Struct, frozen=True):
    """What a request proves and asks for."""

    public_key: PublicKey
    names: tuple[str, ...]  # subjectAltName as text, in order; only compared with the caller's, never copied
    has_common_name: bool


def parse(pem: str) -> SigningRequest:
    """Read one PEM request and check its own signature.

    Raises CsrError: too big, not exactly one PEM request, bad ASN.1, an unknown kind of name, a wrong signature,
    or a key other than ECDSA P-256 or P-384 or RSA of 2048 to 8192 bits.
    """
    if len(pem) > MAX_BYTES:
        raise CsrError(f"the CSR has {len(pem)} bytes; at most {MAX_BYTES} are read")
    text = pem.strip()
    if text.count("-----BEGIN ") != 1 or not text.startswith("-----BEGIN ") or not text.isascii():
        raise CsrError("the CSR is not exactly one PEM block")
    try:
        request = x509.load_pem_x509_csr(text.encode("ascii"))
        names = _alternative_names(request)
        has_common_name = bool(request.subject.get_attributes_for_oid(NameOID.COMMON_NAME))
        key = _allowed_key(request)
        _check_signature(request)
    # The library reports malformed ASN.1 in many ways; whatever it cannot read, we do not sign.
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.DuplicateExtension, x509.InvalidVersion) as error:
        raise CsrError(f"the CSR cannot be read: {error}") from error
    return SigningRequest(public_key=key, names=names, has_common_name=has_common_name)


def _allowed_key(request: x509.CertificateSigningRequest) -> PublicKey:
    key = request.public_key()
    match key:
        case ec.EllipticCurvePublicKey() if key.curve.name in CURVES:
            return key
        case ec.EllipticCurvePublicKey():
            raise CsrError(f"the key's curve is {key.curve.name}; use ECDSA P-256 or P-384")
        case rsa.RSAPublicKey() if RSA_MIN_BITS <= key.key_size <= RSA_MAX_BITS:
            return key
        case rsa.RSAPublicKey():
            raise CsrError(f"the RSA key has {key.key_size} bits; use {RSA_MIN_BITS} to {RSA_MAX_BITS}")
        case _:
            raise CsrError(f"keys of type {type(key).__name__} are not signed; use ECDSA P-256 or RSA-2048")


def _check_signature(request: x509.CertificateSigningRequest) -> None:
    hash_algorithm = request.signature_hash_algorithm
    if hash_algorithm is None or hash_algorithm.name not in SIGNATURE_HASHES:
        name = "none" if hash_algorithm is None else hash_algorithm.name
        raise CsrError(f"the CSR is signed with hash {name}; use SHA-256, SHA-384 or SHA-512")
    if not request.is_signature_valid:
        raise CsrError("the CSR's signature does not fit its key: the sender does not hold the private key")


def _alternative_names(request: x509.CertificateSigningRequest) -> tuple[str, ...]:
    try:
        extension = request.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return ()
    return tuple(_as_text(name) for name in extension.value)


def _as_text(name: x509.GeneralName) -> str:
    match name:
        case x509.UniformResourceIdentifier() | x509.DNSName() | x509.RFC822Name():
            return name.value
        case x509.IPAddress():
            return str(name.value)
        case _:
            raise CsrError(f"the CSR asks for a name of type {type(name).__name__}")

"""Sets of root certificates: read, merge, compare; and which files of a plugged-in authority are there."""

import hashlib
from collections.abc import Collection, Iterable
from enum import Enum

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

MAX_BYTES = 1024 * 1024
"""A ConfigMap holds at most 1 MiB, so no bundle is longer."""

PLUGGED_IN_FILES = ("ca-cert.pem", "ca-key.pem", "cert-chain.pem", "root-cert.pem")
TLS_SECRET_FILES = ("tls.crt", "tls.key", "ca.crt")


class BundleFormat(Enum):
    """Which names the files of a plugged-in authority have. Source: Istio's detectSigningCABundle."""

    NONE = "none"  # no authority plugged in: self-signed
    ISTIO = "istio"
    TLS_SECRET = "tls-secret"  # noqa: S105 - a format's name
    INCOMPLETE = "incomplete"


def detect_format(files: Collection[str]) -> BundleFormat:
    """What the file names in a `cacerts` folder amount to; a `tls.crt` wins over Istio's own names."""
    if "tls.crt" in files:
        return BundleFormat.TLS_SECRET if all(name in files for name in TLS_SECRET_FILES) else BundleFormat.INCOMPLETE
    present = [name in files for name in PLUGGED_IN_FILES]
    if all(present):
        return BundleFormat.ISTIO
    return BundleFormat.INCOMPLETE if any(present) else BundleFormat.NONE


def certificates(pem_bundle: bytes) -> tuple[x509.Certificate, ...]:
    """Every certificate of a PEM text, in order. Raises ValueError: none, too long, or one cannot be read."""
    if len(pem_bundle) > MAX_BYTES:
        raise ValueError(f"a bundle of {len(pem_bundle)} bytes; at most {MAX_BYTES} are read")
    return tuple(x509.load_pem_x509_certificates(pem_bundle))


def pem(values: Iterable[x509.Certificate]) -> str:
    """One PEM text, each certificate ending in a newline."""
    return "".join(value.public_bytes(Encoding.PEM).decode("ascii") for value in values)


def merged(bundles: Iterable[bytes]) -> str:
    """The roots of all bundles as one PEM text: no duplicates, sorted as text, so equal sets give equal bytes.

    Raises ValueError when one certificate cannot be read or may not sign: a bad bundle is refused whole.
    """
    texts = set()
    for bundle in bundles:
        if not bundle.strip():
            continue
        for certificate in certificates(bundle):
            if not is_authority(certificate):
                raise ValueError(f"certificate {certificate.serial_number:x} is not a CA certificate")
            texts.add(pem((certificate,)))
    return "".join(sorted(texts))


def digest(values: Iterable[x509.Certificate]) -> str:
    """By which two parties see whether they trust the same roots: SHA-256 in hex, whatever the order and repetition."""
    fingerprints = sorted({hashlib.sha256(value.public_bytes(Encoding.DER)).digest() for value in values})
    return hashlib.sha256(b"".join(fingerprints)).hexdigest()


def is_authority(certificate: x509.Certificate) -> bool:
    """Whether its basic constraints say that it may sign certificates."""
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False

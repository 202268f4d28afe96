"""Certificate revocation lists of a plugged-in authority: read, and checked to cover its whole chain."""

import re
from collections.abc import Iterable

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from mutua.ca.errors import AuthorityError

_BLOCK = re.compile(rb"-----BEGIN X509 CRL-----.+?-----END X509 CRL-----", re.DOTALL)


def lists(pem: bytes) -> tuple[x509.CertificateRevocationList, ...]:
    """Every list of a PEM text. Raises ValueError when there is none or one cannot be read."""
    found = tuple(x509.load_pem_x509_crl(block) for block in _BLOCK.findall(pem))
    if not found:
        raise ValueError("no certificate revocation list in the text")
    return found


def check(pem: bytes, authorities: Iterable[x509.Certificate]) -> None:
    """Each certificate that signs must have its list: Envoy refuses every peer whose chain is covered in part only.

    Raises AuthorityError. Source: Istio's keycertbundle.go, `missing CRL signed by certificates`.
    """
    try:
        found = lists(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise AuthorityError(f"ca-crl.pem cannot be read: {error}") from error
    missing = [
        f"{certificate.serial_number:x}"
        for certificate in authorities
        if not any(_signed(each, certificate) for each in found)
    ]
    if missing:
        raise AuthorityError(f"missing CRL signed by certificates: [{' '.join(missing)}] (serial numbers)")


def _signed(revoked: x509.CertificateRevocationList, certificate: x509.Certificate) -> bool:
    try:
        return revoked.issuer == certificate.subject and revoked.is_signature_valid(
            certificate.public_key()  # type: ignore[arg-type]
        )
    except (TypeError, ValueError, UnsupportedAlgorithm):
        return False

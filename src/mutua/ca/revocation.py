"""Certificate revocation lists of a plugged-in authority: read, and checked to cover its whole chain."""

import re
from collections.abc import Iterable
from datetime import datetime

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


def check(pem: bytes, authorities: Iterable[x509.Certificate], now: datetime) -> None:
    """Each certificate that signs must have its list, current, and the right to sign it (RFC 5280, 4.2.1.3).

    Otherwise Envoy refuses every peer, and the whole mesh stands. Raises AuthorityError naming the serial numbers.
    Source: Istio's keycertbundle.go, `missing CRL signed by certificates`.
    """
    try:
        found = lists(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise AuthorityError(f"ca-crl.pem cannot be read: {error}") from error
    signers = tuple(authorities)
    _refuse(
        "missing CRL signed by certificates",
        [each for each in signers if not any(_signed(listed, each) for listed in found)],
    )
    _refuse("key usage does not allow to sign a CRL", [each for each in signers if not _may_sign_lists(each)])
    current = [each for each in found if each.next_update_utc is None or each.next_update_utc > now]
    _refuse(
        "the CRL has expired of certificates",
        [each for each in signers if not any(_signed(listed, each) for listed in current)],
    )


def _refuse(reason: str, certificates: list[x509.Certificate]) -> None:
    if certificates:
        serials = " ".join(f"{each.serial_number:x}" for each in certificates)
        raise AuthorityError(f"{reason}: [{serials}] (serial numbers)")


def _may_sign_lists(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.KeyUsage).value.crl_sign
    except x509.ExtensionNotFound:
        return True  # nothing is forbidden


def _signed(revoked: x509.CertificateRevocationList, certificate: x509.Certificate) -> bool:
    try:
        return revoked.issuer == certificate.subject and revoked.is_signature_valid(
            certificate.public_key()  # type: ignore[arg-type]
        )
    except (TypeError, ValueError, UnsupportedAlgorithm):
        return False

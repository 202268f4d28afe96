"""The last look: re-read what was signed and compare it with what was granted, before it leaves."""

from collections.abc import Iterator

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from mutua.ca.errors import SignedWrongError
from mutua.ca.template import (
    EXTENDED_KEY_USAGE,
    LEAF_KEY_USAGE,
    NO_AUTHORITY,
    Template,
    alternative_names,
    subject,
)


def leaf(der: bytes, template: Template, issuer: x509.Certificate) -> x509.Certificate:
    """Parse `der` anew and return it, if it is exactly what `template` says and `issuer` signed it.

    Raises SignedWrongError with every difference. Stops a faulty signer, library or refactoring from handing out a
    certificate for another name, with more rights, or for longer.
    """
    certificate = x509.load_der_x509_certificate(der)
    differences = list(_differences(certificate, template, issuer))
    if differences:
        raise SignedWrongError(
            f"signed certificate {template.serial:x} differs from its grant: {'; '.join(differences)}"
        )
    return certificate


def _differences(certificate: x509.Certificate, template: Template, issuer: x509.Certificate) -> Iterator[str]:
    if certificate.serial_number != template.serial:
        yield "serial"
    if certificate.not_valid_before_utc != template.not_before:
        yield "notBefore"
    if certificate.not_valid_after_utc != template.not_after or template.not_after > issuer.not_valid_after_utc:
        yield "notAfter"
    if certificate.public_key() != template.public_key:
        yield "public key"
    if certificate.subject != subject(template):
        yield "subject"
    wanted: dict[x509.ObjectIdentifier, tuple[bool, x509.ExtensionType]] = {
        x509.KeyUsage.oid: (True, LEAF_KEY_USAGE),
        x509.ExtendedKeyUsage.oid: (False, EXTENDED_KEY_USAGE[template.usage]),
        x509.BasicConstraints.oid: (True, NO_AUTHORITY),
        x509.SubjectAlternativeName.oid: (True, alternative_names(template)),
    }
    found = {extension.oid: (extension.critical, extension.value) for extension in certificate.extensions}
    for oid, value in wanted.items():
        if found.pop(oid, None) != value:
            yield f"extension {oid.dotted_string}"
    found.pop(x509.AuthorityKeyIdentifier.oid, None)
    yield from (f"unexpected extension {oid.dotted_string}" for oid in found)
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature) as error:
        yield f"signature: {error or type(error).__name__}"

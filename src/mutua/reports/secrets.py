"""The table of an Envoy's secrets: which certificates it holds, and until when they are valid."""

import base64
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from cryptography import x509

from mutua.reports.table import render

HEADER = ("RESOURCE NAME", "TYPE", "STATUS", "VALID CERT", "SERIAL NUMBER", "NOT AFTER", "NOT BEFORE")
NO_SECRETS = "No active or warming secrets found.\n"


class SecretRow(NamedTuple):
    """One secret; all but name and status are "" where it holds no certificate."""

    name: str
    type: str
    status: str
    valid: bool
    serial: str
    not_after: str
    not_before: str
    trust_domain: str


def rows(section: Mapping[str, Any], now: datetime) -> list[SecretRow]:
    """From a SecretsConfigDump: warming secrets first, then active ones. `now` is aware."""
    found = []
    for key, status in (("dynamic_warming_secrets", "WARMING"), ("dynamic_active_secrets", "ACTIVE")):
        for entry in section.get(key) or ():
            found.append(_row(str(entry.get("name", "")), status, entry.get("secret") or {}, now))
    return found


def table(
    section: Mapping[str, Any], now: datetime, prefix: str = "", rotations: Mapping[int, str] | None = None
) -> str:
    """The text. A column with the trust domain is added if every secret has one.

    `rotations`: when a certificate will be replaced (RFC 3339), by serial number; with them there is a column for it.
    """
    found = rows(section, now)
    if not found:
        return NO_SECRETS
    with_domain = all(row.trust_domain for row in found)
    header = (*HEADER, "TRUST DOMAIN") if with_domain else HEADER
    if rotations is not None:
        header = (*header, "NEXT ROTATION")
    cells = [
        (
            prefix + row.name,
            row.type,
            row.status,
            str(row.valid).lower(),
            row.serial,
            row.not_after,
            row.not_before,
            *((row.trust_domain,) if with_domain else ()),
            *((_rotation(row, rotations),) if rotations is not None else ()),
        )
        for row in found
    ]
    return render(header, cells, padding=5)


def _row(name: str, status: str, secret: Mapping[str, Any], now: datetime) -> SecretRow:
    chain = (secret.get("tls_certificate") or {}).get("certificate_chain") or {}
    trusted = (secret.get("validation_context") or {}).get("trusted_ca") or {}
    content = chain.get("inline_bytes") or trusted.get("inline_bytes") or ""
    try:
        certificate = x509.load_pem_x509_certificate(base64.b64decode(content, validate=True))
    except ValueError:
        return SecretRow(name, "", status, False, "", "", "", "")
    before, after = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return SecretRow(
        name=name,
        type="CA" if _is_authority(certificate) else "Cert Chain",
        status=status,
        valid=before < now < after,
        serial=f"{certificate.serial_number:032x}",
        not_after=_time(after),
        not_before=_time(before),
        trust_domain=_trust_domain(certificate),
    )


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _trust_domain(certificate: x509.Certificate) -> str:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ""
    for uri in names.get_values_for_type(x509.UniformResourceIdentifier):
        if uri.startswith("spiffe://"):
            return uri.removeprefix("spiffe://").partition("/")[0]
    return ""


def _rotation(row: SecretRow, rotations: Mapping[int, str]) -> str:
    found = rotations.get(int(row.serial or "0", 16))
    return _time(datetime.fromisoformat(found)) if found else "-"


def _time(value: datetime) -> str:
    return value.strftime("%Y-%m-%dT%H:%M:%SZ")

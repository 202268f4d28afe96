"""The workload certificate and the roots of an Envoy, from its config dump."""

import base64
from collections.abc import Iterable, Mapping
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from mutua.reports import envoy_dump
from mutua.reports.diagnosis_facts import Certificate


def held(dump: Mapping[str, Any]) -> Certificate | None:
    """What the Envoy presents and whom it trusts; None if it has no certificate yet."""
    secrets = _active(dump)
    own = secrets.get("default")
    if not own:
        return None
    try:
        names = own[0].extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    except x509.ExtensionNotFound:
        uris = []
    return Certificate(
        identity=uris[0] if uris else "",
        not_before=own[0].not_valid_before_utc,
        not_after=own[0].not_valid_after_utc,
        roots=roots(dump),
    )


def roots(dump: Mapping[str, Any]) -> frozenset[str]:
    """Fingerprints (SHA-256) of the roots that the Envoy trusts."""
    return _fingerprints(_active(dump).get("ROOTCA", ()))


def roots_of(bundle: str) -> frozenset[str]:
    """The same of a PEM text; none if it cannot be read."""
    try:
        return _fingerprints(x509.load_pem_x509_certificates(bundle.encode()))
    except ValueError:
        return frozenset()


def _fingerprints(certificates: Iterable[x509.Certificate]) -> frozenset[str]:
    return frozenset(item.fingerprint(hashes.SHA256()).hex() for item in certificates)


def _active(dump: Mapping[str, Any]) -> dict[str, list[x509.Certificate]]:
    found: dict[str, list[x509.Certificate]] = {}
    for entry in envoy_dump.secrets(dump).get("dynamic_active_secrets") or ():
        secret = entry.get("secret") or {}
        chain = (secret.get("tls_certificate") or {}).get("certificate_chain") or {}
        trusted = (secret.get("validation_context") or {}).get("trusted_ca") or {}
        content = base64.b64decode(chain.get("inline_bytes") or trusted.get("inline_bytes") or "")
        if content:
            found[str(entry.get("name", ""))] = x509.load_pem_x509_certificates(content)
    return found

"""Certificates in secrets that have expired, or soon will."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final

from mutua.analysis.check import Check
from mutua.analysis.inputs import Inputs
from mutua.analysis.message import Message, own, subject
from mutua.api import core, kinds
from mutua.api.findings import Severity

KIND: Final = kinds.SECRET
AUTHORITY_SECRETS: Final = ("cacerts", "istio-ca-secret")
TLS_TYPE: Final = "kubernetes.io/tls"
_AUTHORITY_KEYS: Final = ("ca-cert.pem", "cert-chain.pem", "root-cert.pem")
_TLS_KEYS: Final = ("tls.crt", "ca.crt")
_WARN_WITHIN: Final = timedelta(days=30)
_WARN_FRACTION: Final = 5  # of its life: a short-lived certificate is not warned about from its first day


def expiring(inputs: Inputs) -> Iterator[Message]:
    """The certificate of each secret that ends first, if it has ended or soon will."""
    if inputs.now is None:
        return
    for item in inputs.subjects(KIND, core.Secret):
        is_authority = item.metadata.name in AUTHORITY_SECRETS and item.metadata.namespace == inputs.istio_namespace
        if not is_authority and item.type != TLS_TYPE:
            continue
        for key in _AUTHORITY_KEYS if is_authority else _TLS_KEYS:
            data = item.data.get(key)
            if data:
                yield from _of_entry(item, key, data.reveal(), inputs.now)


def _of_entry(item: core.Secret, key: str, pem: bytes, now: datetime) -> Iterator[Message]:
    from cryptography import x509  # a tenth of the command's start, and most often there is no secret

    about, field = subject(KIND, item), f"data[{key}]"
    try:
        certificates = x509.load_pem_x509_certificates(pem)
    except ValueError:
        yield own("MUT0016", about, f"{key} holds no readable certificate", "write PEM, base64 once", field=field)
        return
    first = min(certificates, key=lambda certificate: certificate.not_valid_after_utc)
    ends, begins = first.not_valid_after_utc, first.not_valid_before_utc
    left = ends - now
    name = first.subject.rfc4514_string() or f"serial {first.serial_number:x}"
    until = ends.strftime("%Y-%m-%dT%H:%M:%SZ")
    if left <= timedelta(0):
        text = f"the certificate of {name} in {key} expired at {until}"
        yield own("MUT0016", about, text, "renew it", field=field, severity=Severity.ERROR)
    elif left <= min(_WARN_WITHIN, (ends - begins) / _WARN_FRACTION):
        days = left // timedelta(days=1)
        text = f"the certificate of {name} in {key} expires at {until}, {f'in {days} days' if days else 'within a day'}"
        yield own("MUT0016", about, text, "renew it before", field=field)


CHECKS: Final = (
    Check(
        "certificate.ExpiryAnalyzer",
        "Certificates in secrets that have expired or soon will",
        ("MUT0016",),
        (KIND,),
        expiring,
    ),
)

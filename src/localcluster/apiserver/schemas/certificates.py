"""Rules of CertificateSigningRequests: what may be asked for, decided and answered.

Source: pkg/apis/certificates/validation.
"""

import base64
import binascii
import re
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from localcluster.apiserver import errors
from localcluster.apiserver.errors import FieldError

_Object = dict[str, Any]

_DECISIONS = ("Approved", "Denied")
_TYPES = (*_DECISIONS, "Failed")
_SIGNER = re.compile(r"(?P<domain>[a-z0-9]([-a-z0-9.]*[a-z0-9])?)/(?P<name>[a-z0-9]([-a-z0-9.]*[a-z0-9])?)")
_SHORTEST_SECONDS = 600
_USAGES = frozenset(
    (
        *("signing", "digital signature", "content commitment", "key encipherment", "key agreement"),
        *("data encipherment", "cert sign", "crl sign", "encipher only", "decipher only", "any", "server auth"),
        *("client auth", "code signing", "email protection", "s/mime", "ipsec end system", "ipsec tunnel"),
        *("ipsec user", "timestamping", "ocsp signing", "microsoft sgc", "netscape sgc"),
    )
)


def validate(value: _Object) -> list[FieldError]:
    """The violations in a new request."""
    return _spec(value.get("spec") or {})


def validate_status(value: _Object, old: _Object | None) -> list[FieldError]:
    """The violations in what was decided about a request, or answered to it."""
    return _status(value.get("status") or {}, (old or {}).get("status") or {})


def _spec(spec: _Object) -> list[FieldError]:
    found: list[FieldError] = []
    if not spec.get("request"):
        found.append(errors.required("spec.request"))
    elif problem := _request_problem(spec["request"]):
        found.append(errors.invalid("spec.request", spec["request"], problem))
    usages = spec.get("usages") or []
    if not usages:
        found.append(errors.required("spec.usages", "usages must be provided"))
    for index, usage in enumerate(usages):
        if usage not in _USAGES:
            found.append(errors.not_supported(f"spec.usages[{index}]", usage, sorted(_USAGES)))
        if usage in usages[:index]:
            found.append(errors.duplicate(f"spec.usages[{index}]", usage))
    signer = spec.get("signerName") or ""
    matched = _SIGNER.fullmatch(signer)
    if not signer:
        found.append(errors.required("spec.signerName"))
    elif matched is None:
        found.append(
            errors.invalid(
                "spec.signerName",
                signer,
                "must be a fully qualified domain and path of the form 'example.com/signer-name'",
            )
        )
    elif "." not in matched["domain"]:
        found.append(
            errors.invalid("spec.signerName", signer, "should be a domain with at least two segments separated by dots")
        )
    seconds = spec.get("expirationSeconds")
    if seconds is not None and seconds < _SHORTEST_SECONDS:
        found.append(
            errors.invalid(
                "spec.expirationSeconds", seconds, "may not specify a duration less than 600 seconds (10 minutes)"
            )
        )
    return found


def _status(status: _Object, old: _Object) -> list[FieldError]:
    found: list[FieldError] = []
    types = [each.get("type") for each in status.get("conditions") or ()]
    for index, type_ in enumerate(types):
        path = f"status.conditions[{index}]"
        if not type_:
            found.append(errors.required(f"{path}.type"))
        elif type_ in types[:index]:
            found.append(errors.duplicate(f"{path}.type", type_))
        if status["conditions"][index].get("status") != "True" and type_ in _TYPES:
            found.append(errors.not_supported(f"{path}.status", status["conditions"][index].get("status"), ["True"]))
    if set(_DECISIONS) <= set(types):
        index = max(types.index(each) for each in _DECISIONS)
        found.append(
            errors.invalid(
                f"status.conditions[{index}].type",
                types[index],
                "Approved and Denied conditions are mutually exclusive",
            )
        )
    for type_ in _DECISIONS:
        if _of(old, type_) and not _of(status, type_):
            found.append(errors.forbidden("status.conditions", f'updates may not remove a condition of type "{type_}"'))
    held, certificate = old.get("certificate"), status.get("certificate")
    if held and certificate != held:
        found.append(errors.forbidden("status.certificate", "updates may not change an issued certificate"))
    elif certificate and not held and (problem := _certificate_problem(certificate)):
        found.append(errors.invalid("status.certificate", "<certificate data>", problem))
    return found


def _of(status: _Object, type_: str) -> _Object | None:
    return next((each for each in status.get("conditions") or () if each.get("type") == type_), None)


def _request_problem(text: str) -> str:
    try:
        request = x509.load_pem_x509_csr(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError, UnsupportedAlgorithm):
        return "PEM block type must be CERTIFICATE REQUEST"
    return "" if request.is_signature_valid else "x509: the request's signature is not its key's"


def _certificate_problem(text: str) -> str:
    try:
        x509.load_pem_x509_certificates(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError, UnsupportedAlgorithm):
        return "must contain at least one CERTIFICATE PEM block"
    return ""

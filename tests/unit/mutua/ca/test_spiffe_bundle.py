"""SPIFFE bundle documents: roots as PEM, or refused."""

import base64
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fakes.certificates import root_authority
from mutua.ca import spiffe_bundle

ROOT = root_authority()
DER = base64.b64encode(ROOT.certificate.public_bytes(Encoding.DER)).decode()


def key(**changes: Any) -> dict[str, Any]:
    return {"kty": "EC", "use": "x509-svid", "x5c": [DER]} | changes


def test_its_x509_roots_alone() -> None:
    document = {"spiffe_sequence": 1, "keys": [key(), key(), {"kty": "EC", "use": "jwt-svid", "kid": "one"}]}
    assert x509.load_pem_x509_certificates(spiffe_bundle.roots(document).encode()) == [ROOT.certificate]


@pytest.mark.parametrize(
    "document",
    [
        *(None, [], "x", {}, {"keys": None}, {"keys": []}, {"keys": [key(use="jwt-svid")]}, {"keys": [key(x5c=[])]}),
        *(
            {"keys": [key(x5c=[DER, DER])]},
            {"keys": [key(x5c=["!"])]},
            {"keys": [key(x5c=[5])]},
            {"keys": [key(x5c="")]},
        ),
        *({"keys": [key(), key(x5c=[base64.b64encode(b"der").decode()])]},),
    ],
    ids=lambda value: str(value)[:30],
)
def test_anything_else_is_refused_whole(document: Any) -> None:
    with pytest.raises(ValueError, match=r"SPIFFE bundle"):
        spiffe_bundle.roots(document)

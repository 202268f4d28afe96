"""A SPIFFE trust bundle document: the roots of another mesh, as its bundle end point gives them."""

import base64
import binascii
from typing import Any

from cryptography import x509

from mutua.ca.bundle import merged, pem

X509_USE = "x509-svid"


def roots(document: Any) -> str:
    """The X.509 roots of a parsed document as PEM. Raises ValueError: none, or one that is no authority's.

    Source: SPIFFE Trust Domain and Bundle, 4.2: a JWK with `use` x509-svid holds exactly one certificate in `x5c`.
    """
    keys = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(keys, list):
        raise ValueError("the answer is no SPIFFE bundle: it has no keys")
    found = []
    for key in keys:
        if not isinstance(key, dict) or key.get("use") != X509_USE:
            continue
        chain = key.get("x5c")
        if not isinstance(chain, list) or len(chain) != 1 or not isinstance(chain[0], str):
            raise ValueError("a key of the SPIFFE bundle does not hold exactly one certificate in x5c")
        try:
            certificate = x509.load_der_x509_certificate(base64.b64decode(chain[0], validate=True))
        except (binascii.Error, ValueError) as error:
            raise ValueError(f"a certificate of the SPIFFE bundle cannot be read: {error}") from error
        found.append(pem([certificate]).encode())
    if not found:
        raise ValueError("the SPIFFE bundle has no X.509 roots")
    return merged(found)

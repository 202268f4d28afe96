"""JSON Web Key Sets as Envoy takes them: one key that it cannot read would have it refuse the whole listener."""

from typing import Any, Final

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from mutua.envoy.memo import remembered

ALGORITHMS: Final = {
    "RSA": frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}),
    "EC": frozenset({"ES256", "ES384", "ES512"}),
    "OKP": frozenset({"EdDSA"}),
    "oct": frozenset({"HS256", "HS384", "HS512"}),
}
"""What a key of each type may say that it is for. Source: Envoy's jwt_authn filter."""

CURVES: Final = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512", "Ed25519": "EdDSA"}
PARTS: Final = ("kty", "kid", "alg", "crv", "n", "e", "x", "y", "k")
"""The public parts; nothing else of a key goes to a proxy."""

RSA_BITS: Final = range(1024, 8193)
LARGEST_EXPONENT: Final = 2**32


@remembered(limit=256)
def usable(text: str) -> str:
    """The keys of a set that Envoy can use, as a set of its own; "" if there is none."""
    try:
        document: Any = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return ""
    keys = document.get("keys") if isinstance(document, dict) else None
    good = [public for key in keys if (public := _public(key))] if isinstance(keys, list) else []
    return msgspec.json.encode({"keys": good}).decode() if good else ""


def _public(key: Any) -> dict[str, str]:
    """The public parts of one key; empty if Envoy could not read it."""
    if not isinstance(key, dict):
        return {}
    parts = {name: key[name] for name in PARTS if name in key}
    if not all(isinstance(value, str) for value in parts.values()):
        return {}
    known = ALGORITHMS.get(parts.get("kty", ""), frozenset())
    if not known or ("alg" in parts and parts["alg"] not in known):
        return {}
    if parts["kty"] in ("EC", "OKP") and CURVES.get(parts.get("crv", "")) not in known:
        return {}
    if "alg" in parts and parts["kty"] == "EC" and CURVES[parts["crv"]] != parts["alg"]:
        return {}
    try:
        read = jwt.PyJWK(parts, parts.get("alg") or min(known)).key
    except (jwt.PyJWTError, ValueError, TypeError):
        return {}
    if isinstance(read, RSAPublicKey):
        exponent = read.public_numbers().e
        if read.key_size not in RSA_BITS or exponent >= LARGEST_EXPONENT or exponent % 2 == 0:
            return {}
    return parts

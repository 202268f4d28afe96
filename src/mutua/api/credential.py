"""A secret that a DestinationRule's `credentialName` means: its key pair, its authorities, its revocation lists."""

import re
from collections.abc import Mapping
from typing import Final

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from mutua.errors import InvalidInputError
from mutua.secret import Secret

AUTHORITIES_SUFFIX: Final = "-cacert"
"""Behind a secret's name: the secret that holds the authorities alone, if they are not to lie beside the key."""

MAX_NAME: Final = 253
_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
_REVOKED: Final = re.compile(rb"-----BEGIN X509 CRL-----.+?-----END X509 CRL-----", re.DOTALL)

# Generic secrets as Istio has had them from the beginning, then Kubernetes' own kind.
_CHAINS: Final = ("cert", "tls.crt")
_KEYS: Final = ("key", "tls.key")
_AUTHORITIES: Final = ("cacert", "ca.crt")
_LISTS: Final = ("crl", "ca.crl")


class KeyPair(msgspec.Struct, frozen=True):
    """A certificate chain, PEM, leaf first, and its key."""

    chain: bytes
    key: Secret


class Authorities(msgspec.Struct, frozen=True):
    """Roots, PEM, and the lists of what they revoked, PEM; b"" = none."""

    roots: bytes
    revoked: bytes = b""


def is_name(text: str) -> bool:
    """Whether a secret can have this name."""
    return len(text) <= MAX_NAME and _NAME.fullmatch(text) is not None


def key_pair(data: Mapping[str, Secret]) -> KeyPair:
    """The key pair of a secret's data. Raises InvalidInputError naming the entry that is missing or cannot be used."""
    for chain_name, key_name in zip(_CHAINS, _KEYS, strict=True):
        if chain_name in data and key_name in data:
            break
    else:
        wanted = " or ".join(f"{chain} and {key}" for chain, key in zip(_CHAINS, _KEYS, strict=True))
        raise InvalidInputError(f"it has no entries {wanted}")
    chain, key = data[chain_name].reveal(), data[key_name]
    leaf = _certificates(chain, chain_name)[0]
    try:
        private = serialization.load_pem_private_key(key.reveal(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # Without the library's words: they may quote what they could not read.
        raise InvalidInputError(f"entry {key_name} is no private key in PEM without a password") from None
    if _encoded(private.public_key()) != _encoded(leaf.public_key()):
        raise InvalidInputError(f"entry {key_name} is not the key of the certificate in {chain_name}")
    return KeyPair(chain, key)


def authorities(data: Mapping[str, Secret]) -> Authorities:
    """The authorities of a secret's data. Raises InvalidInputError as `key_pair`."""
    name = next((name for name in _AUTHORITIES if name in data), "")
    if not name:
        raise InvalidInputError(f"it has no entry {' or '.join(_AUTHORITIES)}")
    roots = data[name].reveal()
    _certificates(roots, name)
    listed = next((name for name in _LISTS if name in data), "")
    revoked = data[listed].reveal() if listed else b""
    if listed:
        try:
            found = [x509.load_pem_x509_crl(block) for block in _REVOKED.findall(revoked)]
        except (ValueError, UnsupportedAlgorithm):
            found = []
        if not found:
            raise InvalidInputError(f"entry {listed} holds no certificate revocation list in PEM")
    return Authorities(roots, revoked)


def _certificates(pem: bytes, name: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError:
        raise InvalidInputError(f"entry {name} holds no certificate in PEM") from None


def _encoded(key: object) -> bytes:
    return key.public_bytes(  # type: ignore[attr-defined, no-any-return]
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )

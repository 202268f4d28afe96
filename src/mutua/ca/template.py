"""What will be signed, decided in full before any key is touched."""

from datetime import datetime, timedelta
from enum import Enum
from ipaddress import ip_address

import msgspec
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mutua.ca.csr import PublicKey
from mutua.ca.errors import AuthorityError

CLOCK_SKEW = timedelta(minutes=2)
"""A certificate is back-dated by this, for peers whose clocks are behind. Source: Istio's ClockSkewGracePeriod."""

COMMON_NAME_MAX = 64  # RFC 5280, ub-common-name


class Usage(Enum):
    """What a certificate is for. Nothing that can sign is ever issued on request."""

    WORKLOAD = "workload"  # both sides of mutual TLS
    SERVER = "server"  # the control plane's own, by DNS name


class Template(msgspec.Struct, frozen=True):
    """One leaf certificate."""

    names: tuple[str, ...]  # subjectAltName, in order
    common_name: str  # "" = empty subject
    public_key: PublicKey
    serial: int
    not_before: datetime
    not_after: datetime
    usage: Usage


def leaf(
    names: tuple[str, ...],
    public_key: PublicKey,
    ttl: timedelta,
    *,
    now: datetime,
    serial: int,
    signer_expires: datetime,
    usage: Usage = Usage.WORKLOAD,
    with_common_name: bool = False,
) -> Template:
    """A certificate from two minutes ago until `ttl` from now, but never longer than its signer.

    `with_common_name`: the request had one, so the first name is repeated there for old clients, unless it is too long.
    Raises AuthorityError when the signer has expired. Source: Istio generate_cert.go.
    """
    if now >= signer_expires:
        raise AuthorityError(f"signing certificate has expired at {signer_expires:%Y-%m-%dT%H:%M:%SZ}")
    common_name = names[0] if with_common_name and names and len(names[0]) <= COMMON_NAME_MAX else ""
    return Template(
        names=names,
        common_name=common_name,
        public_key=public_key,
        serial=serial,
        # X.509 counts in whole seconds: cut here, so that what is signed equals what was asked.
        not_before=(now - CLOCK_SKEW).replace(microsecond=0),
        not_after=min(now + ttl, signer_expires).replace(microsecond=0),
        usage=usage,
    )


def general_name(text: str) -> x509.GeneralName:
    """An address, a URI or a DNS name, told apart by its text. Source: Istio san.go."""
    if text.startswith("spiffe://"):
        return x509.UniformResourceIdentifier(text)
    try:
        return x509.IPAddress(ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def subject(template: Template) -> x509.Name:
    """Empty, or the one common name; organisations are never copied."""
    if not template.common_name:
        return _NO_NAME
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, template.common_name)])


def alternative_names(template: Template) -> x509.SubjectAlternativeName:
    """The names, each as what its text says it is."""
    return x509.SubjectAlternativeName([general_name(name) for name in template.names])


def key_usage(*, signs: bool) -> x509.KeyUsage:
    """For an authority: signing certificates and nothing else; for a leaf: what TLS needs."""
    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=not signs,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


LEAF_KEY_USAGE = key_usage(signs=False)
NO_AUTHORITY = x509.BasicConstraints(ca=False, path_length=None)
EXTENDED_KEY_USAGE = {
    Usage.WORKLOAD: x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
    Usage.SERVER: x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]),
}
"""Both roles for a workload, the server's alone for the control plane."""

_NO_NAME = x509.Name([])

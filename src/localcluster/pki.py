"""The cluster's certificate authority, the API's serving certificate, the token key and the fixed tokens."""

import ipaddress
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from localcluster.paths import ClusterPaths, private_directory, write_atomically

API_DNS_NAMES = (
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
)
API_ADDRESSES = ("127.0.0.1", "::1", "10.96.0.1")

_CA_LIFETIME = timedelta(days=3650)
_SERVING_LIFETIME = timedelta(days=365)
_RENEW_BEFORE = timedelta(days=30)
_CLOCK_SKEW = timedelta(minutes=5)
_TOKEN_BYTES = 32


class PkiError(Exception):
    """A file of the cluster's PKI is missing or cannot be used; `hint` says what to do about it."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True, slots=True)
class ClusterPki:
    """What the API server needs to serve TLS and to know its callers. Secrets do not show in `repr`."""

    ca_certificate: bytes  # PEM
    certificate_file: Path
    key_file: Path
    service_account_key: ec.EllipticCurvePrivateKey = field(repr=False)
    admin_token: str = field(repr=False)
    node_token: str = field(repr=False)


def ensure(
    paths: ClusterPaths,
    dns_names: Iterable[str],
    addresses: Iterable[str],
    now: datetime,
) -> ClusterPki:
    """The cluster's PKI, with every missing file created; `now` is an aware datetime.

    The serving certificate holds `API_DNS_NAMES` and `API_ADDRESSES` plus the given ones. It is issued again when it
    has less than 30 days left, lacks one of the names, or another CA signed it. One process at a time (`paths.lock`).
    """
    private_directory(paths.pki)
    names = tuple(dict.fromkeys((*API_DNS_NAMES, *dns_names)))
    networks = tuple(dict.fromkeys(ipaddress.ip_address(a) for a in (*API_ADDRESSES, *addresses)))
    authority, authority_key = _authority(paths, now)
    if not _is_current(paths, authority, names, networks, now):
        _issue_serving(paths, authority, authority_key, names, networks, now)
    if not paths.service_account_key.exists():
        _write_key(paths.service_account_key, ec.generate_private_key(ec.SECP256R1()))
    for token in (paths.admin_token, paths.node_token):
        if not token.exists():
            write_atomically(token, secrets.token_urlsafe(_TOKEN_BYTES).encode())
    return load(paths)


def load(paths: ClusterPaths) -> ClusterPki:
    """The PKI that `ensure` made; creates nothing. Raises PkiError if a file is missing or broken."""
    return ClusterPki(
        ca_certificate=_read(paths.ca_certificate),
        certificate_file=paths.serving_certificate,
        key_file=paths.serving_key,
        service_account_key=_read_key(paths.service_account_key),
        admin_token=_read(paths.admin_token).decode().strip(),
        node_token=_read(paths.node_token).decode().strip(),
    )


def _authority(paths: ClusterPaths, now: datetime) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    if paths.ca_certificate.exists() and paths.ca_key.exists():
        certificate = _read_certificate(paths.ca_certificate)
        key = _read_key(paths.ca_key)
        if certificate.public_key() != key.public_key():
            raise PkiError(
                f"{paths.ca_certificate} and {paths.ca_key} do not belong together",
                f"delete the folder {paths.directory}; the cluster is created anew at the next start",
            )
        if certificate.not_valid_after_utc <= now:
            raise PkiError(
                f"the cluster's CA {paths.ca_certificate} expired at {certificate.not_valid_after_utc:%Y-%m-%d}",
                f"delete the folder {paths.directory}; the cluster is created anew at the next start",
            )
        return certificate, key
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kubernetes")])
    certificate = (
        _builder(subject, subject, key.public_key(), now, _CA_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(certificate_sign=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    _write_key(paths.ca_key, key)
    _write_certificate(paths.ca_certificate, certificate)
    return certificate, key


def _issue_serving(
    paths: ClusterPaths,
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
    names: tuple[str, ...],
    addresses: tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, ...],
    now: datetime,
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kube-apiserver")])
    alternatives = [*(x509.DNSName(name) for name in names), *(x509.IPAddress(address) for address in addresses)]
    certificate = (
        _builder(subject, authority.subject, key.public_key(), now, _SERVING_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(certificate_sign=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        # Python 3.13 and newer verify strictly, and refuse a certificate without this (RFC 5280, 4.2.1.1).
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    _write_key(paths.serving_key, key)
    _write_certificate(paths.serving_certificate, certificate)


def _is_current(
    paths: ClusterPaths,
    authority: x509.Certificate,
    names: tuple[str, ...],
    addresses: tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, ...],
    now: datetime,
) -> bool:
    if not (paths.serving_certificate.exists() and paths.serving_key.exists()):
        return False
    certificate = _read_certificate(paths.serving_certificate)
    # A crash between the two writes leaves a new key beside the old certificate.
    if certificate.public_key() != _read_key(paths.serving_key).public_key():
        return False
    try:
        certificate.verify_directly_issued_by(authority)
    except Exception:  # noqa: BLE001, RUF100 - whatever the reason, the cure is a new certificate
        return False
    held = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return (
        certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc - _RENEW_BEFORE
        and set(names) <= set(held.get_values_for_type(x509.DNSName))
        and set(addresses) <= set(held.get_values_for_type(x509.IPAddress))
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, lifetime: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + lifetime)
    )


def _key_usage(*, certificate_sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=certificate_sign,
        crl_sign=certificate_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _write_certificate(path: Path, certificate: x509.Certificate) -> None:
    write_atomically(path, certificate.public_bytes(serialization.Encoding.PEM), mode=0o644)


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    write_atomically(path, pem)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise PkiError(
            f"cannot read {path}: {error.strerror}", "start the cluster again; missing files are created"
        ) from error


def _read_certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(_read(path))
    except ValueError as error:
        raise PkiError(f"{path} is not a PEM certificate", "delete it and start the cluster again") from error


def _read_key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(_read(path), password=None)
    except (ValueError, TypeError) as error:
        raise PkiError(f"{path} is not a PEM private key", "delete it and start the cluster again") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise PkiError(f"{path} is not an elliptic-curve key", "delete it and start the cluster again")
    return key

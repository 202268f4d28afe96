"""Who asks for a certificate, proven by a token that Kubernetes vouches for or by a certificate of this mesh."""

from collections.abc import Mapping
from datetime import datetime
from enum import Enum
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any
from urllib.parse import unquote

import msgspec
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from mutua.ca.errors import UnknownCallerError
from mutua.errors import MutuaError
from mutua.spiffe import SpiffeId, TrustDomain

AUDIENCE = "istio-ca"
SERVICE_ACCOUNTS_GROUP = "system:serviceaccounts"
SERVICE_ACCOUNT_PREFIX = "system:serviceaccount:"
POD_NAME = "authentication.kubernetes.io/pod-name"
POD_UID = "authentication.kubernetes.io/pod-uid"


class Credential(Enum):
    """How a caller proved who it is."""

    TOKEN = "token"  # noqa: S105 - the kind's name
    CERTIFICATE = "certificate"


class Caller(msgspec.Struct, frozen=True):
    """A proven identity, and what of its proof belongs in the audit record."""

    identity: SpiffeId
    credential: Credential
    pod: str = ""  # name, where the token is bound to a pod
    pod_uid: str = ""
    serial: int = 0  # of the client certificate


class TokenReviewUser(msgspec.Struct, frozen=True):
    """`status.user` of a TokenReview."""

    username: str = ""
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: dict[str, tuple[str, ...]] = {}


class TokenReviewStatus(msgspec.Struct, frozen=True):
    """`status` of an authentication.k8s.io/v1 TokenReview: what the API server says about a token."""

    authenticated: bool = False
    user: TokenReviewUser = TokenReviewUser()
    audiences: tuple[str, ...] = ()
    error: str = ""


def token_review_status(status: Mapping[str, Any]) -> TokenReviewStatus:
    """Read the `status` of a TokenReview as the API returned it. Raises UnknownCallerError when its shape is wrong."""
    try:
        return msgspec.convert({key: value for key, value in status.items() if value is not None}, TokenReviewStatus)
    except msgspec.ValidationError as error:
        raise UnknownCallerError(f"the API server's TokenReview cannot be read: {error}") from error


def from_token_review(status: TokenReviewStatus, trust_domain: TrustDomain) -> Caller:
    """The service account behind a token, in this mesh's trust domain.

    Raises UnknownCallerError: not authenticated, or not a service account's token. Source: Istio's tokenreview package.
    """
    if status.error:
        raise UnknownCallerError(f"the service account authentication returns an error: {status.error}")
    if not status.authenticated:
        raise UnknownCallerError("the token is not authenticated")
    if SERVICE_ACCOUNTS_GROUP not in status.user.groups:
        raise UnknownCallerError("the token is not a service account")
    parts = status.user.username.split(":")
    if len(parts) != 4 or not status.user.username.startswith(SERVICE_ACCOUNT_PREFIX):
        raise UnknownCallerError(f"invalid username field in the token review result: {status.user.username!r}")
    try:
        identity = SpiffeId.of(trust_domain, parts[2], parts[3])
    except MutuaError as error:
        raise UnknownCallerError(
            f"the token's user {status.user.username!r} is no workload identity: {error}"
        ) from error
    return Caller(
        identity=identity,
        credential=Credential.TOKEN,
        pod=_first(status, POD_NAME),
        pod_uid=_first(status, POD_UID),
    )


def require_audience(status: TokenReviewStatus, audience: str = AUDIENCE) -> None:
    """Refuse a token whose review does not confirm the audience.

    An API server that knows no audiences answers without them, and then the token may be meant for anybody: Kubernetes
    tells clients of TokenReview to check `status.audiences` themselves. Raises UnknownCallerError.
    """
    if audience not in status.audiences:
        raise UnknownCallerError(
            f"the token is not for audience {audience!r}: the API server confirms {status.audiences!r}"
        )


def require_own_pod(caller: Caller, peer: str, addresses: tuple[str, ...]) -> None:
    """Refuse a token that comes from elsewhere than the pod that it is bound to: a stolen one is of no use.

    `peer` is the connection's other end as gRPC names it, `addresses` the pod's. Raises UnknownCallerError, also for a
    token that is bound to no pod.
    """
    if not caller.pod:
        raise UnknownCallerError("the token is not bound to a pod")
    found = _peer_address(peer)
    if found is None or found not in {_address(text) for text in addresses}:
        raise UnknownCallerError(
            f"the token is of pod {caller.identity.namespace}/{caller.pod} at {', '.join(addresses)}, "
            f"but it comes from {peer}"
        )


def _peer_address(peer: str) -> IPv4Address | IPv6Address | None:
    """Of `ipv4:10.0.0.1:80` or `ipv6:%5B::1%5D:80`; None for anything else, as a unix socket."""
    kind, _, rest = unquote(peer).partition(":")
    host = rest.rpartition(":")[0].strip("[]")
    return _address(host) if kind in ("ipv4", "ipv6") else None


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        found = ip_address(text)
    except ValueError:
        return None
    return (found.ipv4_mapped or found) if isinstance(found, IPv6Address) else found


def require_local_cluster(claimed: str, local: str) -> None:
    """Refuse a caller that says it runs in another cluster; empty means here. Raises UnknownCallerError."""
    if claimed not in ("", local):
        raise UnknownCallerError(
            f'client claims to be in cluster "{claimed}", '
            f'but we only know about local cluster "{local}" and remote clusters []'
        )


def from_certificate(pem: bytes, trust_domain: TrustDomain, now: datetime) -> Caller:
    """The workload behind a client certificate whose chain TLS has verified.

    The connection may be older than the certificate's end, so the dates are looked at on every call. Raises
    UnknownCallerError: unreadable, outside its dates, not for clients, an authority's, not exactly one name, or a name
    outside this trust domain.
    """
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        extensions = certificate.extensions
        names = list(extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
        usages = list(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
        is_authority = extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise UnknownCallerError(f"the client certificate cannot be used: {error}") from error
    if not certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc:
        raise UnknownCallerError(
            f"the client certificate is valid until {certificate.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}"
        )
    if is_authority or ExtendedKeyUsageOID.CLIENT_AUTH not in usages:
        raise UnknownCallerError("the client certificate is not for clients")
    if len(names) != 1 or not isinstance(names[0], x509.UniformResourceIdentifier):
        # One URI and nothing else, so that nobody can read another name out of it than we do (SPIFFE X.509-SVID 2).
        raise UnknownCallerError("the client certificate does not have exactly one URI name")
    try:
        identity = SpiffeId.parse(names[0].value)
    except MutuaError as error:
        raise UnknownCallerError(f"the client certificate's name is not a workload's: {error}") from error
    if not identity.is_complete:
        raise UnknownCallerError(f"the client certificate's name {identity} lacks a namespace or an account")
    if identity.trust_domain != trust_domain.name:
        raise UnknownCallerError(
            f"the client certificate is of trust domain {identity.trust_domain}, not {trust_domain}"
        )
    return Caller(identity=identity, credential=Credential.CERTIFICATE, serial=certificate.serial_number)


def _first(status: TokenReviewStatus, key: str) -> str:
    return next(iter(status.user.extra.get(key, ())), "")

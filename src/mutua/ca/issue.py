"""A certificate, from request to chain: the one way through this package."""

from datetime import datetime, timedelta

import msgspec

from mutua.ca import check, csr, policy, template
from mutua.ca.authority import Authority, der
from mutua.ca.bundle import pem
from mutua.ca.caller import Caller
from mutua.ca.csr import PublicKey
from mutua.ca.errors import AuthorityError
from mutua.ca.limits import Limits


class Issued(msgspec.Struct, frozen=True):
    """What goes to the caller, and what goes into the audit record."""

    chain: tuple[str, ...]  # PEM: the leaf, each intermediate, then the whole root bundle as one element
    serial: int
    not_after: datetime
    names: tuple[str, ...]


def certificate(
    csr_pem: str,
    caller: Caller,
    authority: Authority | None,
    now: datetime,
    serial: int,
    requested_ttl: timedelta = timedelta(0),
    limits: Limits = Limits(),  # noqa: B008 - a frozen value
) -> Issued:
    """Issue the caller's own identity for the key in the request.

    `serial` is a random positive number of at most 159 bits. Raises a `IssueError`: CsrError, TtlError,
    AuthorityError or SignedWrongError.
    """
    if authority is None:
        raise AuthorityError("the certificate authority is not ready")
    grant = policy.grant(caller, csr.parse(csr_pem), requested_ttl, limits)
    signed = template.leaf(
        (str(grant.identity),),
        grant.public_key,
        grant.ttl,
        now=now,
        serial=serial,
        signer_expires=authority.certificate.not_valid_after_utc,
        with_common_name=grant.with_common_name,
    )
    return _sign(authority, signed)


def server_certificate(
    names: tuple[str, ...], public_key: PublicKey, authority: Authority, now: datetime, serial: int, ttl: timedelta
) -> Issued:
    """The control plane's own certificate, by DNS names; no caller, and no limit but the signer's life."""
    signed = template.leaf(
        tuple(sorted(set(names))),
        public_key,
        ttl,
        now=now,
        serial=serial,
        signer_expires=authority.certificate.not_valid_after_utc,
        usage=template.Usage.SERVER,
    )
    return _sign(authority, signed)


def _sign(authority: Authority, signed: template.Template) -> Issued:
    leaf = check.leaf(der(authority.sign(signed)), signed, authority.certificate)
    return Issued(
        chain=(pem((leaf,)), *authority.chain_pem, authority.root_bundle),
        serial=signed.serial,
        not_after=signed.not_after,
        names=signed.names,
    )

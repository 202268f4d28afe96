"""What a proven caller may have: its own identity, for its own key, for a limited time."""

from datetime import timedelta

import msgspec

from mutua.ca.caller import Caller
from mutua.ca.csr import PublicKey, SigningRequest
from mutua.ca.errors import CsrError, TtlError
from mutua.ca.limits import Limits
from mutua.spiffe import SpiffeId


class Grant(msgspec.Struct, frozen=True):
    """A decision to issue."""

    identity: SpiffeId
    public_key: PublicKey
    ttl: timedelta
    with_common_name: bool


def grant(caller: Caller, request: SigningRequest, requested_ttl: timedelta, limits: Limits) -> Grant:
    """The caller's own identity, always; from the request comes the key alone.

    `requested_ttl` of zero or less asks for the default. Raises CsrError when the request names another identity
    than the caller's (a mistake or an attempt, and either way the answer would not be what was asked for), TtlError
    when it asks for longer than allowed.
    """
    foreign = [name for name in request.names if name != str(caller.identity)]
    if foreign and limits.refuses_foreign_names:
        raise CsrError(f"the CSR asks for {foreign[0]!r}, but the caller is {caller.identity}")
    if requested_ttl > limits.max_ttl:
        raise TtlError(
            f"requested TTL {go_duration(requested_ttl)} is greater than "
            f"the max allowed TTL {go_duration(limits.max_ttl)}"
        )
    ttl = requested_ttl if requested_ttl > timedelta(0) else limits.default_ttl
    return Grant(
        identity=caller.identity, public_key=request.public_key, ttl=ttl, with_common_name=request.has_common_name
    )


def go_duration(value: timedelta) -> str:
    """Whole seconds as Go prints them, `3h0m0s`: operators grep for Istio's text."""
    seconds = int(value.total_seconds())
    hours, minutes, rest = seconds // 3600, seconds // 60 % 60, seconds % 60
    if hours:
        return f"{hours}h{minutes}m{rest}s"
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"

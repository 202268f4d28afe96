"""Whether a workload accepts an end user's token, and what policies then see of it. Source: RequestAuthentication."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from mutua.mesh.proxy_view import ObjectRef, TokenRule

_ALWAYS_DELIMITED: Final = ("scope", "permission")


class Token(msgspec.Struct, frozen=True):
    """A token that comes with a request. `verified`: its signature is its issuer's."""

    claims: Mapping[str, Any]
    verified: bool = True


class TokenVerdict(msgspec.Struct, frozen=True):
    """`claims` is what policies see; None: as if there were no token."""

    accepted: bool
    reason: str
    claims: Mapping[str, Any] | None = None
    policy: ObjectRef | None = None


def judge(rules: Sequence[TokenRule], token: Token | None, now: float | None = None) -> TokenVerdict:
    """What becomes of a request with this token. `now` is the time in seconds since 1970; None: nothing has expired.

    A request without a token passes, and so does one whose token nobody asks about: only policies can demand one.
    """
    if token is None:
        return TokenVerdict(True, "the request brings no token")
    if not rules:
        return TokenVerdict(True, "no RequestAuthentication applies to the workload, so that the token is not read")
    issuer = token.claims.get("iss")
    rule = next((rule for rule in rules if rule.issuer in ("", issuer)), None)
    if rule is None:
        issuers = ", ".join(sorted({each.issuer for each in rules}))
        return TokenVerdict(False, f"the token's issuer {issuer!r} is none of {issuers}", policy=rules[0].source)
    said_by = f"{rule.source.kind} {rule.source.namespace}/{rule.source.name}"
    problem = _problem(rule, token, now)
    if problem:
        return TokenVerdict(False, f"{problem}, asked for by {said_by}", policy=rule.source)
    claims = payload(token.claims, rule.space_delimited_claims)
    return TokenVerdict(True, f"the token of {issuer!r} is accepted by {said_by}", claims, rule.source)


def payload(claims: Mapping[str, Any], space_delimited: Iterable[str] = ()) -> Mapping[str, Any]:
    """The claims as policies see them: some texts are lists of words."""
    words = {
        name: value.split(" ")
        for name in (*_ALWAYS_DELIMITED, *space_delimited)
        if isinstance(value := claims.get(name), str)
    }
    return {**claims, **words}


def _problem(rule: TokenRule, token: Token, now: float | None) -> str:
    if not token.verified:
        return "the token's signature is not its issuer's"
    if rule.audiences:
        given = token.claims.get("aud")
        audiences = [given] if isinstance(given, str) else given if isinstance(given, list) else []
        if not set(rule.audiences) & {each for each in audiences if isinstance(each, str)}:
            return f"the token's audience is none of {', '.join(rule.audiences)}"
    if now is not None:
        if _seconds(token.claims.get("exp"), now + 1) <= now:
            return "the token has expired"
        if _seconds(token.claims.get("nbf"), now) > now:
            return "the token is not valid yet"
    return ""


def _seconds(value: object, otherwise: float) -> float:
    return value if isinstance(value, int | float) else otherwise

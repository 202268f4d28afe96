"""Who sent a request: bearer tokens to users, for the API itself and for TokenReview."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from localcluster.apiserver.context import UserInfo
from localcluster.apiserver.tokens import API_AUDIENCES, InvalidTokenError, TokenAuthority, VerifiedToken

ADMIN = UserInfo("kubernetes-admin", groups=("system:masters", "system:authenticated"))
NODE = UserInfo("system:node:local", groups=("system:nodes", "system:authenticated"))

Object = dict[str, Any]


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Authenticator:
    """Knows the two fixed tokens, and service accounts' through `authority`."""

    admin_token: str = field(repr=False)
    node_token: str = field(repr=False)
    authority: TokenAuthority
    clock: Callable[[], datetime] = _utc_now

    async def authenticate(self, header: str | None) -> UserInfo | None:
        """The caller behind an `Authorization` header; None (answer 401) without a token that is good for the API."""
        scheme, _, token = (header or "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            return None
        try:
            return (await self.verify(token.strip(), API_AUDIENCES)).user
        except InvalidTokenError:
            return None

    async def verify(self, token: str, audiences: Sequence[str]) -> VerifiedToken:
        """Whom a token proves to one of `audiences`. Raises InvalidTokenError with the reason."""
        given = token.encode()
        for known, user in ((self.admin_token, ADMIN), (self.node_token, NODE)):
            # Compared in constant time: how long it takes tells nothing about how much of a guess is right.
            if hmac.compare_digest(given, known.encode()):
                common = tuple(audience for audience in audiences if audience in API_AUDIENCES)
                if not common:
                    raise InvalidTokenError(f"the token is for the API only, not for {list(audiences)}")
                return VerifiedToken(user, common)
        return await self.authority.verify(token, audiences, self.clock())

    async def review(self, body: Object) -> Object:
        """Answer a TokenReview: `body` without its token, with `status` (authenticated, user, audiences; or error)."""
        spec: Object = body.get("spec") or {}
        audiences = list(spec.get("audiences") or API_AUDIENCES)
        status: Object
        try:
            verified = await self.verify(str(spec.get("token") or ""), audiences)
            status = {
                "authenticated": True,
                "user": verified.user.as_json(),
                "audiences": list(verified.audiences),
            }
        except InvalidTokenError as error:
            status = {"authenticated": False, "user": {}, "error": f"[invalid bearer token, {error}]"}
        return {
            "kind": "TokenReview",
            "apiVersion": "authentication.k8s.io/v1",
            "metadata": {"creationTimestamp": None},
            "spec": {"audiences": audiences},
            "status": status,
        }

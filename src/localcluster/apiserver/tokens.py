"""Service account tokens: issued for a TokenRequest, verified with all that they are bound to.

Source: Kubernetes' bound service account tokens (KEP-1205); claims as its API server writes them.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from localcluster.apiserver import errors, kinds
from localcluster.apiserver.context import UserInfo
from localcluster.apiserver.kinds import KindInfo

ISSUER = "https://kubernetes.default.svc.cluster.local"
API_AUDIENCES = (ISSUER,)

Object = dict[str, Any]
LookUp = Callable[[KindInfo, str, str], Awaitable[Object | None]]
"""(kind, namespace, name) -> the object as stored now, None if there is none."""

_ALGORITHM = "ES256"
_PRIVATE_CLAIM = "kubernetes.io"
_DEFAULT_SECONDS = 3600
_LEAST_SECONDS = 600
_MOST_SECONDS = 1 << 32
# A pod's last requests are still believed for a while after its end was asked for, as in Kubernetes.
_DELETION_LEEWAY = timedelta(seconds=60)
_BOUND_KINDS = {"Pod": kinds.POD, "Secret": kinds.SECRET}


class InvalidTokenError(Exception):
    """A token that proves nothing; the text says why, for logs and TokenReview, without the token."""


@dataclass(frozen=True, slots=True)
class VerifiedToken:
    """Whom a token proves, and which of the wanted audiences it is for."""

    user: UserInfo
    audiences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TokenAuthority:
    """Issues and verifies tokens with one ES256 key; `look_up` finds the objects that a token is bound to."""

    key: ec.EllipticCurvePrivateKey = field(repr=False)
    look_up: LookUp = field(repr=False)

    async def request(self, service_account: Object, body: Object, now: datetime) -> Object:
        """Answer a TokenRequest for the stored ServiceAccount: `body` with its `status` (token, expirationTimestamp).

        Errors as Kubernetes: InvalidError (too short a life), NotFoundError, ConflictError (the bound object is gone
        or another one), BadRequestError (the pod runs as someone else).
        """
        about = service_account["metadata"]
        spec: Object = dict(body.get("spec") or {})
        seconds = spec.get("expirationSeconds")
        seconds = _DEFAULT_SECONDS if seconds is None else seconds
        _check_lifetime(seconds, about["name"])
        audiences = list(spec.get("audiences") or API_AUDIENCES)
        private: Object = {
            "namespace": about["namespace"],
            "serviceaccount": {"name": about["name"], "uid": about["uid"]},
        }
        reference = spec.get("boundObjectRef")
        if reference:
            private |= await self._bind(reference, about)
        issued = int(now.timestamp())
        expires = datetime.fromtimestamp(issued + seconds, UTC)
        claims: Object = {
            "aud": audiences,
            "exp": int(expires.timestamp()),
            "iat": issued,
            "iss": ISSUER,
            "jti": str(uuid.uuid4()),
            _PRIVATE_CLAIM: private,
            "nbf": issued,
            "sub": _username(about["namespace"], about["name"]),
        }
        token = jwt.encode(claims, self.key, algorithm=_ALGORITHM, headers={"kid": key_id(self.key)})
        return {
            "kind": "TokenRequest",
            "apiVersion": "authentication.k8s.io/v1",
            "metadata": {"name": about["name"], "namespace": about["namespace"]},
            "spec": {**spec, "audiences": audiences, "expirationSeconds": seconds},
            "status": {"token": token, "expirationTimestamp": expires.strftime("%Y-%m-%dT%H:%M:%SZ")},
        }

    async def verify(self, token: str, audiences: Sequence[str], now: datetime) -> VerifiedToken:
        """Whom `token` proves to one of `audiences`. Raises InvalidTokenError.

        Refused: a signature that is not ours, another issuer, outside its time, for other audiences, of a service
        account or bound object that is gone or was made anew under the same name.
        """
        claims = self._claims(token)
        if claims["exp"] <= now.timestamp():
            raise InvalidTokenError("service account token has expired")
        if claims["nbf"] > now.timestamp():
            raise InvalidTokenError("service account token is not valid yet")
        held = [claims["aud"]] if isinstance(claims["aud"], str) else claims["aud"]
        common = tuple(audience for audience in held if audience in audiences)
        if not common:
            raise InvalidTokenError(f"token audiences {held} is invalid for the target audiences {list(audiences)}")
        private = claims[_PRIVATE_CLAIM]
        try:
            namespace = str(private["namespace"])
            name, uid = str(private["serviceaccount"]["name"]), str(private["serviceaccount"]["uid"])
        except (KeyError, TypeError) as error:
            raise InvalidTokenError("service account token lacks its account") from error
        account = await self._living(kinds.SERVICE_ACCOUNT, namespace, name, uid, now)
        extra = {"authentication.kubernetes.io/credential-id": (f"JTI={claims['jti']}",)}
        for kind_name, kind in _BOUND_KINDS.items():
            bound = private.get(kind_name.lower())
            if bound:
                await self._living(kind, namespace, str(bound["name"]), str(bound["uid"]), now)
        if private.get("pod"):
            extra["authentication.kubernetes.io/pod-name"] = (str(private["pod"]["name"]),)
            extra["authentication.kubernetes.io/pod-uid"] = (str(private["pod"]["uid"]),)
        if private.get("node"):
            extra["authentication.kubernetes.io/node-name"] = (str(private["node"]["name"]),)
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated")
        user = UserInfo(_username(namespace, name), str(account["metadata"]["uid"]), groups, extra)
        return VerifiedToken(user, common)

    def _claims(self, token: str) -> Object:
        try:
            claims: Object = jwt.decode(
                token,
                self.key.public_key(),
                algorithms=[_ALGORITHM],
                issuer=ISSUER,
                # Time and audience are the caller's: it has the clock, and wants the audiences in common.
                options={
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                    "verify_aud": False,
                    "require": ["aud", "exp", "iss", "jti", "nbf", "sub", _PRIVATE_CLAIM],
                },
            )
        except jwt.InvalidTokenError as error:
            raise InvalidTokenError(f"invalid bearer token: {error}") from error
        return claims

    async def _living(self, kind: KindInfo, namespace: str, name: str, uid: str, now: datetime) -> Object:
        found = await self.look_up(kind, namespace, name)
        if found is None:
            raise InvalidTokenError(f"{kind.kind.lower()} {namespace}/{name} of the token has been deleted")
        about: Object = found["metadata"]
        if about["uid"] != uid:
            raise InvalidTokenError(
                f"{kind.kind.lower()} UID ({about['uid']}) does not match claim ({uid}): "
                f"{namespace}/{name} was deleted and made anew"
            )
        deleted = about.get("deletionTimestamp")
        if deleted and datetime.fromisoformat(deleted) + _DELETION_LEEWAY < now:
            raise InvalidTokenError(f"{kind.kind.lower()} {namespace}/{name} of the token has been deleted")
        return found

    async def _bind(self, reference: Object, account: Object) -> Object:
        """The private claims of the object that the token shall be bound to, which must exist."""
        kind_name, name, wanted = reference.get("kind") or "", reference.get("name") or "", reference.get("uid")
        kind = _BOUND_KINDS.get(kind_name)
        if kind is None or reference.get("apiVersion", "v1") != "v1":
            raise errors.BadRequestError(
                f"cannot bind token to object of type {reference.get('apiVersion')}, Kind={kind_name}"
            )
        found = await self.look_up(kind, account["namespace"], name)
        if found is None:
            raise errors.NotFoundError(f'{kind.plural} "{name}" not found', resource=kind.plural, name=name)
        about = found["metadata"]
        if wanted and wanted != about["uid"]:
            raise errors.ConflictError(
                f'Operation cannot be fulfilled on {kind.plural} "{name}": the UID in the bound object reference '
                f"({wanted}) does not match the UID in record. The object might have been deleted and then recreated",
                resource=kind.plural,
                name=name,
            )
        claims: Object = {kind_name.lower(): {"name": about["name"], "uid": about["uid"]}}
        if kind is kinds.POD:
            spec = found.get("spec") or {}
            if (spec.get("serviceAccountName") or "default") != account["name"]:
                raise errors.BadRequestError(
                    f'cannot bind token for serviceaccount "{account["name"]}" to pod running with different '
                    "serviceaccount name."
                )
            if spec.get("nodeName"):
                claims["node"] = {"name": spec["nodeName"]}
        return claims


def key_id(key: ec.EllipticCurvePrivateKey) -> str:
    """The `kid` of tokens signed with this key: SHA-256 over its public half, in hexadecimal."""
    public = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(public).hexdigest()


def issuer_configuration() -> Object:
    """`/.well-known/openid-configuration`: how others verify service account tokens (OpenID Connect Discovery)."""
    return {
        "issuer": ISSUER,
        "jwks_uri": f"{ISSUER}/openid/v1/jwks",
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": [_ALGORITHM],
    }


def key_set(key: ec.EllipticCurvePrivateKey) -> Object:
    """`/openid/v1/jwks`: the public half of the signing key (RFC 7517)."""
    import json

    from jwt.algorithms import ECAlgorithm

    public: Object = json.loads(ECAlgorithm.to_jwk(key.public_key()))
    return {"keys": [{**public, "kid": key_id(key), "alg": _ALGORITHM, "use": "sig"}]}


def _username(namespace: str, name: str) -> str:
    return f"system:serviceaccount:{namespace}:{name}"


def _check_lifetime(seconds: int, name: str) -> None:
    path = "spec.expirationSeconds"
    if seconds < _LEAST_SECONDS:
        problem = errors.invalid(path, seconds, "may not specify a duration less than 10 minutes")
    elif seconds > _MOST_SECONDS:
        problem = errors.invalid(path, seconds, "may not specify a duration larger than 2^32 seconds")
    else:
        return
    raise errors.InvalidError.of("TokenRequest", "authentication.k8s.io", name, [problem])

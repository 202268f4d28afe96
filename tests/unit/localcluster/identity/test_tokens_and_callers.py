"""Tokens of pods and of people: whom they prove, to whom, and until when."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from localcluster.apiserver import kinds
from localcluster.apiserver.authn import Authenticator
from localcluster.apiserver.errors import BadRequestError, ConflictError, InvalidError, NotFoundError
from localcluster.apiserver.tokens import ISSUER, InvalidTokenError, TokenAuthority

Object = dict[str, Any]
ACCOUNT: Object = {"metadata": {"name": "web", "namespace": "demo", "uid": "account-1"}}
POD: Object = {
    "metadata": {"name": "web-1", "namespace": "demo", "uid": "pod-1"},
    "spec": {"serviceAccountName": "web", "nodeName": "local"},
}
BOUND = {"kind": "Pod", "apiVersion": "v1", "name": "web-1", "uid": "pod-1"}


class World:
    """The objects that tokens are bound to, and the time."""

    def __init__(self) -> None:
        self.objects = {("ServiceAccount", "web"): ACCOUNT, ("Pod", "web-1"): POD}
        self.now = datetime(2026, 11, 23, 12, tzinfo=UTC)
        self.authority = TokenAuthority(ec.generate_private_key(ec.SECP256R1()), self.look_up)
        self.authenticator = Authenticator("admin-secret", "node-secret", self.authority, lambda: self.now)

    async def look_up(self, kind: kinds.KindInfo, namespace: str, name: str) -> Object | None:
        return self.objects.get((kind.kind, name)) if namespace == "demo" else None

    async def token(self, **spec: Any) -> str:
        answer = await self.authority.request(ACCOUNT, {"spec": spec}, self.now)
        return str(answer["status"]["token"])

    async def user(self, token: str) -> str | None:
        found = await self.authenticator.authenticate(f"Bearer {token}")
        return found.username if found else None


@pytest.fixture
def world() -> Iterator[World]:
    yield World()


async def test_a_bound_token_has_the_claims_of_kubernetes(world: World) -> None:
    answer = await world.authority.request(
        ACCOUNT, {"spec": {"audiences": ["istio-ca"], "expirationSeconds": 600, "boundObjectRef": BOUND}}, world.now
    )

    claims = jwt.decode(answer["status"]["token"], options={"verify_signature": False})
    issued = int(world.now.timestamp())
    assert claims.pop("jti")
    assert claims == {
        "iss": ISSUER,
        "sub": "system:serviceaccount:demo:web",
        "aud": ["istio-ca"],
        "iat": issued,
        "nbf": issued,
        "exp": issued + 600,
        "kubernetes.io": {
            "namespace": "demo",
            "serviceaccount": {"name": "web", "uid": "account-1"},
            "pod": {"name": "web-1", "uid": "pod-1"},
            "node": {"name": "local"},
        },
    }
    assert answer["status"]["expirationTimestamp"] == "2026-11-23T12:10:00Z"
    assert jwt.get_unverified_header(answer["status"]["token"])["alg"] == "ES256"


async def test_a_token_for_the_api_proves_account_and_pod(world: World) -> None:
    user = await world.authenticator.authenticate(f"Bearer {await world.token(boundObjectRef=BOUND)}")

    assert user is not None
    assert (user.username, user.uid) == ("system:serviceaccount:demo:web", "account-1")
    assert user.groups == ("system:serviceaccounts", "system:serviceaccounts:demo", "system:authenticated")
    assert user.extra["authentication.kubernetes.io/pod-name"] == ("web-1",)
    assert user.extra["authentication.kubernetes.io/pod-uid"] == ("pod-1",)


@pytest.mark.parametrize(
    ("spec", "error", "text"),
    [
        ({"expirationSeconds": 599}, InvalidError, "may not specify a duration less than 10 minutes"),
        ({"expirationSeconds": 2**33}, InvalidError, "may not specify a duration larger than 2\\^32 seconds"),
        ({"boundObjectRef": {**BOUND, "name": "gone"}}, NotFoundError, 'pods "gone" not found'),
        ({"boundObjectRef": {**BOUND, "uid": "other"}}, ConflictError, "does not match the UID in record"),
        ({"boundObjectRef": {"kind": "Service", "name": "x"}}, BadRequestError, "cannot bind token"),
    ],
)
async def test_a_wrong_request_is_refused(world: World, spec: Object, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        await world.token(**spec)


async def test_a_token_is_not_bound_to_a_pod_of_another_account(world: World) -> None:
    world.objects["Pod", "web-1"] = {**POD, "spec": {"serviceAccountName": "other"}}

    with pytest.raises(BadRequestError, match="different serviceaccount name"):
        await world.token(boundObjectRef=BOUND)


async def test_a_token_dies_at_its_hour(world: World) -> None:
    token = await world.token(expirationSeconds=600)
    assert await world.user(token)
    world.now += timedelta(seconds=600)
    assert await world.user(token) is None


async def test_a_token_for_others_is_not_for_the_api(world: World) -> None:
    token = await world.token(audiences=["istio-ca"])

    assert await world.user(token) is None
    with pytest.raises(InvalidTokenError, match="audiences"):
        await world.authority.verify(token, ["vault"], world.now)
    assert (await world.authority.verify(token, ["vault", "istio-ca"], world.now)).audiences == ("istio-ca",)


@pytest.mark.parametrize("gone", [("Pod", "web-1"), ("ServiceAccount", "web")])
async def test_a_token_dies_with_what_it_is_bound_to(world: World, gone: tuple[str, str]) -> None:
    token = await world.token(boundObjectRef=BOUND)
    original = world.objects.pop(gone)
    assert await world.user(token) is None

    world.objects[gone] = {**original, "metadata": {**original["metadata"], "uid": "made-anew"}}
    assert await world.user(token) is None


async def test_a_pod_that_ends_is_believed_for_a_minute_longer(world: World) -> None:
    token = await world.token(boundObjectRef=BOUND)
    world.objects["Pod", "web-1"] = {
        **POD,
        "metadata": {**POD["metadata"], "deletionTimestamp": "2026-11-23T12:00:30Z"},
    }

    world.now += timedelta(seconds=90)
    assert await world.user(token)
    world.now += timedelta(seconds=1)
    assert await world.user(token) is None


async def test_forged_tokens_prove_nothing(world: World) -> None:
    good = await world.token()
    claims = jwt.decode(good, options={"verify_signature": False})
    strange = jwt.encode(claims, ec.generate_private_key(ec.SECP256R1()), algorithm="ES256")
    unsigned = jwt.encode(claims, None, algorithm="none")
    elsewhere = jwt.encode({**claims, "iss": "https://evil"}, world.authority.key, algorithm="ES256")
    bare = jwt.encode({**claims, "kubernetes.io": {}}, world.authority.key, algorithm="ES256")

    for token in (strange, unsigned, elsewhere, bare, good[:-8], "", "a.b.c"):
        assert await world.user(token) is None


@pytest.mark.parametrize(
    ("header", "username"),
    [
        ("Bearer admin-secret", "kubernetes-admin"),
        ("bearer  admin-secret", "kubernetes-admin"),
        ("Bearer node-secret", "system:node:local"),
        ("Bearer admin-secre", None),
        ("Basic admin-secret", None),
        ("Bearer ", None),
        ("Bearer \u00e9", None),
        (None, None),
    ],
)
async def test_the_fixed_tokens_are_known(world: World, header: str | None, username: str | None) -> None:
    user = await world.authenticator.authenticate(header)

    assert (user.username if user else None) == username


async def test_a_review_tells_the_user_and_the_audiences_in_common(world: World) -> None:
    token = await world.token(audiences=["istio-ca", "vault"])
    answer = await world.authenticator.review({"spec": {"token": token, "audiences": ["istio-ca", "other"]}})

    assert answer["status"]["authenticated"] is True
    assert answer["status"]["audiences"] == ["istio-ca"]
    assert answer["status"]["user"]["username"] == "system:serviceaccount:demo:web"
    assert token not in str(answer)


async def test_a_review_of_a_bad_token_says_why(world: World) -> None:
    answer = await world.authenticator.review({"spec": {"token": await world.token(), "audiences": ["istio-ca"]}})

    assert answer["status"]["authenticated"] is False
    assert "audiences" in answer["status"]["error"]
    admin = await world.authenticator.review({"spec": {"token": "admin-secret", "audiences": ["istio-ca"]}})
    assert admin["status"]["authenticated"] is False
    assert "admin-secret" not in str(admin)

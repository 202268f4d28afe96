"""RequestAuthentication: what a real Envoy does with end users' tokens, good and forged, and without usable keys."""

import base64
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import envoy_views as views
import jwt
import msgspec
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from envoy_pods import Answer, Mesh, Pod, can_make_networks, mesh

from mutua.mesh.proxy_view import (
    AuthorizationAction,
    EffectivePolicy,
    MtlsMode,
    ObjectRef,
    Rule,
    Source,
    TokenRule,
)

pytestmark = [
    pytest.mark.envoy,
    pytest.mark.linux,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(not can_make_networks(), reason="network namespaces need root"),
]

ISSUER, OTHER, BROKEN = "https://issuer.example", "https://other.example", "https://broken.example"
KEY, FOREIGN = (rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2))
PUBLIC_PEM = KEY.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
SOURCE = ObjectRef("RequestAuthentication", "shop", "tokens")
NOW = int(time.time())


def key_set(*keys: rsa.RSAPrivateKey) -> str:
    """The public halves, as an issuer publishes them."""
    return json.dumps(
        {"keys": [{**jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": "one"} for key in keys]}
    )


def token(key: Any = KEY, algorithm: str = "RS256", kid: str = "one", **claims: Any) -> str:
    """A token of the issuer; None as a claim leaves it out."""
    whole = {"iss": ISSUER, "sub": "user", "aud": "shop", "exp": NOW + 3600, **claims}
    kept = {name: value for name, value in whole.items() if value is not None}
    return jwt.encode(kept, key, algorithm, headers={"kid": kid})


def unsigned(algorithm: str) -> str:
    """A token without a signature."""
    parts = ({"alg": algorithm, "typ": "JWT"}, {"iss": ISSUER, "sub": "user", "aud": "shop", "exp": NOW + 3600})
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts) + "."


def hmac_with_the_public_key() -> str:
    """Signed with what everybody knows, as if it were a shared secret."""
    import hashlib
    import hmac

    parts = ({"alg": "HS256", "typ": "JWT", "kid": "one"}, {"iss": ISSUER, "sub": "user", "aud": "shop"})
    head = ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts)
    signature = hmac.new(PUBLIC_PEM, head.encode(), hashlib.sha256).digest()
    return f"{head}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


RULES = (
    TokenRule(SOURCE, ISSUER, ("shop", "warehouse"), key_set=key_set(KEY)),
    TokenRule(SOURCE, OTHER, key_set=key_set(FOREIGN)),
    TokenRule(SOURCE, BROKEN, key_set=""),
    TokenRule(SOURCE, "https://garbage.example", key_set="this is no key set"),
)


class Guarded:
    """A backend that reads tokens, and a stranger who brings them."""

    def __init__(self, mesh: Mesh, backend: Pod, stranger: Pod) -> None:
        self.mesh, self.backend, self.stranger = mesh, backend, stranger

    async def reads(self, *rules: TokenRule, policies: tuple[EffectivePolicy, ...] = ()) -> None:
        """Give the backend other rules."""
        view = views.server(MtlsMode.PERMISSIVE, policies)
        inbound = msgspec.structs.replace(view.inbound, token_rules=rules)
        status = await self.mesh.update(self.backend, msgspec.structs.replace(view, inbound=inbound))
        assert status.synced, status

    async def ask(self, *headers: str, path: str = "/x") -> Answer:
        """A request with these headers."""
        options = [option for header in headers for option in ("-H", header)]
        return await self.stranger.curl(f"http://{views.BACKEND_ADDRESS}:8080{path}", *options)

    async def bearing(self, bearer: str) -> int:
        """What a request with this token gets."""
        return (await self.ask(f"Authorization: Bearer {bearer}")).status


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def guarded(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Guarded]:
    directory: Path = tmp_path_factory.mktemp("tokens")
    async with mesh(directory) as made:
        backend = await made.pod("backend", views.BACKEND_ADDRESS, views.server(MtlsMode.PERMISSIVE), account="backend")
        stranger = await made.pod("stranger", "10.9.0.3", None)
        yield Guarded(made, backend, stranger)


async def test_a_token_that_is_there_must_verify(guarded: Guarded) -> None:
    await guarded.reads(*RULES)
    good = {
        "of the issuer": token(),
        "for one of several audiences": token(aud=["elsewhere", "warehouse"]),
        "of the other issuer": token(FOREIGN, iss=OTHER, aud=None),
        "without expiry": token(exp=None),
    }
    bad = {
        "no token at all": "garbage",
        "signed by somebody else": token(FOREIGN),
        "of the other issuer, with this one's key": token(KEY, iss=OTHER),
        "of an unknown issuer": token(iss="https://unknown.example"),
        "without issuer": token(iss=None),
        "for another audience": token(aud="elsewhere"),
        "without audience": token(aud=None),
        "expired": token(exp=NOW - 3600),
        "not valid yet": token(nbf=NOW + 3600),
        "with an unknown key": token(kid="two"),
        "without a signature": unsigned("none"),
        "with another spelling of none": unsigned("nOnE"),
        "with no signature but the algorithm of one": unsigned("RS256"),
        "signed with the public key as a secret": hmac_with_the_public_key(),
        "of an issuer whose keys cannot be had": token(iss=BROKEN),
        "of an issuer whose keys are garbage": token(iss="https://garbage.example"),
    }

    seen = {name: await guarded.bearing(bearer) for name, bearer in {**good, **bad}.items()}

    assert seen == {
        **dict.fromkeys(good, 200),
        **dict.fromkeys(bad, 401),
        "for another audience": 403,
        "without audience": 403,
    }
    assert (await guarded.ask()).status == 200  # without a token: only a policy can demand one


@pytest.mark.parametrize(
    "key_set",
    [
        "",
        "garbage",
        "[]",
        "{}",
        '{"keys":[]}',
        '{"keys":[null, 1, {"kty":"RSA"}, {"kty":"RSA","n":"","e":""}, {"kty":"EC","crv":"P-256","x":"AA","y":"AA"}]}',
        '{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"}, {"kty":"oct","k":7}, {"kty":"PQ","x":"AA"}]}',
        json.dumps({"keys": [{**jwt.algorithms.RSAAlgorithm.to_jwk(KEY.public_key(), as_dict=True), "alg": "HS256"}]}),
    ],
)
async def test_unusable_keys_refuse_tokens_and_never_the_listener(guarded: Guarded, key_set: str) -> None:
    odd = TokenRule(
        SOURCE,
        ISSUER,
        key_set=key_set,
        from_headers=(("authorization", "Bearer "), ("bad header\r\n", ""), ("x-good", "bad\x00prefix")),
        payload_header=":path",
        claim_headers=(("host", "sub"), ("no good", "sub")),
    )
    await guarded.reads(odd, RULES[1])

    assert await guarded.bearing(token()) == 401
    assert await guarded.bearing(token(FOREIGN, iss=OTHER, aud=None)) == 200


async def test_two_tokens_must_both_verify(guarded: Guarded) -> None:
    await guarded.reads(*RULES)

    both = await guarded.ask(f"Authorization: Bearer {token()}", path=f"/x?access_token={token(FOREIGN)}")

    assert both.status == 401


async def test_policies_see_who_the_token_is_about(guarded: Guarded) -> None:
    only_user = EffectivePolicy(
        "shop",
        "user",
        AuthorizationAction.ALLOW,
        (Rule(sources=(Source(request_principals=(f"{ISSUER}/user",)),)),),
    )
    await guarded.reads(*RULES, policies=(only_user,))

    assert [await guarded.bearing(token()), await guarded.bearing(token(sub="else"))] == [200, 403]
    assert (await guarded.ask()).status == 403
    assert await guarded.bearing(token(FOREIGN, iss=OTHER)) == 403


@pytest.mark.parametrize(
    ("rule", "headers", "path"),
    [
        ({"from_headers": (("x-token", "Token "),)}, ("x-token: Token {}",), "/x"),
        ({"from_params": ("t",)}, (), "/x?a=b&t={}"),
        ({"from_cookies": ("session",)}, ("cookie: a=b; session={}",), "/x"),
    ],
)
async def test_a_token_is_looked_for_where_the_rule_says_and_nowhere_else(
    guarded: Guarded, rule: dict[str, Any], headers: tuple[str, ...], path: str
) -> None:
    await guarded.reads(TokenRule(SOURCE, ISSUER, key_set=key_set(KEY), **rule))

    async def ask(bearer: str) -> int:
        filled = [header.format(bearer) for header in headers]
        return (await guarded.ask(*filled, path=path.format(bearer))).status

    assert [await ask(token()), await ask(token(FOREIGN))] == [200, 401]
    assert await guarded.bearing(token(FOREIGN)) == 200


async def test_the_application_gets_what_the_rule_says_and_no_forgery(guarded: Guarded) -> None:
    rule = TokenRule(
        SOURCE,
        ISSUER,
        key_set=key_set(KEY),
        payload_header="x-payload",
        claim_headers=(("x-user", "sub"), ("x-city", "address.city")),
    )
    await guarded.reads(rule)
    with_token = await guarded.ask(
        f"Authorization: Bearer {token(address={'city': 'Basel'})}", "x-user: forged", "x-payload: forged"
    )
    without = await guarded.ask("x-user: forged", "x-payload: forged", "x-city: forged")
    await guarded.reads(msgspec.structs.replace(rule, forward=True))
    forwarded = await guarded.ask(f"Authorization: Bearer {token()}")

    seen = _headers(with_token)
    assert (seen["x-user"], seen["x-city"], "authorization" in seen) == ("user", "Basel", False)
    payload = seen["x-payload"] + "=" * (-len(seen["x-payload"]) % 4)
    assert json.loads(base64.urlsafe_b64decode(payload))["sub"] == "user"
    assert not {"x-user", "x-payload", "x-city"} & _headers(without).keys()
    assert "authorization" in _headers(forwarded)


def _headers(answer: Answer) -> dict[str, str]:
    assert answer.status == 200, answer
    return dict(json.loads(answer.body)["headers"])

"""RequestAuthentication: end users' tokens are verified, and their claims are left for policies to ask about."""

import re
from typing import Any, Final

from envoy.extensions.filters.http.jwt_authn.v3 import config_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2

from mutua.envoy import names
from mutua.envoy.filters import key_set
from mutua.envoy.filters.conditions import JWT_PAYLOAD
from mutua.envoy.pack import duration, packed
from mutua.mesh.proxy_view import TokenRule

ALWAYS_DELIMITED: Final = ("scope", "permission")
"""Claims that are lists of words in one text in any token. Source: Istio; RFC 8693, section 4.2 (`scope`)."""

_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE: Final = re.compile(r"[ -~]*")

_Requirement: Final = config_pb2.JwtRequirement


def http_filter(rules: tuple[TokenRule, ...]) -> Any | None:
    """The filter that answers 401 to a token that does not verify; None if nobody asks about tokens.

    A request without a token passes: only policies can demand one.
    """
    if not rules:
        return None
    providers = {f"origins-{index}": _provider(rule) for index, rule in enumerate(rules)}
    requirement = config_pb2.RequirementRule(requires=_requirement(list(providers)))
    requirement.match.prefix = "/"
    config = config_pb2.JwtAuthentication(
        providers=providers,
        rules=[requirement],
        # A browser's preflight carries no token and reaches nothing.
        bypass_cors_preflight=True,
    )
    return http_connection_manager_pb2.HttpFilter(name="envoy.filters.http.jwt_authn", typed_config=packed(config))


def _provider(rule: TokenRule) -> Any:
    provider = config_pb2.JwtProvider(
        issuer=rule.issuer,
        audiences=rule.audiences,
        forward=rule.forward,
        from_headers=[
            config_pb2.JwtHeader(name=name, value_prefix=prefix)
            for name, prefix in rule.from_headers
            if _HEADER_NAME.fullmatch(name) and _HEADER_VALUE.fullmatch(prefix)
        ],
        from_params=rule.from_params,
        from_cookies=rule.from_cookies,
        forward_payload_header=rule.payload_header if _can_be_set(rule.payload_header) else "",
        claim_to_headers=[
            config_pb2.JwtClaimToHeader(header_name=header, claim_name=claim)
            for header, claim in rule.claim_headers
            if _can_be_set(header)
        ],
        payload_in_metadata=JWT_PAYLOAD,
    )
    keys = key_set.usable(rule.key_set)
    if keys:
        provider.local_jwks.inline_string = keys
    else:
        # Nobody's key stands in for those that cannot be had: Envoy asks for them where there is nothing.
        provider.remote_jwks.http_uri.uri = "https://no-keys.invalid/"
        provider.remote_jwks.http_uri.cluster = names.BLACKHOLE_CLUSTER
        provider.remote_jwks.http_uri.timeout.CopyFrom(duration(1))
    delimited = dict.fromkeys((*ALWAYS_DELIMITED, *rule.space_delimited_claims))
    provider.normalize_payload_in_metadata.space_delimited_claims.extend(delimited)
    return provider


def _can_be_set(header: str) -> bool:
    """Whether a claim may be put there: no pseudo header, nor the one that says who is asked."""
    return bool(_HEADER_NAME.fullmatch(header)) and header.lower() != "host"


def _requirement(names: list[str]) -> Any:
    """Each token that is there must verify: with the provider of its place, or with one of those that share it."""
    each = [_any_of([_Requirement(provider_name=name), _missing()]) for name in names]
    if len(each) == 1:
        return each[0]
    together = _Requirement()
    together.requires_all.requirements.extend(each)
    return _any_of([*(_Requirement(provider_name=name) for name in names), together])


def _any_of(requirements: list[Any]) -> Any:
    made = _Requirement()
    made.requires_any.requirements.extend(requirements)
    return made


def _missing() -> Any:
    made = _Requirement()
    made.allow_missing.SetInParent()
    return made

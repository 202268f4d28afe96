"""Rules about one RequestAuthentication."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import msgspec

from mutua.api.findings import Violation, error
from mutua.api.security import JwtRule, RequestAuthentication
from mutua.api.validation import common


def violations(item: RequestAuthentication) -> Iterator[Violation]:
    """An issuer or keys per rule, one source of keys, and usable locations."""
    spec = item.spec
    yield from common.selector(spec.selector)
    yield from common.targets(spec.selector, spec.target_ref, spec.target_refs)
    for index, rule in enumerate(spec.jwt_rules):
        yield from _rule(rule, f"spec.jwtRules[{index}]")


def _rule(rule: JwtRule, field: str) -> Iterator[Violation]:
    location = rule.key_set_location
    if not rule.issuer and not location:
        yield error(field, "issuer or jwksUri must be non-empty string")
    if sum(map(bool, (rule.jwks_uri, rule.jwks_uri_deprecated, rule.jwks))) > 1:
        yield error(field, "only one of jwks or jwksUri can be set")
    if location:
        scheme = _scheme(location)
        if scheme not in ("http", "https"):
            yield error(
                f"{field}.jwksUri", f'URI scheme "{scheme}" is not supported; url must have scheme http:// or https://'
            )
    if rule.jwks and not _is_key_set(rule.jwks):
        yield error(f"{field}.jwks", "jwks parse error: it must be a JSON Web Key Set as text, with a list `keys`")
    yield from common.duration(rule.timeout, f"{field}.timeout", precise=False)


def _scheme(uri: str) -> str:
    try:
        return urlsplit(uri).scheme if "://" in uri else ""
    except ValueError:
        return ""


def _is_key_set(text: str) -> bool:
    try:
        parsed: Any = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return False
    return isinstance(parsed, dict) and isinstance(parsed.get("keys"), list)

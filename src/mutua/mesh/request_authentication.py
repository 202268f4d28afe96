"""Which end-user tokens a workload accepts. Source: Istio RequestAuthentication."""

from collections.abc import Iterable, Mapping
from typing import Final

from mutua.api.meta import age_order
from mutua.api.security import JwtRule, RequestAuthentication
from mutua.mesh.proxy_view import Frozen, ObjectRef, TokenRule
from mutua.mesh.selectors import NO_LABELS, Labels, labels_of

KIND: Final = "RequestAuthentication"
DISCOVERY_PATH: Final = "/.well-known/openid-configuration"
"""Where an issuer says where its keys are. Source: OpenID Connect Discovery 1.0, section 4."""

KeySets = Mapping[str, str]
"""JSON Web Key Sets by their location; those that cannot be had are missing."""


class SelectedTokens(Frozen, frozen=True):
    """The rules of one object, and whom they are for."""

    selector: Labels
    rules: tuple[TokenRule, ...]


def rules_of(objects: Iterable[RequestAuthentication], key_sets: KeySets) -> tuple[SelectedTokens, ...]:
    """The rules of the objects, oldest first. Those attached to gateways or Services are not for sidecars."""
    return tuple(
        SelectedTokens(
            labels_of(item.spec.selector.match_labels) if item.spec.selector else NO_LABELS,
            tuple(_rule(item, rule, key_sets) for rule in item.spec.jwt_rules),
        )
        for item in sorted(objects, key=lambda item: age_order(item.metadata))
        if not item.spec.target_ref and not item.spec.target_refs
    )


def selected(rules: Iterable[SelectedTokens], labels: Labels) -> tuple[TokenRule, ...]:
    """The rules that hold for a workload with these labels. All hold together: each adds the tokens of its issuer."""
    return tuple(rule for each in rules if each.selector <= labels for rule in each.rules)


def applying(
    objects: Iterable[RequestAuthentication], root_namespace: str, namespace: str, labels: Labels
) -> tuple[TokenRule, ...]:
    """The rules, without keys, of all objects that select a workload, of its namespace and of the root namespace."""
    in_force = (item for item in objects if item.metadata.namespace in (root_namespace, namespace))
    return selected(rules_of(in_force, {}), labels)


def key_set_locations(objects: Iterable[RequestAuthentication]) -> frozenset[str]:
    """Where keys have to be fetched from: a key set, or what says where that is."""
    return frozenset(location for item in objects for _, location in issuers_to_fetch(item))


def issuers_to_fetch(item: RequestAuthentication) -> tuple[tuple[str, str], ...]:
    """(issuer, location) of the rules whose keys have to be fetched."""
    return tuple((rule.issuer, location) for rule in item.spec.jwt_rules if (location := _location(rule)))


def _location(rule: JwtRule) -> str:
    if rule.jwks:
        return ""
    return rule.key_set_location or (rule.issuer.rstrip("/") + DISCOVERY_PATH if "://" in rule.issuer else "")


def _rule(item: RequestAuthentication, rule: JwtRule, key_sets: KeySets) -> TokenRule:
    return TokenRule(
        source=ObjectRef(KIND, item.metadata.namespace, item.metadata.name),
        issuer=rule.issuer,
        audiences=rule.audiences,
        space_delimited_claims=rule.space_delimited_claims,
        key_set=rule.jwks or key_sets.get(_location(rule), ""),
        from_headers=tuple((header.name, header.prefix) for header in rule.from_headers),
        from_params=rule.from_params,
        from_cookies=rule.from_cookies,
        payload_header=rule.output_payload_to_header,
        claim_headers=tuple((each.header, each.claim) for each in rule.output_claim_to_headers),
        forward=rule.forward_original_token,
    )

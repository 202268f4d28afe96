"""The authorization policies that are in force in a live Envoy, read from its RBAC filters."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from mutua.reports.table import render

HEADER = ("ACTION", "AuthorizationPolicy", "RULES")
NOTHING_MATCHES = "_anonymous_match_nothing_"
_ORDER = ("DENY", "ALLOW", "LOG", "CUSTOM")
_RULE = re.compile(
    r"(?:istio-ext-authz-.*-)?ns\[([^]]*)\]-policy\[([^]]*)\]-rule\[(\d+)\](?:-deny-due-to-bad-CUSTOM-action)?"
)
_TYPE = "type.googleapis.com/envoy.extensions.filters."
_KINDS = {"http.rbac.v3.RBAC": "http", "http.rbac.v3.RBACPerRoute": "http", "network.rbac.v3.RBAC": "tcp"}


class InForce(NamedTuple):
    """One policy. `name` is `name.namespace`, `rules` the number of its rules; `where` http, tcp or both."""

    action: str
    name: str
    rules: int
    where: tuple[str, ...]


def policies(resources: list[dict[str, Any]]) -> list[InForce]:
    """Every policy in an Envoy's listeners and routes, by action (DENY, ALLOW, LOG, CUSTOM), then name."""
    rules: dict[tuple[str, str], set[str]] = {}
    places: dict[tuple[str, str], set[str]] = {}
    for where, config in _filters(resources):
        for action, policy, rule in _rules(config):
            rules.setdefault((action, policy), set()).add(rule)
            places.setdefault((action, policy), set()).add(where)
    found = [
        InForce(action, policy, len(indexes), tuple(sorted(places[action, policy])))
        for (action, policy), indexes in rules.items()
    ]
    return sorted(found, key=lambda item: (_ORDER.index(item.action), item.name))


def table(found: list[InForce]) -> str:
    """One row per policy."""
    return render(HEADER, [(item.action, item.name, str(item.rules)) for item in found], padding=3)


def _rules(config: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """(action, policy, rule) of one filter, its dry-run rules included."""
    enforced = config.get("rules")
    if enforced is not None:
        action = str(enforced.get("action", "ALLOW"))
        named = enforced.get("policies") or {}
        if not named:
            yield action, NOTHING_MATCHES, "0"
        for key in named:
            if match := _RULE.fullmatch(key):
                yield action, f"{match[2]}.{match[1]}", match[3]
    for key in (config.get("shadow_rules") or {}).get("policies") or {}:
        if (match := _RULE.fullmatch(key)) and key.startswith("istio-ext-authz-"):
            yield "CUSTOM", f"{match[2]}.{match[1]}", match[3]


def _filters(value: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each RBAC configuration below a value, of a listener's own filters and of what routes tell them."""
    if isinstance(value, Mapping):
        kind = str(value.get("@type", "")).removeprefix(_TYPE)
        if kind in _KINDS:
            yield _KINDS[kind], value.get("rbac") or {} if kind.endswith("PerRoute") else value
        for part in value.values():
            yield from _filters(part)
    elif isinstance(value, list):
        for part in value:
            yield from _filters(part)

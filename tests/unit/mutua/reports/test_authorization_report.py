"""Policies in force, read from what Envoy says of itself."""

from typing import Any

from mutua.reports import authorization

HTTP = "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC"
TCP = "type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC"


def listener(*configs: dict[str, Any]) -> dict[str, Any]:
    return {"filter_chains": [{"filters": [{"name": "x", "typed_config": config} for config in configs]}]}


def rules(action: str, *names: str) -> dict[str, Any]:
    return {"action": action, "policies": {name: {} for name in names}}


def test_rules_are_counted_once_however_many_chains_hold_them() -> None:
    both = rules("ALLOW", "ns[shop]-policy[a]-rule[0]", "ns[shop]-policy[a]-rule[1]")
    found = authorization.policies([listener({"@type": HTTP, "rules": both}, {"@type": TCP, "rules": both})])

    assert found == [authorization.InForce("ALLOW", "a.shop", 2, ("http", "tcp"))]


def test_denials_come_first_and_what_a_route_says_counts() -> None:
    told = {"@type": HTTP + "PerRoute", "rbac": {"rules": rules("DENY", "ns[shop]-policy[no]-rule[0]")}}
    allowed = {"@type": HTTP, "rules": {"policies": {"ns[shop]-policy[yes]-rule[0]": {}}}}

    table = authorization.table(authorization.policies([listener(allowed), {"typed_per_filter_config": {"x": told}}]))

    assert table.splitlines() == [
        "ACTION   AuthorizationPolicy   RULES",
        "DENY     no.shop               1",
        "ALLOW    yes.shop              1",
    ]


def test_a_filter_that_lets_nobody_in_has_a_name_of_its_own_and_an_empty_one_none() -> None:
    found = authorization.policies([listener({"@type": TCP, "rules": {}}, {"@type": HTTP})])

    assert found == [authorization.InForce("ALLOW", authorization.NOTHING_MATCHES, 1, ("tcp",))]

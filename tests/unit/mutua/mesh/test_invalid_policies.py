"""Policies that should not have been let in let nobody in."""

from typing import Any

import pytest
from mesh_objects import authorization_policy

from mutua.api.security import AuthorizationPolicy
from mutua.mesh.authorization import as_written, closed, policies_in
from mutua.mesh.proxy_view import AuthorizationAction, Rule, Trust
from mutua.mesh.selectors import NO_LABELS, labels_of
from mutua.verdict.authorization import Authorization
from mutua.verdict.request import Connection, HttpRequest

CONNECTION = Connection(source_ip="10.0.0.1", destination_ip="10.0.0.2", destination_port=80)
TO_ADMIN = {"to": [{"operation": {"paths": ["/admin"]}}]}
TO_NOWHERE = {"to": [{"operation": {"ports": ["http"]}}]}
FROM_NOBODY = {"from": [{"source": {}}]}


def policy(spec: dict[str, Any], **metadata: Any) -> AuthorizationPolicy:
    item = authorization_policy("apps", "policy", spec, **metadata)
    assert isinstance(item, AuthorizationPolicy)
    return item


def allowed(path: str, *items: AuthorizationPolicy) -> bool:
    policies = tuple(selected.policy for selected in policies_in("apps", items))
    return Authorization(policies, Trust()).decide(CONNECTION, HttpRequest(target=path)).allowed


def test_a_valid_policy_is_enforced_as_written() -> None:
    item = policy({"selector": {"matchLabels": {"app": "a"}}, "action": "DENY", "rules": [TO_ADMIN]})
    assert closed(item) == as_written(item)
    selected = closed(item)
    assert selected is not None
    assert selected.selector == labels_of({"app": "a"})
    assert not allowed("/admin", item)
    assert allowed("/", item)


@pytest.mark.parametrize("rule", [TO_NOWHERE, FROM_NOBODY, {"when": [{"key": "nonsense", "values": ["a"]}]}])
def test_an_invalid_rule_allows_nobody_and_denies_everybody(rule: dict[str, Any]) -> None:
    """The other rules of the policy hold, under their own numbers."""
    allow = policy({"rules": [rule, TO_ADMIN]})
    assert allowed("/admin", allow)
    assert not allowed("/", allow)
    (selected,) = policies_in("apps", [allow])
    decision = Authorization((selected.policy,), Trust()).decide(CONNECTION, HttpRequest(target="/admin"))
    assert decision.rule == "ns[apps]-policy[policy]-rule[1]"
    assert not allowed("/", policy({"action": "DENY", "rules": [rule, TO_ADMIN]}))
    assert allowed("/", policy({"action": "AUDIT", "rules": [rule]}))


@pytest.mark.parametrize("action", ["ALLOW", "DENY"])
@pytest.mark.parametrize(
    "selection",
    [
        {"selector": {"matchLabels": {"app": "*"}}},
        {"selector": {"matchLabels": {"app": "a"}}, "targetRefs": [{"kind": "Service", "name": "a"}]},
    ],
)
def test_a_selection_in_doubt_closes_the_namespace(action: str, selection: dict[str, Any]) -> None:
    """Left out, a DENY would deny nobody, and the only ALLOW would leave everything open."""
    item = policy({"action": action, "rules": [TO_ADMIN], **selection})
    selected = closed(item)
    assert selected is not None
    assert (selected.selector, selected.policy.action) == (NO_LABELS, AuthorizationAction.DENY)
    assert selected.policy.rules == (Rule(),)
    assert not allowed("/", item)


def test_a_policy_for_gateways_is_not_for_sidecars() -> None:
    item = policy({"targetRefs": [{"kind": "Gateway", "name": "a", "group": "gateway.networking.k8s.io"}]})
    assert closed(item) is None
    assert closed(policy({"targetRefs": [{"kind": "Nothing", "name": "a"}]})) is None
    assert allowed("/", item)


@pytest.mark.parametrize(("text", "dry"), [("true", True), ("1", True), ("false", False), ("yes", False)])
def test_a_dry_run_is_enforced_unless_it_is_surely_one(text: str, dry: bool) -> None:
    item = policy({"action": "DENY", "rules": [TO_ADMIN]}, annotations={"istio.io/dry-run": text})
    assert allowed("/admin", item) is dry

"""AuthorizationPolicies decide as Istio's do in Envoy, and say which rule it was."""

from typing import Any

import authorization_cases as cases
import pytest

from mutua.envoy.connections import FORGEABLE_HEADERS
from mutua.mesh.authorization import closed
from mutua.mesh.proxy_view import (
    AuthorizationAction,
    AuthorizationProvider,
    Condition,
    EffectivePolicy,
    ObjectRef,
    Operation,
    Rule,
    Source,
    Trust,
)
from mutua.verdict import headers
from mutua.verdict.authorization import Answer, Authorization, Decision, DryRun
from mutua.verdict.request import Connection, HttpRequest, Peer

ALLOW, DENY = AuthorizationAction.ALLOW, AuthorizationAction.DENY
AUDIT, CUSTOM = AuthorizationAction.AUDIT, AuthorizationAction.CUSTOM


@pytest.mark.vectors("authz-golden")
def test_decisions_agree_with_istios_own_policies(vector: dict[str, Any]) -> None:
    if "features" in vector["mesh"]:
        pytest.skip("several external authorizers for one workload are not asked, as in Istio by default")
    decision = cases.decide(vector)
    assert decision.allowed is (vector["expect"] == "allow"), decision
    _names_the_rule(decision, vector)


@pytest.mark.vectors("authz-fields")
def test_decisions_agree_field_by_field(vector: dict[str, Any]) -> None:
    """And what a webhook would have refused is enforced more strictly than Istio enforces it, never less."""
    decision = cases.decide(vector)
    assert decision.allowed is (vector["expect"] == "allow"), decision
    _names_the_rule(decision, vector)
    if "admission_error" in vector:
        assert decision.allowed or not cases.decide(vector, cases.policies(vector, closed)).allowed


def _names_the_rule(decision: Decision, vector: dict[str, Any]) -> None:
    """The rule is the one that Envoy wrote into its metadata."""
    metadata = (vector.get("observed") or {}).get("rbac_metadata") or {}
    expected = metadata.get("enforced_effective_policy_id")
    if expected:
        assert expected in (decision.rule, *decision.audited)


CLIENT = Peer(("spiffe://cluster.local/ns/web/sa/client",))
CONNECTION = Connection(source_ip="10.0.0.1", destination_ip="10.0.0.2", destination_port=8080, peer=CLIENT)
GET = HttpRequest(method="GET", target="/api", authority="server")


def policy(name: str, action: AuthorizationAction, *rules: Rule, **more: Any) -> EffectivePolicy:
    return EffectivePolicy("apps", name, action, rules, **more)


def to(**fields: tuple[str, ...]) -> Rule:
    return Rule(operations=(Operation(**fields),))


def decide(*policies: EffectivePolicy, providers: tuple[AuthorizationProvider, ...] = (), **more: Any) -> Decision:
    return Authorization(policies, Trust(), providers=providers).decide(CONNECTION, GET, **more)


def test_nothing_applies() -> None:
    decision = decide()
    assert (decision.allowed, decision.action, decision.policy) == (True, None, None)


def test_deny_comes_before_allow() -> None:
    decision = decide(policy("open", ALLOW, Rule()), policy("shut", DENY, to(paths=("/api",))))
    assert decision == Decision(
        False,
        "rule 0 of AuthorizationPolicy apps/shut denies it",
        DENY,
        ObjectRef("AuthorizationPolicy", "apps", "shut"),
        "ns[apps]-policy[shut]-rule[0]",
    )


def test_a_refusal_says_what_each_rule_wants() -> None:
    who = Rule(sources=(Source(principals=("cluster.local/ns/web/sa/frontend",)),))
    decision = decide(policy("some", ALLOW, who, to(methods=("POST",), ports=("8080",))), explain=True)
    assert decision.reason == "no rule of the ALLOW policies matches: apps/some"
    assert decision.lacks == (
        "ns[apps]-policy[some]-rule[0] from: principals wants cluster.local/ns/web/sa/frontend "
        "(it is cluster.local/ns/web/sa/client)",
        "ns[apps]-policy[some]-rule[1] to: methods wants POST (it is GET)",
    )


def test_rules_are_asked_in_the_order_of_their_names() -> None:
    """As Envoy does, so that the rule of an access log is the same: 10 comes before 2."""
    rules = [to(paths=("/other",))] * 2 + [Rule()] * 9
    assert decide(policy("many", ALLOW, *rules)).rule == "ns[apps]-policy[many]-rule[10]"


def test_audit_and_dry_runs_decide_nothing() -> None:
    decision = decide(
        policy("watch", AUDIT, Rule()),
        policy("try-deny", DENY, Rule(), dry_run=True),
        policy("try-allow", ALLOW, to(paths=("/other",)), dry_run=True),
    )
    assert decision.allowed
    assert decision.audited == ("ns[apps]-policy[watch]-rule[0]",)
    assert decision.dry_run == (
        DryRun(DENY, False, "ns[apps]-policy[try-deny]-rule[0]"),
        DryRun(ALLOW, False),
    )


@pytest.mark.parametrize(
    ("answer", "fail_open", "allowed"),
    [
        (Answer.ALLOW, False, True),
        (Answer.DENY, True, False),
        (Answer.UNAVAILABLE, True, True),
        (Answer.UNAVAILABLE, False, False),
        (None, True, False),
    ],
)
def test_external_authorizers(answer: Answer | None, fail_open: bool, allowed: bool) -> None:
    """Who is not known to answer does not let anybody in."""
    asked = policy("ask", CUSTOM, to(paths=("/api",)), provider="external")
    answers = {"external": answer} if answer else {}
    decision = decide(
        asked,
        providers=(AuthorizationProvider("external", "external.apps", 9000, http=True, fail_open=fail_open),),
        answers=answers,
    )
    assert decision.allowed is allowed
    if not allowed:
        assert decision.rule == "istio-ext-authz-external-ns[apps]-policy[ask]-rule[0]"


def test_of_several_providers_none_is_asked() -> None:
    """What a second one would say is not known to the first; Istio refuses too, unless told otherwise."""
    known = tuple(AuthorizationProvider(name, f"{name}.apps", 9000, http=False) for name in ("one", "two"))
    asked = tuple(policy(name, CUSTOM, Rule(), provider=name) for name in ("one", "two"))
    decision = decide(*asked, providers=known, answers={"one": Answer.ALLOW, "two": Answer.ALLOW})
    assert not decision.allowed
    assert decision.rule.endswith("-deny-due-to-bad-CUSTOM-action")
    assert decide(asked[0], providers=known, answers={"one": Answer.ALLOW}).allowed


def test_a_provider_that_nobody_knows_denies_what_matches() -> None:
    asked = policy("ask", CUSTOM, to(paths=("/api",)), provider="external")
    decision = decide(asked)
    assert not decision.allowed
    assert decision.rule == "istio-ext-authz-external-ns[apps]-policy[ask]-rule[0]-deny-due-to-bad-CUSTOM-action"
    elsewhere = Authorization((asked,), Trust()).decide(CONNECTION, HttpRequest(target="/other"))
    assert elsewhere.allowed


@pytest.mark.parametrize("target", ["/a#b", "/a\x00", "/a%00", "/é", "a", "*", ""])
def test_the_proxy_itself_refuses_some_paths(target: str) -> None:
    decision = Authorization((), Trust()).decide(CONNECTION, HttpRequest(target=target))
    assert not decision.allowed
    assert "answers 400" in decision.reason


@pytest.mark.parametrize(
    ("sent", "seen"),
    [
        ("/a/..;x/b", "/b"),
        ("/a/.;x=1;y/b", "/a/b"),
        ("/a/%2e%2e;x/b", "/a/..;x/b"),
        ("/a/..%3bx/b", "/a/..%3bx/b"),
        ("/a/...;x/b", "/a/...;x/b"),
        ("/a/..;x%2fy/b", "/b"),
        ("/a/%2e%2E/", "/"),
        ("//../b", "/b"),
        ("/a//../b", "/a/b"),
        ("/a/..;\\b", "/"),
        ("/a/..\\;/b", "/;/b"),
        ("/a/..;?x/../y", "/?x/../y"),
        ("/a%zz", "/a%zz"),
        ("/a%2", "/a%2"),
        ('/a"<>^`{|}', "/a%22%3C%3E%5E%60%7B%7C%7D"),
        ("/%c3%a9", "/%c3%a9"),
        ("/a/..;%00/b", "/b"),
        ("/../..", "/"),
        ("/a/%2e", "/a/"),
    ],
)
def test_paths_are_rewritten_as_envoy_does(sent: str, seen: str) -> None:
    """Seen from Envoy 1.40 with `normalize_path`."""
    allow = policy("path", ALLOW, Rule(conditions=(Condition("request.headers[:path]", (seen,)),)))
    decision = Authorization((allow,), Trust()).decide(CONNECTION, HttpRequest(target=sent))
    assert decision.allowed, decision.lacks


@pytest.mark.parametrize(
    ("name", "value", "matches"),
    [
        ("x-own", "a", True),
        ("x-own", "b", True),
        ("x-own", "a,b", False),
        ("cookie", "a", True),
        ("authorization", "a", False),
        ("authorization", "b", False),
        ("authorization", "a,b", True),
        ("authorization", "*b", True),
    ],
)
def test_repeated_headers_are_what_envoy_makes_of_them(name: str, value: str, matches: bool) -> None:
    """Each line counts; but of some headers Envoy keeps one value, with commas."""
    allow = policy("line", ALLOW, Rule(conditions=(Condition(f"request.headers[{name}]", (value,)),)))
    request = HttpRequest(target="/", headers=((name, "a"), (name.title(), "b")))
    assert Authorization((allow,), Trust()).decide(CONNECTION, request).allowed is matches


@pytest.mark.parametrize(
    ("sent", "seen"),
    [((), None), (("",), ""), (("gzip",), None), (("gzip, trailers",), "trailers"), (("", "x"), None), (("", ""), "")],
)
def test_te_is_trailers_or_nothing(sent: tuple[str, ...], seen: str | None) -> None:
    assert headers.shown([("TE", value) for value in sent], "http").get("te") == (None if seen is None else (seen,))


def test_empty_lines_are_not_joined() -> None:
    shown = headers.shown([("accept", ""), ("Accept", "a"), ("accept", ""), ("x-own", ""), ("x-own", "a")], "http")
    assert (shown["accept"], shown["x-own"]) == (("a",), ("", "a"))


def test_what_our_settings_take_away_is_not_shown() -> None:
    assert set(FORGEABLE_HEADERS) <= headers.NEVER_SHOWN


def test_what_a_client_says_of_itself_is_not_believed() -> None:
    """Headers that the sidecar takes away match nothing."""
    forged = tuple(
        Rule(conditions=(Condition(f"request.headers[{name}]", ("*",)),))
        for name in ("X-Forwarded-Client-Cert", "x-envoy-original-path")
    )
    headers = (("x-forwarded-client-cert", "URI=spiffe://x"), ("X-Envoy-Original-Path", "/api"))
    request = HttpRequest(target="/", headers=headers)
    decision = Authorization((policy("forged", ALLOW, *forged),), Trust()).decide(CONNECTION, request)
    assert not decision.allowed


@pytest.mark.parametrize("character", ".+*[(|$^\\?{")
def test_no_character_of_a_policy_is_a_pattern(character: str) -> None:
    """Accounts, namespaces and domains are compared as text; only `*` varies, and never in accounts."""
    name = f"a{character}b"
    others = ("ab", "aab", "axb", "abb")
    for value, field in (
        (f"foo/{name}", "service_accounts"),
        (name, "namespaces"),
        (name, "trust_domains"),
        (f"*/sa/{name}", "principals"),
    ):
        if character == "*" and field != "service_accounts":
            continue
        allow = Authorization((policy("p", ALLOW, Rule(sources=(Source(**{field: (value,)}),))),), Trust())
        for other in others:
            names = (f"spiffe://{other}/ns/{other}/sa/{other}", f"spiffe://cluster.local/ns/foo/sa/{other}")
            peer = Connection(source_ip="10.0.0.1", destination_ip="10.0.0.2", destination_port=80, peer=Peer(names))
            assert not allow.decide(peer, GET).allowed, (field, value, other)

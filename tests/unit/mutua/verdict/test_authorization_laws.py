"""What holds for every AuthorizationPolicy and every request."""

from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes import policy_cases
from fakes.policy_cases import TRUST, Case
from mutua.mesh.proxy_view import AuthorizationAction, EffectivePolicy, Operation, Rule, Source, Trust
from mutua.verdict.authorization import Authorization, Decision
from mutua.verdict.request import Connection, HttpRequest, Peer

ALLOW, DENY = AuthorizationAction.ALLOW, AuthorizationAction.DENY
RANDOMS = st.randoms(use_true_random=False)
CASES = RANDOMS.map(policy_cases.case)
TEXT = st.text(max_size=12)


def decide(case: Case, *, and_also: tuple[EffectivePolicy, ...] = ()) -> Decision:
    authorization = Authorization((*case.policies, *and_also), TRUST, case.normalization)
    return authorization.decide(case.connection, case.request, case.claims, explain=True)


def shuffled(random: Random, policy: EffectivePolicy) -> EffectivePolicy:
    """The same policy with everything in another order that has no order."""

    def mixed(values: tuple[object, ...]) -> tuple[object, ...]:
        return tuple(random.sample(values, len(values)))

    def fields(part: Source | Operation) -> Source | Operation:
        return type(part)(**{name: mixed(getattr(part, name)) for name in part.__struct_fields__})

    rules = tuple(
        Rule(
            tuple(fields(each) for each in mixed(rule.sources)),
            tuple(fields(each) for each in mixed(rule.operations)),
            mixed(rule.conditions),
        )
        for rule in mixed(policy.rules)
    )
    return msgspec.structs.replace(policy, rules=rules)


@given(CASES, RANDOMS)
def test_order_does_not_matter(case: Case, random: Random) -> None:
    """Of policies, rules, fields and values."""
    policies = tuple(shuffled(random, policy) for policy in random.sample(case.policies, len(case.policies)))
    assert decide(case._replace(policies=policies)).allowed is decide(case).allowed


@given(CASES, RANDOMS)
def test_a_deny_policy_lets_nobody_in(case: Case, random: Random) -> None:
    more = policy_cases.policy(random, DENY, "more")
    assert decide(case).allowed or not decide(case, and_also=(more,)).allowed


@given(CASES, RANDOMS)
def test_an_allow_rule_keeps_nobody_out(case: Case, random: Random) -> None:
    """Where there is an ALLOW policy already."""
    closing = EffectivePolicy("foo", "closing", ALLOW, ())
    more = policy_cases.policy(random, ALLOW, "more")
    assert not decide(case, and_also=(closing,)).allowed or decide(case, and_also=(closing, more)).allowed


@given(CASES)
def test_what_is_only_watched_or_tried_changes_nothing(case: Case) -> None:
    enforced = tuple(
        policy
        for policy in case.policies
        if policy.action is not AuthorizationAction.AUDIT
        and (not policy.dry_run or policy.action is AuthorizationAction.CUSTOM)
    )
    assert decide(case._replace(policies=enforced)).allowed is decide(case).allowed


@given(CASES)
def test_an_empty_rule_is_about_everybody(case: Case) -> None:
    everybody = Authorization((EffectivePolicy("foo", "all", DENY, (Rule(),)),), TRUST)
    assert not everybody.decide(case.connection, case.request, case.claims).allowed
    nobody = Authorization((EffectivePolicy("foo", "none", ALLOW, ()),), TRUST)
    assert not nobody.decide(case.connection, case.request, case.claims).allowed


@given(CASES)
def test_rules_may_stand_in_policies_of_their_own(case: Case) -> None:
    apart = tuple(
        msgspec.structs.replace(policy, name=f"{policy.name}-{index}", rules=(rule,))
        for policy in case.policies
        for index, rule in enumerate(policy.rules)
    )
    # A policy without rules still closes the workload.
    empty = tuple(policy for policy in case.policies if not policy.rules)
    assert decide(case._replace(policies=(*apart, *empty))).allowed is decide(case).allowed


@given(CASES, RANDOMS)
def test_not_is_the_opposite(case: Case, random: Random) -> None:
    """Of each field with one or more values, for requests."""
    request = case.request or HttpRequest()
    part: type[Source | Operation] = random.choice((Source, Operation))
    field = random.choice([name for name in part.__struct_fields__ if not name.startswith("not_")])
    pools = policy_cases.SOURCES if part is Source else policy_cases.OPERATIONS
    values = tuple(random.sample(pools[field], random.randint(1, 2)))

    def allowed(name: str) -> bool:
        given_part = part(**{name: values})
        rule = Rule(sources=(given_part,)) if isinstance(given_part, Source) else Rule(operations=(given_part,))
        policy = EffectivePolicy("foo", "p", ALLOW, (rule,))
        return Authorization((policy,), TRUST).decide(case.connection, request, case.claims).allowed

    assert allowed(field) is not allowed(f"not_{field}")


@given(CASES)
def test_a_refusal_says_why(case: Case) -> None:
    """And a rule that decides belongs to a policy that is there."""
    decision = decide(case)
    assert decision.reason
    if decision.policy is not None:
        assert decision.policy.name in {policy.name for policy in case.policies}
        assert f"policy[{decision.policy.name}]" in decision.rule
    if not decision.allowed and decision.action is ALLOW:
        assert all(" wants " in lack or " excludes " in lack for lack in decision.lacks)


@pytest.mark.parametrize("action", AuthorizationAction)
@given(
    values=st.tuples(TEXT, TEXT, TEXT, TEXT, TEXT),
    target=TEXT.map("/".__add__),
    names=st.lists(TEXT, max_size=3),
    header=TEXT,
    claims=st.none() | st.dictionaries(TEXT, st.recursive(st.none() | st.integers() | TEXT, st.lists, max_leaves=3)),
)
@settings(max_examples=60)
def test_no_text_is_too_odd(
    action: AuthorizationAction,
    values: tuple[str, ...],
    target: str,
    names: list[str],
    header: str,
    claims: dict[str, object] | None,
) -> None:
    """Whatever stands in a policy or in a request, there is an answer."""
    sources = Source(**dict.fromkeys(Source.__struct_fields__[:12:2], values))
    operations = Operation(hosts=values, not_ports=values, paths=values, not_methods=values)
    policies = tuple(
        EffectivePolicy("foo", str(number), action, (rule,))
        for number, rule in enumerate(
            (Rule(sources=(sources,)), Rule(operations=(operations,)), Rule((sources,), (operations,)))
        )
    )
    connection = Connection(
        source_ip="10.0.0.1", destination_ip="10.0.0.2", destination_port=80, peer=Peer(tuple(names))
    )
    request = HttpRequest(method=values[0], target=target, authority=values[1], headers=((values[2], header),))
    authorization = Authorization(policies, Trust(("cluster.local", "td")))
    for asked in (request, None):
        assert authorization.decide(connection, asked, claims).reason

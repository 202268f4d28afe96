"""Whether AuthorizationPolicies let a connection or request through, by which rule, and why, as Istio and Envoy do."""

from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from typing import Any, Final

import msgspec

from mutua.envoy import names
from mutua.errors import InvalidInputError
from mutua.mesh.proxy_view import (
    AuthorizationAction,
    AuthorizationProvider,
    EffectivePolicy,
    Frozen,
    ObjectRef,
    Trust,
)
from mutua.verdict.request import Connection, Facts, HttpRequest
from mutua.verdict.rules import CompiledRule, compiled

KIND: Final = "AuthorizationPolicy"
_LISTED: Final = 10  # policies that a refusal names
NO_PROVIDER_SUFFIX: Final = "-deny-due-to-bad-CUSTOM-action"
"""Ends the name of a CUSTOM rule that denies because nobody is there to be asked. Source: Istio's builder."""


class Answer(StrEnum):
    """What an external authorizer says."""

    ALLOW = "allow"
    DENY = "deny"
    UNAVAILABLE = "unavailable"


class DryRun(Frozen, frozen=True):
    """What policies that are only tried out would have done."""

    action: AuthorizationAction
    allowed: bool
    rule: str = ""


class Decision(Frozen, frozen=True):
    """What the policies of one workload say."""

    allowed: bool
    reason: str
    action: AuthorizationAction | None = None  # the step that decided; None: no policy, or no valid request
    policy: ObjectRef | None = None
    rule: str = ""  # as Envoy's access log names it
    lacks: tuple[str, ...] = ()  # for a refusal by ALLOW: what each rule wants
    audited: tuple[str, ...] = ()  # AUDIT rules that match
    dry_run: tuple[DryRun, ...] = ()


class _Named(msgspec.Struct, frozen=True):
    name: str
    policy: EffectivePolicy
    index: int
    rule: CompiledRule

    @property
    def reference(self) -> ObjectRef:
        return ObjectRef(KIND, self.policy.namespace, self.policy.name)

    def __str__(self) -> str:
        return f"rule {self.index} of {KIND} {self.policy.namespace}/{self.policy.name}"


class _Rules:
    """The rules of one action in the order in which Envoy asks them: by name. Most are found by the client's name."""

    __slots__ = ("_by_name", "_of_anybody", "all")

    def __init__(self, rules: Iterable[_Named]) -> None:
        self.all = tuple(sorted(rules, key=lambda rule: rule.name))
        self._by_name: dict[str, list[int]] = {}
        self._of_anybody: list[int] = []
        for number, named in enumerate(self.all):
            if named.rule.names is None:
                self._of_anybody.append(number)
            for name in named.rule.names or ():
                self._by_name.setdefault(name, []).append(number)

    def matching(self, facts: Facts) -> Iterator[_Named]:
        """The rules that match, in order."""
        numbers = self._of_anybody
        mine = [number for name in facts.names for number in self._by_name.get(name, ())]
        for number in sorted({*numbers, *mine}) if mine else numbers:
            if self.all[number].rule.matches(facts):
                yield self.all[number]


class Authorization:
    """The policies of one workload, compiled once and asked often.

    `policies` are those that apply to it. `providers` are the external authorizers that its proxy can reach; what asks
    another is refused, and so is what matches where policies ask several of them.
    """

    __slots__ = ("_normalization", "_policies", "_providers", "_rules", "_trust")

    def __init__(
        self,
        policies: tuple[EffectivePolicy, ...],
        trust: Trust,
        normalization: str = "BASE",
        providers: tuple[AuthorizationProvider, ...] = (),
    ) -> None:
        self._policies = policies
        self._trust = trust
        self._normalization = normalization
        self._providers = {provider.name: provider for provider in providers}
        self._rules: dict[tuple[AuthorizationAction, bool, bool], _Rules] = {}

    def decide(
        self,
        connection: Connection,
        request: HttpRequest | None = None,
        claims: Mapping[str, Any] | None = None,
        answers: Mapping[str, Answer] | None = None,
        *,
        explain: bool = False,
    ) -> Decision:
        """The decision about a request, or about a connection that carries none.

        `claims` is the payload of the verified token; `answers` is what each external authorizer would say.
        `explain`: a refusal says what each ALLOW rule lacks.
        """
        try:
            facts = Facts(connection, request, claims, self._normalization)
        except InvalidInputError as problem:
            return Decision(False, problem.message)
        refused = self._asked_elsewhere(facts, answers or {})
        if refused is not None:
            return refused
        decision = self._judged(facts)
        if explain and decision.action is AuthorizationAction.ALLOW and not decision.allowed:
            decision = msgspec.structs.replace(decision, lacks=self._lacks(facts))
        audited = tuple(rule.name for rule in self._of(AuthorizationAction.AUDIT, facts).matching(facts))
        tried = self._tried(facts)
        return msgspec.structs.replace(decision, audited=audited, dry_run=tried) if audited or tried else decision

    def _judged(self, facts: Facts) -> Decision:
        for rule in self._of(AuthorizationAction.DENY, facts).matching(facts):
            return _decision(False, AuthorizationAction.DENY, rule, f"{rule} denies it")
        if not self._has(AuthorizationAction.ALLOW):
            return Decision(True, "no ALLOW policy applies to the workload, so that what is not denied is allowed")
        for rule in self._of(AuthorizationAction.ALLOW, facts).matching(facts):
            return _decision(True, AuthorizationAction.ALLOW, rule, f"{rule} allows it")
        closing = sorted({f"{policy.namespace}/{policy.name}" for policy in self._enforced(AuthorizationAction.ALLOW)})
        listed = ", ".join(closing[:_LISTED]) + (f" and {len(closing) - _LISTED} more" if closing[_LISTED:] else "")
        return Decision(False, f"no rule of the ALLOW policies matches: {listed}", AuthorizationAction.ALLOW)

    def _lacks(self, facts: Facts) -> tuple[str, ...]:
        rules = self._of(AuthorizationAction.ALLOW, facts).all
        return tuple(f"{rule.name} {'; '.join(rule.rule.lacks(facts))}" for rule in rules)

    def _asked_elsewhere(self, facts: Facts, answers: Mapping[str, Answer]) -> Decision | None:
        """What CUSTOM policies refuse. They are asked before any token is looked at."""
        custom = AuthorizationAction.CUSTOM
        facts = facts.without_claims()
        matching = list(self._of(custom, facts).matching(facts))
        if not matching:
            return None
        named = {policy.provider for policy in self._enforced(custom)}
        one_too_many = len(named) > 1
        asked: set[str] = set()
        for rule in sorted(matching, key=lambda rule: rule.policy.provider):
            name = rule.policy.provider
            provider = self._providers.get(name)
            if provider is None or one_too_many or rule.policy.dry_run:
                why = f"{rule} names the provider {name!r}, which cannot be asked"
                return msgspec.structs.replace(_decision(False, custom, rule, why), rule=rule.name + NO_PROVIDER_SUFFIX)
            if name in asked or (provider.http and not facts.is_request):
                continue
            asked.add(name)
            answer = answers.get(name)
            if answer is Answer.ALLOW or (answer is Answer.UNAVAILABLE and provider.fail_open):
                continue
            said = "is not known here" if answer is None else f"is {answer.value}"
            return _decision(False, custom, rule, f"{rule} asks {name!r}, whose answer {said}")
        return None

    def _tried(self, facts: Facts) -> tuple[DryRun, ...]:
        found = []
        for action in (AuthorizationAction.DENY, AuthorizationAction.ALLOW):
            if not any(policy.action is action and policy.dry_run for policy in self._policies):
                continue
            rule = next(self._of(action, facts, dry_run=True).matching(facts), None)
            allowed = (rule is None) is (action is AuthorizationAction.DENY)
            found.append(DryRun(action, allowed, rule.name if rule else ""))
        return tuple(found)

    def _has(self, action: AuthorizationAction) -> bool:
        return any(policy.action is action and not policy.dry_run for policy in self._policies)

    def _enforced(self, action: AuthorizationAction) -> list[EffectivePolicy]:
        return [
            policy
            for policy in self._policies
            # A dry run of CUSTOM is enforced: nobody could be asked without consequence.
            if policy.action is action and (not policy.dry_run or action is AuthorizationAction.CUSTOM)
        ]

    def _of(self, action: AuthorizationAction, facts: Facts, *, dry_run: bool = False) -> _Rules:
        key = (action, facts.is_request, dry_run)
        found = self._rules.get(key)
        if found is None:
            chosen = (
                [policy for policy in self._policies if policy.action is action and policy.dry_run]
                if dry_run
                else self._enforced(action)
            )
            made = (
                _Named(_name(policy, index), policy, index, rule)
                for policy in chosen
                for index, each in enumerate(policy.rules)
                if (rule := self._compiled(each, policy, facts)) is not None
            )
            found = self._rules[key] = _Rules(made)
        return found

    def _compiled(self, rule: Any, policy: EffectivePolicy, facts: Facts) -> CompiledRule | None:
        narrow = policy.action is AuthorizationAction.ALLOW
        return compiled(rule, policy.namespace, self._trust, requests=facts.is_request, narrow=narrow)


def _decision(allowed: bool, action: AuthorizationAction, rule: _Named, reason: str) -> Decision:
    return Decision(allowed, reason, action, rule.reference, rule.name)


def _name(policy: EffectivePolicy, index: int) -> str:
    name = names.policy(policy.namespace, policy.name, index)
    return names.custom_policy(policy.provider, name) if policy.action is AuthorizationAction.CUSTOM else name

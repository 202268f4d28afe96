"""One rule of an AuthorizationPolicy, ready to be asked whether it matches, and what it lacks."""

from collections.abc import Iterable, Sequence

import msgspec

from mutua.errors import InvalidInputError
from mutua.mesh.proxy_view import Operation, Rule, Source, Trust
from mutua.verdict import matchers, terms
from mutua.verdict.request import Facts
from mutua.verdict.terms import Predicate, Term


class Test(msgspec.Struct, frozen=True):
    """One field's values, compiled. `wanted`: one of them must match; `unwanted`: none may. () asks nothing."""

    term: Term
    wanted: tuple[Predicate, ...]
    unwanted: tuple[Predicate, ...]

    def __call__(self, facts: Facts) -> bool:
        if self.wanted:
            for predicate in self.wanted:
                if predicate(facts):
                    break
            else:
                return False
        return not any(predicate(facts) for predicate in self.unwanted)

    def lack(self, facts: Facts) -> str:
        """Why it does not match."""
        shown = self.term.shown(facts)
        given = f" (it is {shown})" if shown else ""
        if self.wanted and not any(predicate(facts) for predicate in self.wanted):
            return f"{self.term.field} wants {_listed(self.term.values)}{given}"
        return f"{self.term.field} excludes {_listed(self.term.not_values)}{given}"


Tests = tuple[Test, ...]
"""All of them must match."""


class CompiledRule(msgspec.Struct, frozen=True):
    """Any of `sources`, any of `operations`, and all `conditions`.

    `names`: the rule matches only who proves one of these names; None: it may match anybody.
    """

    sources: tuple[Tests, ...]
    operations: tuple[Tests, ...]
    conditions: Tests
    names: frozenset[str] | None = None

    def matches(self, facts: Facts) -> bool:
        """Whether the rule is about this connection or request."""
        return (
            _any(self.sources, facts)
            and _any(self.operations, facts)
            and all(condition(facts) for condition in self.conditions)
        )

    def lacks(self, facts: Facts) -> list[str]:
        """What stands in the way, part by part; [] if it matches."""
        found = [
            f"{name}: " + ", or ".join(_lacks(alternative, facts) for alternative in alternatives)
            for name, alternatives in (("from", self.sources), ("to", self.operations))
            if not _any(alternatives, facts)
        ]
        when = _lacks(self.conditions, facts)
        return [*found, f"when: {when}"] if when else found


def compiled(rule: Rule, namespace: str, trust: Trust, *, requests: bool, narrow: bool) -> CompiledRule | None:
    """One rule, for requests or for connections without them.

    What cannot be asked (of a connection: what only requests have; a value that means nothing) voids an ALLOW rule
    (`narrow`: None), and falls away from the others, so that a rule that denies denies more. Source: Istio's builder.
    """

    def tests(given: Iterable[Term]) -> Tests:
        return tuple(test for term in given if (test := _test(term, requests=requests, narrow=narrow)) is not None)

    try:
        sources = tuple(tests(terms.of_source(each, namespace, trust)) for each in rule.sources or (Source(),))
        return CompiledRule(
            sources=sources,
            names=_names(sources),
            operations=tuple(tests(terms.of_operation(each)) for each in rule.operations or (Operation(),)),
            conditions=tests(terms.of_condition(each, namespace, trust) for each in rule.conditions),
        )
    except InvalidInputError:
        return None


def _names(sources: tuple[Tests, ...]) -> frozenset[str] | None:
    """Who can meet these sources at all, if each of them lists principals without a wildcard."""
    found: set[str] = set()
    for tests in sources:
        listed = next((test.term.values for test in tests if test.wanted and test.term.field == "principals"), ("*",))
        if any("*" in value for value in listed):
            return None
        found.update(matchers.SCHEME + value for value in listed)
    return frozenset(found)


def _test(term: Term, *, requests: bool, narrow: bool) -> Test | None:
    wanted = _each(term, term.values, requests=requests, narrow=narrow)
    unwanted = _each(term, term.not_values, requests=requests, narrow=narrow)
    return Test(term, wanted, unwanted) if wanted or unwanted else None


def _each(term: Term, values: Sequence[str], *, requests: bool, narrow: bool) -> tuple[Predicate, ...]:
    made: list[Predicate] = []
    for value in values:
        try:
            if term.needs_request and not requests:
                raise InvalidInputError(f"{term.field}: a connection without requests has none")
            made.append(term.make(value))
        except InvalidInputError:
            if narrow:
                raise
    return tuple(made)


def _any(alternatives: tuple[Tests, ...], facts: Facts) -> bool:
    for alternative in alternatives:
        for test in alternative:
            if not test(facts):
                break
        else:
            return True
    return False


def _lacks(tests: Tests, facts: Facts) -> str:
    return " and ".join(test.lack(facts) for test in tests if not test(facts))


def _listed(values: Sequence[str]) -> str:
    return " or ".join(values)

"""Rules in CEL of custom resources, and what keeps a schema from being structural."""

from typing import Any

import pytest

from localcluster.apiserver import cel
from localcluster.apiserver.admission import conditions
from localcluster.apiserver.schemas import rules, structural

LONG_ENOUGH = [{"rule": "self > duration('1s')"}]
SPEC: dict[str, Any] = {
    "type": "object",
    "x-kubernetes-validations": [
        {"rule": "self.least <= self.most", "messageExpression": "'least %d is over most'.format([self.least])"},
        {"rule": "self.most >= oldSelf.most", "message": "most never shrinks", "reason": "FieldValueForbidden"},
    ],
    "properties": {
        "least": {"type": "integer"},
        "most": {"type": "integer"},
        "until": {"type": "string", "format": "date-time"},
        "wait": {
            "type": "string",
            "format": "duration",
            "x-kubernetes-validations": [{"rule": "self > duration('1s')"}],
        },
        "a-b": {"type": "string"},
        "namespace": {"type": "string"},
        "ports": {
            "type": "array",
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
            "items": {
                "type": "object",
                "required": ["name"],
                "x-kubernetes-validations": [{"rule": "self.port == oldSelf.port", "message": "a port stays"}],
                "properties": {"name": {"type": "string"}, "port": {"type": "integer"}},
            },
        },
        "any": {
            "type": "object",
            "additionalProperties": {"type": "string", "x-kubernetes-validations": [{"rule": "self.startsWith('x')"}]},
        },
    },
}
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"spec": SPEC}}
GOOD: dict[str, Any] = {"least": 1, "most": 2}


def broken(spec: dict[str, Any], old: dict[str, Any] | None = None, **rule: Any) -> list[str]:
    schema: dict[str, Any] = SCHEMA
    if rule:
        schema = {"type": "object", "properties": {"spec": {**SPEC, "x-kubernetes-validations": [rule]}}}
    return [str(error) for error in rules.validate(schema, {"spec": spec}, None if old is None else {"spec": old})]


def test_a_rule_names_the_field_and_says_its_message() -> None:
    assert broken(GOOD) == []
    assert broken({"least": 3, "most": 2}) == ['spec: Invalid value: "object": least 3 is over most']
    assert broken({**GOOD, "any": {"k": "y"}}) == [
        "spec.any[k]: Invalid value: \"y\": failed rule: self.startsWith('x')"
    ]
    assert broken({**GOOD, "wait": "500ms"}) == [
        "spec.wait: Invalid value: \"500ms\": failed rule: self > duration('1s')"
    ]
    assert broken({**GOOD, "wait": "1m30s"}) == []


def test_rules_about_changes_hold_on_updates_only() -> None:
    assert broken({"least": 0, "most": 1}, GOOD) == ["spec: Forbidden: most never shrinks"]
    assert broken({"least": 0, "most": 3}, GOOD) == []
    before = {**GOOD, "ports": [{"name": "a", "port": 1}, {"name": "b", "port": 2}]}
    after = {**GOOD, "ports": [{"name": "b", "port": 2}, {"name": "c", "port": 9}, {"name": "a", "port": 3}]}
    assert broken(after, before) == ['spec.ports[2]: Invalid value: "object": a port stays']


def test_rules_that_want_to_know_whether_there_was_an_object() -> None:
    rule = {"rule": "!oldSelf.hasValue() || oldSelf.value().most == self.most", "optionalOldSelf": True}
    assert broken(GOOD, **rule) == []
    assert broken(GOOD, {**GOOD, "most": 9}, **rule) != []


@pytest.mark.parametrize(
    ("rule", "holds"),
    [
        ("self.a__dash__b == 'x'", True),
        ("self.__namespace__ == 'n'", True),
        ("self.until > timestamp('2020-01-01T00:00:00Z')", True),
        ("has(self.missing)", False),
        ("self.?missing.orValue('d') == 'd'", True),
        ("self.ports.all(p, p.port > 0) && self.ports.exists_one(p, p.name == 'a')", True),
        ("self.ports.map(p, p.port).sum() == 3", True),
        ("self.ports.map(p, p.port).isSorted()", True),
        ("self.ports.map(p, p.port).max() == 2", True),
        ("'abc'.find('[b-z]+') == 'bc' && 'a1b2'.findAll('[0-9]') == ['1', '2']", True),
        ("isIP('10.0.0.1') && !isIP('x') && isCIDR('10.0.0.0/8') && isURL('https://a/b') && isQuantity('1Gi')", True),
        ("'A'.lowerAscii() == 'a' && 'a,b'.split(',').size() == 2 && 'abc'.matches('^[a-c]+$')", True),
        ("cel.bind(n, self.least, n + 1 == 2)", True),
    ],
)
def test_what_expressions_can_say(rule: str, *, holds: bool) -> None:
    ports = [{"name": "a", "port": 1}, {"name": "b", "port": 2}]
    spec = {**GOOD, "a-b": "x", "namespace": "n", "until": "2024-05-01T00:00:00Z", "ports": ports}

    assert (broken(spec, rule=rule) == []) is holds


def test_an_evaluation_that_fails_is_a_violation() -> None:
    assert broken(GOOD, rule="self.missing == 1") == [
        'spec: Invalid value: "object": no such key: missing evaluating rule: self.missing == 1'
    ]


def test_rules_are_checked_when_they_are_defined() -> None:
    schema = {
        "type": "object",
        "x-kubernetes-validations": [
            {"rule": "self.x ="},
            {"rule": "size('x')"},
            {"message": "m"},
            {"rule": "unknown"},
        ],
    }
    fields = [error.field for error in rules.definition_violations(schema, "s")]

    assert fields == [f"s.x-kubernetes-validations[{at}].rule" for at in range(4)]


@pytest.mark.parametrize(
    ("schema", "field"),
    [
        ({}, "s.type"),
        ({"type": "array", "items": {"type": "string"}}, "s.type"),
        ({"type": "object", "properties": {"a": {}}}, "s.properties[a].type"),
        ({"type": "object", "properties": {"a": {"type": "array"}}}, "s.properties[a].items"),
        ({"type": "object", "properties": {"a": {"type": "text"}}}, "s.properties[a].type"),
        ({"type": "object", "properties": {"a": {"type": "integer", "default": "x"}}}, "s.properties[a].default"),
        ({"type": "object", "anyOf": [{"properties": {"a": {"type": "string"}}}]}, "s.anyOf[0].properties[a].type"),
        (
            {"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": {"type": "string"}},
            "s.additionalProperties",
        ),
        (
            {
                "type": "object",
                "properties": {
                    "l": {"type": "array", "x-kubernetes-list-type": "map", "items": {"type": "object"}},
                },
            },
            "s.properties[l].x-kubernetes-list-map-keys",
        ),
    ],
)
def test_schemas_that_are_not_structural_say_where(schema: dict[str, Any], field: str) -> None:
    assert [error.field for error in structural.violations(schema, "s")] == [field]


def test_structural_schemas_are_let_through() -> None:
    preserved = {"x-kubernetes-preserve-unknown-fields": True}
    either = {"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}]}

    assert structural.violations(SCHEMA, "s") == []
    assert structural.violations({"type": "object", "properties": {"a": preserved, "b": either}}, "s") == []


def test_match_conditions() -> None:
    request = {"object": {"metadata": {"name": "x"}}, "oldObject": None, "operation": "CREATE"}
    true = {"name": "t", "expression": "object.metadata.name == 'x' && request.operation == 'CREATE'"}
    false = {"name": "f", "expression": "oldObject != null"}
    failing = {"name": "e", "expression": "object.spec.size > 1"}

    assert conditions.hold([true], request)
    assert not conditions.hold([true, false], request)
    assert not conditions.hold([failing, false], request), "one that is false settles it"
    with pytest.raises(cel.CelError, match="match condition 'e'"):
        conditions.hold([true, failing], request)
    fields = [error.field for error in conditions.violations([true, true, {"name": "b", "expression": "1 +"}], "c")]
    assert fields == ["c[1].name", "c[2].expression"]

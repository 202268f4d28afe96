"""Rules in CEL of custom resources (`x-kubernetes-validations`): checked when defined, evaluated on every write.

Source: Kubernetes' "Validation rules" of CustomResourceDefinitions, and apiextensions-apiserver's cel package.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from localcluster.apiserver import cel, errors
from localcluster.apiserver.errors import FieldError

Schema = Mapping[str, Any]

RULES = "x-kubernetes-validations"
_MISSING = object()
_OPTIONAL_OLD_SELF = "(oldSelf == null ? optional.none() : optional.of(oldSelf))"
_VARIABLES = ("self", "oldSelf")
# Words that CEL reserves; a property of that name is written `__word__` (cel/escaping.go).
_RESERVED = frozenset(
    {"true", "false", "null", "in", "as", "break", "const", "continue", "else", "for", "function", "if", "import"}
    | {"let", "loop", "package", "namespace", "return", "var", "void", "while"}
)
_ESCAPES = {"__": "__underscores__", ".": "__dot__", "-": "__dash__", "/": "__slash__"}
_DURATION = re.compile(r"([+-]?)((?:\d+(?:\.\d+)?(?:ns|us|µs|ms|s|m|h))+)")
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_REASONS = ("FieldValueInvalid", "FieldValueForbidden", "FieldValueRequired", "FieldValueDuplicate")


def definition_violations(schema: Schema, path: str) -> list[FieldError]:
    """The rules below `path` that can't be compiled, or give no truth value."""
    found: list[FieldError] = []
    for here, node in _nodes(schema, path):
        for at, rule in enumerate(node.get(RULES) or ()):
            for key, wanted in (("rule", "BOOL"), ("messageExpression", "STRING")):
                expression = rule.get(key)
                if expression is None:
                    continue
                field = f"{here}.{RULES}[{at}].{key}"
                try:
                    result = cel.program(str(expression), _VARIABLES).result_type
                except cel.CelError as error:
                    found.append(errors.invalid(field, expression, str(error)))
                    continue
                if result not in (wanted, "DYN"):
                    found.append(errors.invalid(field, expression, f"must evaluate to a {wanted.lower()}"))
            if not rule.get("rule"):
                found.append(errors.required(f"{here}.{RULES}[{at}].rule", "rule is not specified"))
            if rule.get("reason") not in (None, *_REASONS):
                found.append(errors.not_supported(f"{here}.{RULES}[{at}].reason", rule["reason"], _REASONS))
    return found


def _nodes(schema: Schema, path: str) -> Iterator[tuple[str, Schema]]:
    yield path, schema
    for name, child in (schema.get("properties") or {}).items():
        if isinstance(child, dict):
            yield from _nodes(child, f"{path}.properties[{name}]")
    for name in ("items", "additionalProperties"):
        if isinstance(schema.get(name), dict):
            yield from _nodes(schema[name], f"{path}.{name}")


def has_rules(schema: Schema) -> bool:
    """Whether any part of the schema has rules: most have none, and need no walk over their objects."""
    return any(node.get(RULES) for _, node in _nodes(schema, ""))


def validate(schema: Schema, value: Any, old: Any = None) -> list[FieldError]:
    """The rules that `value` breaks. `old` is the object before an update, None at its creation."""
    found: list[FieldError] = []
    _validate(schema, value, _MISSING if old is None else old, "", found)
    return found


def _validate(schema: Schema, value: Any, old: Any, path: str, found: list[FieldError]) -> None:
    if value is None:
        return
    for rule in schema.get(RULES) or ():
        problem = _broken(schema, rule, value, old, path)
        if problem is not None:
            found.append(problem)
    if isinstance(value, dict):
        before = old if isinstance(old, dict) else {}
        properties, additional = schema.get("properties") or {}, schema.get("additionalProperties")
        for name, item in value.items():
            child = properties.get(name, additional if isinstance(additional, dict) else None)
            if child is not None:
                here = f"{path}.{name}" if name in properties and path else name if not path else f"{path}[{name}]"
                _validate(child, item, before.get(name, _MISSING), here, found)
    elif isinstance(value, list) and isinstance(schema.get("items"), dict):
        for index, item in enumerate(value):
            _validate(schema["items"], item, _counterpart(schema, item, old), f"{path}[{index}]", found)


def _counterpart(schema: Schema, item: Any, old: Any) -> Any:
    """The element of the old list that `item` was; only lists with keys know."""
    keys = schema.get("x-kubernetes-list-map-keys") or ()
    if not keys or not isinstance(old, list) or not isinstance(item, dict):
        return _MISSING
    wanted = [item.get(key) for key in keys]
    found = (other for other in old if isinstance(other, dict) and [other.get(key) for key in keys] == wanted)
    return next(found, _MISSING)


def _broken(schema: Schema, rule: Schema, value: Any, old: Any, path: str) -> FieldError | None:
    expression = str(rule.get("rule") or "")
    variables = {"self": _typed(schema, value)}
    if re.search(r"\boldSelf\b", expression):
        # A rule about a change holds for what is new; with optionalOldSelf it wants to judge that as well.
        if old is _MISSING and not rule.get("optionalOldSelf"):
            return None
        if rule.get("optionalOldSelf"):
            variables["oldSelf"] = None if old is _MISSING else _typed(schema, old)
            expression = re.sub(
                r"\boldSelf\b", "(oldSelf == null ? optional.none() : optional.of(oldSelf))", expression
            )
        else:
            variables["oldSelf"] = _typed(schema, old)
    variables.setdefault("oldSelf", None)
    try:
        result = cel.program(expression, _VARIABLES).evaluate(variables)
    except cel.CelError as error:
        return errors.invalid(path, _shown(value), f"{error} evaluating rule: {rule.get('message') or rule['rule']}")
    if result is True:
        return None
    field = path + str(rule.get("fieldPath") or "") if path else str(rule.get("fieldPath") or "").lstrip(".")
    reason = str(rule.get("reason") or "FieldValueInvalid")
    message = _message(rule, variables)
    words = {
        "FieldValueForbidden": f"Forbidden: {message}",
        "FieldValueRequired": f"Required value: {message}",
        "FieldValueDuplicate": f"Duplicate value: {errors.shown(_shown(value))}",
    }
    if reason in words:
        return FieldError(field, reason, words[reason])
    return errors.invalid(field, _shown(value), message)


def _message(rule: Schema, variables: Mapping[str, Any]) -> str:
    if rule.get("messageExpression"):
        try:
            text = cel.program(str(rule["messageExpression"]), _VARIABLES).evaluate(variables)
        except cel.CelError:
            text = None
        if isinstance(text, str) and text.strip():
            return text.strip()
    return str(rule.get("message") or f"failed rule: {rule['rule']}")


def _shown(value: Any) -> Any:
    """Objects and lists are named by their type only, as Kubernetes does in these messages."""
    return "object" if isinstance(value, dict) else "array" if isinstance(value, list) else value


def _typed(schema: Schema, value: Any) -> Any:
    """The value as CEL sees it: properties with escaped names, dates and durations as such, numbers as doubles."""
    if isinstance(value, dict):
        properties, additional = schema.get("properties") or {}, schema.get("additionalProperties")
        extra = additional if isinstance(additional, dict) else {}
        return {
            (escaped(name) if name in properties else name): _typed(properties.get(name, extra), item)
            for name, item in value.items()
        }
    if isinstance(value, list):
        items = schema.get("items")
        return [_typed(items if isinstance(items, dict) else {}, item) for item in value]
    if isinstance(value, str):
        return _from_text(str(schema.get("format") or ""), value)
    if schema.get("type") == "number" and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value


def _from_text(format_: str, value: str) -> Any:
    if format_ in ("date-time", "date"):
        try:
            return cel.moment(datetime.fromisoformat(value))
        except ValueError:
            return value
    if format_ == "duration" and (match := _DURATION.fullmatch(value)):
        parts = re.findall(r"(\d+(?:\.\d+)?)([a-zµ]+)", match[2])
        seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
        return cel.duration(timedelta(seconds=-seconds if match[1] == "-" else seconds))
    return value


def escaped(name: str) -> str:
    """A property's name as an identifier of CEL: `a-b` is `a__dash__b`, `namespace` is `__namespace__`."""
    if name in _RESERVED:
        return f"__{name}__"
    return re.sub(r"__|[./-]", lambda match: _ESCAPES[match[0]], name)

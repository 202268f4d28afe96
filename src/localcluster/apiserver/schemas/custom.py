"""Objects of custom resources: pruning, defaults and validation by the definition's OpenAPI v3 schema.

Source: Kubernetes' structural schemas. Rules in CEL are `rules`' part.
"""

import re
from typing import Any

from localcluster.apiserver import errors
from localcluster.apiserver.documents import copied
from localcluster.apiserver.errors import FieldError
from localcluster.apiserver.kinds import KindInfo

Schema = dict[str, Any]
_ALWAYS_KNOWN = frozenset({"apiVersion", "kind", "metadata"})


def schema_of(kind: KindInfo) -> Schema | None:
    """The schema of a custom kind at `kind.version`; None if it has none, or the kind is built in."""
    if kind.definition is None:
        return None
    for version in kind.definition["spec"]["versions"]:
        if version.get("name") == kind.version:
            found = (version.get("schema") or {}).get("openAPIV3Schema")
            return found if isinstance(found, dict) else None
    return None


def prune(schema: Schema, value: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """`value` without the fields that the schema does not know, and those fields' paths."""
    unknown: list[str] = []
    pruned = _prune(schema, value, "", unknown, is_root=True)
    return pruned, unknown


def _prune(schema: Schema, value: Any, path: str, unknown: list[str], *, is_root: bool = False) -> Any:
    if isinstance(value, list):
        items = schema.get("items")
        if not isinstance(items, dict):
            return value
        return [_prune(items, item, f"{path}[{i}]", unknown) for i, item in enumerate(value)]
    if not isinstance(value, dict):
        return value
    properties = schema.get("properties") or {}
    additional = schema.get("additionalProperties")
    keeps = bool(schema.get("x-kubernetes-preserve-unknown-fields")) or additional is True
    is_object = is_root or bool(schema.get("x-kubernetes-embedded-resource"))
    result: dict[str, Any] = {}
    for name, item in value.items():
        here = f"{path}.{name}" if path else name
        if is_object and name in _ALWAYS_KNOWN:
            result[name] = item
        elif name in properties:
            result[name] = _prune(properties[name], item, here, unknown)
        elif isinstance(additional, dict):
            result[name] = _prune(additional, item, here, unknown)
        elif keeps:
            result[name] = item
        else:
            unknown.append(here)
    return result


def with_defaults(schema: Schema, value: Any) -> Any:
    """`value` with every `default` of the schema filled in where the field is missing (or null and not nullable)."""
    if isinstance(value, list):
        items = schema.get("items")
        return [with_defaults(items, item) for item in value] if isinstance(items, dict) else value
    if not isinstance(value, dict):
        return value
    result = dict(value)
    additional = schema.get("additionalProperties")
    properties = schema.get("properties") or {}
    for name, child in properties.items():
        has_default = "default" in child
        if has_default and (name not in result or (result[name] is None and not child.get("nullable"))):
            result[name] = copied(child["default"])
        if name in result:
            result[name] = with_defaults(child, result[name])
    if isinstance(additional, dict):
        for name in result.keys() - properties.keys():
            result[name] = with_defaults(additional, result[name])
    return result


def validate(schema: Schema, value: dict[str, Any]) -> list[FieldError]:
    """Every violation of the schema, with its path."""
    found: list[FieldError] = []
    _validate(schema, value, "", found)
    return found


def _validate(schema: Schema, value: Any, path: str, found: list[FieldError]) -> None:
    if value is None and schema.get("nullable"):
        return
    if not _has_type(schema, value):
        expected = "integer or string" if schema.get("x-kubernetes-int-or-string") else str(schema["type"])
        found.append(errors.type_invalid(path, value, expected))
        return
    if "enum" in schema and value not in schema["enum"]:
        found.append(errors.not_supported(path, value, schema["enum"]))
    match value:
        case str():
            _text(schema, value, path, found)
        case dict():
            _object(schema, value, path, found)
        case list():
            _list(schema, value, path, found)
        case bool():
            pass
        case int() | float():
            _number(schema, value, path, found)
    _combinations(schema, value, path, found)


def _has_type(schema: Schema, value: Any) -> bool:
    if schema.get("x-kubernetes-int-or-string"):
        return isinstance(value, (int, str)) and not isinstance(value, bool)
    match schema.get("type"):
        case "string":
            return isinstance(value, str)
        case "integer":
            is_whole = isinstance(value, float) and value.is_integer()
            return (isinstance(value, int) and not isinstance(value, bool)) or is_whole
        case "number":
            return isinstance(value, (int, float)) and not isinstance(value, bool)
        case "boolean":
            return isinstance(value, bool)
        case "object":
            return isinstance(value, dict)
        case "array":
            return isinstance(value, list)
    return True


def _broken(path: str, value: Any, rule: str, found: list[FieldError]) -> None:
    found.append(errors.invalid(path, value, f"{path} in body {rule}"))


def _text(schema: Schema, value: str, path: str, found: list[FieldError]) -> None:
    if len(value) < schema.get("minLength", 0):
        _broken(path, value, f"should be at least {schema['minLength']} chars long", found)
    if "maxLength" in schema and len(value) > schema["maxLength"]:
        found.append(errors.too_long(path, schema["maxLength"]))
    pattern = schema.get("pattern")
    if pattern and not _matches(pattern, value):
        _broken(path, value, f"should match '{pattern}'", found)


def _matches(pattern: str, value: str) -> bool:
    try:
        return re.search(pattern, value) is not None
    except re.error:  # written for RE2, and Python reads it otherwise: it is not the user's object that is wrong
        return True


def _number(schema: Schema, value: float, path: str, found: list[FieldError]) -> None:
    minimum, maximum, step = schema.get("minimum"), schema.get("maximum"), schema.get("multipleOf")
    if minimum is not None:
        if schema.get("exclusiveMinimum"):
            if value <= minimum:
                _broken(path, value, f"should be greater than {minimum}", found)
        elif value < minimum:
            _broken(path, value, f"should be greater than or equal to {minimum}", found)
    if maximum is not None:
        if schema.get("exclusiveMaximum"):
            if value >= maximum:
                _broken(path, value, f"should be less than {maximum}", found)
        elif value > maximum:
            _broken(path, value, f"should be less than or equal to {maximum}", found)
    if step and value % step:
        _broken(path, value, f"should be a multiple of {step}", found)


def _object(schema: Schema, value: dict[str, Any], path: str, found: list[FieldError]) -> None:
    prefix = f"{path}." if path else ""
    found.extend(errors.required(prefix + name) for name in schema.get("required") or () if name not in value)
    properties = schema.get("properties") or {}
    additional = schema.get("additionalProperties")
    for name, item in value.items():
        child = properties.get(name, additional if isinstance(additional, dict) else None)
        if child is not None:
            _validate(child, item, prefix + name, found)
    if "maxProperties" in schema and len(value) > schema["maxProperties"]:
        found.append(errors.too_many(path, len(value), schema["maxProperties"]))
    if len(value) < schema.get("minProperties", 0):
        _broken(path, value, f"should have at least {schema['minProperties']} properties", found)


def _list(schema: Schema, value: list[Any], path: str, found: list[FieldError]) -> None:
    if len(value) < schema.get("minItems", 0):
        _broken(path, value, f"should have at least {schema['minItems']} items", found)
    if "maxItems" in schema and len(value) > schema["maxItems"]:
        found.append(errors.too_many(path, len(value), schema["maxItems"]))
    items = schema.get("items")
    if isinstance(items, dict):
        for index, item in enumerate(value):
            _validate(items, item, f"{path}[{index}]", found)
    keys = _list_keys(schema)
    seen: list[Any] = []
    for index, item in enumerate(value):
        if keys is None:
            return
        identity = {key: item.get(key) for key in keys} if keys and isinstance(item, dict) else item
        if identity in seen:
            found.append(errors.duplicate(f"{path}[{index}]", identity))
        seen.append(identity)


def _list_keys(schema: Schema) -> list[str] | None:
    """The fields that tell a list's elements apart; empty: the whole element; None: elements may repeat."""
    match schema.get("x-kubernetes-list-type"):
        case "map":
            return list(schema.get("x-kubernetes-list-map-keys") or ())
        case "set":
            return []
    return [] if schema.get("uniqueItems") else None


def _holds(schema: Schema, value: Any) -> bool:
    found: list[FieldError] = []
    _validate(schema, value, "", found)
    return not found


def _combinations(schema: Schema, value: Any, path: str, found: list[FieldError]) -> None:
    for part in schema.get("allOf") or ():
        _validate(part, value, path, found)
    any_of = schema.get("anyOf")
    if any_of and not any(_holds(part, value) for part in any_of):
        _broken(path, value, "must validate at least one schema (anyOf)", found)
    one_of = schema.get("oneOf")
    if one_of and sum(_holds(part, value) for part in one_of) != 1:
        _broken(path, value, "must validate one and only one schema (oneOf)", found)
    refused = schema.get("not")
    if isinstance(refused, dict) and _holds(refused, value):
        _broken(path, value, "must not validate the schema (not)", found)

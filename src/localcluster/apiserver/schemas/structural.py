"""Whether a custom resource's schema is structural: each part has a type, and can be pruned and defaulted.

Source: Kubernetes' "Specifying a structural schema" (apiextensions-apiserver/pkg/apiserver/schema/validation.go).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from localcluster.apiserver import errors
from localcluster.apiserver.errors import FieldError
from localcluster.apiserver.schemas import custom

_TYPES = ("array", "boolean", "integer", "number", "object", "string")
_LOGIC = ("allOf", "anyOf", "oneOf", "not")
_LIST_TYPES = ("atomic", "map", "set")
# Inside allOf, anyOf, oneOf and not there are only value validations.
_STRUCTURE = (
    "additionalProperties",
    "default",
    "description",
    "nullable",
    "title",
    "type",
    "x-kubernetes-preserve-unknown-fields",
)


def violations(schema: Mapping[str, Any], path: str) -> list[FieldError]:
    """What keeps the schema at `path` from being structural; empty if nothing does."""
    found: list[FieldError] = []
    if schema.get("type") != "object":
        detail = "must be object at the root"
        missing = not schema.get("type")
        problem = (
            errors.required(f"{path}.type", detail)
            if missing
            else errors.invalid(f"{path}.type", schema["type"], detail)
        )
        found.append(problem)
    _check(schema, path, found, is_root=True)
    return found


def _check(schema: Mapping[str, Any], path: str, found: list[FieldError], *, is_root: bool = False) -> None:
    kind, either = schema.get("type"), bool(schema.get("x-kubernetes-int-or-string"))
    keeps = bool(schema.get("x-kubernetes-preserve-unknown-fields"))
    properties, additional = schema.get("properties"), schema.get("additionalProperties")
    if not kind and not either and not keeps and not is_root:
        found.append(errors.required(f"{path}.type", "must not be empty for specified object fields"))
    if kind and kind not in _TYPES:
        found.append(errors.not_supported(f"{path}.type", kind, _TYPES))
    if properties and isinstance(additional, (dict, bool)) and additional is not False:
        detail = "additionalProperties and properties are mutual exclusive"
        found.append(errors.forbidden(f"{path}.additionalProperties", detail))
    if kind == "array" and not isinstance(schema.get("items"), dict):
        found.append(errors.required(f"{path}.items", "must be specified"))
    if schema.get("uniqueItems"):
        detail = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic"
        found.append(errors.forbidden(f"{path}.uniqueItems", detail))
    if "$ref" in schema:
        found.append(errors.forbidden(f"{path}.$ref", "$ref is not supported"))
    _check_list(schema, path, found)
    if "default" in schema and not is_root:
        _check_default(schema, path, found)
    for name, child in (properties or {}).items():
        if isinstance(child, dict):
            _check(child, f"{path}.properties[{name}]", found)
    for name in ("items", "additionalProperties"):
        if isinstance(schema.get(name), dict):
            _check(schema[name], f"{path}.{name}", found)
    for name in _LOGIC:
        parts = schema.get(name) or ()
        for at, part in enumerate([parts] if isinstance(parts, dict) else parts):
            if isinstance(part, dict):
                here = f"{path}.{name}" if name == "not" else f"{path}.{name}[{at}]"
                _check_logic(part, here, found, may_type=either)


def _check_logic(schema: Mapping[str, Any], path: str, found: list[FieldError], *, may_type: bool) -> None:
    for name in _STRUCTURE:
        if name in schema and not (may_type and name == "type"):
            found.append(errors.forbidden(f"{path}.{name}", "must be empty to be structural"))
    for name, child in (schema.get("properties") or {}).items():
        if isinstance(child, dict):
            _check_logic(child, f"{path}.properties[{name}]", found, may_type=False)
    if isinstance(schema.get("items"), dict):
        _check_logic(schema["items"], f"{path}.items", found, may_type=False)


def _check_list(schema: Mapping[str, Any], path: str, found: list[FieldError]) -> None:
    list_type, keys = schema.get("x-kubernetes-list-type"), schema.get("x-kubernetes-list-map-keys") or []
    if list_type is not None and list_type not in _LIST_TYPES:
        found.append(errors.not_supported(f"{path}.x-kubernetes-list-type", list_type, _LIST_TYPES))
    if list_type == "map":
        if not keys:
            detail = "must not be empty if x-kubernetes-list-type is map"
            found.append(errors.required(f"{path}.x-kubernetes-list-map-keys", detail))
        items = schema.get("items")
        element: Mapping[str, Any] = items if isinstance(items, dict) else {}
        for at, key in enumerate(keys):
            if key not in (element.get("properties") or {}):
                detail = "entries must all be names of item properties"
                found.append(errors.invalid(f"{path}.x-kubernetes-list-map-keys[{at}]", key, detail))
            elif key not in (element.get("required") or ()) and "default" not in element["properties"][key]:
                detail = "this property is a list map key, so it must have a default or be a required property"
                found.append(errors.required(f"{path}.items.properties[{key}].default", detail))


def _check_default(schema: Mapping[str, Any], path: str, found: list[FieldError]) -> None:
    """A default is an object like any other: it has to fit the schema that it stands in."""
    bare = {name: value for name, value in schema.items() if name != "default"}
    wrapped = {"type": "object", "properties": {"default": bare}}
    found.extend(
        FieldError(f"{path}.{problem.field}", problem.reason, problem.message)
        for problem in custom.validate(wrapped, {"default": schema["default"]})
    )

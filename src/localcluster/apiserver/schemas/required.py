"""Required fields by the structs' own declaration, for whatever no rule of a kind looks at."""

from typing import Any

from localcluster.apiserver import errors
from localcluster.apiserver.errors import FieldError
from localcluster.apiserver.schemas.model import Field, Struct, Type, struct

# Numbers, booleans and lists always have Go's zero value; their kinds' own rules say when that is not enough.
_CHECKED = frozenset({"string", "object", "int-or-string"})
# Required by the OpenAPI document, yet the empty string is a good value of theirs.
_MAY_BE_EMPTY = {("core_v1.HTTPHeader", "value"), ("core_v1.Sysctl", "value"), ("core_v1.Event", "involvedObject")}
_UNCHECKED_AT_ROOT = frozenset({"metadata", "status"})


def missing(shape: Struct, value: dict[str, Any]) -> list[FieldError]:
    """One error for each required field of `value` (a decoded object of a built-in kind) that is not there."""
    found: list[FieldError] = []
    for name, field in shape.fields.items():
        if name not in _UNCHECKED_AT_ROOT and name in value:
            _descend(field.type, value[name], name, found)
        elif name not in value and name not in _UNCHECKED_AT_ROOT and _is_needed(shape, field):
            found.append(errors.required(name))
    return found


def _is_needed(shape: Struct, field: Field) -> bool:
    return field.required and field.type.category in _CHECKED and (shape.name, field.name) not in _MAY_BE_EMPTY


def _descend(expected: Type, value: Any, path: str, found: list[FieldError]) -> None:
    if expected.category == "list" and expected.element is not None and isinstance(value, list):
        for index, item in enumerate(value):
            _descend(expected.element, item, f"{path}[{index}]", found)
    elif expected.category == "object" and isinstance(value, dict):
        shape = struct(expected.struct)
        if shape is None:
            return
        for name, field in shape.fields.items():
            if name in value:
                _descend(field.type, value[name], f"{path}.{name}", found)
            elif _is_needed(shape, field):
                found.append(errors.required(f"{path}.{name}"))

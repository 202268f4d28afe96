"""Reading an object of a built-in kind as Kubernetes' typed decoder does: unknown fields, wrong types, nulls."""

import base64
import binascii
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from localcluster.apiserver.errors import FieldError
from localcluster.apiserver.schemas.model import Field, Struct, Type, struct

TYPE_ERROR = "FieldValueTypeInvalid"

# Only for the words of messages: these are int64 in Go, the others int32.
_INT64 = frozenset(
    {
        "activeDeadlineSeconds",
        "deletionGracePeriodSeconds",
        "expirationSeconds",
        "fsGroup",
        "generation",
        "observedGeneration",
        "runAsGroup",
        "runAsUser",
        "startingDeadlineSeconds",
        "supplementalGroups",
        "terminationGracePeriodSeconds",
        "tolerationSeconds",
    }
)
_QUANTITY = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+)?")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
_JSON_NAMES = ((bool, "bool"), (str, "string"), (int, "number"), (float, "number"), (list, "array"), (dict, "object"))


@dataclass(frozen=True, slots=True)
class Decoded:
    """An object as the decoder leaves it: without unknown fields and nulls; with what was wrong.

    `unknown_fields` are paths such as `spec.containers[0].imagee`; `type_errors` have Kubernetes' words after
    `cannot be handled as a Pod: ` as their message.
    """

    object: dict[str, Any]
    unknown_fields: tuple[str, ...]
    type_errors: tuple[FieldError, ...]


class _Walk:
    def __init__(self) -> None:
        self.unknown: list[str] = []
        self.errors: list[FieldError] = []

    def wrong(self, path: str, message: str) -> None:
        self.errors.append(FieldError(path, TYPE_ERROR, message))

    def object(self, shape: Struct, value: dict[str, Any], path: str) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for name, item in value.items():
            field = shape.fields.get(name)
            if field is None:
                self.unknown.append(f"{path}.{name}" if path else name)
            elif field.type.category == "string" and isinstance(item, str):
                # Most of what is written: it fits, so that nobody asks for its path.
                result[name] = item
            elif item is not None:
                here = f"{path}.{name}" if path else name
                result[name] = self.value(field.type, item, here, shape, field)
        return result

    def value(self, expected: Type, item: Any, path: str, owner: Struct, field: Field) -> Any:
        match expected.category:
            case "object":
                if isinstance(item, dict):
                    shape = struct(expected.struct)
                    return item if shape is None else self.object(shape, item, path)
            case "list":
                if isinstance(item, list) and expected.element is not None:
                    element = expected.element
                    return [self.value(element, x, f"{path}[{i}]", owner, field) for i, x in enumerate(item)]
            case "map":
                if isinstance(item, dict) and expected.element is not None:
                    element = expected.element
                    # A null among a map's values reads as Go's zero value, the empty string.
                    return {
                        k: x
                        if isinstance(x, str) and element.category == "string"
                        else ("" if x is None else self.value(element, x, f"{path}[{k}]", owner, field))
                        for k, x in item.items()
                    }
            case _:
                return self.scalar(expected, item, path, owner, field)
        self.mismatch(expected, item, path, owner, field)
        return item

    def scalar(self, expected: Type, item: Any, path: str, owner: Struct, field: Field) -> Any:
        category = expected.category
        is_integer = isinstance(item, int) and not isinstance(item, bool)
        fits = (
            category == "any"
            or (category == "boolean" and isinstance(item, bool))
            or (category == "integer" and is_integer)
            or (category == "number" and (is_integer or isinstance(item, float)))
            or (category in ("string", "time", "bytes") and isinstance(item, str))
            or (category == "int-or-string" and (is_integer or isinstance(item, str)))
            or (category == "quantity" and not isinstance(item, (bool, list, dict)))
        )
        if not fits:
            self.mismatch(expected, item, path, owner, field)
        elif category == "quantity":
            # Quantities may be written as numbers; they are kept and shown as strings.
            if not _QUANTITY.fullmatch(str(item)):
                self.wrong(
                    path,
                    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
                )
            return str(item)
        elif category == "bytes":
            position = _base64_error(item)
            if position is not None:
                self.wrong(path, f"illegal base64 data at input byte {position}")
        elif category == "time" and not _is_time(item):
            self.wrong(path, f'parsing time "{item}" as "2006-01-02T15:04:05Z07:00": cannot parse "{item}" as "2006"')
        return item

    def mismatch(self, expected: Type, item: Any, path: str, owner: Struct, field: Field) -> None:
        got = next((name for kind, name in _JSON_NAMES if isinstance(item, kind)), "null")
        plain = re.sub(r"\[[^\]]*\]", "", path)
        go_struct = owner.name.partition(".")[2]
        wanted = _go_type(expected, field)
        self.wrong(path, f"json: cannot unmarshal {got} into Go struct field {go_struct}.{plain} of type {wanted}")


def decode(shape: Struct, value: dict[str, Any]) -> Decoded:
    """`value` read as the struct `shape`."""
    walk = _Walk()
    result = walk.object(shape, value, "")
    return Decoded(result, tuple(walk.unknown), tuple(walk.errors))


def _go_type(expected: Type, field: Field) -> str:
    match expected.category:
        case "integer":
            return "int64" if field.name in _INT64 else "int32"
        case "number":
            return "float64"
        case "boolean":
            return "bool"
        case "object":
            module, _, name = expected.struct.partition(".")
            return f"{module.rpartition('_')[2]}.{name}"
        case "list" if expected.element is not None:
            return f"[]{_go_type(expected.element, field)}"
        case "map" if expected.element is not None:
            return f"map[string]{_go_type(expected.element, field)}"
        case _:
            return "string"


def _is_time(text: str) -> bool:
    """Whether it is a moment as RFC 3339 writes it; whoever reads it later relies on that."""
    try:
        return bool(_TIME.fullmatch(text)) and datetime.fromisoformat(text).tzinfo is not None
    except ValueError:  # the thirteenth month
        return False


def _base64_error(text: str) -> int | None:
    """The position of the first byte that is not base64, as Go's decoder counts; None for good data."""
    stripped = text.replace("\n", "").replace("\r", "")
    try:
        base64.b64decode(stripped, validate=True)
    except (binascii.Error, ValueError):
        bad = re.search(r"[^A-Za-z0-9+/=]|=(?!=?$)", stripped)
        return bad.start() if bad else len(stripped) - len(stripped) % 4
    return None

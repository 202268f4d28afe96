"""The JSONPath that printer columns may use: fields, indices, quoted fields, `*`, and filters by equality.

Source: k8s.io/client-go/util/jsonpath, the part that CustomResourceDefinitions allow.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any


class JsonPathError(ValueError):
    """A path that can't be read."""


@dataclass(frozen=True, slots=True)
class _Field:
    name: str


@dataclass(frozen=True, slots=True)
class _Index:
    position: int


@dataclass(frozen=True, slots=True)
class _All:
    pass


@dataclass(frozen=True, slots=True)
class _Filter:
    path: tuple[_Step, ...]
    operator: str
    value: Any


_Step = _Field | _Index | _All | _Filter

_DOTTED = re.compile(r"\.((?:\\.|[^.\[\\])+)")
_QUOTED = re.compile(r"\[\s*(?:'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\")\s*\]")
_NUMBER = re.compile(r"\[\s*(-?\d+)\s*\]")
_EVERY = re.compile(r"\[\s*\*\s*\]|\.\*")
_CONDITION = re.compile(
    r"\[\?\(\s*@((?:\.[\w\-]+|\[[^\]]*\])+)\s*(==|!=)\s*(?:'([^']*)'|\"([^\"]*)\"|([\w.\-]+))\s*\)\]"
)


def find(path: str, value: Any) -> list[Any]:
    """All values at `path`, such as `.status.conditions[?(@.type=="Ready")].status`. JsonPathError if it is none."""
    found = [value]
    for step in _parse(path):
        found = [result for item in found for result in _apply(step, item)]
    return found


@lru_cache(maxsize=512)
def _parse(path: str) -> tuple[_Step, ...]:
    text = path.strip()
    if text.startswith("{") and text.endswith("}"):
        text = text[1:-1]
    text = text.removeprefix("$")
    if text and text[0] not in ".[":
        text = f".{text}"
    steps: list[_Step] = []
    position = 0
    while position < len(text):
        for pattern, build in _PARTS:
            match = pattern.match(text, position)
            if match is not None:
                steps.append(build(match))
                position = match.end()
                break
        else:
            raise JsonPathError(f"JSON path {path!r} can't be read from {text[position:]!r} on")
    return tuple(steps)


def _filter(match: re.Match[str]) -> _Step:
    quoted = match[3] if match[3] is not None else match[4]
    value: Any = quoted
    if quoted is None:
        word = match[5]
        value = {"true": True, "false": False}.get(word, int(word) if re.fullmatch(r"-?\d+", word) else word)
    return _Filter(_parse(match[1]), match[2], value)


def _field(match: re.Match[str]) -> _Step:
    # A dot within a name is written `\.`.
    return _Field(re.sub(r"\\(.)", r"\1", match[1]))


def _quoted_field(match: re.Match[str]) -> _Step:
    return _Field(re.sub(r"\\(.)", r"\1", match[1] if match[1] is not None else match[2]))


_PARTS = (
    (_CONDITION, _filter),
    (_EVERY, lambda match: _All()),
    (_QUOTED, _quoted_field),
    (_NUMBER, lambda match: _Index(int(match[1]))),
    (_DOTTED, _field),
)


def _apply(step: _Step, value: Any) -> list[Any]:
    match step:
        case _Field(name):
            return [value[name]] if isinstance(value, dict) and name in value else []
        case _Index(position):
            inside = isinstance(value, list) and -len(value) <= position < len(value)
            return [value[position]] if inside else []
        case _All():
            if isinstance(value, dict):
                return list(value.values())
            return list(value) if isinstance(value, list) else []
        case _Filter(path, operator, wanted):
            if not isinstance(value, list):
                return []
            return [item for item in value if _meets(item, path, operator, wanted)]


def _meets(item: Any, path: tuple[_Step, ...], operator: str, wanted: Any) -> bool:
    found = [item]
    for step in path:
        found = [result for part in found for result in _apply(step, part)]
    if not found:
        return False
    return bool(found[0] == wanted) == (operator == "==")

"""Objects from manifest files: YAML or JSON, several documents a file, folders recursively."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from mutua.api import decode, kinds
from mutua.api.findings import Finding
from mutua.api.kinds import AnyObject, Kind
from mutua.errors import InvalidInputError

SUFFIXES = (".yaml", ".yml", ".json")
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# What follows the marker on its line is the document's own; `...` ends one. Source: YAML 1.2, section 9.1.
_MARKER = re.compile(r"^(?:---|\.\.\.)(?=[ \t\r\n]|\Z)()", re.MULTILINE)


class FromFile(NamedTuple):
    """One document of a file. `value` is None if it is no object of a known kind, or broken."""

    path: Path
    kind: Kind | None
    value: AnyObject | None
    findings: tuple[Finding, ...]


class Document(NamedTuple):
    """One document of a text as plain data, and the line on which it begins, from 1."""

    value: Any
    line: int


def read_text(path: Path) -> str:
    """A file's text. Raises InvalidInputError naming the file."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidInputError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{path} is not YAML: {error}") from error


def located(text: str, name: str) -> tuple[list[Document], list[InvalidInputError]]:
    """The documents of a YAML or JSON text, lists of objects flattened, empty ones left out; and what is no YAML in it.

    Each document is read alone, so that a broken one takes no other along. `name` is the text's in errors.
    """
    found: list[Document] = []
    problems: list[InvalidInputError] = []
    for part, line in _parts(text):
        try:
            value = yaml.load(part, _LOADER)  # noqa: S506 - one of the safe loaders
        except yaml.YAMLError as error:
            problems.append(_not_yaml(name, error, line))
            continue
        begins = line + _blank_lines(part)
        is_list = isinstance(value, dict) and str(value.get("kind", "")).endswith("List") and "items" in value
        values = (value["items"] or []) if is_list else [value]
        found += [Document(item, begins) for item in values if item is not None]
    return found, problems


def documents(path: Path) -> list[Any]:
    """All documents of one file as plain data, lists of objects flattened, empty ones left out.

    Raises InvalidInputError naming the file and line.
    """
    found, problems = located(read_text(path), str(path))
    if problems:
        raise problems[0]
    return [document.value for document in found]


def _parts(text: str) -> Iterator[tuple[str, int]]:
    """The text between document markers, and the number of its first line."""
    if text.lstrip()[:1] in ("{", "["):
        yield text, 1
        return
    start, line = 0, 1
    for marker in _MARKER.finditer(text):
        yield text[start : marker.start()], line
        line += text.count("\n", start, marker.end(1))
        start = marker.end(1)
    yield text[start:], line


def _blank_lines(part: str) -> int:
    """Lines before the first that says something."""
    says_something = (
        number for number, line in enumerate(part.splitlines()) if line.strip() and not line.lstrip().startswith("#")
    )
    return next(says_something, 0)


def _not_yaml(name: str, error: yaml.YAMLError, first_line: int) -> InvalidInputError:
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return InvalidInputError(f"{name} is not YAML: {error}")
    said = " ".join(part for part in (getattr(error, "context", ""), getattr(error, "problem", "")) if part)
    return InvalidInputError(f"{name} is not YAML: line {first_line + mark.line}, column {mark.column + 1}: {said}")


def objects(paths: Iterable[Path]) -> Iterator[FromFile]:
    """Every object of the files, and of the files within folders. Raises InvalidInputError for a file without YAML."""
    for path in expand(paths):
        for document in documents(path):
            decoded = decode.any_from_mapping(document)
            head = document if isinstance(document, dict) else {}
            kind = kinds.by_api_version(str(head.get("apiVersion", "")), str(head.get("kind", "")))
            yield FromFile(path, kind, decoded.value, decoded.findings)


def expand(paths: Iterable[Path]) -> Iterator[Path]:
    """The files, and those within folders that may hold manifests, in order of name."""
    for path in paths:
        if path.is_dir():
            yield from (found for found in sorted(path.rglob("*")) if found.suffix in SUFFIXES and found.is_file())
        else:
            yield path

"""Objects from manifest files: YAML or JSON, several documents a file, folders recursively."""

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


class FromFile(NamedTuple):
    """One document of a file. `value` is None if it is no object of a known kind, or broken."""

    path: Path
    kind: Kind | None
    value: AnyObject | None
    findings: tuple[Finding, ...]


def documents(path: Path) -> list[Any]:
    """All documents of one file as plain data, lists of objects flattened, empty ones left out.

    Raises InvalidInputError naming the file and line.
    """
    try:
        text = path.read_text(encoding="utf-8")
        parsed = [document for document in yaml.load_all(text, _LOADER) if document is not None]
    except OSError as error:
        raise InvalidInputError(f"{path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"{path} is not YAML: {error}") from error
    flat: list[Any] = []
    for document in parsed:
        is_list = isinstance(document, dict) and str(document.get("kind", "")).endswith("List") and "items" in document
        flat += document["items"] or [] if is_list else [document]
    return flat


def objects(paths: Iterable[Path]) -> Iterator[FromFile]:
    """Every object of the files, and of the files within folders. Raises InvalidInputError for a file without YAML."""
    for path in _files(paths):
        for document in documents(path):
            decoded = decode.any_from_mapping(document)
            head = document if isinstance(document, dict) else {}
            kind = kinds.by_api_version(str(head.get("apiVersion", "")), str(head.get("kind", "")))
            yield FromFile(path, kind, decoded.value, decoded.findings)


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from (found for found in sorted(path.rglob("*")) if found.suffix in SUFFIXES and found.is_file())
        else:
            yield path

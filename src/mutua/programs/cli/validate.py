"""`mutua validate`: manifests judged as the admission webhook judges them, without a cluster."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from mutua.api import decode, kinds, validation
from mutua.api.findings import Finding
from mutua.errors import InvalidInputError
from mutua.programs.cli import common
from mutua.sources import files

STANDARD_INPUT = "-"
INVALID_EXIT_CODE = 1
_FORMATS = ("text", "json", "yaml")
_OUR_GROUPS = frozenset(kind.group for kind in kinds.ours())


class _Found(NamedTuple):
    """One statement, and where the object begins that it is about."""

    file: str
    line: int
    finding: Finding

    def __str__(self) -> str:
        hint = f" ({self.finding.hint})" if self.finding.hint else ""
        return f"{self.file}:{self.line}: {self.finding.severity.value}: {self.finding}{hint}"


def validate(
    sources: Annotated[list[str] | None, typer.Argument(metavar="[FILE...]", help="Files, folders, or - .")] = None,
    filename: Annotated[
        list[str] | None, typer.Option("--filename", "-f", help="Files, folders, or - ; may be repeated.")
    ] = None,
    output: Annotated[str, typer.Option("--output", "-o", help="text, json or yaml.")] = "text",
) -> int:
    """Say everything that is wrong with manifests, by field. Exit code 1 if an object would be refused."""
    if output not in _FORMATS:
        raise InvalidInputError(f'output format "{output}" not supported', f"choose one of {', '.join(_FORMATS)}")
    names = [*(filename or ()), *(sources or ())]
    if not names:
        raise InvalidInputError("there is nothing to validate", "name files with -f, or - for standard input")
    found: list[_Found] = []
    count = 0
    for name, text in _texts(names):
        documents, problems = files.located(text, name)
        found += [_Found(name, 1, Finding("", "", "", "", problem.message)) for problem in problems]
        for document in documents:
            count += 1
            found += [_Found(name, document.line, finding) for finding in judge(document.value)]
    errors = sum(item.finding.is_error for item in found)
    _print(found, output)
    warnings = len(found) - errors
    common.say(f"{count} objects, {errors} errors, {warnings} warnings")
    return INVALID_EXIT_CODE if errors else 0


def judge(document: Any) -> tuple[Finding, ...]:
    """Everything that is wrong or doubtful about one object alone; () for kinds that are not the mesh's."""
    head = document if isinstance(document, dict) else {}
    api_version, name = str(head.get("apiVersion", "")), str(head.get("kind", ""))
    if not api_version or not name:
        return (Finding("", "", "", "", "an object needs apiVersion and kind"),)
    kind = kinds.by_api_version(api_version, name)
    if api_version.partition("/")[0] not in _OUR_GROUPS or (kind is not None and not kind.is_ours):
        return ()
    decoded = decode.any_from_mapping(document)
    return (*decoded.findings, *(validation.validate(decoded.value) if decoded.value is not None else ()))


def _texts(names: list[str]) -> Iterator[tuple[str, str]]:
    for name in names:
        if name == STANDARD_INPUT:
            yield name, sys.stdin.read()
            continue
        if not Path(name).exists():
            raise InvalidInputError(f"{name} does not exist", "name a file, a folder, or - for standard input")
        for path in files.expand([Path(name)]):
            yield str(path), files.read_text(path)


def _print(found: list[_Found], output: str) -> None:
    if output == "text":
        for item in found:
            print(item)
        return
    documents = [
        {
            "file": item.file,
            "line": item.line,
            "severity": item.finding.severity.value,
            "kind": item.finding.kind,
            "namespace": item.finding.namespace,
            "name": item.finding.name,
            "field": item.finding.field,
            "message": item.finding.message,
        }
        for item in found
    ]
    common.print_object(documents, output, indent=2)

"""What `mutua analyze` prints: messages as lines, JSON or YAML, the list of checks, and one code explained."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from mutua.analysis import codes, pages
from mutua.analysis.check import Check
from mutua.analysis.message import Message, Subject
from mutua.api.findings import Severity

Positions = Mapping[Subject, str]
"""Where objects were read, as `file:line`; nothing for objects of a cluster."""

_PREFIXES: Final = {Severity.ERROR: "\x1b[1;31m", Severity.WARNING: "\x1b[33m", Severity.INFO: ""}
_RESET: Final = "\x1b[0m"
_PLACE: Final = re.compile(r"\{\d*\}")


def lines(messages: Iterable[Message], positions: Positions, *, colored: bool = False) -> str:
    """A line per message, with a line break at the end; without messages one empty line. Source: istioctl analyze."""
    return "\n".join(_line(message, positions, colored) for message in messages) + "\n"


def documents(messages: Iterable[Message], positions: Positions) -> list[dict[str, Any]]:
    """The same as plain data, keys in order of the alphabet. Source: istioctl analyze -o json."""
    return [_document(message, positions) for message in messages]


def checks(found: Sequence[Check]) -> str:
    """Every check by name, with what it looks for."""
    return "".join(f"* {check.name}:\n    {check.description}\n" for check in sorted(found, key=lambda item: item.name))


def explanation(code: str) -> str:
    """The page of a code: ours in full, one of Istio's as far as our table goes; "" for an unknown code."""
    if code in codes.OWN:
        return pages.render(code)
    entry = codes.ISTIO.get(code)
    if entry is None:
        return ""
    text = _PLACE.sub("…", entry.template)
    return f"# {code}: {entry.name}\n\n{entry.severity.value}. {text}\n\n{url(code)}\n"


def url(code: str) -> str:
    """Where the code is documented: within this repository, or at Istio's site."""
    if code in codes.OWN:
        return f"docs/findings/{code}.md"
    return f"https://istio.io/latest/docs/reference/config/analysis/{code.lower()}/"


def _line(message: Message, positions: Positions, colored: bool) -> str:
    level = message.severity.value
    if colored:
        level = f"{_PREFIXES[message.severity]}{level}{_RESET}"
    about = _origin(message.subject)
    if message.subject is not None and (position := positions.get(message.subject)):
        about = f"{about} {position}"
    return f"{level} [{message.code}] {f'({about}) ' if about else ''}{message.sentence}"


def _origin(about: Subject | None) -> str:
    return str(about) if about is not None else ""


def _document(message: Message, positions: Positions) -> dict[str, Any]:
    document: dict[str, Any] = {
        "code": message.code,
        "documentationUrl": url(message.code),
        "level": message.severity.value,
        "message": message.sentence,
        "origin": _origin(message.subject),
    }
    position = positions.get(message.subject) if message.subject else None
    return document | ({"reference": position} if position else {})

"""Paths as the server's proxy rewrites them before policies look, and path templates. Source: Envoy 1.40."""

import re
from collections.abc import Callable
from typing import Final

from mutua.errors import InvalidInputError

_DOTS_WITH_PARAMETERS: Final = re.compile(r"(?<=/)(\.\.?);[^/]*")
_ESCAPE: Final = re.compile(r"%([0-9A-Fa-f]{2})")
_ESCAPED_SLASH: Final = re.compile(r"%(2[fF]|5[cC])")
_MANY_SLASHES: Final = re.compile(r"//+")
_NEVER_SENT: Final = re.compile(r"[^\x21-\x7e]|#")
_ALWAYS_ESCAPED: Final = re.compile(r'["<>^`{|}]')
_NEVER_ESCAPED: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")

SEGMENT: Final = "{*}"
REST: Final = "{**}"
_TEMPLATE_CHARACTERS: Final = "-a-zA-Z0-9._~%!$&'()*+,;:@="
_LITERAL: Final = re.compile("[-a-zA-Z0-9._~%!$&'()+,;:@=]+")


def normalized(target: str, mode: str) -> str:
    """The path and query that policies see. `mode` is MeshConfig's pathNormalization.

    Raises InvalidInputError for a target that Envoy answers with 400.
    """
    if not target.startswith("/") or _NEVER_SENT.search(target):
        raise InvalidInputError(
            f"the proxy answers 400 to the path {target!r}",
            "a path starts with /, holds no # and no bytes outside of ASCII; escape them with %",
        )
    if mode == "NONE":
        return target
    path, question, query = target.partition("?")
    if mode == "DECODE_AND_MERGE_SLASHES":
        path = _ESCAPED_SLASH.sub(lambda match: "/" if match[1][0] == "2" else "\\", path)
    path = _canonical(path)
    if mode in ("MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES"):
        # Of nothing but slashes, Envoy keeps the first and the last.
        path = _MANY_SLASHES.sub("/", path) if path.strip("/") else path[:2]
    return path + question + query


def _canonical(path: str) -> str:
    """Dot segments are resolved and escapes are made uniform, once: what an escape hides twice stays hidden."""
    path = _DOTS_WITH_PARAMETERS.sub(r"\1", path)
    segments = path.replace("\\", "/").split("/")[1:]
    kept: list[str] = []
    for index, segment in enumerate(segments):
        is_last = index == len(segments) - 1
        dots = segment.replace("%2e", ".").replace("%2E", ".")
        if dots == "..":
            del kept[-1:]
        if dots in (".", ".."):
            if is_last:
                kept.append("")
        else:
            kept.append(_uniform(segment, path))
    return "/" + "/".join(kept)


def _uniform(segment: str, path: str) -> str:
    def plain(match: re.Match[str]) -> str:
        character = chr(int(match[1], 16))
        if character == "\0":
            raise InvalidInputError(f"the proxy answers 400 to the path {path!r}: it holds a NUL")
        return character if character in _NEVER_ESCAPED else match[0]

    return _ESCAPE.sub(plain, _ALWAYS_ESCAPED.sub(lambda match: f"%{ord(match[0]):02X}", segment))


def is_template(value: str) -> bool:
    """Whether a path of a policy is a template rather than a text with a wildcard."""
    return SEGMENT in value or REST in value


def template(value: str) -> Callable[[str], bool]:
    """Whether a path fits a template: `{*}` is one segment, `{**}` any number of characters, both of pchar only.

    Raises InvalidInputError for a template that Envoy refuses.
    """
    if not value.startswith("/"):
        raise InvalidInputError(f"path template {value!r} must start with /")
    if value.count(REST) > 1:
        # Each more would let the time of one look grow by another power of the path's length.
        raise InvalidInputError(f"path template {value!r} can hold {REST} once")
    parts = []
    for segment in value[1:].split("/"):
        if segment == SEGMENT:
            parts.append(f"[{_TEMPLATE_CHARACTERS}]+")
        elif segment == REST:
            parts.append(f"[{_TEMPLATE_CHARACTERS}/]*")
        elif not segment or _LITERAL.fullmatch(segment):
            parts.append(re.escape(segment))
        else:
            raise InvalidInputError(f"path template {value!r} must hold {SEGMENT} and {REST} as whole segments only")
    expression = re.compile("/" + "/".join(parts))
    return lambda path: expression.fullmatch(path) is not None

"""Prometheus' text format: Envoy's page under Istio's names, an application's page beside it, and its samples."""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from mutua.envoy.bootstrap import STATS_SCOPE

_PREFIX: Final = f"envoy_{STATS_SCOPE}_".encode()
_OURS: Final = re.compile(rb"^(# TYPE )?" + _PREFIX, re.MULTILINE)
_RESERVED: Final = re.compile(
    rb"^(?:#[ \t]+(?:TYPE|HELP|UNIT)[ \t]+)?(?:istio_|envoy_|mutua_)[^\n]*(?:\n|\Z)", re.MULTILINE
)
_END: Final = re.compile(rb"^# EOF[^\n]*(?:\n|\Z)", re.MULTILINE)
_SAMPLE: Final = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$")
_LABEL: Final = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_ESCAPE: Final = re.compile(r"\\(.)")
_ESCAPED: Final = {"n": "\n"}


class Sample(NamedTuple):
    """One line of a page."""

    name: str
    labels: dict[str, str]
    value: float


def envoy_page(page: bytes) -> bytes:
    """Envoy's page with the mesh's metrics under their own names.

    A label's value is what a peer sent at times: bytes that are no UTF-8 would make a scraper refuse the whole page.
    """
    renamed = _OURS.sub(rb"\1", page)
    return renamed if _is_utf8(renamed) else renamed.decode("utf-8", "replace").encode()


def application_page(page: bytes) -> bytes:
    """An application's page as a part of another one. Metrics under the mesh's names are not its to tell."""
    page = page if _is_utf8(page) else page.decode("utf-8", "replace").encode()
    page = _RESERVED.sub(b"", _END.sub(b"", page.replace(b"\r\n", b"\n")))
    return page if not page or page.endswith(b"\n") else page + b"\n"


def samples(page: bytes) -> Iterator[Sample]:
    """The samples of the mesh's metrics on Envoy's page, under their own names; what cannot be read is left out."""
    for line in envoy_page(page).decode().split("\n"):
        if not line or line[0] == "#":
            continue
        found = _SAMPLE.match(line)
        if found is None:
            continue
        try:
            value = float(found[3])
        except ValueError:
            continue
        yield Sample(found[1], {key: _unescaped(text) for key, text in _LABEL.findall(found[2] or "")}, value)


def _unescaped(text: str) -> str:
    return text if "\\" not in text else _ESCAPE.sub(lambda found: _ESCAPED.get(found[1], found[1]), text)


def _is_utf8(page: bytes) -> bool:
    try:
        page.decode()
    except UnicodeDecodeError:
        return False
    return True

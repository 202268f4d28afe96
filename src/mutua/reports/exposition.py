"""Prometheus' text format: Envoy's page under Istio's names, an application's page beside it, and its samples."""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from mutua.envoy import telemetry_tags
from mutua.envoy.bootstrap import STATS_SCOPE
from mutua.envoy.telemetry_tags import Names

_PREFIX: Final = f"envoy_{STATS_SCOPE}_"
_TYPE: Final = "# TYPE "
_TYPE_PREFIX: Final = _TYPE + _PREFIX
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


def envoy_page(page: bytes, own: Names) -> bytes:
    """Envoy's page with the mesh's metrics under Istio's names and labels. `own`: the workload whose Envoy it is.

    A label's value is what a peer sent at times: bytes that are no UTF-8 would make a scraper refuse the whole page,
    and two texts that mean the same labels would be one series twice.
    """
    lines: list[str] = []
    places: dict[str, int] = {}
    blocks: dict[str, str] = {}
    for line in page.decode("utf-8", "replace").split("\n"):
        if not line.startswith((_PREFIX, _TYPE_PREFIX)):
            lines.append(line)
            continue
        if line[0] == "#":
            lines.append(_TYPE + line.removeprefix(_TYPE_PREFIX))
            continue
        found = _SAMPLE.match(line.removeprefix(_PREFIX))
        if found is None:
            continue
        block, bucket = _without_bucket(found[2] or "")
        if block not in blocks:
            blocks[block] = _printed(telemetry_tags.labels(_tags(block), own))
        series, value = f"{found[1]}{{{blocks[block]}{bucket}}}", found[3]
        if series in places:
            earlier = lines[places[series]].removeprefix(f"{series} ")
            lines[places[series]] = f"{series} {float(earlier) + float(value):.15g}"
        else:
            places[series] = len(lines)
            lines.append(f"{series} {value}")
    return "\n".join(lines).encode()


def application_page(page: bytes) -> bytes:
    """An application's page as a part of another one. Metrics under the mesh's names are not its to tell."""
    page = page if _is_utf8(page) else page.decode("utf-8", "replace").encode()
    page = _RESERVED.sub(b"", _END.sub(b"", page.replace(b"\r\n", b"\n")))
    return page if not page or page.endswith(b"\n") else page + b"\n"


def samples(page: bytes, own: Names = Names()) -> Iterator[Sample]:  # noqa: B008 - a value that never changes
    """The samples of the mesh's metrics on Envoy's page, as `envoy_page` has them; what cannot be read is left out."""
    blocks: dict[str, dict[str, str]] = {}
    for line in page.decode("utf-8", "replace").split("\n"):
        found = _SAMPLE.match(line.removeprefix(_PREFIX)) if line.startswith(_PREFIX) else None
        if found is None:
            continue
        try:
            value = float(found[3])
        except ValueError:
            continue
        block = found[2] or ""
        if block not in blocks:
            blocks[block] = telemetry_tags.labels(_tags(block), own)
        yield Sample(found[1], blocks[block], value)


def _without_bucket(block: str) -> tuple[str, str]:
    start = block.rfind(',le="')
    return (block, "") if start < 0 else (block[:start], block[start:])


def _tags(block: str) -> dict[str, str]:
    return {key: _unescaped(text) for key, text in _LABEL.findall(block)}


def _printed(labels: dict[str, str]) -> str:
    return ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _unescaped(text: str) -> str:
    return text if "\\" not in text else _ESCAPE.sub(lambda found: _ESCAPED.get(found[1], found[1]), text)


def _is_utf8(page: bytes) -> bool:
    try:
        page.decode()
    except UnicodeDecodeError:
        return False
    return True

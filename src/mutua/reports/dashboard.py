"""What the dashboard's page gets: the graph of one moment, how old it is, and what is the matter."""

from datetime import datetime
from typing import Final

import msgspec

from mutua.reports.graph_model import Graph

_PLACE: Final = b"<!-- moment -->"
_MARKUP: Final = {
    b"<": b"\\u003c",
    b">": b"\\u003e",
    b"&": b"\\u0026",
    "\u2028".encode(): b"\\u2028",
    "\u2029".encode(): b"\\u2029",
}


class Moment(msgspec.Struct, frozen=True):
    """One state of the page. Traffic is of `as_of`; with `trouble` it is old, and the page says so.

    `window_seconds` is how far back rates and locks look, `observed_seconds` how much of it has been seen by now.
    """

    graph: Graph = Graph()
    as_of: datetime | None = None
    window_seconds: float = 60
    observed_seconds: float = 0
    poll_seconds: float = 5
    cluster: str = ""
    trouble: str = ""
    hint: str = ""
    silent: tuple[str, ...] = ()  # "namespace/pod: why" of sidecars whose counters are those of before


def page(template: bytes, moment: bytes) -> bytes:
    """The page with a moment (JSON) in it: nothing in the data ends the element that holds it, or begins another."""
    for mark, escaped in _MARKUP.items():
        moment = moment.replace(mark, escaped)
    return template.replace(_PLACE, moment)

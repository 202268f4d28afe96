"""The page about a mesh: who is in it, what workloads accept and who says so, who speaks plaintext, what is wrong."""

import html
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from mutua.analysis.message import Message
from mutua.mesh.snapshot import MeshSnapshot
from mutua.mesh.workloads import Workload
from mutua.reports.proxy_status import PlaintextSeen

_STYLE = """
:root{color-scheme:light dark;--line:#8884;--quiet:#777;--good:#1a7f37;--bad:#cf222e;--doubt:#9a6700}
@media(prefers-color-scheme:dark){:root{--quiet:#999;--good:#3fb950;--bad:#f85149;--doubt:#d29922}}
body{font:15px/1.5 system-ui,sans-serif;max-width:75rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.4rem}h2{font-size:1.1rem;margin-top:2rem}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;padding:.3rem .8rem .3rem 0;border-bottom:1px solid var(--line);vertical-align:top}
th{font-weight:600;color:var(--quiet)}
.good{color:var(--good)}.bad{color:var(--bad)}.doubt{color:var(--doubt)}.quiet{color:var(--quiet)}
"""
_CLASSES = {"STRICT": "good", "PERMISSIVE": "doubt", "DISABLE": "bad"}
_SEVERITIES = {"Error": "bad", "Warning": "doubt", "Info": "quiet"}


class Cell(NamedTuple):
    """A text with a meaning: good, bad, doubt or quiet; "" = none."""

    text: str
    meaning: str = ""


class Overview(NamedTuple):
    """What the page is made from. `plaintext_trouble` says why nothing is known of plaintext; "" if it is known."""

    snapshot: MeshSnapshot
    messages: Sequence[Message]
    plaintext: Sequence[PlaintextSeen]
    plaintext_trouble: str
    now: str


def page(overview: Overview) -> str:
    """The whole page as HTML; everything that comes from the cluster is escaped."""
    workloads = sorted(overview.snapshot.workloads.values(), key=lambda item: (item.namespace, item.name))
    parts = [
        _section("Workloads", ("Namespace", "Pod", "Sidecar", "Accepts", "Decided by"), _rows(overview, workloads)),
        _plaintext(overview),
        _section(
            "Findings",
            ("Severity", "Code", "Object", "What"),
            [
                (
                    Cell(item.severity.value, _SEVERITIES.get(item.severity.value.capitalize(), "")),
                    Cell(item.code),
                    Cell(str(item.subject or "")),
                    Cell(item.sentence),
                )
                for item in overview.messages
            ],
            "Nothing was found.",
        ),
    ]
    protected = sum(1 for item in workloads if item.has_sidecar)
    summary = (
        f"{len(overview.snapshot.namespaces)} namespaces, {len(workloads)} workloads, {protected} with a sidecar; "
        f"as of {overview.now}"
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>mutua</title>'
        '<meta name="viewport" content="width=device-width"><meta http-equiv="refresh" content="15">'
        f"<style>{_STYLE}</style></head><body><h1>Mutual TLS in this mesh</h1>"
        f'<p class="quiet">{html.escape(summary)}</p>{"".join(parts)}</body></html>'
    )


def _rows(overview: Overview, workloads: Iterable[Workload]) -> list[tuple[Cell, ...]]:
    rows: list[tuple[Cell, ...]] = []
    for workload in workloads:
        if workload.has_sidecar:
            effective = overview.snapshot.mode_of(workload)
            ports = "".join(f", port {number}: {mode.value}" for number, mode in effective.ports)
            accepts = Cell(effective.default.value + ports, _CLASSES.get(effective.default.value, ""))
            deciders = {item for item in (effective.decided_by, effective.ports_decided_by) if item}
            decided = ", ".join(sorted(f"{item.namespace}/{item.name}" for item in deciders)) or "the default"
        else:
            accepts, decided = Cell("anything: nothing guards it", "bad"), ""
        rows.append(
            (
                Cell(workload.namespace),
                Cell(workload.name),
                Cell("yes", "good") if workload.has_sidecar else Cell("no", "bad"),
                accepts,
                Cell(decided),
            )
        )
    return rows


def _plaintext(overview: Overview) -> str:
    rows: list[tuple[Cell, ...]] = [
        (
            Cell(item.client),
            Cell(item.server),
            Cell(str(item.port)),
            Cell("refused", "good") if item.refused else Cell("accepted", "bad"),
            Cell(str(item.connections)),
            Cell(item.reason),
        )
        for item in overview.plaintext
    ]
    empty = overview.plaintext_trouble or "None was seen since the control plane started."
    return _section(
        "Connections without mutual TLS", ("Client", "Server", "Port", "Outcome", "Connections", "Why"), rows, empty
    )


def _section(title: str, header: Sequence[str], rows: Sequence[Sequence[Cell]], empty: str = "There are none.") -> str:
    if not rows:
        return f'<h2>{html.escape(title)}</h2><p class="quiet">{html.escape(empty)}</p>'
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in header)
    body = "".join("<tr>" + "".join(_cell(cell) for cell in row) + "</tr>" for row in rows)
    return f"<h2>{html.escape(title)}</h2><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(cell: Cell) -> str:
    meaning = f' class="{cell.meaning}"' if cell.meaning else ""
    return f"<td{meaning}>{html.escape(cell.text)}</td>"

"""The table of all workloads' certificates: until when, renewed when, and what went wrong."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from mutua.reports.table import render, shortened
from mutua.spiffe import SpiffeId

HEADER = ("NAMESPACE", "POD", "ACCOUNT", "EXPIRES", "ROTATION")
WIDE = ("NAMESPACE", "POD", "IDENTITY", "SERIAL", "ISSUER", "EXPIRES", "NEXT ROTATION", "LAST ERROR")
NONE = "No workloads with certificates found.\n"
_PADDING = 2
_SHORT_ISSUER = 12
_SILENT = "(silent)"


def table(reports: Sequence[Mapping[str, Any]], silent: Sequence[tuple[str, str]], now: datetime) -> str:
    """One line for each workload, in 80 columns; below, what went wrong, and who has told nothing yet."""
    rows = [
        (
            report["namespace"],
            report["pod"],
            SpiffeId.parse(report["identity"]).service_account,
            _in(report["not_after"], now),
            _in(report["next_rotation"], now),
        )
        for report in reports
    ]
    rows += [(namespace, pod, _SILENT, "-", "-") for namespace, pod in silent]
    if not rows:
        return NONE
    notes = [f"{each['namespace']}/{each['pod']}: {_error(each)}" for each in reports if each["error"]]
    if silent:
        notes.append(f"{_SILENT}: its agent has not told what it holds since the control plane started")
    text = render(HEADER, shortened(HEADER, rows, names=(0, 2), key=1, padding=_PADDING), padding=_PADDING)
    return text + "".join(f"\n{note}" for note in notes) + ("\n" if notes else "")


def wide(reports: Sequence[Mapping[str, Any]], silent: Sequence[tuple[str, str]], now: datetime) -> str:
    """As `table`, with everything, however long; those that have told nothing yet come last."""
    rows = [
        (
            report["namespace"],
            report["pod"],
            report["identity"],
            report["serial"],
            report["issuer"][:_SHORT_ISSUER],
            _in(report["not_after"], now),
            _in(report["next_rotation"], now),
            _error(report),
        )
        for report in reports
    ]
    rows += [(namespace, pod, "(has not told)", "-", "-", "-", "-", "-") for namespace, pod in silent]
    return render(WIDE, rows, padding=_PADDING) if rows else NONE


def expiring(reports: Iterable[Mapping[str, Any]], now: datetime, within: timedelta) -> list[Mapping[str, Any]]:
    """Those whose certificate ends within that time, or has ended."""
    return [report for report in reports if datetime.fromisoformat(report["not_after"]) - now <= within]


def _error(report: Mapping[str, Any]) -> str:
    return f"{report['error']} ({report['failures']} times)" if report["error"] else "-"


def _in(moment: str | None, now: datetime) -> str:
    if not moment:
        return "-"
    seconds = int((datetime.fromisoformat(moment) - now).total_seconds())
    if seconds < 0:
        return "expired" if seconds < -60 else "now"
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"in {seconds // size}{unit}"
    return f"in {seconds}s"

"""The table of all workloads' certificates: until when, renewed when, and what went wrong."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from mutua.reports.table import render

HEADER = ("NAMESPACE", "POD", "IDENTITY", "SERIAL", "ISSUER", "EXPIRES", "NEXT ROTATION", "LAST ERROR")
NONE = "No workloads with certificates found.\n"
_SHORT_ISSUER = 12


def table(reports: Sequence[Mapping[str, Any]], silent: Sequence[tuple[str, str]], now: datetime) -> str:
    """One line for each workload; those that have told nothing yet come last."""
    rows = [
        (
            report["namespace"],
            report["pod"],
            report["identity"],
            report["serial"][:_SHORT_ISSUER],
            report["issuer"][:_SHORT_ISSUER],
            _in(report["not_after"], now),
            _in(report["next_rotation"], now),
            _error(report),
        )
        for report in reports
    ]
    rows += [(namespace, pod, "(has not told)", "-", "-", "-", "-", "-") for namespace, pod in silent]
    return render(HEADER, rows, padding=3) if rows else NONE


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

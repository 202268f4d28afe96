"""Whether a pod is injected, webhook by webhook: the table of `x check-inject`."""

from collections.abc import Iterable

from mutua.injection.selectors import Explanation
from mutua.reports.table import render

HEADER = ("WEBHOOK", "REVISION", "INJECTED", "REASON")


def table(explanations: Iterable[Explanation]) -> str:
    """One row per webhook configuration, by name."""
    rows = [
        (item.webhook, item.revision, "✔" if item.injected else "✘", item.reason)
        for item in sorted(explanations, key=lambda item: item.webhook)
    ]
    return render(HEADER, rows, padding=2)

"""The page of each code of our own: what it means, an example, what to do. `docs/findings` is written from here."""

import textwrap
from typing import Final

from mutua.analysis import codes
from mutua.analysis.pages_authorization import PAGES as AUTHORIZATION
from mutua.analysis.pages_outside import PAGES as OUTSIDE
from mutua.analysis.pages_page import Page
from mutua.analysis.pages_transport import PAGES as TRANSPORT

_COLUMNS: Final = 80

PAGES: Final[dict[str, Page]] = {page.code: page for page in (*TRANSPORT, *AUTHORIZATION, *OUTSIDE)}


def render(code: str) -> str:
    """The page as Markdown. Raises KeyError for a code that is not ours."""
    page, entry = PAGES[code], codes.OWN[code]
    parts = (
        f"# {code}: {entry.name}",
        _wrapped(f"{entry.severity.value}. {page.meaning}"),
        "## Example",
        "```yaml\n" + page.example.strip("\n") + "\n```",
        _wrapped(page.outcome),
        "## What to do",
        _wrapped(page.remedy),
    )
    return "\n\n".join(parts) + "\n"


def index() -> str:
    """The list of all pages, as Markdown."""
    rows = "".join(
        f"| [{code}]({code}.md) | {entry.severity.value} | {entry.name} |\n" for code, entry in codes.OWN.items()
    )
    head = "# Findings of our own\n\n`mutua analyze --explain CODE` prints a page.\n\n"
    table = "| code | level | name |\n|---|---|---|\n"
    return head + table + rows


def _wrapped(text: str) -> str:
    return textwrap.fill(text, _COLUMNS, break_long_words=False, break_on_hyphens=False)

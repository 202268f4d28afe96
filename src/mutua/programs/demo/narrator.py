"""Progress and claims, each with the time that passed and the fact that was observed."""

import time
from typing import NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text


class Claim(NamedTuple):
    """One thing the demonstration claims, what was observed (in brief), and whether the two agree."""

    proof: int
    text: str
    brief: str
    holds: bool


class Narrator:
    """Writes to the terminal: steps and claims as they happen (stderr), the summary at the end (stdout)."""

    def __init__(self) -> None:
        self._progress = Console(stderr=True, highlight=False, soft_wrap=True)
        self._result = Console(highlight=False)
        self._started = time.monotonic()
        self._last = self._started
        self._proof = 0
        self.claims: list[Claim] = []
        self.steps: list[tuple[str, float]] = []

    @property
    def elapsed(self) -> float:
        """Seconds since the demonstration began."""
        return time.monotonic() - self._started

    def step(self, text: str) -> None:
        """Something was done; it took the time since the step before."""
        now = time.monotonic()
        self.steps.append((text, now - self._last))
        self._progress.print(
            f"[dim]{self.elapsed:7.2f}s[/dim]  [green]✔[/green] {text} [dim](+{now - self._last:.2f}s)[/dim]"
        )
        self._last = now

    def proof(self, title: str) -> None:
        """A new group of claims begins."""
        self._proof += 1
        self._progress.print(f"\n[dim]{self.elapsed:7.2f}s[/dim]  [bold]{self._proof}. {title}[/bold]")

    def note(self, text: str) -> None:
        """Something that the reader should know, and that proves nothing."""
        self._progress.print(Text(f"{'':10}{text}", style="dim"))

    def claim(self, text: str, fact: str, holds: bool, brief: str = "") -> None:
        """One claim and the fact beside it; the summary shows the fact in brief where it holds."""
        self.claims.append(Claim(self._proof, text, brief if brief and holds else fact, holds))
        mark = "[green]✔[/green]" if holds else "[bold red]✘[/bold red]"
        self._progress.print(f"[dim]{self.elapsed:7.2f}s[/dim]  {mark} {text}", markup=True)
        self._progress.print(Text(f"{'':12}{fact}", style="cyan" if holds else "red"))
        self._last = time.monotonic()

    def summary(self) -> bool:
        """Prints the table of all claims; whether every one holds."""
        table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
        table.add_column("")
        table.add_column("CLAIM", overflow="fold", ratio=3)
        table.add_column("OBSERVED", overflow="fold", ratio=2)
        for claim in self.claims:
            mark = Text("✔", "green") if claim.holds else Text("✘", "bold red")
            table.add_row(mark, f"{claim.proof}. {claim.text}", claim.brief)
        self._result.print()
        self._result.print(table)
        held = sum(claim.holds for claim in self.claims)
        self._result.print(f"\n{held} of {len(self.claims)} claims hold, in {self.elapsed:.1f} s.")
        return held == len(self.claims)

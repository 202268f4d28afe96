"""Sets of completion indexes as the API writes them: `0-3,5,7-9`."""

from __future__ import annotations

from collections.abc import Iterable


def parsed(text: str) -> list[int]:
    """The numbers in the text."""
    found: list[int] = []
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        found.extend(range(int(first), int(last or first) + 1))
    return found


def written(numbers: Iterable[int]) -> str:
    """The shortest text for these numbers: a run of three or more is a range, of two a list, as Kubernetes writes."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 2 else ",".join(map(str, run)) for run in runs)

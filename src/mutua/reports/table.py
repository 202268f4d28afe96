"""Aligned columns, byte for byte as Go's text/tabwriter prints them with spaces."""

from collections.abc import Iterable, Sequence
from typing import Final

COLUMNS: Final = 80
_SHORT: Final = 12
_SHORTEST: Final = 8
"""No cell is shortened below this: less tells nothing."""


def render(header: Sequence[str], rows: Iterable[Sequence[str]], *, minimum: int = 0, padding: int = 5) -> str:
    """A table that ends in a newline. A column is as wide as its longest cell plus `padding`, at least `minimum`.

    The last cell of a row is not padded, so a row whose last cells are empty ends in blanks. Source: text/tabwriter.
    """
    lines = [tuple(header), *(tuple(row) for row in rows)]
    count = len(lines[0])
    widths = [max(minimum, max(len(line[column]) for line in lines) + padding) for column in range(count - 1)]
    return "".join(
        "".join(cell.ljust(width) for cell, width in zip(line[:-1], widths, strict=True)) + line[-1] + "\n"
        for line in lines
    )


def shortened(
    header: Sequence[str], rows: Iterable[Sequence[str]], *, names: Sequence[int], key: int, padding: int
) -> list[tuple[str, ...]]:
    """The rows as they fit in 80 columns: cells of the columns `names` lose their middle, then those of `key` too.

    The widest column gives first, and what a reader copies into the next command, `key`, last. What is unique in a
    generated name stands at its end, so the end stays, and of the beginning what there is room for.
    """
    lines = [tuple(row) for row in rows]
    widths = [max(len(line[column]) for line in (tuple(header), *lines)) for column in range(len(header))]
    over = sum(widths) + padding * (len(widths) - 1) - COLUMNS
    for columns, least in ((names, _SHORT), ((key,), 3 * _SHORT), ((*names, key), _SHORTEST)):
        while over > 0:
            widest = max(columns, key=lambda column: widths[column])
            if widths[widest] <= max(least, len(header[widest])):
                break
            widths[widest] -= 1
            over -= 1
    gives = {*names, key}
    return [
        tuple(_without_middle(cell, widths[column]) if column in gives else cell for column, cell in enumerate(line))
        for line in lines
    ]


def _without_middle(text: str, width: int) -> str:
    if len(text) <= width:
        return text
    end = width // 2
    return f"{text[: width - end - 1]}…{text[len(text) - end :]}"

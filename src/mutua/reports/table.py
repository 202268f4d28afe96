"""Aligned columns, byte for byte as Go's text/tabwriter prints them with spaces."""

from collections.abc import Iterable, Sequence


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

"""Labels as sets of pairs, and finding who has them without asking everybody."""

from collections.abc import Iterable, Mapping
from typing import Generic, TypeVar

T = TypeVar("T")

Labels = frozenset[tuple[str, str]]
"""Labels of a workload, or the pairs that a selector demands: it selects the labels that are a superset of it."""

NO_LABELS: Labels = frozenset()


def labels_of(labels: Mapping[str, str]) -> Labels:
    """Labels as a value."""
    return frozenset(labels.items())


class SelectorTable(Generic[T]):
    """Values under non-empty selectors, found by labels. Never changed once made."""

    __slots__ = ("_by_pair",)

    def __init__(self, entries: Iterable[tuple[Labels, T]]) -> None:
        # Each selector is kept under one of its pairs; labels without that pair cannot match it.
        self._by_pair: dict[tuple[str, str], list[tuple[Labels, T]]] = {}
        for selector, value in entries:
            if selector:
                self._by_pair.setdefault(min(selector), []).append((selector, value))

    def matching(self, labels: Labels) -> list[T]:
        """Every value whose selector selects these labels, in no particular order."""
        by_pair = self._by_pair
        return [value for pair in labels for selector, value in by_pair.get(pair, ()) if selector <= labels]

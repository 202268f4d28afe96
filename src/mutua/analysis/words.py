"""Words for people: lists that stay short, and the nearest of what there is."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from mutua.mesh.selectors import Labels

_SHOWN: Final = 4
_ALIKE: Final = 0.6


def listed(items: Iterable[str], shown: int = _SHOWN) -> str:
    """`a, b, c and 2 more`, sorted, each once."""
    names = sorted(set(items))
    rest = len(names) - shown
    return ", ".join(names) if rest <= 0 else f"{', '.join(names[:shown])} and {rest} more"


def nearest(word: str, among: Iterable[str]) -> str:
    """The most similar word; "" if none is similar."""
    found = difflib.get_close_matches(word, sorted(set(among)), n=1, cutoff=_ALIKE)
    return found[0] if found else ""


def selector(labels: Mapping[str, str] | Labels) -> str:
    """Labels as `a=b,c=d`."""
    pairs = labels.items() if isinstance(labels, Mapping) else labels
    return ",".join(f"{key}={value}" for key, value in sorted(pairs))


def nearest_selector(wanted: Labels, among: Iterable[Labels]) -> str:
    """Labels that workloads do have, where each wanted label has a similar value; "" if no workload comes near."""
    best: tuple[int, float, str] | None = None
    for labels in among:
        there = dict(labels)
        pairs = {key: there[key] for key, _ in wanted if key in there}
        if not pairs:
            continue
        same = sum(1 for key, value in wanted if pairs.get(key) == value)
        alike = sum(difflib.SequenceMatcher(None, value, pairs.get(key, "")).ratio() for key, value in wanted)
        if same or alike / len(wanted) >= _ALIKE:
            candidate = (same, alike, selector(pairs))
            best = candidate if best is None or candidate > best else best
    return best[2] if best else ""


def plural(count: int, word: str) -> str:
    """`1 pod`, `2 pods`."""
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def joined(items: Sequence[str]) -> str:
    """`a, b and c`, in the order given."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}" if items else ""

"""Who can see a Service or a DestinationRule: exportTo."""

from collections.abc import Iterable
from typing import Final

EVERYWHERE: Final = "*"
OWN_NAMESPACE: Final = "."
NOWHERE: Final = "~"

EXPORT_TO_ANNOTATION: Final = "networking.istio.io/exportTo"

Visibility = frozenset[str]
"""Namespaces that can see it; `*` among them means all, none means nobody."""

PUBLIC: Final[Visibility] = frozenset({EVERYWHERE})


def read(export_to: Iterable[str], namespace: str, default: Iterable[str] = ()) -> Visibility:
    """Meaning of `exportTo` of an object in this namespace: `.` its own, `*` all, `~` none.

    Nothing said: the mesh's default (a list of the same words); nothing there either: all.
    """
    said = [word.strip() for word in export_to if word.strip()] or list(default)
    if not said or EVERYWHERE in said:
        return PUBLIC
    return frozenset(namespace if word == OWN_NAMESPACE else word for word in said if word != NOWHERE)


def can_see(visibility: Visibility, namespace: str) -> bool:
    """Whether clients in this namespace can see it."""
    return EVERYWHERE in visibility or namespace in visibility

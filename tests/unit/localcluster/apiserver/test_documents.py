"""Copies of JSON documents."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from localcluster.apiserver.documents import copied

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
DOCUMENTS = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))


def containers(document: Any) -> set[int]:
    """The identities of all lists and dictionaries in a document."""
    inner = document.values() if isinstance(document, dict) else document if isinstance(document, list) else None
    return set() if inner is None else {id(document)}.union(*map(containers, inner))


@given(DOCUMENTS)
def test_a_copy_is_equal_and_shares_nothing(document: Any) -> None:
    copy = copied(document)

    assert repr(copy) == repr(document)
    assert not containers(copy) & containers(document)

"""Host names and patterns."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mutua.mesh import hosts
from mutua.mesh.hosts import HostTable

LABEL = st.text("abc", min_size=1, max_size=3)
NAME = st.lists(LABEL, min_size=1, max_size=4).map(".".join)
PATTERN = st.one_of(NAME, NAME.map("*.{}".format), st.just("*"))


@pytest.mark.parametrize(
    ("host", "resolved"),
    [
        ("backend", "backend.ns.svc.cluster.local"),
        ("backend.other", "backend.other"),
        ("*", "*"),
        ("*.local", "*.local"),
        ("10.0.0.1", "10.0.0.1"),
        ("fd00::1", "fd00::1"),
        ("", ""),
    ],
)
def test_only_names_without_a_dot_are_short(host: str, resolved: str) -> None:
    assert hosts.resolve(host, "ns", "cluster.local") == resolved


@pytest.mark.parametrize(
    ("pattern", "host", "expected"),
    [
        ("*.local", "a.svc.cluster.local", True),
        ("*.local", "local", False),
        ("*", "anything", True),
        ("*.example.org", "example.org", False),
        ("*.example.org", "*.org", True),
        ("a.example.org", "*.example.org", True),
        ("a.example.org", "b.example.org", False),
    ],
)
def test_wildcards(pattern: str, host: str, expected: bool) -> None:
    assert hosts.matches(pattern, host) is expected


@given(PATTERN, PATTERN)
def test_matching_is_symmetric_and_reflexive(one: str, other: str) -> None:
    assert hosts.matches(one, other) == hosts.matches(other, one)
    assert hosts.matches(one, one)


@given(st.lists(PATTERN, max_size=8, unique=True), NAME)
def test_the_table_finds_the_most_specific_of_the_matching_patterns(patterns: list[str], host: str) -> None:
    table = HostTable((pattern, pattern) for pattern in patterns)
    matching = [pattern for pattern in patterns if hosts.matches(pattern, host)]
    most_specific = host if host in matching else max(matching, key=len, default=None)
    assert table.most_specific(host) == most_specific
    assert bool(table) is bool(patterns)

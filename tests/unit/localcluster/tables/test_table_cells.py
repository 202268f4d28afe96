"""Ages, selectors and JSON paths as table cells."""

import contextlib
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localcluster.apiserver.tables import cells, jsonpath

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "<invalid>"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (250, "4m10s"),
        (3600, "60m"),
        (3 * 3600, "3h"),
        (3 * 3600 + 60, "3h1m"),
        (10 * 3600 + 59, "10h"),
        (48 * 3600, "2d"),
        (50 * 3600, "2d2h"),
        (30 * 86400, "30d"),
        (800 * 86400, "2y70d"),
        (3650 * 86400, "10y"),
    ],
)
def test_durations_have_two_units_at_most(seconds: int, text: str) -> None:
    assert cells.duration(seconds) == text


@given(st.integers(min_value=0, max_value=10**10))
def test_any_duration_can_be_shown(seconds: int) -> None:
    assert cells.duration(seconds)[0].isdigit()


def test_an_object_without_time_has_an_unknown_age() -> None:
    assert cells.age({"metadata": {}}, NOW) == "<unknown>"
    assert cells.age({"metadata": {"creationTimestamp": "2026-11-23T11:59:00Z"}}, NOW) == "60s"


def test_selectors_are_written_as_kubectl_writes_them() -> None:
    value = {
        "matchLabels": {"b": "2", "a": "1"},
        "matchExpressions": [
            {"key": "tier", "operator": "In", "values": ["x", "y"]},
            {"key": "old", "operator": "DoesNotExist"},
        ],
    }

    assert cells.selector(value) == "a=1,b=2,!old,tier in (x,y)"
    assert cells.selector(None) == "<none>"


OBJECT: dict[str, Any] = {
    "spec": {"a.b": 1, "names": ["x", "y"], "mode": "A"},
    "status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Other", "status": "False"}]},
}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (".spec.mode", ["A"]),
        ("{.spec.mode}", ["A"]),
        ("$.spec.mode", ["A"]),
        ("spec.mode", ["A"]),
        (".spec['mode']", ["A"]),
        (".spec['a.b']", [1]),
        (r".spec.a\.b", [1]),
        (".spec.names[0]", ["x"]),
        (".spec.names[-1]", ["y"]),
        (".spec.names[7]", []),
        (".spec.names[*]", ["x", "y"]),
        ('.status.conditions[?(@.type=="Ready")].status', ["True"]),
        (".status.conditions[?(@.type=='Other')].status", ["False"]),
        ('.status.conditions[?(@.type!="Ready")].type', ["Other"]),
        (".missing.field", []),
    ],
)
def test_paths_find_their_values(path: str, found: list[Any]) -> None:
    assert jsonpath.find(path, OBJECT) == found


@pytest.mark.parametrize("path", [".a[", ".a[?(@.b=~'x')]", ".a..b", "..", ".a[b]"])
def test_a_path_of_another_language_is_refused(path: str) -> None:
    with pytest.raises(jsonpath.JsonPathError):
        jsonpath.find(path, OBJECT)


@given(st.text(max_size=40))
def test_any_text_is_a_path_or_an_error(path: str) -> None:
    with contextlib.suppress(jsonpath.JsonPathError):
        jsonpath.find(path, OBJECT)

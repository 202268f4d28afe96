"""Conformance vectors as test parameters: `@pytest.mark.vectors("file", kind="…")` gives one `vector` per case."""

import json
from pathlib import Path
from typing import Any

import pytest

VECTORS = Path(__file__).resolve().parents[4] / "shared" / "vectors"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "vectors(file, **fields): one test per conformance vector with these fields")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    marker = metafunc.definition.get_closest_marker("vectors")
    if marker is None:
        return
    path = VECTORS / f"{marker.args[0]}.jsonl"
    if not path.exists():
        absent = pytest.mark.skip(reason="conformance vectors not present")
        metafunc.parametrize("vector", [pytest.param({}, marks=absent)], ids=["absent"])
        return
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    chosen = [row for row in rows if all(_matches(row.get(name), value) for name, value in marker.kwargs.items())]
    ids = [str(row.get("id") or f"{row.get('kind')}-{row.get('name')}-{index}") for index, row in enumerate(chosen)]
    metafunc.parametrize("vector", chosen, ids=ids)


def _matches(value: Any, wanted: Any) -> bool:
    return value in wanted if isinstance(wanted, (set, frozenset)) else value == wanted

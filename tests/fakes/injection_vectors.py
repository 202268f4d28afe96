"""The conformance rows about injection, as pytest parameters."""

import json
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[3] / "shared" / "vectors"


def rows(*kinds: str) -> list[Any]:
    """The rows of these kinds, or one skipped parameter where the vectors are absent."""
    if not FOLDER.is_dir():
        return [pytest.param({}, marks=pytest.mark.skip(reason="conformance vectors not present"), id="absent")]
    lines = (FOLDER / "inject.jsonl").read_text(encoding="utf-8").splitlines()
    found = (json.loads(line) for line in lines)
    return [pytest.param(row, id=row["id"]) for row in found if row["kind"] in kinds]


def webhook_configurations() -> dict[str, Any]:
    """The webhook configurations that rows refer to, by short name."""
    content: dict[str, Any] = json.loads((FOLDER / "inject_webhooks.json").read_text(encoding="utf-8"))
    return content

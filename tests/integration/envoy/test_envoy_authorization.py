"""AuthorizationPolicy: real Envoys decide as the conformance vectors say, with what the translator makes of them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import envoy_authorization as authorization
import envoy_authorization_run as authorization_run
import pytest
from envoy_pods import can_make_networks

VECTORS = Path(__file__).resolve().parents[4] / "shared" / "vectors"
pytestmark = [
    pytest.mark.envoy,
    pytest.mark.linux,
    pytest.mark.skipif(not can_make_networks(), reason="network namespaces need root"),
    pytest.mark.skipif(not VECTORS.exists(), reason="conformance vectors not present"),
]


@pytest.mark.parametrize("file", ["authz-golden", "authz-fields"])
def test_envoy_decides_as_the_vectors_say(file: str, tmp_path: Path) -> None:
    vectors = _vectors(file)
    decisions = authorization_run.decisions(vectors, tmp_path)
    differing = {
        vector["id"]: decision
        for vector, decision in zip(vectors, decisions, strict=True)
        if decision != vector["expect"]
    }
    assert differing == {}
    assert len(decisions) > 100


def _vectors(file: str) -> list[Mapping[str, Any]]:
    rows = map(json.loads, (VECTORS / f"{file}.jsonl").read_text().splitlines())
    return [row for row in rows if authorization.can_run(row)]

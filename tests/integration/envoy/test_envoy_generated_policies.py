"""Real Envoys and the evaluator decide alike about made-up policies and calls."""

from pathlib import Path

import envoy_authorization_run as authorization_run
import pytest
from envoy_pods import can_make_networks

from fakes import policy_vectors

SEED = 20260822
CASES = 2000
"""Half a minute on a slow machine; `bench/verdict_and_envoy.py` puts as many as one likes."""

pytestmark = [
    pytest.mark.envoy,
    pytest.mark.linux,
    pytest.mark.skipif(not can_make_networks(), reason="network namespaces need root"),
]


def test_envoy_and_the_evaluator_agree(tmp_path: Path) -> None:
    vectors = list(policy_vectors.generate(SEED, CASES))
    assert len(vectors) == CASES
    decisions = authorization_run.decisions(vectors, tmp_path)
    differing = [
        (decision, vector) for vector, decision in zip(vectors, decisions, strict=True) if decision != vector["expect"]
    ]
    assert differing == []
    # Neither answer may be the rare one, or little would be proven.
    assert min(decisions.count(answer) for answer in ("allow", "deny")) > CASES // 4

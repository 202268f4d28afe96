"""Puts made-up policies and calls to the evaluator and to real Envoys, and prints where they differ.

Needs root. `python bench/verdict_and_envoy.py --cases 1000000 --seed 1` prints each case that differs as JSON.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent / "tests"
BATCH = 20_000
"""Cases of one Envoy; it holds all their filter chains."""

CALLS = 80
"""Cases that meet the same policies, but each by another connection or request."""


def main() -> int:
    sys.path[:0] = [str(TESTS), str(TESTS / "integration" / "envoy")]
    import envoy_authorization_run as authorization_run

    from fakes import policy_vectors

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=BATCH)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    started, done, differing, unanswered = time.monotonic(), 0, 0, 0
    for number, first in enumerate(range(0, arguments.cases, BATCH)):
        count = min(BATCH, arguments.cases - first)
        vectors = list(policy_vectors.generate(arguments.seed + number, count, CALLS))
        with tempfile.TemporaryDirectory() as directory:
            decisions = authorization_run.decisions(vectors, Path(directory))
        for vector, decision in zip(vectors, decisions, strict=True):
            if not authorization_run.is_decision(decision):
                unanswered += 1
            elif decision != vector["expect"]:
                differing += 1
                print(json.dumps({"envoy": decision, **vector}), flush=True)
        done += count
        seconds = time.monotonic() - started
        last = arguments.seed + number
        print(
            f"{done} cases, seeds {arguments.seed} to {last}, {differing} differ, {unanswered} unanswered, "
            f"{done / seconds:.0f} a second",
            file=sys.stderr,
        )
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())

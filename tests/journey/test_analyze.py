"""The guide's three traps: what kubectl says when they are applied, and what `mutua analyze` says afterwards."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
from journey_shell import Journey

pytestmark = pytest.mark.cluster

STRICT = """
apiVersion: security.istio.io/v1beta1
kind: PeerAuthentication
metadata: {name: strict-mtls, namespace: doubts}
spec: {mtls: {mode: STRICT}}
"""
SHADOWED = STRICT.replace("strict-mtls", "default").replace("STRICT", "PERMISSIVE")
NOBODY = """
apiVersion: security.istio.io/v1beta1
kind: AuthorizationPolicy
metadata: {name: backend-access, namespace: doubts}
spec:
  selector: {matchLabels: {app: backend}}
  action: ALLOW
  rules:
  - from: [{source: {principals: ["cluster.local/ns/doubts/sa/frontend"]}}]
"""
MESH_WIDE = """
apiVersion: networking.istio.io/v1beta1
kind: DestinationRule
metadata: {name: doubts, namespace: istio-system}
spec: {host: "*.local", trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}
"""


@pytest.fixture
def doubts(journey: Journey, eventually: Callable[[Callable[[], bool], float], None]) -> Iterator[Journey]:
    """A namespace whose pods run as `default`, with a policy that is older than the next second."""
    journey.must("create", "namespace", "doubts")
    journey.must("label", "namespace", "doubts", "istio-injection=enabled")
    journey.must("apply", "-f", "-", stdin=STRICT)
    for name in ("frontend", "backend"):
        journey.must("create", "deployment", name, "--image=nginx", "--port=80", "-n", "doubts")
        journey.must("wait", "--for=condition=Available", f"deployment/{name}", "-n", "doubts", "--timeout=60s")
    policy = json.loads(journey.must("get", "pa", "strict-mtls", "-n", "doubts", "-o", "json"))
    created = datetime.fromisoformat(policy["metadata"]["creationTimestamp"])
    eventually(lambda: datetime.now(UTC) > created + timedelta(seconds=1), 5)
    yield journey
    journey.must("delete", "--ignore-not-found", "-f", "-", stdin=MESH_WIDE)
    journey.must("delete", "namespace", "doubts")


def test_the_guides_traps_are_named_at_once_and_later(doubts: Journey) -> None:
    """Who applies them is warned; the analysis finds them again, fails, and explains."""
    for manifest, warning in {
        SHADOWED: "is ignored: doubts/strict-mtls (STRICT) is older and covers the same workloads",
        NOBODY: "did you mean cluster.local/ns/doubts/sa/default?",
        MESH_WIDE: "breaks hosts without a sidecar: istiod.istio-system.svc.cluster.local, kubernetes.default.svc",
    }.items():
        applied = doubts.kube("apply", "-f", "-", stdin=manifest)
        assert applied.returncode == 0, applied.stderr
        assert "Warning: " in applied.stderr and warning in applied.stderr

    found = doubts.mutua("analyze", "-n", "doubts")
    assert {line.split()[1] for line in found.stdout.splitlines()} >= {"[MUT0001]", "[MUT0006]"}
    everywhere = doubts.mutua("analyze", "--all-namespaces")
    assert "Error [MUT0011] (DestinationRule istio-system/doubts)" in everywhere.stdout
    assert everywhere.returncode == 79
    assert "Error: Analyzers found issues when analyzing all namespaces." in everywhere.stderr
    assert doubts.mutua("analyze", "--explain", "MUT0011").stdout.startswith("# MUT0011: ")

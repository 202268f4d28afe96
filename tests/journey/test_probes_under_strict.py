"""The kubelet has no certificate, and its probes hold under STRICT all the same."""

import json
from collections.abc import Callable

import pytest
from journey_shell import Journey

pytestmark = pytest.mark.cluster

Eventually = Callable[[Callable[[], bool], float], None]
NAMESPACE = "probed"
STRICT = f"""
apiVersion: v1
kind: Namespace
metadata: {{name: {NAMESPACE}, labels: {{istio-injection: enabled}}}}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: default, namespace: {NAMESPACE}}}
spec: {{mtls: {{mode: STRICT}}}}
"""
# `mv` takes the page away under the web server's feet; the folder is the pod's own.
SERVER = "cd /tmp && echo well > health && exec python3 -m http.server 8080 --bind 0.0.0.0"


def _pod(name: str, annotations: str = "{}") -> str:
    return f"""
---
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: {NAMESPACE}, annotations: {annotations}}}
spec:
  containers:
  - name: web
    image: python
    command: [sh, -c, {json.dumps(SERVER)}]
    ports: [{{name: web, containerPort: 8080}}]
    startupProbe: {{tcpSocket: {{port: web}}, periodSeconds: 1, failureThreshold: 60}}
    readinessProbe: {{httpGet: {{path: /health, port: web}}, periodSeconds: 1, failureThreshold: 1}}
"""


def test_probes_of_an_application_hold_under_strict(journey: Journey, eventually: Eventually) -> None:
    """The agent asks the application; what it answers decides readiness. Without that, the kubelet is refused."""
    journey.must("apply", "-f", "-", stdin=STRICT)

    def ready(pod: str) -> bool:
        path = '{.status.containerStatuses[?(@.name=="web")].ready}'
        return journey.must("get", "pod", pod, "-n", NAMESPACE, "-o", f"jsonpath={path}") == "true"

    applied = journey.kube("apply", "-f", "-", stdin=_pod("asked"))
    unasked = '{sidecar.istio.io/rewriteAppHTTPProbers: "false"}'
    warned = journey.kube("apply", "-f", "-", stdin=_pod("unasked", unasked))
    try:
        assert (applied.returncode, applied.stderr) == (0, "")
        assert "container web: readinessProbe reaches the application" in warned.stderr
        eventually(lambda: ready("asked"), 30)
        journey.must("exec", "asked", "-n", NAMESPACE, "-c", "web", "--", "mv", "/tmp/health", "/tmp/gone")
        eventually(lambda: not ready("asked"), 15)
        journey.must("exec", "asked", "-n", NAMESPACE, "-c", "web", "--", "mv", "/tmp/gone", "/tmp/health")
        eventually(lambda: ready("asked"), 15)

        def refused() -> bool:
            events = journey.must("get", "events", "-n", NAMESPACE, "--field-selector", "involvedObject.name=unasked")
            return "Readiness probe failed" in events

        eventually(refused, 15)
        assert not ready("unasked")
    finally:
        journey.must("delete", "namespace", NAMESPACE, "--wait=false")

"""Modes and rules change under steady traffic between two sidecars of a cluster, for a namespace and for the mesh."""

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from journey_shell import Journey

pytestmark = pytest.mark.cluster

NAMESPACE = "changing"
RATE, CONNECTIONS = 200, 10
SECONDS = 10
"""Longer than a change takes and the drain time of five seconds: no connection of the old kind is left by then."""

LOAD = Path(__file__).parent / "steady_load.py"
WORKLOADS = f"""
apiVersion: v1
kind: Namespace
metadata: {{name: {NAMESPACE}, labels: {{istio-injection: enabled}}}}
---
apiVersion: v1
kind: Service
metadata: {{name: server, namespace: {NAMESPACE}}}
spec: {{selector: {{app: server}}, ports: [{{name: http, port: 80}}]}}
""" + "".join(
    f"""
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: {NAMESPACE}}}
spec:
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{container}]
"""
    for name, container in (
        ("server", "{name: server, image: nginx, ports: [{containerPort: 80}]}"),
        ("client", "{name: client, image: python, command: [sleep, infinity]}"),
    )
)


def policy(namespace: str, mode: str) -> str:
    """A PeerAuthentication for a namespace, or in the root namespace for the mesh."""
    return f"""
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: default, namespace: {namespace}}}
spec: {{mtls: {{mode: {mode}}}}}
---
"""


def rule(namespace: str, mode: str) -> str:
    """A DestinationRule for the server, or in the root namespace for every host of the mesh."""
    host = "server" if namespace == NAMESPACE else '"*.changing.svc.cluster.local"'
    return f"""
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: default, namespace: {namespace}}}
spec: {{host: {host}, trafficPolicy: {{tls: {{mode: {mode}}}}}}}
---
"""


@pytest.fixture(scope="module")
def changing(journey: Journey) -> Iterator[Journey]:
    """A client and a server with sidecars; no policy is left behind."""
    journey.must("apply", "-f", "-", stdin=WORKLOADS)
    journey.must("wait", "--for=condition=Available", "deployment", "--all", "-n", NAMESPACE, "--timeout=90s")
    yield journey
    for namespace in (NAMESPACE, "istio-system"):
        journey.must("delete", "pa,dr", "default", "-n", namespace, "--ignore-not-found")
    journey.must("delete", "namespace", NAMESPACE, "--timeout=90s")


@pytest.mark.parametrize("namespace", [NAMESPACE, "istio-system"], ids=["namespace", "mesh"])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        (("PERMISSIVE", ""), ("STRICT", "")),
        (("STRICT", ""), ("PERMISSIVE", "")),
        (("DISABLE", ""), ("STRICT", "")),
        (("PERMISSIVE", "DISABLE"), ("PERMISSIVE", "ISTIO_MUTUAL")),
        (("PERMISSIVE", "ISTIO_MUTUAL"), ("PERMISSIVE", "DISABLE")),
    ],
    ids=str,
)
def test_a_change_loses_no_request(
    changing: Journey, namespace: str, before: tuple[str, str], after: tuple[str, str]
) -> None:
    put(changing, namespace, *before)
    load = start_load(changing)
    time.sleep(1.5)  # the load itself takes a moment to be there

    put(changing, namespace, *after)

    out, error = load.communicate(timeout=90)
    found: dict[str, int] = json.loads(out.strip().splitlines()[-1])
    assert set(found) == {"200"}, (found, error)
    assert found["200"] > RATE


def put(changing: Journey, namespace: str, mode: str, tls: str) -> None:
    """Both objects at once, and until every proxy has them."""
    for other in {NAMESPACE, "istio-system"} - {namespace}:
        changing.must("delete", "pa,dr", "default", "-n", other, "--ignore-not-found")
    if not tls:
        changing.must("delete", "dr", "default", "-n", namespace, "--ignore-not-found")
    changing.must("apply", "-f", "-", stdin=policy(namespace, mode) + (rule(namespace, tls) if tls else ""))
    objects = ["pa/default", "dr/default"] if tls else ["pa/default"]
    for name in objects:
        generation = changing.must("get", name, "-n", namespace, "-o", "jsonpath={.metadata.generation}")
        observed = f"--for=jsonpath={{.status.observedGeneration}}={generation}"
        changing.must("wait", observed, name, "-n", namespace, "--timeout=30s")
        changing.must("wait", "--for=condition=Reconciled", name, "-n", namespace, "--timeout=30s")


def start_load(changing: Journey) -> "subprocess.Popen[str]":
    """Requests from the client to the server."""
    words = ["exec", "-i", "deploy/client", "-n", NAMESPACE, "-c", "client", "--"]
    with LOAD.open() as script:
        return subprocess.Popen(
            [str(changing.kubectl), *words, "python3", "-", "server", str(SECONDS), str(RATE), str(CONNECTIONS)],
            env=changing.environment,
            stdin=script,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

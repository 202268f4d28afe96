"""An operator written with kopf, as its author would run it."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from client_cluster import ClientCluster, eventually, proves

import kubectl as kubectl_binary

pytestmark = pytest.mark.linux

OPERATOR = Path(__file__).parent / "operator_for_kopf.py"
DEFINITION = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: greetings.operator.example.com}
spec:
  group: operator.example.com
  scope: Namespaced
  names: {plural: greetings, singular: greeting, kind: Greeting}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec: {type: object, properties: {text: {type: string}}}
          status: {type: object, x-kubernetes-preserve-unknown-fields: true}
"""
GREETING = """
apiVersion: operator.example.com/v1
kind: Greeting
metadata: {name: hello, namespace: operated}
spec: {text: %s}
"""


@proves("kopf (operators in Python)", "creation, change and deletion of custom objects, finalizers, status, events")
def test_an_operator_follows_its_objects(cluster: ClientCluster, tmp_path: Path) -> None:
    kubectl = kubectl_binary.find()
    cluster.output(kubectl, "create", "namespace", "operated")
    cluster.output(kubectl, "apply", "-f", "-", stdin=DEFINITION)
    cluster.output(kubectl, "wait", "--for=condition=established", "crd/greetings.operator.example.com")
    log = tmp_path / "operator.log"
    with log.open("wb") as output:
        operator = subprocess.Popen(
            [sys.executable, "-m", "kopf", "run", str(OPERATOR), "--namespace=operated", "--verbose"],
            env=cluster.environment,
            stdout=output,
            stderr=output,
        )
    try:

        def said(name: str) -> str:
            found = cluster.run(kubectl, "get", "configmap", name, "-n", "operated", "-o", "json")
            return "" if found.returncode else json.dumps(json.loads(found.stdout).get("data") or "empty")

        cluster.output(kubectl, "apply", "-f", "-", stdin=GREETING % "one")
        eventually(lambda: said("hello") == '{"text": "one"}')
        cluster.output(kubectl, "apply", "-f", "-", stdin=GREETING % "two")
        eventually(lambda: said("hello") == '{"text": "two"}')
        status = ("get", "greeting", "hello", "-n", "operated", "-o", "jsonpath={.status.said}")
        eventually(lambda: cluster.output(kubectl, *status) == "two")
        eventually(lambda: "Greeted" in cluster.output(kubectl, "events", "-n", "operated"))
        cluster.output(kubectl, "delete", "greeting", "hello", "-n", "operated", "--timeout=20s")
        eventually(lambda: said("hello-gone"))
        eventually(lambda: not said("hello"))
    except AssertionError as failure:
        raise AssertionError(f"{failure}\n{log.read_text()[-5000:]}") from failure
    finally:
        operator.send_signal(signal.SIGTERM)
        operator.wait(timeout=20)
    assert "Traceback" not in log.read_text()

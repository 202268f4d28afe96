"""Causes that lie in the mesh's authority, brought about for real in a cluster of its own: each ails every workload."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from journey_shell import COMMAND, Journey

pytestmark = pytest.mark.cluster

Eventually = Callable[[Callable[[], bool], float], None]
NAMESPACE = "certified"
CLUSTER = "authority"


def pod(name: str, annotations: str = "{}", more: str = "") -> str:
    """A pod with a sidecar."""
    return f"""
---
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: {NAMESPACE}, labels: {{app: {name}}}, annotations: {annotations}}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {{name: {name}, image: nginx, ports: [{{containerPort: 80}}]}}
{more}"""


# What the sidecar trusts is a copy that nobody keeps up.
FORGOTTEN = """
  - name: istio-proxy
    image: auto
    volumeMounts: [{name: copied-root, mountPath: /var/run/secrets/istio}]
  volumes: [{name: copied-root, configMap: {name: copied-root}}]
"""
BRIEF = "{proxy.istio.io/config: '{proxyMetadata: {SECRET_TTL: 8s}}'}"
WORLD = f"""
---
apiVersion: v1
kind: Service
metadata: {{name: web, namespace: {NAMESPACE}}}
spec: {{selector: {{app: web}}, ports: [{{name: http, port: 80}}]}}
""" + "".join((pod("web"), pod("brief", BRIEF), pod("forgotten", more=FORGOTTEN)))


@pytest.fixture(scope="module")
def certified(kubectl: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Journey]:
    """A cluster with a server, a pod whose certificates live for seconds, and one with a copy of the mesh's root."""
    shell = Journey(home=tmp_path_factory.mktemp("mutua-home"), kubectl=kubectl, command=COMMAND)
    started = shell.mutua("up", "--name", CLUSTER)
    assert started.returncode == 0, started.stderr
    shell.kubeconfig = Path(started.stdout.strip().splitlines()[-1].removeprefix("export KUBECONFIG="))
    try:
        shell.must("create", "namespace", NAMESPACE)
        shell.must("label", "namespace", NAMESPACE, "istio-injection=enabled")
        shell.must("wait", "--for=create", "configmap/istio-ca-root-cert", "-n", NAMESPACE, "--timeout=30s")
        root = json.loads(shell.must("get", "configmap", "istio-ca-root-cert", "-n", NAMESPACE, "-o", "json"))
        copied = {"metadata": {"name": "copied-root", "namespace": NAMESPACE}, "data": root["data"]}
        shell.must("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "ConfigMap"} | copied))
        shell.must("apply", "-f", "-", stdin=WORLD)
        shell.must("wait", "--for=condition=Ready", "pod", "--all", "-n", NAMESPACE, "--timeout=90s")
        yield shell
    finally:
        shell.mutua("down", "--name", CLUSTER)


def cause(shell: Journey, *words: str) -> str:
    """The cause that is named, "" for none."""
    return str(json.loads(shell.mutua("diagnose", *words, "-n", NAMESPACE, "-o", "json").stdout)["cause"])


def serial(shell: Journey, name: str) -> str:
    """The serial number of a pod's certificate, as the control plane knows it; "" if it does not."""
    held = json.loads(shell.mutua("certs", "-n", NAMESPACE, "-o", "json").stdout or '{"certificates": []}')
    return str(next((item["serial"] for item in held["certificates"] if item["pod"] == name), ""))


def control_planes(shell: Journey, replicas: int) -> None:
    """Have so many, and wait until it is so."""
    shell.must("scale", "deployment/istiod", "-n", "istio-system", f"--replicas={replicas}")
    shell.must("rollout", "status", "deployment/istiod", "-n", "istio-system", "--timeout=60s")


def test_an_identity_that_is_not_the_pods_any_more(certified: Journey, eventually: Eventually) -> None:
    """The mesh's trust domain was changed under running pods."""
    assert cause(certified, "web") == ""
    before = json.loads(certified.must("get", "configmap", "istio", "-n", "istio-system", "-o", "json"))["data"]["mesh"]

    def configure(mesh: str) -> None:
        change = json.dumps({"data": {"mesh": mesh}})
        certified.must("patch", "configmap", "istio", "-n", "istio-system", "--type=merge", "-p", change)

    configure(before.replace("trustDomain: cluster.local", "trustDomain: renamed.example"))
    eventually(lambda: cause(certified, "web") == "wrong-identity", 30)
    configure(before)
    eventually(lambda: cause(certified, "web") == "", 30)


def test_a_certificate_that_has_ended(certified: Journey, eventually: Eventually) -> None:
    """No control plane has renewed it; one that comes back cures it."""
    control_planes(certified, 0)
    eventually(lambda: cause(certified, "brief") == "certificate-expired", 60)
    control_planes(certified, 1)
    eventually(lambda: cause(certified, "brief") == "", 60)


def test_two_sides_that_trust_different_roots(certified: Journey, eventually: Eventually) -> None:
    """The authority was lost with all that is kept of it; who hears of the new one goes on, who does not is alone."""
    earlier = serial(certified, "web")
    control_planes(certified, 0)
    kept = ("secret/istio-ca-secret", "secret/istio-ca-rotation", "configmap/istio-ca-rotation")
    certified.must("delete", "-n", "istio-system", "--ignore-not-found", *kept)
    control_planes(certified, 1)
    # Nobody calls before: a connection with the certificates of before would go on for as long as it is used.
    eventually(lambda: serial(certified, "web") not in ("", earlier), 60)

    assert cause(certified, "forgotten", "svc/web") == "roots-differ"
    assert cause(certified, "forgotten") == "roots-differ"
    assert certified.curl("forgotten", "http://web", namespace=NAMESPACE) == (0, 503)
    eventually(lambda: cause(certified, "brief", "svc/web") == "", 60)

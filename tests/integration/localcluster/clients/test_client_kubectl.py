"""kubectl: the machine's own (1.31 or newer) and 1.34, each through the same tests."""

import json
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
from client_cluster import Kubectl, eventually, proves

pytestmark = pytest.mark.linux

CLIENT = "kubectl 1.32 and 1.34"
SLEEP = "trap 'exit 0' TERM; while :; do sleep 0.05; done"


def config_map(name: str, labels: str = "", **data: str) -> str:
    metadata: dict[str, Any] = {"name": name}
    if labels:
        metadata["labels"] = dict(pair.split("=") for pair in labels.split())
    return json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})


@proves(CLIENT, "apply: client-side, --server-side with (forced) conflicts, --dry-run=server, --validate=strict")
def test_apply(kubectl: Kubectl) -> None:
    assert kubectl("apply", "-f", "-", stdin=config_map("a", x="1")).strip() == "configmap/a created"
    assert kubectl("apply", "-f", "-", stdin=config_map("a", x="1")).strip() == "configmap/a unchanged"
    assert kubectl("apply", "-f", "-", stdin=config_map("a", y="1")).strip() == "configmap/a configured"
    assert kubectl.json("get", "configmap", "a")["data"] == {"y": "1"}
    ssa = ("apply", "--server-side", "-f", "-", "--field-manager")
    kubectl(*ssa, "one", stdin=config_map("s", k="1"))
    refused = kubectl.refused(*ssa, "two", stdin=config_map("s", k="2"))
    assert 'conflict with "one": .data.k' in refused
    kubectl(*ssa, "two", "--force-conflicts", stdin=config_map("s", k="2", own="1"))
    kubectl(*ssa, "two", stdin=config_map("s", k="2"))
    assert kubectl.json("get", "configmap", "s")["data"] == {"k": "2"}
    kubectl("apply", "--dry-run=server", "-f", "-", stdin=config_map("dry"))
    assert "NotFound" in kubectl.refused("get", "configmap", "dry")
    wrong = config_map("w").replace('"data"', '"datta"')
    assert 'unknown field "datta"' in kubectl.refused("apply", "--validate=strict", "-f", "-", stdin=wrong)


@proves(CLIENT, "apply --prune, apply -k (kustomize), diff, replace, edit")
def test_whole_files(kubectl: Kubectl, tmp_path: Path) -> None:
    both = "\n---\n".join([config_map("one", "set=p"), config_map("two", "set=p")])
    prune = ("apply", "-f", "-", "--prune", "-l", "set=p", "--prune-allowlist=core/v1/ConfigMap")
    kubectl(*prune, stdin=both)
    assert "configmap/two pruned" in kubectl(*prune, stdin=config_map("one", "set=p"))
    (tmp_path / "kustomization.yaml").write_text("namePrefix: k-\nresources: [m.yaml]\n")
    (tmp_path / "m.yaml").write_text(config_map("base", z="1"))
    assert "configmap/k-base created" in kubectl("apply", "-k", str(tmp_path))
    assert kubectl("diff", "-k", str(tmp_path)) == ""
    (tmp_path / "m.yaml").write_text(config_map("base", z="2"))
    assert '+  z: "2"' in kubectl.refused("diff", "-k", str(tmp_path))
    kubectl("replace", "-f", "-", stdin=config_map("k-base", q="1"))
    kubectl("edit", "configmap", "k-base", KUBE_EDITOR="sed -i s/q:/r:/")
    assert kubectl.json("get", "configmap", "k-base")["data"] == {"r": "1"}


@proves(CLIENT, "patch (strategic, merge, JSON), label, annotate, set, scale, autoscale, expose")
def test_small_changes(kubectl: Kubectl) -> None:
    kubectl("create", "deployment", "d", "--image=nginx", "--replicas=0", "--port=80")
    container = {
        "spec": {"template": {"spec": {"containers": [{"name": "nginx", "env": [{"name": "A", "value": "1"}]}]}}}
    }
    kubectl("patch", "deploy", "d", "-p", json.dumps(container))
    kubectl("patch", "deploy", "d", "--type=merge", "-p", '{"spec":{"minReadySeconds":2}}')
    kubectl("patch", "deploy", "d", "--type=json", "-p", '[{"op":"replace","path":"/spec/minReadySeconds","value":3}]')
    kubectl("label", "deploy", "d", "tier=front", "--overwrite")
    kubectl("annotate", "deploy", "d", "note=hello world")
    kubectl("set", "image", "deploy/d", "nginx=httpd")
    kubectl("set", "env", "deploy/d", "B=2")
    kubectl("scale", "deploy/d", "--replicas=1")
    kubectl("scale", "deploy/d", "--replicas=0", "--current-replicas=1")
    kubectl("expose", "deploy", "d", "--port=8080", "--target-port=80")
    kubectl("autoscale", "deploy", "d", "--max=3", "--min=1", "--cpu-percent=50")
    found = kubectl.json("get", "deploy", "d")
    (main,) = found["spec"]["template"]["spec"]["containers"]
    assert (main["image"], [entry["name"] for entry in main["env"]]) == ("httpd", ["A", "B"])
    assert (found["spec"]["minReadySeconds"], found["spec"]["replicas"]) == (3, 0)
    assert found["metadata"]["labels"]["tier"] == "front"
    assert kubectl.json("get", "service", "d")["spec"]["ports"][0]["targetPort"] == 80
    assert kubectl.json("get", "hpa", "d")["spec"]["maxReplicas"] == 3


@proves(CLIENT, "create of every kind that it has a command for")
def test_create(kubectl: Kubectl, tmp_path: Path) -> None:
    (tmp_path / "file.txt").write_text("content")
    for words in (
        ("secret", "generic", "made", f"--from-file={tmp_path}/file.txt"),
        ("configmap", "made", f"--from-file={tmp_path}/file.txt", "--from-literal=a=b"),
        ("serviceaccount", "made"),
        ("deployment", "made", "--image=nginx", "--replicas=0"),
        ("service", "clusterip", "made", "--tcp=80:8080"),
        ("service", "nodeport", "made-node", "--tcp=80:8080"),
        ("service", "externalname", "made-name", "--external-name=example.com"),
        ("role", "made", "--verb=get", "--resource=pods"),
        ("rolebinding", "made", "--role=made", "--user=jane"),
        ("ingress", "made", "--rule=example.com/*=made:80"),
        ("quota", "made", "--hard=pods=10"),
        ("poddisruptionbudget", "made", "--selector=app=x", "--min-available=1"),
        ("cronjob", "made", "--image=busybox", "--schedule=0 0 1 1 *", "--", "true"),
    ):
        kubectl("create", *words)
    assert kubectl("create", "token", "made").count(".") == 2
    assert kubectl.json("get", "secret", "made")["data"] == {"file.txt": "Y29udGVudA=="}


@proves(CLIENT, "get: every output format, selectors, sorting, several kinds, all")
def test_reading(kubectl: Kubectl) -> None:
    for order, name in enumerate(("r2", "r1")):
        kubectl("apply", "-f", "-", stdin=config_map(name, "read=yes", v=name, order=str(order)))
    selected = ("get", "configmaps", "-l", "read=yes")
    assert kubectl(*selected, "-o", "name").split() == ["configmap/r1", "configmap/r2"]
    assert kubectl(*selected, "-o", "jsonpath={.items[*].data.v}") == "r1 r2"
    assert kubectl(*selected, "-o", "go-template={{len .items}}") == "2"
    columns = kubectl(*selected, "-o", "custom-columns=N:.metadata.name", "--sort-by=.data.order")
    assert columns.split() == ["N", "r2", "r1"]
    assert kubectl(*selected, "-o", "yaml").count("kind: ConfigMap") == 2
    assert "NAMESPACE" in kubectl(*selected, "-A", "-o", "wide")
    assert kubectl("get", "cm", "--field-selector=metadata.name=r1", "--no-headers").split()[0] == "r1"
    kubectl("create", "service", "clusterip", "read", "--tcp=80")
    several = kubectl("get", "svc,cm")
    assert "service/read" in several
    assert "configmap/r1" in several
    assert "service/read" in kubectl("get", "all")
    assert "r1" in kubectl("get", "--raw", f"/api/v1/namespaces/{kubectl.namespace}/configmaps/r1")


@proves(CLIENT, "rollout status, history, undo, restart; wait; delete by label, --cascade, --grace-period")
def test_rollout_and_delete(kubectl: Kubectl) -> None:
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "roll", "labels": {"gone": "soon"}},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": "roll"}},
            "template": {
                "metadata": {"labels": {"app": "roll"}},
                "spec": {
                    "terminationGracePeriodSeconds": 0,
                    "containers": [{"name": "c", "image": "busybox", "command": ["sh", "-c", SLEEP]}],
                },
            },
        },
    }
    kubectl("apply", "-f", "-", stdin=json.dumps(deployment))
    kubectl("wait", "--for=condition=available", "deploy/roll", "--timeout=30s")
    kubectl("set", "env", "deploy/roll", "ROUND=2")
    assert "successfully rolled out" in kubectl("rollout", "status", "deploy/roll", "--timeout=30s")
    assert len(kubectl("rollout", "history", "deploy/roll").strip().splitlines()) == 4
    kubectl("rollout", "undo", "deploy/roll")
    kubectl("rollout", "restart", "deploy/roll")
    kubectl("rollout", "status", "deploy/roll", "--timeout=30s")
    assert "env" not in kubectl.json("get", "deploy", "roll")["spec"]["template"]["spec"]["containers"][0]
    kubectl("delete", "deploy", "-l", "gone=soon", "--cascade=orphan", "--timeout=20s")
    assert kubectl("get", "rs", "-l", "app=roll", "-o", "name")
    kubectl("delete", "rs", "-l", "app=roll", "--cascade=foreground", "--timeout=30s")
    eventually(lambda: not kubectl("get", "pods", "-l", "app=roll", "-o", "name"))


@proves(CLIENT, "run, exec, cp, port-forward (WebSocket)")
def test_pods(kubectl: Kubectl, tmp_path: Path) -> None:
    kubectl("run", "web", "--image=nginx", "--port=80", "--labels=app=web")
    kubectl("wait", "--for=condition=ready", "pod/web", "--timeout=30s")
    kubectl("run", "talk", "--image=busybox", "--command", "--", "sh", "-c", f"echo one; echo two; {SLEEP}")
    kubectl("wait", "--for=condition=ready", "pod/talk", "--timeout=30s")
    eventually(lambda: kubectl("logs", "talk").split() == ["one", "two"])
    assert kubectl("exec", "-i", "talk", "--", "cat", stdin="hello") == "hello"
    assert "exit code 3" in kubectl.refused("exec", "talk", "--", "sh", "-c", "exit 3")
    (tmp_path / "sent").write_text("sent")
    kubectl("cp", str(tmp_path / "sent"), "talk:/tmp/sent")
    kubectl("cp", "talk:/tmp/sent", str(tmp_path / "back"))
    assert (tmp_path / "back").read_text() == "sent"
    with subprocess.Popen(
        [str(kubectl.program), "-n", kubectl.namespace, "port-forward", "pod/web", ":80"],
        stdout=subprocess.PIPE,
        text=True,
        env=kubectl.cluster.environment,
    ) as forward:
        assert forward.stdout is not None
        port = int(forward.stdout.readline().split("127.0.0.1:")[1].split()[0])
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n")
            assert connection.recv(64).startswith(b"HTTP/1.1 200")
        forward.terminate()
    kubectl("delete", "pod", "web", "talk", "--grace-period=1", "--timeout=20s")


@proves(CLIENT, "explain, api-resources, api-versions, version, cluster-info and its dump, events, auth")
def test_looking_around(kubectl: Kubectl, tmp_path: Path) -> None:
    assert "FIELD: containers" in kubectl("explain", "pod.spec.containers")
    assert "strategy" in kubectl("explain", "deployment.spec", "--recursive")
    resources = kubectl("api-resources", "--verbs=list", "--namespaced", "-o", "name").split()
    assert {"pods", "deployments.apps", "roles.rbac.authorization.k8s.io"} <= set(resources)
    assert "apps/v1" in kubectl("api-versions").split()
    assert "Server Version" in kubectl("version")
    assert "control plane" in kubectl("cluster-info")
    kubectl("cluster-info", "dump", "--namespaces", kubectl.namespace, f"--output-directory={tmp_path}")
    assert json.loads((tmp_path / "nodes.json").read_text())["kind"] == "NodeList"
    assert (tmp_path / kubectl.namespace / "pods.json").exists()
    assert kubectl("auth", "can-i", "create", "pods").strip() == "yes"
    assert "no" in kubectl.refused("auth", "can-i", "create", "pods", "--as", "jane")
    assert "kubernetes-admin" in kubectl("auth", "whoami")
    kubectl("run", "eventful", "--image=busybox", "--restart=Never", "--command", "--", "true")
    eventually(lambda: "Started" in kubectl("events", "--for", "pod/eventful"))
    listed = kubectl("events").splitlines()
    assert listed[0].split() == ["LAST", "SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]

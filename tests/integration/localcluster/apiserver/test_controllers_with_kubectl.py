"""Stock kubectl sees what the controllers do, and the answers to wrong manifests."""

import json
import time
from typing import Any

import pytest
from api_server import ApiServer

MANIFEST = """
apiVersion: v1
kind: Namespace
metadata: {name: rolling}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: rolling}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: main, image: "web:1", ports: [{name: http, containerPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: rolling}
spec:
  selector: {app: web}
  ports: [{port: 80, targetPort: http}]
"""
NODE = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "local"}}
PODS = "/api/v1/namespaces/rolling/pods"


def until(condition: Any, what: str) -> None:
    """Wait for what controllers do by themselves; they take milliseconds."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, f"not within 10 s: {what}"
        time.sleep(0.01)


def pods(server: ApiServer) -> list[dict[str, Any]]:
    return list(server.request("GET", PODS)[1]["items"])


def play_kubelet(server: ApiServer) -> None:
    """Report every pod as ready with an address, and let go of those that end."""
    for index, pod in enumerate(pods(server)):
        name = pod["metadata"]["name"]
        if pod["metadata"].get("deletionTimestamp"):
            server.request("DELETE", f"{PODS}/{name}?gracePeriodSeconds=0")
            continue
        if pod["status"].get("podIP"):
            continue
        ready = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
        pod["status"] |= {
            "phase": "Running",
            "podIP": f"10.244.0.{index + 5}",
            "conditions": [*pod["status"].get("conditions", []), ready],
            "containerStatuses": [
                {
                    "name": "main",
                    "ready": True,
                    "restartCount": 0,
                    "image": "web",
                    "imageID": "",
                    "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
                }
            ],
        }
        # A conflict means that a controller wrote first; the next round sees it.
        assert server.request("PUT", f"{PODS}/{name}/status", pod)[0] in (200, 409)


def rolled_out(server: ApiServer) -> bool:
    play_kubelet(server)
    status = server.request("GET", "/apis/apps/v1/namespaces/rolling/deployments/web")[1].get("status") or {}
    counts = [status.get(name, 0) for name in ("replicas", "updatedReplicas", "availableReplicas")]
    return counts == [2, 2, 2] and len(pods(server)) == 2


@pytest.fixture(scope="module", autouse=True)
def applied(server: ApiServer) -> None:
    """The manifest above on a node, with its pods ready."""
    assert server.request("POST", "/api/v1/nodes", NODE)[0] in (201, 409)
    server.kubectl("apply", "-f", "-", stdin=MANIFEST)
    until(lambda: rolled_out(server), "two ready pods")


def test_a_deployment_has_its_replica_set_and_bound_pods(server: ApiServer) -> None:
    lines = server.kubectl("get", "pods", "-n", "rolling", "-o", "wide").splitlines()

    assert lines[0].split()[:8] == ["NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP", "NODE", "NOMINATED"]
    assert [[*line.split()[1:4], line.split()[6]] for line in lines[1:]] == [["1/1", "Running", "0", "local"]] * 2
    replica_sets = server.kubectl("get", "rs", "-n", "rolling").splitlines()
    assert replica_sets[1].split()[1:4] == ["2", "2", "2"]
    assert "successfully rolled out" in server.kubectl("rollout", "status", "deploy/web", "-n", "rolling")


def test_ready_pods_stand_behind_their_service(server: ApiServer) -> None:
    def endpoints() -> str:
        return server.kubectl("get", "endpoints,endpointslices", "-n", "rolling")

    until(lambda: endpoints().count("10.244.0.") == 4, "both addresses in both kinds")
    assert "10.244.0.5:8080,10.244.0.6:8080" in endpoints()


def test_describe_tells_what_happened(server: ApiServer) -> None:
    until(lambda: "ScalingReplicaSet" in server.kubectl("describe", "deploy/web", "-n", "rolling"), "the event")
    told = server.kubectl("describe", "deploy/web", "-n", "rolling")

    assert "Scaled up replica set web-" in told
    assert "MinimumReplicasAvailable" in told
    pod = server.kubectl("describe", "pods", "-n", "rolling", "-l", "app=web")
    assert "Successfully assigned rolling/web-" in pod


def test_a_new_image_rolls_out_and_back(server: ApiServer) -> None:
    def images() -> set[str]:
        return {pod["spec"]["containers"][0]["image"] for pod in pods(server)}

    server.kubectl("set", "image", "deploy/web", "main=web:2", "-n", "rolling")
    until(lambda: rolled_out(server) and images() == {"web:2"}, "the new image")
    server.kubectl("rollout", "undo", "deploy/web", "-n", "rolling")
    until(lambda: rolled_out(server) and images() == {"web:1"}, "the old image")

    history = server.kubectl("rollout", "history", "deploy/web", "-n", "rolling").split()
    assert [word for word in history if word.isdigit()] == ["2", "3"]


def test_a_deleted_pod_is_replaced(server: ApiServer) -> None:
    victim = pods(server)[0]["metadata"]["name"]
    server.kubectl("delete", "pod", victim, "-n", "rolling", "--wait=false")
    until(lambda: rolled_out(server), "two pods again")

    assert victim not in [pod["metadata"]["name"] for pod in pods(server)]


def test_every_namespace_has_its_account_and_the_api_s_certificate(server: ApiServer) -> None:
    account = server.kubectl("get", "sa", "-n", "rolling", "-o", "name").split()
    held = json.loads(server.kubectl("get", "cm", "kube-root-ca.crt", "-n", "rolling", "-o", "json"))

    assert account == ["serviceaccount/default"]
    assert held["data"]["ca.crt"] == server.paths.ca_certificate.read_text()


def test_explain_tells_fields_and_their_meaning(server: ApiServer) -> None:
    told = server.kubectl("explain", "pod.spec.containers")

    assert "FIELD: containers <[]Container>" in told
    assert "livenessProbe\t<Probe>" in told
    assert "Container image name." in " ".join(told.split())
    assert "minReadySeconds" in server.kubectl("explain", "deployments.spec", "--recursive")


@pytest.mark.parametrize(
    ("old", "new", "answer"),
    [
        (
            'image: "web:1"',
            'imagee: "web:1"',
            'strict decoding error: unknown field "spec.template.spec.containers[0].imagee"',
        ),
        (
            "replicas: 2",
            "replicas: two",
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            "{name: main, image",
            "{name: Main, image",
            'spec.template.spec.containers[0].name: Invalid value: "Main": a lowercase RFC 1123 label must consist',
        ),
        ("matchLabels: {app: web}", "matchLabels: {app: other}", "`selector` does not match template `labels`"),
        ("containerPort: 8080", "containerPort: 80800", "must be between 1 and 65535, inclusive"),
        ('image: "web:1", ', "", "spec.template.spec.containers[0].image: Required value"),
    ],
)
def test_a_wrong_manifest_gets_the_answer_of_kubernetes(server: ApiServer, old: str, new: str, answer: str) -> None:
    wrong = MANIFEST.replace(old, new).replace("name: web, namespace: rolling", "name: wrong, namespace: rolling")

    assert answer in server.kubectl("apply", "--dry-run=server", "-f", "-", stdin=wrong, succeeds=False)


def test_the_selector_is_immutable(server: ApiServer) -> None:
    changed = MANIFEST.replace("{app: web}", "{app: web, tier: front}")

    assert "field is immutable" in server.kubectl("apply", "-f", "-", stdin=changed, succeeds=False)


def test_a_token_is_bound_to_its_account_and_dies_with_it(server: ApiServer) -> None:
    server.kubectl("create", "serviceaccount", "short", "-n", "rolling")
    token = server.kubectl("create", "token", "short", "-n", "rolling").strip()
    asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    reviews = "/apis/authentication.k8s.io/v1/selfsubjectreviews"

    code, answer = server.request("POST", reviews, asked, token=token)
    assert (code, answer["status"]["userInfo"]["username"]) == (201, "system:serviceaccount:rolling:short")
    server.kubectl("delete", "serviceaccount", "short", "-n", "rolling")
    assert server.request("POST", reviews, asked, token=token)[0] == 401


def test_what_is_owned_goes_with_its_owner_or_stays_an_orphan(server: ApiServer) -> None:
    server.kubectl("create", "deployment", "kept", "--image=web:1", "-n", "rolling")
    until(lambda: "kept-" in server.kubectl("get", "rs", "-n", "rolling", "-o", "name"), "the replica set")
    server.kubectl("delete", "deployment", "kept", "-n", "rolling", "--cascade=orphan")
    (orphan,) = [
        line for line in server.kubectl("get", "rs", "-n", "rolling", "-o", "name").split() if "/kept-" in line
    ]
    held = json.loads(server.kubectl("get", orphan, "-n", "rolling", "-o", "json"))
    assert "ownerReferences" not in held["metadata"]

    server.kubectl("delete", orphan, "-n", "rolling")
    until(
        lambda: play_kubelet(server) or not any("kept-" in pod["metadata"]["name"] for pod in pods(server)),
        "the pods to go with their replica set",
    )


def test_a_deleted_namespace_takes_everything_with_it(server: ApiServer) -> None:
    server.kubectl("delete", "namespace", "rolling", "--wait=false")
    until(
        lambda: play_kubelet(server) or server.request("GET", "/api/v1/namespaces/rolling")[0] == 404,
        "the namespace to be gone",
    )

    assert server.request("GET", "/apis/apps/v1/namespaces/rolling/replicasets")[1]["items"] == []
    assert server.request("GET", "/api/v1/namespaces/rolling/events")[1]["items"] == []

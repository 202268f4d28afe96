"""Pods on a real node: kubectl, the API server and the kernel, nothing faked."""

import json
import os
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from node_cluster import SLEEP, WAIT, Node, pod

from localcluster import lifecycle

pytestmark = pytest.mark.linux


def web(replicas: int) -> tuple[dict[str, Any], ...]:
    labels = {"app": "web"}
    container = {
        "name": "web",
        "image": "nginx",
        "ports": [{"name": "http", "containerPort": 80}],
        "readinessProbe": {"httpGet": {"path": "/", "port": "http"}},
    }
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    return (
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "web"},
            "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "web"},
            "spec": {"selector": labels, "ports": [{"port": 8080, "targetPort": "http"}]},
        },
    )


def test_a_service_is_reached_by_name_from_a_pod_and_from_its_own_pods(node: Node) -> None:
    node.apply(*web(2), pod("client", SLEEP))
    node.kubectl("wait", "--for=condition=available", "deploy/web", WAIT)
    node.ready("client")
    ask = "curl -sS -m 5 -o /dev/null -w '%{http_code} ' http://web.default:8080/"
    assert node.kubectl("exec", "client", "--", "sh", "-c", f"{ask}; {ask}; {ask}; {ask}").split() == ["200"] * 4
    assert node.kubectl("exec", "deploy/web", "--", "sh", "-c", f"{ask}; {ask}; {ask}; {ask}").split() == ["200"] * 4
    node.kubectl("scale", "deploy/web", "--replicas=0")
    node.kubectl("wait", "--for=delete", "pod", "-l", "app=web", WAIT)
    refused = node.run("exec", "client", "--", "curl", "-sS", "-m", "5", "http://web:8080/")
    assert refused.returncode == 7, refused.stderr
    missing = node.run("exec", "client", "--", "curl", "-sS", "-m", "5", "http://no-such-service/")
    assert missing.returncode == 6, missing.stderr
    node.kubectl("delete", "service,deployment", "web", WAIT)


def test_exec_logs_and_delete(node: Node) -> None:
    node.apply(pod("talk", f"echo one; echo two >&2; {SLEEP}"))
    node.ready("talk")
    assert sorted(node.kubectl("logs", "talk").split()) == ["one", "two"]
    assert node.kubectl("exec", "-i", "talk", "--", "cat", stdin="héllo\n" * 20000) == "héllo\n" * 20000
    assert node.run("exec", "talk", "--", "sh", "-c", "exit 9").returncode == 9
    node.kubectl("delete", "pod", "talk", WAIT)
    assert node.run("get", "pod", "talk").returncode == 1


def test_run_with_input_shows_everything_and_returns_the_exit_code(node: Node) -> None:
    run = ("run", "-i", "--rm", "quick", "--image=busybox", "--restart=Never", "--")
    answer = node.run(*run, "sh", "-c", "echo early; cat; exit 4", stdin="late\n")
    assert answer.stdout.split()[:2] == ["early", "late"], answer.stderr
    assert answer.returncode == 4


def test_logs_of_a_container_that_never_stops_writing_end(node: Node) -> None:
    node.apply(pod("noisy", "yes"))
    node.ready("noisy")
    assert len(node.kubectl("logs", "noisy", "--tail=3").split()) == 3
    node.kubectl("delete", "pod", "noisy", "--force", "--grace-period=0")


def test_what_a_pod_lacks_is_told_and_it_starts_when_it_comes(node: Node) -> None:
    volumes = [{"name": "settings", "configMap": {"name": "later"}}]
    mounts = {"volumeMounts": [{"name": "settings", "mountPath": "/settings"}]}
    node.apply(pod("lacking", SLEEP, volumes=volumes, container=mounts))
    node.kubectl("wait", "--for=jsonpath={.status.podIP}", "pod/lacking", WAIT)
    assert node.pod("lacking")["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "ContainerCreating"
    node.kubectl("create", "configmap", "later", "--from-literal=colour=red")
    node.ready("lacking")
    read = ("exec", "lacking", "--", "cat", "/settings/colour")
    assert node.kubectl(*read) == "red"
    events = json.loads(node.kubectl("get", "events", "--field-selector=involvedObject.name=lacking", "-o", "json"))
    messages = {item["reason"]: item["message"] for item in events["items"]}
    assert messages["FailedMount"] == 'MountVolume.SetUp failed for volume "settings" : configmap "later" not found'


def test_init_containers_and_sidecars_run_in_order(node: Node) -> None:
    shared = {"volumeMounts": [{"name": "shared", "mountPath": "/shared"}]}
    init = [
        {"name": "first", "image": "busybox", "command": ["sh", "-c", "echo first > /shared/order"], **shared},
        {
            "name": "side",
            "image": "busybox",
            "restartPolicy": "Always",
            "command": ["sh", "-c", f"echo side >> /shared/order; {SLEEP}"],
            "startupProbe": {"exec": {"command": ["grep", "-q", "side", "/shared/order"]}},
            **shared,
        },
    ]
    container = {**shared, "command": ["sh", "-c", "echo main >> /shared/order; cat /shared/order"]}
    volumes = [{"name": "shared", "emptyDir": {}}]
    node.apply(pod("ordered", "", initContainers=init, volumes=volumes, container=container, restartPolicy="Never"))
    node.kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/ordered", WAIT)
    assert node.kubectl("logs", "ordered").split() == ["first", "side", "main"]


def test_a_token_is_the_pods_own_and_opens_the_api(node: Node) -> None:
    node.apply(pod("caller", SLEEP))
    node.ready("caller")
    folder = "/var/run/secrets/kubernetes.io/serviceaccount"
    ask = (
        f'curl -sS -m 5 --cacert {folder}/ca.crt -H "Authorization: Bearer $(cat {folder}/token)" '
        "-o /dev/null -w '%{http_code}' https://kubernetes.default.svc/version"
    )
    assert node.kubectl("exec", "caller", "--", "sh", "-c", ask) == "200"
    assert not list((node.cluster.directory / "volumes").rglob("token"))


def test_an_unknown_image_waits_and_starts_when_it_is_added(node: Node) -> None:
    unknown = {"name": "main", "image": "example.com/unknown:1"}
    node.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "unknown"}, "spec": {"containers": [unknown]}})
    reason = "{.status.containerStatuses[0].state.waiting.reason}"
    node.kubectl("wait", f"--for=jsonpath={reason}=ErrImagePull", "pod/unknown", WAIT)
    message = node.pod("unknown")["status"]["containerStatuses"][0]["state"]["waiting"]["message"]
    assert "images.json" in message
    table = node.cluster.directory / "images.json"
    known = json.loads(table.read_text()) if table.exists() else {}
    table.write_text(json.dumps({**known, "example.com/unknown": {"command": ["sleep", "1000"]}}))
    node.ready("unknown")


def test_a_failing_container_is_restarted_and_then_waits(node: Node) -> None:
    node.apply(pod("failing", "echo again; sleep 0.2; exit 3"))
    reason = "{.status.containerStatuses[0].state.waiting.reason}"
    node.kubectl("wait", f"--for=jsonpath={reason}=CrashLoopBackOff", "pod/failing", WAIT)
    status = node.pod("failing")["status"]["containerStatuses"][0]
    assert status["restartCount"] == 1
    assert status["lastState"]["terminated"]["exitCode"] == 3
    assert node.kubectl("logs", "failing", "--previous") == "again\n"


def test_pods_outlive_the_api_server_and_are_started_anew_with_the_node(node: Node) -> None:
    node.apply(pod("steady", SLEEP))
    node.ready("steady")
    before = node.pod("steady")["status"]["containerStatuses"][0]["containerID"]
    os.kill(api_server(node.cluster.pid), signal.SIGKILL)
    deadline = time.monotonic() + 30
    while node.run("get", "pods").returncode and time.monotonic() < deadline:
        pass  # each attempt is a process of its own, which is pause enough
    node.apply(pod("afterwards", SLEEP))
    node.ready("afterwards")
    assert node.pod("steady")["status"]["containerStatuses"][0]["containerID"] == before
    lifecycle.down("node", root=node.root, keep_state=True)
    node.cluster = lifecycle.up("node", images={}, root=node.root)
    node.kubectl("wait", "--for=jsonpath={.status.containerStatuses[0].restartCount}=1", "pod/steady", WAIT)
    node.ready("steady")
    assert node.pod("steady")["status"]["containerStatuses"][0]["containerID"] != before


def api_server(node_pid: int) -> int:
    """The API server's process, a child of the node's."""
    children = subprocess.run(["pgrep", "-P", str(node_pid)], capture_output=True, text=True, check=True).stdout.split()
    commands = {int(child): Path(f"/proc/{child}/cmdline").read_bytes() for child in children}
    return next(child for child, command in commands.items() if b"localcluster.apiserver" in command)


def test_a_node_port_is_open_on_the_hosts_loopback_and_inside(node: Node) -> None:
    node.apply(*web(1), pod("inside", SLEEP))
    node.kubectl("wait", "--for=condition=available", "deploy/web", WAIT)
    node.kubectl("patch", "service", "web", "-p", '{"spec":{"type":"NodePort"}}')
    port = node.kubectl("get", "service", "web", "-o", "jsonpath={.spec.ports[0].nodePort}")
    ask = ("curl", "-sS", "-m", "5", "--retry", "5", "--retry-connrefused", "-o", "/dev/null", "-w", "%{http_code}")
    outside = subprocess.run([*ask, f"http://127.0.0.1:{port}/"], capture_output=True, text=True, check=False)
    assert outside.stdout == "200", outside.stderr
    node.ready("inside")
    assert node.kubectl("exec", "inside", "--", *ask, f"http://10.244.0.1:{port}/") == "200"
    node.kubectl("delete", "service,deployment", "web", WAIT)


def test_a_client_keeps_its_backend_until_it_was_silent_for_the_time_that_the_service_says(node: Node) -> None:
    template = {
        "metadata": {"labels": {"app": "sticky"}},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [{"name": "main", "image": "ealen/echo-server"}]},
    }
    spec = {"replicas": 3, "selector": {"matchLabels": {"app": "sticky"}}, "template": template}
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "sticky"}, "spec": spec}
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "sticky"},
        "spec": {
            "selector": {"app": "sticky"},
            "ports": [{"port": 80, "targetPort": 80}],
            "sessionAffinity": "ClientIP",
            "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 5}},
        },
    }
    node.apply(deployment, service, pod("asks", SLEEP))
    node.kubectl("rollout", "status", "deployment/sticky", WAIT)
    node.ready("asks")

    def answering(times: int, pause: float = 0) -> set[str]:
        script = (
            f'for i in $(seq {times}); do curl -s -m 5 http://sticky | grep -o \'"pod": *"[^"]*"\'; sleep {pause}; done'
        )
        return set(node.kubectl("exec", "asks", "--", "sh", "-c", script).splitlines())

    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(answering, 60, 0.2)
        node.kubectl("scale", "deployment/sticky", "--replicas=6")
        node.kubectl("rollout", "status", "deployment/sticky", WAIT)
        assert len(asked.result()) == 1
    # Each silence is a new choice among six: it is the same one eight times over once in two million.
    assert len(answering(9, 5.5)) > 1
    node.kubectl("delete", "deployment/sticky", "service/sticky", "pod/asks", "--now")

"""StatefulSets, DaemonSets, Jobs and CronJobs on a real node, followed by stock kubectl."""

import json
from typing import Any

import pytest
from node_cluster import SLEEP, WAIT, Node, pod

pytestmark = pytest.mark.linux


def workload(kind: str, name: str, **spec: Any) -> dict[str, Any]:
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": pod(name, SLEEP)["spec"]}
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": {"selector": {"matchLabels": labels}, "template": template, **spec},
    }


def job(name: str, script: str, *, template: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    run = {**pod(name, script)["spec"], "restartPolicy": "Never", **(template or {})}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {"template": {"spec": run}, **spec},
    }


def field(node: Node, what: str, path: str) -> str:
    return node.kubectl("get", *what.split(), "-o", f"jsonpath={path}")


def test_a_stateful_set_keeps_names_rolls_in_order_and_rolls_back(node: Node) -> None:
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "db"},
        "spec": {"clusterIP": "None", "selector": {"app": "db"}, "ports": [{"port": 80}]},
    }
    node.apply(service, workload("StatefulSet", "db", serviceName="db", replicas=2), pod("asking", SLEEP))
    rolled = ("rollout", "status", "statefulset/db", WAIT)
    node.kubectl(*rolled)
    names = "{.items[*].metadata.name}"
    assert field(node, "pods -l app=db", names) == "db-0 db-1"
    node.ready("asking")
    address = field(node, "pod db-1", "{.status.podIP}")
    found = node.kubectl("exec", "asking", "--", "getent", "hosts", "db-1.db.default.svc.cluster.local")
    assert found.split()[0] == address

    node.kubectl("set", "env", "statefulset/db", "COLOUR=red")
    node.kubectl(*rolled)
    assert node.kubectl("exec", "db-0", "--", "printenv", "COLOUR") == "red\n"
    begun = [
        json.loads(node.kubectl("get", "pod", name, "-o", "json"))["status"]["startTime"] for name in ("db-1", "db-0")
    ]
    assert begun == sorted(begun)
    history = node.kubectl("rollout", "history", "statefulset/db").split()
    assert [word for word in history if word.isdigit()] == ["1", "2"]
    node.kubectl("rollout", "undo", "statefulset/db")
    node.kubectl(*rolled)
    assert node.run("exec", "db-0", "--", "printenv", "COLOUR").returncode == 1

    node.kubectl("scale", "statefulset/db", "--replicas=1")
    node.kubectl("wait", "--for=delete", "pod/db-1", WAIT)
    node.kubectl("delete", "statefulset/db", "--cascade=foreground", WAIT)
    assert field(node, "pods -l app=db", names) == ""


def test_a_daemon_set_runs_once_on_the_node_and_is_restarted(node: Node) -> None:
    node.apply(workload("DaemonSet", "agent"))
    rolled = ("rollout", "status", "daemonset/agent", WAIT)
    node.kubectl(*rolled)
    before = field(node, "pods -l app=agent", "{.items[*].metadata.uid}")
    node.kubectl("rollout", "restart", "daemonset/agent")
    node.kubectl(*rolled)
    after = field(node, "pods -l app=agent", "{.items[*].metadata.uid}")
    assert len(after.split()) == 1
    assert after != before
    node.kubectl("rollout", "undo", "daemonset/agent", "--to-revision=1")
    node.kubectl(*rolled)
    assert "agent-" in node.kubectl("get", "controllerrevisions")
    node.kubectl("delete", "daemonset/agent", WAIT)


def test_a_job_runs_to_its_end_beside_a_sidecar_that_does_not(node: Node) -> None:
    sidecar = {"name": "side", "image": "busybox", "restartPolicy": "Always", "command": ["sh", "-c", SLEEP]}
    node.apply(job("sum", "echo done", completions=3, parallelism=2, template={"initContainers": [sidecar]}))
    node.kubectl("wait", "--for=condition=complete", "job/sum", WAIT)
    assert field(node, "job sum", "{.status.succeeded}") == "3"
    assert node.kubectl("logs", "-l", "job-name=sum", "-c", "main").split() == ["done"] * 3
    assert node.kubectl("get", "job", "sum", "--no-headers").split()[1:3] == ["Complete", "3/3"]
    node.kubectl("delete", "job", "sum", WAIT)
    node.kubectl("wait", "--for=delete", "pod", "-l", "job-name=sum", WAIT)


def test_indexed_jobs_number_their_pods(node: Node) -> None:
    node.apply(job("numbered", "echo $JOB_COMPLETION_INDEX $(hostname)", completions=2, completionMode="Indexed"))
    node.kubectl("wait", "--for=condition=complete", "job/numbered", WAIT)
    lines = sorted(node.kubectl("logs", "-l", "job-name=numbered").splitlines())
    assert lines == ["0 numbered-0", "1 numbered-1"]
    assert field(node, "job numbered", "{.status.completedIndexes}") == "0,1"


def test_jobs_that_cannot_succeed_fail_and_say_why(node: Node) -> None:
    node.apply(job("broken", "exit 3", backoffLimit=0), job("endless", SLEEP, activeDeadlineSeconds=1))
    node.kubectl("wait", "--for=condition=failed", "job/broken", "job/endless", WAIT)
    reason = '{.status.conditions[?(@.type=="Failed")].reason}'
    assert field(node, "job broken", reason) == "BackoffLimitExceeded"
    assert field(node, "job endless", reason) == "DeadlineExceeded"
    assert "reached the specified backoff limit" in node.kubectl("describe", "job", "broken")


def test_a_finished_job_goes_with_its_pods(node: Node) -> None:
    node.apply(job("brief", "true", ttlSecondsAfterFinished=0))
    node.kubectl("wait", "--for=delete", "job/brief", WAIT)
    node.kubectl("wait", "--for=delete", "pod", "-l", "job-name=brief", WAIT)


def test_a_cron_job_starts_jobs_by_hand_and_by_schedule(node: Node) -> None:
    node.kubectl("create", "cronjob", "tick", "--image=busybox", "--schedule=@every 1s", "--", "echo", "tick")
    node.kubectl("wait", "--for=jsonpath={.status.lastSuccessfulTime}", "cronjob/tick", WAIT)
    node.kubectl("patch", "cronjob", "tick", "-p", '{"spec":{"suspend":true}}')
    node.kubectl("create", "job", "by-hand", "--from=cronjob/tick")
    node.kubectl("wait", "--for=condition=complete", "job/by-hand", WAIT)
    assert node.kubectl("logs", "job/by-hand") == "tick\n"
    refused = node.run("create", "cronjob", "never", "--image=busybox", "--schedule=61 * * * *", "--", "true")
    assert "spec.schedule" in refused.stderr
    node.kubectl("delete", "cronjob", "tick", WAIT)

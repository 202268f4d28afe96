"""kubectl on a terminal, and what it follows: logs, exec, attach, debug, run, top, watches."""

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pexpect
import pytest
from client_cluster import Kubectl, eventually, proves

pytestmark = pytest.mark.linux

CLIENT = "kubectl 1.32 and 1.34"
COUNT = "i=0; while :; do i=$((i+1)); echo $0 $i; sleep 0.2; done"


def pod(name: str, *containers: dict[str, Any], **spec: Any) -> str:
    """A pod that ends as soon as it is told to, labelled with its name."""
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": {"app": name}},
            "spec": {"terminationGracePeriodSeconds": 0, "containers": list(containers), **spec},
        }
    )


def container(name: str, script: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "image": "busybox", "command": ["sh", "-c", script, name], **more}


def start(kubectl: Kubectl, manifest: str) -> None:
    """Create a pod and wait until it is ready."""
    kubectl("apply", "-f", "-", stdin=manifest)
    kubectl("wait", "--for=condition=ready", "pod", json.loads(manifest)["metadata"]["name"], "--timeout=30s")


@contextmanager
def terminal(kubectl: Kubectl, *words: str) -> Iterator[Any]:
    """kubectl as a person runs it: on a terminal of 30 lines and 100 columns."""
    child = pexpect.spawn(
        str(kubectl.program),
        ["-n", kubectl.namespace, *words],
        env={**kubectl.cluster.environment, "TERM": "dumb"},
        dimensions=(30, 100),
        timeout=30,
        encoding="utf-8",
    )
    try:
        yield child
    finally:
        child.close(force=True)


@contextmanager
def following(kubectl: Kubectl, *words: str) -> Iterator[Iterator[str]]:
    """The lines of a kubectl that goes on until it is stopped."""
    with subprocess.Popen(
        [str(kubectl.program), "-n", kubectl.namespace, *words],
        stdout=subprocess.PIPE,
        text=True,
        env=kubectl.cluster.environment,
    ) as process:
        assert process.stdout is not None
        yield iter(process.stdout.readline, "")
        process.terminate()


@proves(CLIENT, "logs: -f --tail --since --since-time --timestamps --limit-bytes -p -l --all-containers --prefix")
def test_logs(kubectl: Kubectl) -> None:
    manifest = pod("logs", container("a", COUNT), container("b", f"trap 'exit 3' USR1; {COUNT}"))
    start(kubectl, manifest)
    eventually(lambda: len(kubectl("logs", "logs", "-c", "b").splitlines()) > 6)

    assert [line.split()[0] for line in kubectl("logs", "logs", "-c", "a", "--tail=2").splitlines()] == ["a", "a"]
    both = kubectl("logs", "-l", "app=logs", "--all-containers", "--prefix", "--tail=1").splitlines()
    assert sorted(line.split()[0] for line in both) == ["[pod/logs/a]", "[pod/logs/b]"]
    assert len(kubectl("logs", "logs", "-c", "a", "--since=1s").splitlines()) <= 6
    stamped = kubectl("logs", "logs", "-c", "b", "--timestamps").splitlines()
    moment = stamped[-1].split()[0]
    later = kubectl("logs", "logs", "-c", "b", "--timestamps", f"--since-time={moment}")
    assert later[:19] == moment[:19]  # kubectl sends whole seconds
    assert kubectl("logs", "logs", "-c", "b", "--limit-bytes=3") == "b 1"
    with following(kubectl, "logs", "-f", "logs", "-c", "a", "--tail=1") as lines:
        first, second = (int(next(lines).split()[1]) for _ in range(2))
    assert second == first + 1
    assert "is not valid for pod logs" in kubectl.refused("logs", "logs", "-c", "none")
    assert "previous terminated container" in kubectl.refused("logs", "-p", "logs", "-c", "b")
    kubectl("exec", "logs", "-c", "b", "--", "kill", "-USR1", "1")
    eventually(lambda: kubectl.json("get", "pod", "logs")["status"]["containerStatuses"][1]["restartCount"] == 1)
    assert kubectl("logs", "-p", "logs", "-c", "b").startswith("b 1\nb 2\n")


@proves(CLIENT, "exec -it: a terminal, its size as it changes, the exit code; Ctrl-C and Ctrl-D")
def test_exec_on_a_terminal(kubectl: Kubectl) -> None:
    start(kubectl, pod("shell", container("main", "exec sleep infinity")))
    with terminal(kubectl, "exec", "-it", "shell", "--", "sh") as child:
        child.expect("[#$] ")
        child.sendline("test -t 0 && test -t 1 && echo is a ter''minal")
        child.expect("is a terminal")
        child.sendline("stty size")
        child.expect("30 100")
        child.setwinsize(50, 132)

        def resized() -> bool:
            child.sendline("stty size")
            return bool(child.expect(["30 100", "50 132"]) == 1)

        eventually(resized)
        child.sendline("sleep 100")
        time.sleep(0.2)
        child.sendintr()
        child.sendline("echo interrup''ted; exit 7")
        child.expect("interrupted")
        child.expect(pexpect.EOF)
        child.wait()
        assert child.exitstatus == 7
    with terminal(kubectl, "exec", "-it", "shell", "--", "cat") as child:
        child.sendline("typed")
        child.expect("typed\r\ntyped")
        child.sendeof()
        child.expect(pexpect.EOF)
        child.wait()
        assert child.exitstatus == 0


@proves(CLIENT, "attach, also -it; run -it --rm and its exit code; run --attach")
def test_attach_and_run(kubectl: Kubectl) -> None:
    ask = "while read line; do echo heard $line; done"
    start(kubectl, pod("attached", container("talks", COUNT), container("asks", ask, stdin=True, tty=True)))
    with following(kubectl, "attach", "attached", "-c", "talks") as lines:
        assert next(lines).startswith("talks ")
    with terminal(kubectl, "attach", "-it", "attached", "-c", "asks") as child:
        child.expect("press")
        child.sendline("me")
        child.expect("heard me")
    with terminal(
        kubectl, "run", "-it", "brief", "--rm", "--restart=Never", "--image=busybox", "--", "sh", "-c", f"{ask}; exit 4"
    ) as child:
        child.expect("press")
        child.sendline("you")
        child.expect("heard you")
        child.sendeof()
        child.expect(pexpect.EOF)
        child.wait()
        assert child.exitstatus == 4
    assert "NotFound" in kubectl.refused("get", "pod", "brief")
    said = kubectl("run", "said", "--attach", "--rm", "--restart=Never", "--image=busybox", "--", "echo", "at once")
    assert said.startswith("at once\n")


@proves(CLIENT, "debug: an ephemeral container beside a running one, -it, --target, --copy-to")
def test_debug(kubectl: Kubectl) -> None:
    start(kubectl, pod("broken", container("main", "exec sleep infinity")))
    look = ("--image=busybox", "--profile=general", "--target=main", "-c", "look", "--", "sh")
    with terminal(kubectl, "debug", "-it", "broken", *look) as child:
        child.expect("press")
        child.sendline("cat /proc/1/cmdline | tr '\\0' ' '; exit 5")
        child.expect("sleep infinity")
        child.expect(pexpect.EOF)
    eventually(
        lambda: (
            kubectl.json("get", "pod", "broken")["status"]["ephemeralContainerStatuses"][0]["state"]
            .get("terminated", {})
            .get("exitCode")
            == 5
        )
    )
    described = kubectl("describe", "pod", "broken")
    assert "Ephemeral Containers:\n  look:" in described
    copy = ("--copy-to=copied", "--container=main", "--image=busybox", "--profile=general", "--", "sleep", "1000")
    kubectl("debug", "broken", *copy)
    kubectl("wait", "--for=condition=ready", "pod/copied", "--timeout=30s")


@proves(CLIENT, "top: nodes, pods, --containers, --sum, --sort-by")
def test_top(kubectl: Kubectl) -> None:
    busy, idle = container("busy", "while :; do :; done"), container("idle", "exec sleep infinity")
    start(kubectl, pod("used", busy, idle))

    def cores() -> dict[str, int]:
        rows = [line.split() for line in kubectl("top", "pod", "--containers", "--no-headers").splitlines()]
        return {row[1]: int(row[2].removesuffix("m")) for row in rows if row[0] == "used"}

    eventually(lambda: cores().get("busy", 0) > 50)
    assert cores()["idle"] < 10
    assert kubectl("top", "pod", "--sum", "--sort-by=memory").splitlines()[0].split() == [
        "NAME",
        "CPU(cores)",
        "MEMORY(bytes)",
    ]
    (node,) = kubectl("top", "node", "--no-headers").splitlines()
    assert node.startswith("local ")
    kubectl("delete", "pod", "used", "--now")


@proves(CLIENT, "get --watch, --watch-only, --output-watch-events; events --watch")
def test_watches(kubectl: Kubectl) -> None:
    with (
        following(kubectl, "get", "pods", "-l", "app=seen", "--watch-only", "--output-watch-events") as rows,
        following(kubectl, "events", "--watch", "--types=Normal") as told,
        following(kubectl, "get", "configmaps", "-w", "-o", "custom-columns=N:.metadata.name,V:.data.v") as columns,
    ):
        assert next(columns).split() == ["N", "V"]
        while (name := next(columns).split()[0]) != "kube-root-ca.crt":
            pytest.fail(f"an unexpected config map {name}")
        time.sleep(0.5)
        kubectl("create", "configmap", "followed", "--from-literal=v=1")
        assert next(columns).split() == ["followed", "1"]
        kubectl("patch", "configmap", "followed", "--type=merge", "-p", '{"data":{"v":"2"}}')
        assert next(columns).split() == ["followed", "2"]
        kubectl("apply", "-f", "-", stdin=pod("seen", container("main", "exec sleep infinity")))
        assert next(rows).split()[:3] == ["EVENT", "NAME", "READY"]
        assert next(rows).split()[:2] == ["ADDED", "seen"]
        while "Running" not in (row := next(rows)):
            assert row.startswith("MODIFIED")
        while "pod/seen" not in next(told).lower():
            pass
        kubectl("delete", "pod", "seen", "--now")
        while not next(rows).startswith("DELETED"):
            pass

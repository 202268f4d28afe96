"""Stock kubectl's streams into pods: port-forward, cp, attach and exec with a terminal, logs with every option."""

import os
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from node_cluster import SLEEP, WAIT, Node, pod

pytestmark = pytest.mark.linux


def test_port_forward_carries_connections_side_by_side_and_reports_closed_ports(node: Node) -> None:
    serve = "exec python3 -m http.server 8000 --directory /usr/share"
    probe = {"readinessProbe": {"tcpSocket": {"port": 8000}, "periodSeconds": 1}}
    node.apply(pod("server", serve, container=probe))
    node.ready("server")
    environment = {**os.environ, "KUBECONFIG": str(node.cluster.kubeconfig)}
    command = [node.program, "port-forward", "pod/server", ":8000", ":8001"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as kubectl:
        assert kubectl.stdout is not None
        local: dict[str, str] = {}
        while len(local) < 2:
            words = kubectl.stdout.readline().split()  # Forwarding from 127.0.0.1:40001 -> 8000
            local[words[4]] = words[2].rpartition(":")[2]
        first = urllib.request.urlopen(f"http://127.0.0.1:{local['8000']}/", timeout=10)
        with urllib.request.urlopen(f"http://127.0.0.1:{local['8000']}/", timeout=10) as second:
            assert second.read() == first.read()
        first.close()
        with pytest.raises((urllib.error.URLError, ConnectionError)):
            urllib.request.urlopen(f"http://127.0.0.1:{local['8001']}/", timeout=10)
        kubectl.wait(10)  # it gives up when a pod refuses a port
        assert kubectl.stderr is not None
        assert "error forwarding port 8001" in kubectl.stderr.read()


def test_files_are_copied_in_and_out(node: Node, tmp_path: Path) -> None:
    node.apply(pod("files", SLEEP))
    node.ready("files")
    content = os.urandom(3_000_000)
    (tmp_path / "there").write_bytes(content)
    node.kubectl("cp", str(tmp_path / "there"), "files:/tmp/there")
    node.kubectl("cp", "files:/tmp/there", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == content


def test_logs_answer_every_option(node: Node) -> None:
    two = [
        {"name": name, "image": "busybox", "command": ["sh", "-c", f"echo {name} 1; echo {name} 2; {SLEEP}"]}
        for name in ("first", "second")
    ]
    talk = pod("talk", "")
    talk["metadata"]["labels"] = {"app": "talk"}
    talk["spec"]["containers"] = two
    node.apply(talk)
    node.ready("talk")
    everything = node.kubectl("logs", "-l", "app=talk", "--all-containers", "--prefix").splitlines()
    assert sorted(everything) == [f"[pod/talk/{name}] {name} {n}" for name in ("first", "second") for n in (1, 2)]
    (line,) = node.kubectl("logs", "talk", "-c", "second", "--tail=1", "--timestamps").splitlines()
    assert line.endswith(" second 2")
    moment = line.split()[0]
    assert node.kubectl("logs", "talk", "-c", "second", f"--since-time={moment}").splitlines()[-1] == "second 2"
    assert node.kubectl("logs", "talk", "-c", "second", "--since=1h") == "second 1\nsecond 2\n"
    node.kubectl("delete", "pod", "talk", WAIT)

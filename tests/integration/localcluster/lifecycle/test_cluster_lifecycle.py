"""Clusters come up, are found, and leave nothing, whoever ends them and however."""

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from localcluster import capture, lifecycle
from localcluster.images import Image
from localcluster.lifecycle import Cluster, ClusterError

pytestmark = pytest.mark.linux

# Told to a kernel that is asked for user namespaces in a namespace where there may be none.
WITHOUT_USER_NAMESPACES = """
import os, sys
from pathlib import Path
from localcluster import lifecycle, linux
user, group = os.getuid(), os.getgid()
linux.unshare(linux.CLONE_NEWUSER)
Path("/proc/self/setgroups").write_text("deny")
Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
Path("/proc/sys/user/max_user_namespaces").write_text("0")
try:
    lifecycle.up("one", images={}, root=Path(sys.argv[1]))
except lifecycle.ClusterError as error:
    print(error, "|", error.hint)
"""


@pytest.fixture
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("s")  # short: a socket's path has 107 bytes
    yield folder
    for found in lifecycle.clusters(root=folder):
        lifecycle.down(found.name, root=folder)


def ask(cluster: Cluster, path: str, body: object = None) -> Any:
    """The API's answer on the host's loopback; a body is posted."""
    context = ssl.create_default_context(cafile=str(cluster.directory / "pki" / "ca.crt"))
    token = (cluster.directory / "pki" / "admin.token").read_text()
    request = urllib.request.Request(
        f"https://127.0.0.1:{cluster.api_port}{path}",
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, context=context, timeout=5) as answer:  # noqa: S310
        content = answer.read()
    return json.loads(content) if content.startswith(b"{") else content


def ready(cluster: Cluster) -> bool:
    """Whether the API answers."""
    return bool(ask(cluster, "/readyz") == b"ok")


def processes_of(cluster: Cluster) -> list[str]:
    """The command lines of all processes in the cluster's user namespace, and of those that name its folder."""
    found = []
    for process in Path("/proc").iterdir():
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if process.name.isdigit() and int(process.name) != os.getpid() and str(cluster.directory) in command:
            found.append(command)
    return found


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it did not come true within 10 s"
        time.sleep(0.01)


def test_up_is_idempotent_and_down_leaves_nothing(root: Path) -> None:
    links, mounts = sorted(Path("/sys/class/net").iterdir()), Path("/proc/self/mounts").read_text()

    cluster = lifecycle.up("one", images={"shop/cart": Image(("cart",))}, root=root)

    assert ready(cluster)
    assert lifecycle.up("one", images={}, root=root) == cluster
    assert lifecycle.status("one", root=root).cluster == cluster
    assert json.loads((cluster.directory / "images.json").read_bytes())["shop/cart"]["command"] == ["cart"]
    assert all(path.stat().st_mode & 0o077 == 0 for path in cluster.directory.iterdir())
    assert sorted(Path("/sys/class/net").iterdir()) == links
    assert Path("/proc/self/mounts").read_text() == mounts

    assert lifecycle.down("one", root=root)
    assert not lifecycle.down("one", root=root)
    assert not cluster.directory.exists()
    assert processes_of(cluster) == []
    assert lifecycle.status("one", root=root).state == "stopped"


def test_two_who_start_it_at_once_get_the_same(root: Path) -> None:
    with ThreadPoolExecutor() as pool:
        first, second = pool.map(lambda _: lifecycle.up("one", images={}, root=root), range(2))

    assert first == second


def test_clusters_live_side_by_side(root: Path) -> None:
    one, two = (lifecycle.up(name, images={}, root=root) for name in ("one", "two"))

    assert one.api_port != two.api_port
    assert [(found.name, found.state) for found in lifecycle.clusters(root=root)] == [
        ("one", "running"),
        ("two", "running"),
    ]
    lifecycle.down("one", root=root)
    assert ready(two)


def test_a_killed_cluster_leaves_nothing_and_comes_back_at_the_same_place(root: Path) -> None:
    cluster = lifecycle.up("one", images={}, root=root)
    os.kill(cluster.pid, signal.SIGKILL)
    eventually(lambda: lifecycle.status("one", root=root).state == "stopped")
    eventually(lambda: processes_of(cluster) == [])

    again = lifecycle.up("one", images={}, root=root)

    assert again.pid != cluster.pid
    assert again.api_port == cluster.api_port
    assert ready(again)


def test_a_killed_api_server_comes_back(root: Path) -> None:
    cluster = lifecycle.up("one", images={}, root=root)
    servers = subprocess.run(
        ["pgrep", "-f", f"localcluster.apiserver --directory {cluster.directory} "],
        capture_output=True,
        text=True,
        check=True,
    )
    os.kill(int(servers.stdout), signal.SIGKILL)

    # Its sockets are the node's: a connection waits for the next server instead of being refused.
    def answers() -> bool:
        try:
            return ready(cluster)
        except OSError:
            return False

    eventually(answers)


def test_a_port_that_was_taken_meanwhile_is_replaced(root: Path) -> None:
    cluster = lifecycle.up("one", images={}, root=root)
    lifecycle.down("one", root=root, keep_state=True)

    with socket.create_server(("127.0.0.1", cluster.api_port)):
        again = lifecycle.up("one", images={}, root=root)

    assert again.api_port != cluster.api_port
    assert f"https://127.0.0.1:{again.api_port}" in again.kubeconfig.read_text()
    assert ready(again)


def test_a_stale_process_number_is_never_signalled(root: Path) -> None:
    cluster = lifecycle.up("one", images={}, root=root)
    os.kill(cluster.pid, signal.SIGKILL)
    eventually(lambda: lifecycle.status("one", root=root).state == "stopped")
    with subprocess.Popen(["sleep", "100"]) as bystander:
        record = json.loads((cluster.directory / "run" / "host.json").read_bytes())
        (cluster.directory / "run" / "host.json").write_text(json.dumps(record | {"pid": bystander.pid}))

        lifecycle.down("one", root=root)

        assert bystander.poll() is None
        bystander.kill()


def test_without_user_namespaces_one_message_says_what_is_missing(root: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT_USER_NAMESPACES, str(root)], capture_output=True, text=True, check=True
    )

    assert result.stdout == (
        "this machine does not let us make a user namespace: No space left on device | "
        "user namespaces are switched off; as root: sysctl -w user.max_user_namespaces=15000\n"
    )


@pytest.mark.parametrize("name", ["", "Upper", "a/b", "..", "a" * 64])
def test_a_name_that_cannot_be_is_refused(root: Path, name: str) -> None:
    with pytest.raises(ClusterError, match="not valid") as refused:
        lifecycle.up(name, images={}, root=root)
    assert refused.value.hint


def test_a_place_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "clusters").write_text("a file in the way")

    with pytest.raises(ClusterError, match="clusters") as refused:
        lifecycle.up("one", images={}, root=tmp_path)
    assert "MUTUA_HOME" in refused.value.hint


def test_a_broken_image_table_is_reported_by_up(root: Path) -> None:
    cluster = lifecycle.up("one", images={}, root=root)
    lifecycle.down("one", root=root, keep_state=True)
    (cluster.directory / "images.json").write_text('{"a": {"comand": []}}')

    with pytest.raises(ClusterError, match='image "a": unknown field "comand"'):
        lifecycle.up("one", images={}, root=root)
    assert lifecycle.status("one", root=root).state == "stopped"


def test_the_wire_can_be_watched_from_the_host(root: Path) -> None:
    cluster = lifecycle.up("one", images={}, root=root)
    pod = {"metadata": {"name": "web"}, "spec": {"containers": [{"name": "web", "image": "echo"}]}}
    ask(cluster, "/api/v1/namespaces/default/pods", pod)
    eventually(lambda: ask(cluster, "/api/v1/namespaces/default/pods/web")["status"]["phase"] == "Running")
    address = ask(cluster, "/api/v1/namespaces/default/pods/web")["status"]["podIP"]
    request = (
        "import os, socket, sys; from localcluster import linux;"
        "linux.setns(os.pidfd_open(int(sys.argv[1])), linux.CLONE_NEWUSER | linux.CLONE_NEWNET);"
        "s = socket.create_connection((sys.argv[2], 80)); s.sendall(b'GET /plain HTTP/1.0\\r\\n\\r\\n'); s.recv(1)"
    )

    def asked() -> bool:
        command = [sys.executable, "-c", request, str(cluster.pid), address]
        return subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode == 0

    with capture.recording(cluster, port=80) as recording:
        eventually(asked)

    sent = [packet for packet in recording.packets if packet.payload]
    assert [(packet.destination, packet.payload) for packet in sent] == [(address, b"GET /plain HTTP/1.0\r\n\r\n")]
    assert not sent[0].starts_tls_record
    lifecycle.down("one", root=root)
    with pytest.raises(ClusterError, match="cannot capture in cluster one"):
        capture.packets(cluster, seconds=0)

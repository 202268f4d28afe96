"""Killed or stopped, the server comes back with everything that it acknowledged."""

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import lightkube
import pytest
from api_server import ApiServer
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import ConfigMap


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[ApiServer]:
    """A server of the test's own."""
    server = ApiServer.create(tmp_path)
    server.start()
    yield server
    server.close()


CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"


def test_nothing_acknowledged_is_lost_when_it_is_killed(fresh: ApiServer) -> None:
    server = fresh
    acknowledged: list[tuple[str, str]] = []

    def write() -> None:
        for number in range(10_000):
            if restarted.is_set():
                return
            try:
                code, created = server.request("POST", CONFIG_MAPS, {"metadata": {"name": f"c{number}"}})
            except OSError:
                return
            if code == 201:
                acknowledged.append((f"c{number}", created["metadata"]["resourceVersion"]))
            if len(acknowledged) == 100:
                enough.set()

    enough, restarted = threading.Event(), threading.Event()
    writer = threading.Thread(target=write)
    writer.start()
    assert enough.wait(60)
    server.kill(signal.SIGKILL)
    promised = list(acknowledged)
    restarted.set()
    # Whoever connects now waits for the next process: the socket stays bound.
    server.start()
    writer.join(timeout=30)
    _, found = server.request("GET", CONFIG_MAPS)
    kept = {item["metadata"]["name"]: item["metadata"]["resourceVersion"] for item in found["items"]}
    code, last = server.request("POST", CONFIG_MAPS, {"metadata": {"name": "after"}})

    assert [kept.get(name) for name, _ in promised] == [version for _, version in promised]
    assert code == 201
    assert int(last["metadata"]["resourceVersion"]) > max(int(version) for version in kept.values())


def test_it_stops_in_order_on_sigterm_and_keeps_its_identity(fresh: ApiServer) -> None:
    server = fresh
    before = server.request("GET", "/api/v1/namespaces/default/services/kubernetes")[1]

    assert server.kill(signal.SIGTERM) == 0
    server.start()

    assert server.request("GET", "/api/v1/namespaces/default/services/kubernetes")[1] == before
    assert before["spec"]["clusterIP"] == "10.96.0.1"


def test_a_second_server_on_the_same_files_says_why_it_will_not_start(fresh: ApiServer) -> None:
    server = fresh

    second = subprocess.run(
        [
            sys.executable,
            "-m",
            "localcluster.apiserver",
            "--directory",
            str(server.paths.directory),
            "--listen-fd",
            "0",
        ],
        capture_output=True,
        text=True,
        check=False,
        stdin=server.listener,
    )

    assert second.returncode == 1
    assert "is another API server running on it?" in second.stderr


def test_without_keys_it_says_what_is_missing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "localcluster.apiserver", "--directory", str(tmp_path), "--listen-fd", "0"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert done.stderr.startswith("error: ")


def test_lightkube_lists_watches_and_patches(fresh: ApiServer) -> None:
    server = fresh
    config = lightkube.KubeConfig.from_file(server.paths.kubeconfig)
    with lightkube.Client(config=config, namespace="default") as client:
        client.create(ConfigMap(metadata=ObjectMeta(name="a", labels={"x": "1"}), data={"k": "v"}))
        client.patch(ConfigMap, "a", {"data": {"l": "w"}})
        listed = list(client.list(ConfigMap, labels={"x": "1"}))
        watching = client.watch(ConfigMap, labels={"x": "1"})
        event, seen = next(watching)
        watching.close()  # type: ignore[attr-defined]
        client.delete(ConfigMap, "a")
        with pytest.raises(lightkube.ApiError) as missing:
            client.get(ConfigMap, "a")

    assert [item.data for item in listed] == [{"k": "v", "l": "w"}]
    assert (event, seen.metadata.name if seen.metadata else "") == ("ADDED", "a")
    assert missing.value.status.reason == "NotFound"

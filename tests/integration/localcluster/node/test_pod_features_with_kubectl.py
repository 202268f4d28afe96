"""What a pod may ask of its node beyond running: deadlines, last words, other images, a look inside, claims."""

import sys
import time

import pytest
from node_cluster import SLEEP, WAIT, Node, pod

from localcluster import inside

pytestmark = pytest.mark.linux


def field(node: Node, what: str, path: str) -> str:
    return node.kubectl("get", *what.split(), "-o", f"jsonpath={path}")


def test_a_pod_ends_at_its_deadline(node: Node) -> None:
    node.apply(pod("brief", SLEEP, activeDeadlineSeconds=1))
    node.kubectl("wait", "--for=jsonpath={.status.reason}=DeadlineExceeded", "pod/brief", WAIT)
    assert field(node, "pod brief", "{.status.phase}") == "Failed"
    node.kubectl("wait", "--for=jsonpath={.status.containerStatuses[0].state.terminated}", "pod/brief", WAIT)


def test_last_words_are_in_the_status(node: Node) -> None:
    words = pod("words", "echo because > /dev/termination-log; exit 4", restartPolicy="Never")
    fallback = {"terminationMessagePolicy": "FallbackToLogsOnError"}
    logged = pod("logged", "echo in the log; exit 4", restartPolicy="Never", container=fallback)
    node.apply(words, logged)
    node.kubectl("wait", "--for=jsonpath={.status.phase}=Failed", "pod/words", "pod/logged", WAIT)
    message = "{.status.containerStatuses[0].state.terminated.message}"
    assert field(node, "pod words", message) == "because\n"
    assert field(node, "pod logged", message) == "in the log\n"


def test_another_image_restarts_the_container_in_its_pod(node: Node) -> None:
    node.apply(pod("changing", SLEEP))
    node.ready("changing")
    before = field(node, "pod changing", "{.status.podIP}")
    node.kubectl("set", "image", "pod/changing", "main=alpine")
    node.kubectl("wait", "--for=jsonpath={.status.containerStatuses[0].restartCount}=1", "pod/changing", WAIT)
    node.ready("changing")
    image = "{.status.containerStatuses[0].image} {.status.podIP}"
    assert field(node, "pod changing", image) == f"alpine {before}"


def test_a_debugging_container_sees_its_targets_processes(node: Node) -> None:
    node.apply(pod("watched", SLEEP))
    node.ready("watched")
    see = "tr '\\0' ' ' < /proc/1/cmdline; echo; exit 7"
    arguments = ("debug", "watched", "-c", "looking", "--image=busybox", "--target=main", "--profile=general")
    node.kubectl(*arguments, "--", "sh", "-c", see)
    ended = "{.status.ephemeralContainerStatuses[0].state.terminated.exitCode}"
    node.kubectl("wait", f"--for=jsonpath={ended}=7", "pod/watched", WAIT)
    assert "trap 'exit 0' TERM" in node.kubectl("logs", "watched", "-c", "looking")
    assert field(node, "pod watched", "{.status.phase} {.status.containerStatuses[0].restartCount}") == "Running 0"
    node.kubectl("delete", "pod", "watched", WAIT)


def test_a_claims_files_outlive_pods_and_go_with_the_claim(node: Node) -> None:
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "64Mi"}}},
    }
    volumes = [{"name": "disk", "persistentVolumeClaim": {"claimName": "data"}}]
    mounts = {"volumeMounts": [{"name": "disk", "mountPath": "/data"}]}
    node.apply(
        pod("writing", "echo kept > /data/file", volumes=volumes, container=mounts, restartPolicy="Never"), claim
    )
    node.kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/writing", WAIT)
    node.apply(pod("reading", f"cat /data/file; {SLEEP}", volumes=volumes, container=mounts))
    node.ready("reading")
    assert node.kubectl("logs", "reading") == "kept\n"
    assert node.kubectl("get", "pvc", "--no-headers").split()[1] == "Bound"
    folder = node.cluster.directory / "claims" / field(node, "pvc data", "{.spec.volumeName}")
    assert (folder / "file").read_text() == "kept\n"

    node.kubectl("delete", "pvc", "data", "--wait=false")
    assert node.kubectl("get", "pvc", "--no-headers").split()[1] == "Terminating"
    node.kubectl("delete", "pod", "reading", WAIT)
    node.kubectl("wait", "--for=delete", "pvc/data", WAIT)
    node.kubectl("wait", "--for=delete", "pv", "--all", WAIT)


def test_a_grpc_probe_is_asked_and_containers_start_beside_it(node: Node) -> None:
    server = (
        "import concurrent.futures, grpc, time\n"
        "class Health(grpc.GenericRpcHandler):\n"
        "    def service(self, details):\n"
        "        return grpc.unary_unary_rpc_method_handler(lambda request, context: b'\\x08\\x01')\n"
        "server = grpc.server(concurrent.futures.ThreadPoolExecutor(1))\n"
        "server.add_generic_rpc_handlers((Health(),))\n"
        "server.add_insecure_port('0.0.0.0:9000')\n"
        "server.start()\n"
        "time.sleep(1000)\n"
    )
    healthy = pod("healthy", "")
    healthy["spec"]["containers"][0] |= {
        "command": [sys.executable, "-c", server],
        "readinessProbe": {"grpc": {"port": 9000}, "periodSeconds": 1, "timeoutSeconds": 5},
    }
    silent = pod("silent", "")
    listen = "import socket, time; s = socket.create_server(('', 9000)); print('up', flush=True); time.sleep(1000)"
    silent["spec"]["containers"][0] |= {
        "command": [sys.executable, "-c", listen],
        "readinessProbe": {"grpc": {"port": 9000}, "timeoutSeconds": 60},
    }
    node.apply(healthy, silent)
    node.ready("healthy")
    while "up" not in node.kubectl("logs", "silent"):
        time.sleep(0.1)
    # While the node waits for an answer, gRPC must not get in the way of the containers that it starts.
    for name in ("after-1", "after-2", "after-3"):
        node.apply(pod(name, SLEEP))
        node.ready(name)
    node.kubectl("delete", "pod", "healthy", "silent", "after-1", "after-2", "after-3", "--now")


def test_top_shows_who_uses_what(node: Node) -> None:
    node.apply(pod("greedy", "while :; do :; done"))
    node.ready("greedy")
    name, cores, memory = node.kubectl("top", "pod", "greedy", "--no-headers").split()
    assert name == "greedy"
    assert int(cores.removesuffix("m")) > 0
    assert memory.endswith("Mi")
    assert node.kubectl("top", "nodes", "--no-headers").split()[0] == "local"
    assert node.kubectl("top", "pod", "greedy", "--containers", "--no-headers").split()[:2] == ["greedy", "main"]
    node.kubectl("delete", "pod", "greedy", "--force", "--grace-period=0")


def test_a_look_inside_counts_what_is_there(node: Node) -> None:
    node.apply(pod("seen", SLEEP))
    node.ready("seen")
    found = inside.look(node.cluster)
    assert found is not None
    assert (found.ready_nodes, found.nodes) == (1, 1)
    assert 1 <= found.ready_pods <= found.pods
    assert found.memory_bytes > 20 << 20
    assert found.requests_per_second > 0


def test_a_container_that_takes_more_memory_than_its_limit_is_ended(node: Node) -> None:
    grow = "import time; held = bytearray(200 << 20); print(len(held), flush=True); time.sleep(60)"
    limits = {"resources": {"limits": {"memory": "64Mi"}}}
    greedy = {"command": ["python3", "-c", grow], **limits}
    modest = {"command": ["python3", "-c", grow.replace("200", "2")], **limits}
    node.apply(pod("too-much", "", container=greedy, restartPolicy="Never"), pod("modest", "", container=modest))
    node.kubectl("wait", "--for=jsonpath={.status.phase}=Failed", "pod/too-much", WAIT)
    ended = "{.status.containerStatuses[0].state.terminated"
    assert field(node, "pod too-much", f"{ended}.reason}} {ended}.exitCode}}") == "OOMKilled 137"
    assert field(node, "pod modest", "{.status.phase} {.status.containerStatuses[0].restartCount}") == "Running 0"


FILL = """
for file in /kept /tmp/kept /var/tmp/kept /memory/kept; do
  dd if=/dev/zero of=$file bs=1M count=40 2>/dev/null && echo "$file takes everything"
  echo "$file $(($(stat -c %s $file) / 1048576))"
  rm $file
done
dd if=/dev/zero of=/cache/kept bs=1M count=6 2>/dev/null
"""


def test_what_a_container_writes_has_a_limit(node: Node) -> None:
    """It is told by the file system itself; a volume on the disk ends the pod, as with the kubelet."""
    volumes = [
        {"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "8Mi"}},
        {"name": "cache", "emptyDir": {"sizeLimit": "5Mi"}},
    ]
    mounts = [{"name": each["name"], "mountPath": f"/{each['name']}"} for each in volumes]
    limits = {"volumeMounts": mounts, "resources": {"limits": {"ephemeral-storage": "20Mi"}}}
    node.apply(
        pod("filling", FILL + SLEEP, container=limits, volumes=volumes, restartPolicy="Never"),
        pod("beside", "sleep 3; echo written > /kept; cat /kept; " + SLEEP),
    )
    node.kubectl("wait", "--for=jsonpath={.status.reason}=Evicted", "pod/filling", WAIT)

    assert field(node, "pod filling", "{.status.phase} {.status.message}") == (
        'Failed Usage of EmptyDir volume "cache" exceeds the limit "5Mi".'
    )
    logged = dict(line.split() for line in node.kubectl("logs", "filling").splitlines())
    assert logged == {"/kept": "19", "/tmp/kept": "19", "/var/tmp/kept": "19", "/memory/kept": "8"}
    assert "Evicted" in node.kubectl("get", "events", "--field-selector", "involvedObject.name=filling")
    assert node.kubectl("logs", "beside") == "written\n"

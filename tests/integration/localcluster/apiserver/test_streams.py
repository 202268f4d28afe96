"""Logs and exec go through to the node and back, with stock kubectl and with a plain WebSocket."""

from collections.abc import Iterator

import pytest
from api_server import ApiServer
from node_stub import NodeServer
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

POD = """
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: default}
spec:
  nodeName: local
  containers: [{name: main, image: nginx}, {name: gone, image: nginx}]
"""


@pytest.fixture(scope="module")
def node(server: ApiServer) -> Iterator[NodeServer]:
    """The node behind the server's socket, and a pod that it runs."""
    found = NodeServer(server.paths.node_socket)
    server.kubectl("apply", "-f", "-", stdin=POD)
    yield found
    found.close()


def exec_socket(server: ApiServer, command: str, token: str | None = None) -> ClientConnection:
    found = server.paths.admin_token.read_text() if token is None else token
    return connect(
        f"wss://127.0.0.1:{server.port}/api/v1/namespaces/default/pods/web/exec?container=main&command={command}&stdin=1",
        ssl=server.context(),
        subprotocols=[Subprotocol("v5.channel.k8s.io")],
        additional_headers={"Authorization": f"Bearer {found}"},
    )


def test_logs_with_their_options(server: ApiServer, node: NodeServer) -> None:
    assert server.kubectl("logs", "web", "-c", "main", "--tail=5") == "one\ntwo\n"
    assert node.node.requests[-1] == "/containerLogs/default/web/main?tailLines=5"
    assert server.kubectl("logs", "-f", "web", "-c", "main") == "one\ntwo\n"


def test_the_nodes_refusal_of_logs_reaches_the_user(server: ApiServer, node: NodeServer) -> None:
    assert "waiting to start: ErrImagePull" in server.kubectl("logs", "web", "-c", "gone", succeeds=False)


def test_a_container_must_be_named_where_there_are_several(server: ApiServer, node: NodeServer) -> None:
    code, status = server.request("GET", "/api/v1/namespaces/default/pods/web/log")

    assert code == 400
    assert status["message"] == "a container name must be specified for pod web, choose one of: [main gone]"
    assert server.request("GET", "/api/v1/namespaces/default/pods/web/log?container=x")[0] == 400


def test_exec_with_kubectl(server: ApiServer, node: NodeServer) -> None:
    assert server.kubectl("exec", "web", "-c", "main", "--", "say", "hello world") == "say hello world\n"
    assert "command terminated with exit code 7" in server.kubectl(
        "exec", "web", "-c", "main", "--", "fail", succeeds=False
    )


def test_stdin_comes_back(server: ApiServer, node: NodeServer) -> None:
    with exec_socket(server, "cat") as connection:
        assert connection.subprotocol == "v5.channel.k8s.io"
        payload = b"x" * 100_000
        for _ in range(20):
            connection.send(b"\x00" + payload)
        received = sum(len(connection.recv(10)) - 1 for _ in range(20))

    assert received == 20 * len(payload)


def test_the_node_learns_that_the_client_left(server: ApiServer, node: NodeServer) -> None:
    with exec_socket(server, "hang"):
        pass

    assert node.node.closed.wait(10)


def test_refused_upgrades_say_why(server: ApiServer, node: NodeServer) -> None:
    with pytest.raises(InvalidStatus) as refused:
        exec_socket(server, "refuse")
    with pytest.raises(InvalidStatus) as stranger:
        exec_socket(server, "x", token="wrong")

    assert refused.value.response.status_code == 400
    assert b"container is not running" in bytes(refused.value.response.body or b"")
    assert stranger.value.response.status_code == 401


def test_spdy_is_refused_with_what_to_do(server: ApiServer, node: NodeServer) -> None:
    code, status = server.request("POST", "/api/v1/namespaces/default/pods/web/exec?container=main&command=x")

    assert code == 400
    assert "SPDY is not supported" in status["message"]


def test_a_second_try_by_spdy_says_why_the_first_one_failed(server: ApiServer, node: NodeServer) -> None:
    """kubectl shows the last answer alone."""
    waiting = {"name": "main", "ready": False, "restartCount": 0, "image": "x", "imageID": ""}
    waiting["state"] = {"waiting": {"reason": "CrashLoopBackOff"}}
    pod = server.request("GET", "/api/v1/namespaces/default/pods/web")[1]
    path = "/api/v1/namespaces/default/pods/web"
    assert server.request("PUT", f"{path}/status", pod | {"status": {"containerStatuses": [waiting]}})[0] == 200

    code, status = server.request("POST", f"{path}/exec?container=main&command=x")
    server.request("PUT", f"{path}/status", server.request("GET", path)[1] | {"status": {}})

    assert (code, status["message"]) == (400, 'container "main" is not running')

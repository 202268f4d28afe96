"""A real Envoy takes every format that is taken here, and refuses what is refused."""

import json
import subprocess
from pathlib import Path

import pytest
from envoy.config.bootstrap.v3 import bootstrap_pb2
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2
from envoy_pods import envoy_binary
from google.protobuf import json_format

from mutua.api import access_log_format
from mutua.api.meshconfig import AccessLogEncoding
from mutua.envoy import access_log
from mutua.envoy.pack import packed
from mutua.mesh.proxy_view import MeshView

PARAMETERS = {
    "METADATA": "ROUTE:a",
    "GRPC_STATUS": "CAMEL_STRING",
    "RESPONSE_CODE_DETAILS": "ALLOW_WHITESPACES",
    "PATH": "WQ:ORIG",
    "QUERY_PARAMS": "DECODED",
    "REQUESTED_SERVER_NAME": "HOST_FIRST:HOST",
    "COMMON_DURATION": "DS_RX_BEG:DS_TX_END:us",
    "FILTER_STATE": "a:FIELD:b",
    "START_TIME": "%Y-%m-%dT%H:%M:%E3S",
    "REQ": "X-ENVOY-ORIGINAL-PATH?:PATH",
}
ADDRESS = "_WITHOUT_PORT"


def refusal(folder: Path, text: str, encoding: str = "TEXT") -> str:
    """What Envoy says of a listener with such a log; "" if it takes it."""
    mesh = MeshView(access_log_file="/dev/stdout", access_log_encoding=encoding, access_log_format=text)
    proxy = tcp_proxy_pb2.TcpProxy(stat_prefix="x", cluster="c", access_log=access_log.of_connections(mesh))
    bootstrap = bootstrap_pb2.Bootstrap()
    listener = bootstrap.static_resources.listeners.add(name="l")
    listener.address.socket_address.address = "127.0.0.1"
    listener.address.socket_address.port_value = 0
    listener.filter_chains.add().filters.add(name="t", typed_config=packed(proxy))
    bootstrap.static_resources.clusters.add(name="c")
    path = folder / "bootstrap.json"
    path.write_text(json_format.MessageToJson(bootstrap))
    words = ("--mode", "validate", "-l", "error", "-c", str(path))
    done = subprocess.run((envoy_binary(), *words), capture_output=True, text=True, check=False)
    return done.stderr + done.stdout if done.returncode else ""


def test_every_command_that_is_taken_is_known(tmp_path: Path) -> None:
    commands = [f"%{name}%" for name in sorted(access_log_format.COMMANDS)]
    for name in access_log_format.WITH_PARAMETER:
        parameter = PARAMETERS.get(name, "24" if name.endswith(ADDRESS) else "a")
        commands.append(f"%{name}({parameter})%")
    text = " 100%% ".join(commands)

    assert list(access_log_format.mistakes(text, AccessLogEncoding.TEXT)) == []
    assert refusal(tmp_path, text) == ""
    tree = json.dumps({"nested": {str(number): [each] for number, each in enumerate(commands)}, "n": 1})
    assert list(access_log_format.mistakes(tree, AccessLogEncoding.JSON)) == []
    assert refusal(tmp_path, tree, "JSON") == ""


@pytest.mark.parametrize(
    "text",
    (
        *(
            "100%",
            "%NOPE%",
            "%REQ%",
            "%REQ()%",
            "%REQ(a?b?c)%",
            "%REQ(a b)%",
            "%req(a)%",
            "%PROTOCOL(x)%",
            "%PROTOCOL:5%",
        ),
        *(
            "%START_TIME(%n)%",
            "%START_TIME:5%",
            "%FILTER_STATE(a:b)%",
            "%GRPC_STATUS(x)%",
            "%PATH(x)%",
            "%METADATA(x:a)%",
        ),
        *("%COMMON_DURATION(a)%", "%REQUESTED_SERVER_NAME(x)%", "%QUERY_PARAMS(x)%", "%CLUSTER_METADATA(a):5%"),
    ),
)
def test_what_is_refused_is_refused_by_envoy_too(tmp_path: Path, text: str) -> None:
    assert list(access_log_format.mistakes(text, AccessLogEncoding.TEXT))
    assert refusal(tmp_path, text)

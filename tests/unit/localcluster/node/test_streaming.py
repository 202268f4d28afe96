"""The node's server over its real socket, with real processes in the place of containers."""

import asyncio
import json
import stat
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
from websockets.asyncio.client import ClientConnection, unix_connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

from localcluster.node.runtime import ContainerStartError, ExitStatus
from localcluster.node.streaming import ContainerAccess, NoSuchContainerError, StreamingServer

V5, V4 = Subprotocol("v5.channel.k8s.io"), Subprotocol("v4.channel.k8s.io")


class Process:
    """`ExecProcess` over a process of the host."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.pid = process.pid
        self.stdin, self.stdout, self.stderr = process.stdin, process.stdout, process.stderr

    async def wait(self) -> ExitStatus:
        code = await self._process.wait()
        return ExitStatus(code if code >= 0 else 128 - code, None, datetime.now(UTC))

    def kill(self, signal: int = 9) -> None:
        if self._process.returncode is None:
            self._process.send_signal(signal)

    def resize(self, rows: int, columns: int) -> None:
        pass

    def close(self) -> None:
        pass


class HostRuntime:
    """Executes on the host, and connects to the host's loopback."""

    def __init__(self) -> None:
        self.processes: list[asyncio.subprocess.Process] = []

    async def exec(self, _container: Any, argv: Sequence[str], **_options: Any) -> Process:
        pipe = asyncio.subprocess.PIPE
        try:
            process = await asyncio.create_subprocess_exec(*argv, stdin=pipe, stdout=pipe, stderr=pipe)
        except FileNotFoundError as error:
            raise ContainerStartError(str(error)) from error
        self.processes.append(process)
        return Process(process)

    async def connect(self, _network: Any, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", port)


class Pods:
    """One pod, `shop/web`, with one container, `app`."""

    def __init__(self, log: Path) -> None:
        self._log = log

    def find_container(self, namespace: str, pod: str, container: str, *, previous: bool) -> ContainerAccess:
        if (namespace, pod, container) != ("shop", "web", "app"):
            raise NoSuchContainerError(404, "no such pod")
        return ContainerAccess({"name": "app"}, object(), self._log)  # type: ignore[arg-type]

    def find_network(self, namespace: str, pod: str) -> Any:
        return object()


@pytest.fixture
async def runtime() -> HostRuntime:
    return HostRuntime()


@pytest.fixture
async def socket(tmp_path: Path, runtime: HostRuntime) -> AsyncIterator[Path]:
    log = tmp_path / "0.log"
    log.write_text("2026-01-01T12:00:00.000000000Z stdout F hello\n")
    path = tmp_path / "node.sock"
    server = StreamingServer(path, Pods(log), runtime)  # type: ignore[arg-type]
    await server.start()
    yield path
    await server.close()


def connect(socket: Path, path: str, *protocols: Subprotocol) -> Any:
    return unix_connect(str(socket), f"ws://node{path}", subprotocols=protocols or (V5, V4), compression=None)


async def received(connection: ClientConnection) -> dict[int, bytes]:
    """Everything until the server closes, by channel."""
    channels: dict[int, bytes] = {}
    async for message in connection:
        assert isinstance(message, bytes)
        channels[message[0]] = channels.get(message[0], b"") + message[1:]
    return channels


def query(*command: str, **streams: bool) -> str:
    parts = [f"command={word}" for word in command] + [f"{name}=true" for name in streams]
    return "/exec/shop/web/app?" + "&".join(parts)


async def test_only_the_owner_can_open_the_socket(socket: Path) -> None:
    assert stat.S_IMODE((await asyncio.to_thread(socket.stat)).st_mode) == 0o600


async def test_exec_returns_both_streams_and_the_exit_code(socket: Path) -> None:
    path = query("sh", "-c", "echo%20out;echo%20err>%262;exit%207", stdout=True, stderr=True)
    async with connect(socket, path) as connection:
        assert connection.subprotocol == V5
        channels = await received(connection)
    assert (channels[1], channels[2]) == (b"out\n", b"err\n")
    status: Mapping[str, Any] = json.loads(channels[3])
    assert status["reason"] == "NonZeroExitCode"
    assert status["details"]["causes"] == [{"reason": "ExitCode", "message": "7"}]


async def test_input_is_binary_and_ends_with_the_close_channel(socket: Path) -> None:
    content = bytes(range(256)) * 4096
    async with connect(socket, query("cat", stdin=True, stdout=True)) as connection:
        answer = asyncio.create_task(received(connection))
        for start in range(0, len(content), 65536):
            await connection.send(b"\0" + content[start : start + 65536])
        await connection.send(bytes([255, 0]))
        channels = await answer
    assert channels[1] == content
    assert json.loads(channels[3])["status"] == "Success"


async def test_older_clients_get_their_protocol(socket: Path) -> None:
    async with connect(socket, query("true", stdout=True), V4) as connection:
        assert connection.subprotocol == V4
        assert json.loads((await received(connection))[3])["status"] == "Success"


async def test_a_command_ends_when_its_client_leaves(socket: Path, runtime: HostRuntime) -> None:
    async with connect(socket, query("sleep", "600", stdout=True)) as connection:
        assert await connection.recv() == b"\x01"
    assert await runtime.processes[0].wait() == -9


@pytest.mark.parametrize(
    ("path", "code"),
    [("/exec/shop/none/app?command=true", 404), ("/exec/shop/web/app", 400), (query("/no/such/program"), 500)],
)
async def test_refusals_come_before_the_upgrade(socket: Path, path: str, code: int) -> None:
    with pytest.raises(InvalidStatus) as raised:
        async with connect(socket, path):
            pass
    assert raised.value.response.status_code == code


async def test_logs(socket: Path) -> None:
    transport = httpx2.AsyncHTTPTransport(uds=str(socket))
    async with httpx2.AsyncClient(transport=transport, base_url="http://node") as client:
        assert (await client.get("/containerLogs/shop/web/app")).text == "hello\n"
        assert (await client.get("/containerLogs/shop/web/none")).status_code == 404
        assert (await client.get("/containerLogs/shop/web/app?tailLines=x")).status_code == 400


async def test_port_forward_carries_data_sent_before_the_connection_is_there(socket: Path) -> None:
    async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.readexactly(5)).upper())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(shout, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with connect(socket, f"/portForward/shop/web?ports={port}", V4) as connection:
        await connection.send(b"\0hello")
        channels = await received(connection)
    server.close()
    assert channels == {0: port.to_bytes(2, "little") + b"HELLO", 1: port.to_bytes(2, "little")}


async def test_a_port_that_nobody_listens_on_is_told_on_its_error_channel(socket: Path) -> None:
    async with connect(socket, "/portForward/shop/web?ports=1", V4) as connection:
        channels = await received(connection)
    assert channels[1].startswith(b"\x01\x00error forwarding port 1")

"""Kubernetes' channel protocols over WebSocket: the first byte of each message says which stream it belongs to."""

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from localcluster.node.runtime import Container, ExecProcess, ExitStatus, PodNetwork, Runtime, StreamName

STDIN, STDOUT, STDERR, ERROR, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255
_CHUNK_BYTES = 32768
# Output that a command's children still hold open after its end is not waited for.
_DRAIN_SECONDS = 1.0
# The command runs meanwhile; a client on another machine would be slower than this.
_CLIENT_SECONDS = 0.03


def subprotocol(offered: Sequence[str]) -> str | None:
    """The newest protocol of the client's that is spoken here."""
    return next((name for name in ("v5.channel.k8s.io", "v4.channel.k8s.io") if name in offered), None)


@dataclass(frozen=True, slots=True)
class ExecOptions:
    """Which streams the client wants (`PodExecOptions`, `PodAttachOptions`)."""

    stdin: bool
    stdout: bool
    stderr: bool
    tty: bool

    @classmethod
    def parse(cls, query: Mapping[str, str]) -> "ExecOptions":
        """The options of a request's query string; absent ones are false."""
        return cls(*(query.get(name, "").lower() in ("true", "1") for name in ("stdin", "stdout", "stderr", "tty")))


def exit_message(status: ExitStatus) -> dict[str, Any]:
    """The `Status` object that tells a client how its command ended."""
    if status.code == 0:
        return {"metadata": {}, "status": "Success"}
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with non-zero exit code: exit status {status.code}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(status.code)}]},
    }


class _Channels:
    """Sending with a channel byte in front; a client that has left is no error here."""

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket

    async def send(self, channel: int, data: bytes) -> None:
        await self._websocket.send_bytes(bytes([channel]) + data)

    async def greet(self, options: ExecOptions) -> None:
        """An empty message on the lowest stream that the client reads: it knows now that the command runs.

        Then a moment for the client: kubectl begins to read before it has made its streams, and drops what is for none.
        """
        await self.send(STDOUT if options.stdout else STDERR if options.stderr else ERROR, b"")
        await asyncio.sleep(_CLIENT_SECONDS)

    async def copy(self, channel: int, stream: asyncio.StreamReader | None, *, wanted: bool) -> None:
        """Everything from `stream` to the client; what is not wanted is read all the same, lest the command block."""
        if stream is None:
            return
        while data := await stream.read(_CHUNK_BYTES):
            if wanted:
                await self.send(channel, data)

    async def finish(self, status: Mapping[str, Any]) -> None:
        await self.send(ERROR, json.dumps(status).encode())
        await self._websocket.close(1000)


async def _read_input(
    websocket: WebSocket, target: ExecProcess | Container, stdin: asyncio.StreamWriter | None, *, close_stdin: bool
) -> None:
    """The client's input and window sizes, until it leaves."""
    while True:
        message = await receive(websocket)
        channel, data = message[0], message[1:]
        if channel == STDIN and stdin is not None:
            with suppress(ConnectionError, RuntimeError):  # it has closed its input; that is its right
                stdin.write(data)
                await stdin.drain()
        elif channel == RESIZE:
            with suppress(ValueError, KeyError, TypeError):
                size = json.loads(data)
                target.resize(int(size["Height"]), int(size["Width"]))
        elif channel == CLOSE and data[:1] == bytes([STDIN]) and stdin is not None and close_stdin:
            stdin.close()


async def exec_session(websocket: WebSocket, process: ExecProcess, options: ExecOptions) -> None:
    """Connect a client with a command until the command ends or the client leaves."""
    channels = _Channels(websocket)

    async def outputs() -> None:
        copies = [
            asyncio.create_task(channels.copy(STDOUT, process.stdout, wanted=options.stdout)),
            asyncio.create_task(channels.copy(STDERR, process.stderr, wanted=options.stderr)),
        ]
        try:
            status = await process.wait()
            await asyncio.wait(copies, timeout=_DRAIN_SECONDS)
            await channels.finish(exit_message(status))
        finally:
            await cancel(*copies)

    await channels.greet(options)
    inputs = _read_input(websocket, process, process.stdin, close_stdin=True)
    await first_of(asyncio.create_task(inputs), asyncio.create_task(outputs()))


async def attach_session(
    websocket: WebSocket,
    container: Container,
    options: ExecOptions,
    earlier: Callable[[], Iterable[tuple[StreamName, bytes]]],
    *,
    close_stdin: bool,
) -> None:
    """Connect a client with a running container until either ends. The container goes on without the client.

    The client first gets the output that `earlier` returns. `close_stdin`: the container's input ends with this
    client (`stdinOnce`).
    """
    channels = _Channels(websocket)
    stdin = container.stdin if options.stdin else None

    async def send(stream: StreamName, data: bytes) -> None:
        if options.stdout and stream == "stdout":
            await channels.send(STDOUT, data)
        elif options.stderr and stream == "stderr":
            await channels.send(STDERR, data)

    async def outputs() -> None:
        live = aiter(container.output())
        # Listening begins before the past is read, so that nothing falls between the two.
        following = asyncio.ensure_future(anext(live, None))
        await asyncio.sleep(0)
        for stream, data in earlier():
            await send(stream, data)
        while (output := await following) is not None:
            await send(*output)
            following = asyncio.ensure_future(anext(live, None))
        await container.wait()
        await channels.finish({"metadata": {}, "status": "Success"})

    await channels.greet(options)
    inputs = _read_input(websocket, container, stdin, close_stdin=close_stdin)
    await first_of(asyncio.create_task(inputs), asyncio.create_task(outputs()))
    if close_stdin and stdin is not None:
        stdin.close()


async def port_session(websocket: WebSocket, runtime: Runtime, network: PodNetwork, ports: Sequence[int]) -> None:
    """Connect a client with ports of a pod: two channels for each port, data and error, named by a first message."""
    channels = _Channels(websocket)
    loop = asyncio.get_running_loop()
    connections: list[asyncio.Future[asyncio.StreamWriter | None]] = [loop.create_future() for _ in ports]

    async def forward(index: int, port: int) -> None:
        data_channel, error_channel = 2 * index, 2 * index + 1
        for channel in (data_channel, error_channel):
            await channels.send(channel, port.to_bytes(2, "little"))
        try:
            reader, writer = await runtime.connect(network, port)
            connections[index].set_result(writer)
            await channels.copy(data_channel, reader, wanted=True)
        except OSError as error:
            if not connections[index].done():
                connections[index].set_result(None)
            text = f"error forwarding port {port}: {error.strerror or error}"
            await channels.send(error_channel, text.encode())

    async def inputs() -> None:
        while True:
            message = await receive(websocket)
            index, is_error = divmod(message[0], 2)
            if is_error or index >= len(connections):
                continue
            # The client need not wait for the connection before it sends.
            writer = await connections[index]
            if writer is not None:
                with suppress(ConnectionError):
                    writer.write(message[1:])
                    await writer.drain()

    async def outputs() -> None:
        await asyncio.gather(*(forward(index, port) for index, port in enumerate(ports)))
        await websocket.close(1000)

    try:
        await first_of(asyncio.create_task(inputs()), asyncio.create_task(outputs()))
    finally:
        for connection in connections:
            if connection.done() and (writer := connection.result()) is not None:
                writer.close()


async def receive(websocket: WebSocket) -> bytes:
    """The next message that is not empty. Raises WebSocketDisconnect when the client has left, or speaks text."""
    while True:
        message = await websocket.receive()
        if message["type"] != "websocket.receive" or message.get("bytes") is None:
            raise WebSocketDisconnect(message.get("code", 1003))
        if message["bytes"]:
            return bytes(message["bytes"])


async def first_of(*tasks: asyncio.Task[None]) -> None:
    """Run until one ends, end the others. A client that leaves is the usual end, not an error."""
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await cancel(*tasks)
    for task in done:
        error = task.exception()
        if error is not None and not isinstance(error, WebSocketDisconnect | ConnectionError):
            raise error


async def cancel(*tasks: asyncio.Task[None]) -> None:
    """End tasks, whatever they are at."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

"""Port-forward as kubectl does it: SPDY streams, two for each connection, carried by binary WebSocket messages.

Source: k8s.io/apimachinery/pkg/util/portforward and k8s.io/kubelet/pkg/cri/streaming/portforward.
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field

from starlette.websockets import WebSocket

from localcluster.node import spdy
from localcluster.node.runtime import PodNetwork, Runtime
from localcluster.node.streaming_channels import cancel, receive

# As the API server passes it on: clients write SPDY/3.1, which WebSocket libraries refuse as a name.
PROTOCOL = "SPDY-3.1+portforward.k8s.io"
_CHUNK_BYTES = 32768
_MOST_CONNECTIONS = 1024


@dataclass
class _Forwarded:
    """One connection to the pod: the streams that its client opened for it, and what it has sent so far."""

    port: int
    error: int | None = None
    data: int | None = None
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    writer: asyncio.StreamWriter | None = None
    task: asyncio.Task[None] | None = None


async def tunnel_session(websocket: WebSocket, runtime: Runtime, network: PodNetwork) -> None:
    """Connect a client with ports of a pod, as often as it likes, until it leaves. Raises SpdyError."""
    session = _Session(websocket, runtime, network)
    try:
        while True:
            for event in session.connection.receive(await receive(websocket)):
                await session.handle(event)
    finally:
        await session.close()


class _Session:
    def __init__(self, websocket: WebSocket, runtime: Runtime, network: PodNetwork) -> None:
        self.connection = spdy.Connection()
        self._websocket = websocket
        self._runtime = runtime
        self._network = network
        self._requests: dict[str, _Forwarded] = {}
        self._by_stream: dict[int, _Forwarded] = {}

    async def handle(self, event: spdy.Event) -> None:
        """Do what the client's frame asks for."""
        match event:
            case spdy.Opened(stream, headers):
                await self._open(stream, dict(headers))
            case spdy.Received(stream, data, ended):
                forwarded = self._by_stream.get(stream)
                if forwarded is not None and stream == forwarded.data:
                    await self._to_pod(forwarded, data, ended=ended)
            case spdy.Reset(stream):
                forwarded = self._by_stream.get(stream)
                if forwarded is not None and forwarded.task is not None:
                    forwarded.task.cancel()
            case spdy.Answer(data):
                await self._websocket.send_bytes(data)
            case spdy.Finished():
                pass

    async def close(self) -> None:
        """End every connection."""
        tasks = [forwarded.task for forwarded in self._requests.values() if forwarded.task is not None]
        await cancel(*tasks)

    async def _open(self, stream: int, headers: dict[str, str]) -> None:
        kind, port, request = headers.get("streamtype"), headers.get("port", ""), headers.get("requestid", "")
        is_known = kind in ("error", "data") and port.isascii() and port.isdigit() and 0 < int(port) < 65536
        if not is_known or (request not in self._requests and len(self._requests) >= _MOST_CONNECTIONS):
            await self._websocket.send_bytes(self.connection.refuse(stream))
            return
        forwarded = self._requests.setdefault(request, _Forwarded(int(port)))
        self._by_stream[stream] = forwarded
        if kind == "error":
            forwarded.error = stream
        else:
            forwarded.data = stream
        await self._websocket.send_bytes(self.connection.accept(stream))
        if forwarded.error is not None and forwarded.data is not None and forwarded.task is None:
            work = self._forward(request, forwarded, forwarded.error, forwarded.data)
            forwarded.task = asyncio.create_task(work, name=f"forward to port {port}")

    async def _to_pod(self, forwarded: _Forwarded, data: bytes, *, ended: bool) -> None:
        # The client need not wait for the connection before it sends.
        if forwarded.task is not None:
            await forwarded.ready.wait()
        if forwarded.writer is None:
            return
        with suppress(ConnectionError, RuntimeError):  # the pod has closed its side
            if data:
                forwarded.writer.write(data)
                await forwarded.writer.drain()
            if ended and forwarded.writer.can_write_eof():
                forwarded.writer.write_eof()

    async def _forward(self, request: str, forwarded: _Forwarded, error_stream: int, data_stream: int) -> None:
        problem = b""
        try:
            reader, forwarded.writer = await self._runtime.connect(self._network, forwarded.port)
            forwarded.ready.set()
            while data := await reader.read(_CHUNK_BYTES):
                await self._websocket.send_bytes(self.connection.send(data_stream, data))
        except OSError as error:
            problem = f"error forwarding port {forwarded.port}: {error.strerror or error}".encode()
        finally:
            forwarded.ready.set()
            if forwarded.writer is not None:
                forwarded.writer.close()
            self._requests.pop(request, None)
            for stream in (error_stream, data_stream):
                self._by_stream.pop(stream, None)
        await self._websocket.send_bytes(self.connection.send(error_stream, problem, end=True))
        await self._websocket.send_bytes(self.connection.send(data_stream, b"", end=True))

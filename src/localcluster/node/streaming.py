"""The node's own server: logs, exec, attach and port-forward for the API server, over a Unix socket."""

import asyncio
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from localcluster.node import streaming_tunnel
from localcluster.node.logs import LogQuery, LogQueryError, read, written_so_far
from localcluster.node.runtime import Container, ContainerStartError, PodNetwork, Runtime
from localcluster.node.spdy import SpdyError
from localcluster.node.streaming_channels import ExecOptions, attach_session, exec_session, port_session, subprotocol
from localcluster.node.usage import UsageMeter, namespace_of

_PORT_FORWARD_PROTOCOL = "v4.channel.k8s.io"


class NoSuchContainerError(Exception):
    """A request names a pod, a container or a run that is not here; `code` is the HTTP status to answer with."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class ContainerAccess:
    """What a request may reach of one container: its spec, its running self (None: not running), its log file."""

    spec: Mapping[str, Any]
    container: Container | None
    log_path: Path


class PodTable(Protocol):
    """The pods of this node, for the streaming server. Both methods raise NoSuchContainerError."""

    def find_container(self, namespace: str, pod: str, container: str, *, previous: bool) -> ContainerAccess:
        """One container; `previous`: `log_path` is that of the run before the current one."""

    def find_network(self, namespace: str, pod: str) -> PodNetwork:
        """The network of a running pod."""

    def processes(self) -> list[tuple[str, str, int]]:
        """(pod uid, container, pid of its first process) of every container that runs."""


class StreamingServer:
    """Serves `pods` on a socket that only the cluster's own user can open."""

    def __init__(self, path: Path, pods: PodTable, runtime: Runtime) -> None:
        self._path = path
        config = uvicorn.Config(
            application(pods, runtime),
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="websockets-sansio",
            # Compression would cost time for bytes that never leave this machine.
            ws_per_message_deflate=False,
            timeout_graceful_shutdown=1,
        )
        self._server = _Server(config)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen. Raises OSError."""
        # uvicorn takes a refused upgrade for a programming error, and says so each time.
        logging.getLogger("uvicorn.error").addFilter(lambda record: "completing handshake" not in record.getMessage())
        listener = _private_listener(self._path)
        self._task = asyncio.create_task(self._server.serve(sockets=[listener]))

    async def close(self) -> None:
        """Stop listening and end all streams."""
        if self._task is not None:
            self._server.stop.set()
            await self._task
            self._path.unlink(missing_ok=True)


class _Server(uvicorn.Server):
    """uvicorn as a guest in the node's event loop: signals are the node's, and nothing ticks."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.stop = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def main_loop(self) -> None:
        await self.stop.wait()


def _private_listener(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # The mode is right from the first moment: nobody can connect between bind and a later chmod.
    previous = os.umask(0o177)
    try:
        listener.bind(str(path))
    except BaseException:
        listener.close()
        raise
    finally:
        os.umask(previous)
    listener.listen(128)
    listener.setblocking(False)
    return listener


def application(pods: PodTable, runtime: Runtime) -> Starlette:
    """The routes of the contract between API server and node."""
    handlers = _Handlers(pods, runtime)
    one_container = "{namespace}/{pod}/{container}"
    return Starlette(
        routes=[
            Route(f"/containerLogs/{one_container}", handlers.logs),
            Route("/stats", handlers.stats),
            WebSocketRoute(f"/exec/{one_container}", handlers.exec),
            WebSocketRoute(f"/attach/{one_container}", handlers.attach),
            WebSocketRoute("/portForward/{namespace}/{pod}", handlers.port_forward),
        ]
    )


class _Handlers:
    def __init__(self, pods: PodTable, runtime: Runtime) -> None:
        self._pods = pods
        self._runtime = runtime
        self._meter = UsageMeter()

    def _find(self, connection: Request | WebSocket, *, previous: bool = False) -> ContainerAccess:
        path = connection.path_params
        return self._pods.find_container(path["namespace"], path["pod"], path["container"], previous=previous)

    async def logs(self, request: Request) -> Response:
        try:
            query = LogQuery.parse(request.query_params, datetime.now(UTC))
            access = self._find(request, previous=query.previous)
        except LogQueryError as error:
            return PlainTextResponse(f"{error}\n", 400)
        except NoSuchContainerError as error:
            return PlainTextResponse(f"{error}\n", error.code)
        following = None if query.previous else access.container
        return StreamingResponse(_pieces(access.log_path, query, following), media_type="text/plain")

    async def stats(self, request: Request) -> Response:
        usage = await self._meter.measure()
        pods: dict[str, dict[str, dict[str, float]]] = {}
        for uid, container, pid in self._pods.processes():
            namespace = namespace_of(pid)
            if namespace is not None:
                used = {"cores": usage.cores.get(namespace, 0.0), "memory": usage.memory.get(namespace, 0)}
                pods.setdefault(uid, {})[container] = used
        total = {"cores": sum(usage.cores.values()), "memory": sum(usage.memory.values())}
        return JSONResponse({"windowSeconds": usage.window_seconds, "node": total, "pods": pods})

    async def exec(self, websocket: WebSocket) -> None:
        protocol = subprotocol(websocket.scope["subprotocols"])
        command = websocket.query_params.getlist("command")
        try:
            container = _running(self._find(websocket), websocket.path_params["container"])
            if protocol is None or not command:
                raise NoSuchContainerError(400, "exec needs a command, and v5.channel.k8s.io or v4.channel.k8s.io")
        except NoSuchContainerError as error:
            await websocket.send_denial_response(PlainTextResponse(f"{error}\n", error.code))
            return
        options = ExecOptions.parse(websocket.query_params)
        try:
            process = await self._runtime.exec(container, command, tty=options.tty, stdin=options.stdin)
        except ContainerStartError as error:
            await websocket.send_denial_response(PlainTextResponse(f"{error}\n", 500))
            return
        try:
            await websocket.accept(protocol)
            await exec_session(websocket, process, options)
        finally:
            # Nobody waits for it any more: the client has left, or it has ended anyway.
            process.kill(signal.SIGKILL)
            process.close()

    async def attach(self, websocket: WebSocket) -> None:
        protocol = subprotocol(websocket.scope["subprotocols"])
        try:
            access = self._find(websocket)
            container = _running(access, websocket.path_params["container"])
            if protocol is None:
                raise NoSuchContainerError(400, "attach needs v5.channel.k8s.io or v4.channel.k8s.io")
        except NoSuchContainerError as error:
            await websocket.send_denial_response(PlainTextResponse(f"{error}\n", error.code))
            return
        await websocket.accept(protocol)
        # A container made for one client (`kubectl run -i`) may have spoken before its client could be there.
        once = bool(access.spec.get("stdinOnce"))
        options = ExecOptions.parse(websocket.query_params)
        await attach_session(
            websocket,
            container,
            options,
            lambda: written_so_far(access.log_path) if once else (),
            close_stdin=once,
        )

    async def port_forward(self, websocket: WebSocket) -> None:
        path = websocket.path_params
        try:
            network = self._pods.find_network(path["namespace"], path["pod"])
            offered = websocket.scope["subprotocols"]
            is_tunnel = streaming_tunnel.PROTOCOL in offered
            if not is_tunnel and _PORT_FORWARD_PROTOCOL not in offered:
                needed = f"{streaming_tunnel.PROTOCOL} or {_PORT_FORWARD_PROTOCOL}"
                raise NoSuchContainerError(400, f"port-forward needs the subprotocol {needed}")
            ports = [] if is_tunnel else _ports(websocket.query_params.getlist("ports"))
        except NoSuchContainerError as error:
            await websocket.send_denial_response(PlainTextResponse(f"{error}\n", error.code))
            return
        if is_tunnel:
            await websocket.accept(streaming_tunnel.PROTOCOL)
            # A client that leaves is the usual end.
            with suppress(WebSocketDisconnect, ConnectionError, SpdyError):
                await streaming_tunnel.tunnel_session(websocket, self._runtime, network)
            return
        await websocket.accept(_PORT_FORWARD_PROTOCOL)
        await port_session(websocket, self._runtime, network, ports)


async def _pieces(path: Path, query: LogQuery, container: Container | None) -> AsyncIterator[bytes]:
    with suppress(FileNotFoundError):
        async for piece in read(path, query, container):
            yield piece


def _running(access: ContainerAccess, name: str) -> Container:
    if access.container is None:
        raise NoSuchContainerError(400, f'container "{name}" is not running')
    return access.container


def _ports(values: list[str]) -> list[int]:
    numbers = [number for value in values for number in value.split(",") if number]
    if not numbers or not all(number.isdigit() and 0 < int(number) < 65536 for number in numbers):
        raise NoSuchContainerError(400, "port-forward needs `ports`: numbers from 1 to 65535")
    return [int(number) for number in numbers]

"""A node that answers logs, exec and port-forward with what the test can recognise, over a real unix socket."""

import json
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

STDOUT, ERROR = b"\x01", b"\x03"


@dataclass
class Node:
    """What was asked of it."""

    requests: list[str] = field(default_factory=list)
    closed: threading.Event = field(default_factory=threading.Event)

    async def logs(self, request: Request) -> Response:
        """Two lines; `gone` is a container that it does not know."""
        self.requests.append(f"{request.url.path}?{request.url.query}")
        if request.path_params["container"] == "gone":
            return PlainTextResponse('container "gone" is waiting to start: ErrImagePull', 400)

        async def lines() -> AsyncIterator[bytes]:
            yield b"one\n"
            yield b"two\n"

        return StreamingResponse(lines(), media_type="text/plain")

    async def exec(self, websocket: WebSocket) -> None:
        """Say the command, then give back stdin (`cat`) or end with its exit code (`fail`)."""
        self.requests.append(f"{websocket.url.path}?{websocket.url.query}")
        command = websocket.query_params.getlist("command")
        if command == ["refuse"]:
            await websocket.send_denial_response(PlainTextResponse("container is not running", 400))
            return
        await websocket.accept("v5.channel.k8s.io")
        status = {"metadata": {}, "status": "Success"}
        try:
            if command == ["cat"]:
                while (message := await websocket.receive_bytes())[:1] == b"\x00":
                    await websocket.send_bytes(STDOUT + message[1:])
            elif command == ["hang"]:
                await websocket.receive_bytes()
            else:
                await websocket.send_bytes(STDOUT + " ".join(command).encode() + b"\n")
        except WebSocketDisconnect:
            self.closed.set()
            return
        if command == ["fail"]:
            causes = [{"reason": "ExitCode", "message": "7"}]
            status = {"status": "Failure", "reason": "NonZeroExitCode", "details": {"causes": causes}}  # type: ignore[dict-item]
        await websocket.send_bytes(ERROR + json.dumps(status).encode())
        await websocket.close()


class NodeServer:
    """A `Node` served in a thread until `close`."""

    def __init__(self, socket: Path) -> None:
        self.node = Node()
        container = "{namespace}/{pod}/{container}"
        application = Starlette(
            routes=[
                Route(f"/containerLogs/{container}", self.node.logs),
                WebSocketRoute(f"/exec/{container}", self.node.exec),
            ]
        )
        config = uvicorn.Config(application, uds=str(socket), log_config=None, ws="websockets-sansio", lifespan="off")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run)
        self._thread.start()

    def close(self) -> None:
        """Stop."""
        self._server.should_exit = True
        self._thread.join()

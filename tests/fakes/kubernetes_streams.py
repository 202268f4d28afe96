"""An API server that only knows watches, exec and port-forward, and fails on command."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

Lines = list[dict[str, Any]]


class FakeApi:
    """Answers lists with `objects`, and each watch with the next script; what clients asked for stays in `asked`.

    A script is lines to send before the connection ends, or a status code to refuse with.
    """

    def __init__(self) -> None:
        self.objects: Lines = []
        self.version = "1"
        self.scripts: list[Lines | int] = []
        self.asked: list[str] = []
        self.list_statuses: list[int] = []
        self.on_exec: Callable[[list[str]], tuple[bytes, bytes, dict[str, Any]]] = lambda _argv: (b"", b"", {})
        self.pod_answers: Callable[[bytes], bytes] = lambda content: content
        self.port_error = b""
        path = "/api/v1/namespaces/{namespace}/pods"
        self.application = Starlette(
            routes=[
                Route("/api/v1/configmaps", self._collection),
                WebSocketRoute(path + "/{pod}/exec", self._exec),
                WebSocketRoute(path + "/{pod}/portforward", self._port_forward),
            ]
        )

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """Serves while the block runs; the URL."""
        listener = socket.create_server(("127.0.0.1", 0))
        config = uvicorn.Config(
            self.application, log_config=None, access_log=False, lifespan="off", ws="websockets-sansio"
        )
        server = uvicorn.Server(config)
        server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]
        task = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await task
            listener.close()

    async def _collection(self, request: Request) -> Response:
        if "watch" not in request.query_params:
            self.asked.append("list")
            if self.list_statuses:
                return _refusal(self.list_statuses.pop(0))
            body = {"metadata": {"resourceVersion": self.version}, "items": self.objects}
            return JSONResponse(body)
        self.asked.append(f"watch {request.query_params['resourceVersion']}")
        script = self.scripts.pop(0) if self.scripts else []
        if isinstance(script, int):
            return _refusal(script)

        async def lines() -> Any:
            for line in script:
                yield json.dumps(line).encode() + b"\n"

        return StreamingResponse(lines(), media_type="application/json")

    async def _exec(self, stream: WebSocket) -> None:
        await stream.accept(subprotocol="v5.channel.k8s.io")
        output, complaint, status = self.on_exec(stream.query_params.getlist("command"))
        await stream.send_bytes(b"\x01" + output)
        await stream.send_bytes(b"\x02" + complaint)
        await stream.send_bytes(b"\x03" + json.dumps(status).encode())
        await stream.close()

    async def _port_forward(self, stream: WebSocket) -> None:
        port = int(stream.query_params["ports"]).to_bytes(2, "little")
        await stream.accept(subprotocol="v4.channel.k8s.io")
        await stream.send_bytes(b"\x00" + port)
        await stream.send_bytes(b"\x01" + port)
        if self.port_error:
            await stream.send_bytes(b"\x01" + self.port_error)
            await stream.close()
            return
        message = await stream.receive_bytes()
        answer = self.pod_answers(message[1:])
        for start in range(0, len(answer), 7):
            await stream.send_bytes(b"\x00" + answer[start : start + 7])
        await stream.close()


def _refusal(code: int) -> JSONResponse:
    return JSONResponse({"kind": "Status", "status": "Failure", "code": code, "message": "said the fake"}, code)

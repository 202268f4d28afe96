"""Logs, exec, attach and port-forward: passed on to the node that runs the pod, frame by frame."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import quote, urlencode

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from localcluster.apiserver.errors import ApiError, BadRequestError, InternalServerError, NotFoundError
from localcluster.apiserver.http.negotiation import failure
from localcluster.apiserver.http.targets import Target
from localcluster.apiserver.resources import Resources

if TYPE_CHECKING:
    import httpx2
    from websockets.asyncio.client import ClientConnection

Object = dict[str, Any]
_logger = logging.getLogger(__name__)

SUBRESOURCES = frozenset({"exec", "attach", "portforward"})
_LONGEST_FRAME = 16 * 1024 * 1024
# What a WebSocket peer may leave unread before the other side has to wait.
_QUEUED_FRAMES = 16
_HANDSHAKE_SECONDS = 30
_NORMAL_CLOSURE = 1000
_NO_STATUS = 1005
_ABNORMAL_CLOSURE = 1006


class Streams:
    """Connections between clients and the node process behind its unix socket."""

    def __init__(self, resources: Resources, node_socket: Path) -> None:
        """Find pods in `resources`; reach the node at `node_socket`."""
        self._resources = resources
        self._socket = str(node_socket)

    async def logs(self, request: Request, target: Target) -> Response:
        """`pods/log`: the node's answer, as it comes."""
        import httpx2

        pod = await self._running(target)
        container = _container(pod, request.query_params.get("container", ""))
        query = urlencode([(name, value) for name, value in request.query_params.multi_items() if name != "container"])
        path = _path("containerLogs", pod, container)
        client = httpx2.AsyncClient(transport=httpx2.AsyncHTTPTransport(uds=self._socket), timeout=None)
        try:
            upstream = await client.send(client.build_request("GET", f"http://node{path}?{query}"), stream=True)
            if upstream.status_code >= 400:
                text = (await upstream.aread()).decode(errors="replace").strip()
                raise _refusal(upstream.status_code, text)
        except httpx2.TransportError as error:
            await client.aclose()
            raise _unreachable(error) from error
        except ApiError:
            await client.aclose()
            raise
        return StreamingResponse(_pieces(client, upstream), media_type="text/plain")

    async def connect(self, websocket: WebSocket, target: Target) -> None:
        """exec, attach and port-forward over WebSocket; the node chooses among the offered subprotocols."""
        try:
            upstream = await self._upstream(websocket, target)
        except ApiError as error:
            await websocket.send_denial_response(failure(error))
            return
        async with upstream:
            offered = {_token(name): name for name in websocket.scope["subprotocols"]}
            await websocket.accept(subprotocol=offered.get(upstream.subprotocol or ""))
            pumps = [
                asyncio.create_task(_from_client(websocket, upstream)),
                asyncio.create_task(_from_node(upstream, websocket)),
            ]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
        await _close(websocket, upstream.close_code, upstream.close_reason)

    async def refuse_without_websocket(self, request: Request, target: Target) -> NoReturn:
        """BadRequestError, NotFoundError. kubectl asks so once WebSocket was refused, and shows this answer alone."""
        pod = await self._running(target)
        if target.subresource != "portforward":
            container = _container(pod, request.query_params.get("container", ""))
            if _is_known_not_to_run(pod, container):
                raise BadRequestError(f'container "{container}" is not running', resource="pods", name=target.name)
        raise BadRequestError(
            f"{target.subresource} needs a WebSocket upgrade with subprotocol v4.channel.k8s.io or "
            "v5.channel.k8s.io; SPDY is not supported (kubectl 1.31 and newer use WebSocket)"
        )

    async def _upstream(self, websocket: WebSocket, target: Target) -> ClientConnection:
        from websockets.asyncio.client import unix_connect
        from websockets.exceptions import InvalidStatus, WebSocketException
        from websockets.typing import Subprotocol

        pod = await self._running(target)
        query = [(name, value) for name, value in websocket.query_params.multi_items() if name != "container"]
        if target.subresource == "portforward":
            path = _path("portForward", pod)
        else:
            path = _path(target.subresource, pod, _container(pod, websocket.query_params.get("container", "")))
        offered = [Subprotocol(_token(name)) for name in websocket.scope["subprotocols"]]
        try:
            return await unix_connect(
                self._socket,
                uri=f"ws://node{path}?{urlencode(query)}",
                subprotocols=offered or None,
                compression=None,
                open_timeout=_HANDSHAKE_SECONDS,
                max_size=_LONGEST_FRAME,
                max_queue=_QUEUED_FRAMES,
            )
        except InvalidStatus as error:
            text = (error.response.body or b"").decode(errors="replace").strip()
            raise _refusal(error.response.status_code, text or str(error)) from error
        except (OSError, WebSocketException) as error:
            raise _unreachable(error) from error

    async def _running(self, target: Target) -> Object:
        pod = await self._resources.get(target.kind, target.namespace or "", target.name)
        if not (pod.get("spec") or {}).get("nodeName"):
            raise BadRequestError(f"pod {target.name} does not have a host assigned", resource="pods", name=target.name)
        return pod


def _token(subprotocol: str) -> str:
    """A subprotocol's name towards the node: `SPDY/3.1+portforward.k8s.io` is none that WebSocket libraries allow."""
    return subprotocol.replace("/", "-")


def _path(verb: str, pod: Object, *container: str) -> str:
    parts = (verb, pod["metadata"]["namespace"], pod["metadata"]["name"], *container)
    return "".join(f"/{quote(part, safe='')}" for part in parts)


def _container(pod: Object, name: str) -> str:
    """The asked container, or the pod's only one. BadRequestError as Kubernetes words it."""
    spec, pod_name = pod["spec"], pod["metadata"]["name"]
    ordinary = [item["name"] for item in spec.get("containers") or ()]
    initial = [item["name"] for item in spec.get("initContainers") or ()]
    if name in (*ordinary, *initial, *(item["name"] for item in spec.get("ephemeralContainers") or ())):
        return name
    if name:
        raise BadRequestError(f"container {name} is not valid for pod {pod_name}", resource="pods", name=pod_name)
    if len(ordinary) == 1:
        return str(ordinary[0])
    message = f"a container name must be specified for pod {pod_name}, choose one of: [{' '.join(ordinary)}]"
    if initial:
        message += f" or one of the init containers: [{' '.join(initial)}]"
    raise BadRequestError(message, resource="pods", name=pod_name)


def _is_known_not_to_run(pod: Object, container: str) -> bool:
    status = pod.get("status") or {}
    kinds = ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses")
    told = [each for kind in kinds for each in status.get(kind) or () if each.get("name") == container]
    return bool(told) and not any("running" in (each.get("state") or {}) for each in told)


def _refusal(code: int, text: str) -> ApiError:
    if code == 404:
        return NotFoundError(text or "the node does not know this container")
    if 400 <= code < 500:
        return BadRequestError(text or f"the node answered {code}")
    return InternalServerError(f"the node answered {code}: {text}")


def _unreachable(error: Exception) -> ApiError:
    return InternalServerError(f"the node does not answer ({error!r}); is the cluster still starting, or stopping?")


async def _pieces(client: httpx2.AsyncClient, upstream: httpx2.Response) -> AsyncIterator[bytes]:
    import httpx2

    try:
        # The first, empty piece sends the headers at once, also when the container is silent.
        yield b""
        async for piece in upstream.aiter_raw():
            yield piece
    except httpx2.TransportError as error:
        _logger.info("the node ended a log stream: %r", error)
    finally:
        await upstream.aclose()
        await client.aclose()


async def _from_client(websocket: WebSocket, upstream: ClientConnection) -> None:
    from websockets.exceptions import ConnectionClosed

    try:
        while True:
            message = await websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            payload = message.get("bytes")
            await upstream.send(payload if payload is not None else message["text"])
    except ConnectionClosed:
        return


async def _from_node(upstream: ClientConnection, websocket: WebSocket) -> None:
    try:
        async for message in upstream:
            if isinstance(message, bytes):
                await websocket.send_bytes(message)
            else:
                await websocket.send_text(message)
    except (WebSocketDisconnect, RuntimeError):
        return


async def _close(websocket: WebSocket, code: int | None, reason: str | None) -> None:
    if WebSocketState.DISCONNECTED in (websocket.client_state, websocket.application_state):
        return
    # Codes that only say how a connection ended may not be sent (RFC 6455, section 7.4.1).
    sendable = code if code not in (None, _NO_STATUS, _ABNORMAL_CLOSURE) else _NORMAL_CLOSURE
    try:
        await websocket.close(sendable or _NORMAL_CLOSURE, reason)
    except (WebSocketDisconnect, RuntimeError):
        return

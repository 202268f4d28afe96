"""Commands in containers and connections to pod ports, over WebSockets as Kubernetes speaks them."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.typing import Subprotocol

from mutua.system import kube_errors
from mutua.system.kube import KubeClient
from mutua.system.kube_resources import PODS

EXEC_PROTOCOLS = (Subprotocol("v5.channel.k8s.io"), Subprotocol("v4.channel.k8s.io"))
PORT_FORWARD_PROTOCOLS = (Subprotocol("v4.channel.k8s.io"),)
_STDOUT, _STDERR, _ERROR = 1, 2, 3
_DATA, _PORT_ERROR = 0, 1
_OPEN_TIMEOUT_SECONDS = 15
_FRAME_BYTES = 32 * 1024


class Executed(NamedTuple):
    """What a command in a container left behind."""

    stdout: bytes
    stderr: bytes
    code: int


async def execute(kube: KubeClient, namespace: str, pod: str, container: str, argv: Sequence[str]) -> Executed:
    """Runs a command in a running container without input and waits for it. Raises KubeError.

    Source: Kubernetes' remote command protocol v5.channel.k8s.io; channel 3 ends it with a meta/v1 Status.
    """
    params = [("container", container), ("stdout", "true"), ("stderr", "true"), *(("command", word) for word in argv)]
    action = f"run a command in pod {namespace}/{pod}"
    output: dict[int, bytearray] = {_STDOUT: bytearray(), _STDERR: bytearray(), _ERROR: bytearray()}
    async with _open(kube, PODS.path(namespace, pod, "exec"), params, EXEC_PROTOCOLS, action) as connection:
        # An end without a goodbye shows below: the status is missing.
        with contextlib.suppress(ConnectionClosed):
            async for message in connection:
                frame = message if isinstance(message, bytes) else message.encode()
                if frame and frame[0] in output:
                    output[frame[0]] += frame[1:]
    if not output[_ERROR]:
        raise kube_errors.KubeUnreachableError(f"cannot {action}: the stream ended before the command did")
    return Executed(bytes(output[_STDOUT]), bytes(output[_STDERR]), _exit_code(bytes(output[_ERROR]), action))


class PortForward:
    """A byte stream to one port of a pod, as if dialled on the pod's loopback."""

    def __init__(self, connection: ClientConnection, action: str) -> None:
        self._connection = connection
        self._action = action
        self._opened: set[int] = set()

    async def receive(self) -> bytes:
        """The next bytes; b"" when the other side has ended. Raises KubeError if the port cannot be reached."""
        while True:
            try:
                message = await self._connection.recv()
            except ConnectionClosed:
                return b""
            frame = message if isinstance(message, bytes) else message.encode()
            if not frame:
                continue
            channel, content = frame[0], frame[1:]
            if channel not in self._opened:
                # The first frame of each channel holds only the port's number.
                self._opened.add(channel)
                content = content[2:]
            if channel == _PORT_ERROR and content:
                raise kube_errors.KubeError(f"cannot {self._action}: {content.decode(errors='replace').strip()}")
            if channel == _DATA and content:
                return content

    async def send(self, content: bytes) -> None:
        """Sends all bytes. Raises KubeError if the stream has ended."""
        try:
            for start in range(0, len(content), _FRAME_BYTES):
                await self._connection.send(bytes((_DATA,)) + content[start : start + _FRAME_BYTES])
        except ConnectionClosed as error:
            # What the node said before it closed explains more than that it closed.
            while await self.receive():
                pass
            raise kube_errors.KubeUnreachableError(f"cannot {self._action}: the stream has ended") from error

    async def close(self) -> None:
        """Ends the stream; may be called twice."""
        await self._connection.close()


@contextlib.asynccontextmanager
async def port_forward(kube: KubeClient, namespace: str, pod: str, port: int) -> AsyncIterator[PortForward]:
    """A stream to `port` of a pod. Raises KubeError. Source: Kubernetes' portforward over v4.channel.k8s.io."""
    action = f"reach port {port} of pod {namespace}/{pod}"
    path = PODS.path(namespace, pod, "portforward")
    async with _open(kube, path, [("ports", str(port))], PORT_FORWARD_PROTOCOLS, action) as connection:
        yield PortForward(connection, action)


@contextlib.asynccontextmanager
async def _open(
    kube: KubeClient,
    path: str,
    params: Sequence[tuple[str, str]],
    protocols: Sequence[Subprotocol],
    action: str,
) -> AsyncIterator[ClientConnection]:
    url, headers, tls = await kube.websocket_parameters(path, params)
    connecting = connect(
        url,
        ssl=tls,
        additional_headers=headers,
        subprotocols=protocols,
        compression=None,
        max_size=None,
        open_timeout=_OPEN_TIMEOUT_SECONDS,
        proxy=True if kube.uses_proxy else None,
    )
    try:
        connection = await connecting
    except InvalidStatus as error:
        raise kube_errors.from_response(
            error.response.status_code, bytes(error.response.body or b""), action
        ) from error
    except (OSError, InvalidHandshake) as error:
        raise kube_errors.unreachable(kube.server, error) from error
    try:
        yield connection
    finally:
        await connection.close()


def _exit_code(status: bytes, action: str) -> int:
    """The command's exit code from the closing Status; raises KubeError if it never ran."""
    said = msgspec.json.decode(status)
    if said.get("status") == "Success":
        return 0
    for cause in (said.get("details") or {}).get("causes") or ():
        if cause.get("reason") == "ExitCode":
            return int(cause["message"])
    raise kube_errors.KubeError(f"cannot {action}: {said.get('message', 'unknown error')}")

"""HTTP to a port of a pod, also one that listens on the pod's loopback only, reached through the API server."""

from collections.abc import Iterable
from typing import Any

import httpcore2
import msgspec

from mutua.system import kube_errors
from mutua.system.kube import KubeClient
from mutua.system.kube_streams import PortForward, port_forward

ENVOY_ADMIN_PORT = 15000
_OK = 200


class PodHttp:
    """Reads from one port of one pod. Every method raises KubeError."""

    def __init__(self, kube: KubeClient, namespace: str, pod: str, port: int = ENVOY_ADMIN_PORT) -> None:
        self._kube = kube
        self._namespace = namespace
        self._pod = pod
        self._port = port

    async def get(self, path: str) -> bytes:
        """The body of one page, as in "/clusters?format=json"."""
        return await self._request("GET", path)

    async def get_json(self, path: str) -> Any:
        """One page that is JSON."""
        body = await self.get(path)
        try:
            return msgspec.json.decode(body)
        except msgspec.DecodeError as error:
            raise kube_errors.KubeError(
                f"port {self._port} of pod {self._namespace}/{self._pod} answers {path}, but not in JSON"
            ) from error

    async def _request(self, method: str, path: str) -> bytes:
        what = f"read {path} from port {self._port} of pod {self._namespace}/{self._pod}"
        async with (
            port_forward(self._kube, self._namespace, self._pod, self._port) as stream,
            httpcore2.AsyncConnectionPool(network_backend=_Backend(stream)) as http,
        ):
            try:
                response = await http.request(method, f"http://127.0.0.1:{self._port}{path}")
            except (httpcore2.ProtocolError, httpcore2.NetworkError) as error:
                raise kube_errors.KubeError(
                    f"cannot {what}: {error}", hint="is the container istio-proxy running? see `kubectl get pod`"
                ) from error
        if response.status != _OK:
            raise kube_errors.KubeError(f"cannot {what}: HTTP {response.status}", status=response.status)
        return response.content


class _Stream(httpcore2.AsyncNetworkStream):
    """A port-forward as the HTTP client's connection."""

    def __init__(self, forward: PortForward) -> None:
        self._forward = forward
        self._rest = b""

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 - httpcore's signature
        if not self._rest:
            self._rest = await self._forward.receive()
        taken, self._rest = self._rest[:max_bytes], self._rest[max_bytes:]
        return taken

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 - httpcore's signature
        await self._forward.send(buffer)

    async def aclose(self) -> None:
        await self._forward.close()

    def get_extra_info(self, info: str) -> Any:
        return None


class _Backend(httpcore2.AsyncNetworkBackend):
    """Hands the one stream to the HTTP client instead of dialling."""

    def __init__(self, forward: PortForward) -> None:
        self._forward = forward

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        return _Stream(self._forward)

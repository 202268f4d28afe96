"""HTTP to a port of a pod, also one that listens on the pod's loopback only, reached through the API server."""

import contextlib
import datetime
import email.utils
import ssl
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any, TypeVar

import httpcore2
import msgspec

from mutua.system import kube_errors
from mutua.system.kube import KubeClient
from mutua.system.kube_streams import PortForward, port_forward

T = TypeVar("T")

ENVOY_ADMIN_PORT = 15000
_CHUNK_BYTES = 64 * 1024
_OK = 200


class PodHttp:
    """Reads from one port of one pod. Every method raises KubeError."""

    def __init__(
        self,
        kube: KubeClient,
        namespace: str,
        pod: str,
        port: int = ENVOY_ADMIN_PORT,
        *,
        tls: ssl.SSLContext | None = None,
        server_name: str = "127.0.0.1",
    ) -> None:
        """With `tls`, the port's certificate must be good for `server_name`."""
        self._kube = kube
        self._tls = tls
        self._server_name = server_name
        self._namespace = namespace
        self._pod = pod
        self._port = port

    async def get(self, path: str, headers: Sequence[tuple[str, str]] = ()) -> bytes:
        """The body of one page, as in "/clusters?format=json"."""
        return await self._request("GET", path, headers)

    async def post(self, path: str) -> bytes:
        """The answer to a request that changes something, as in "/logging?level=debug"."""
        return await self._request("POST", path)

    async def get_json(self, path: str) -> Any:
        """One page that is JSON."""
        return (await self.get_dated_json(path))[0]

    async def get_dated_json(self, path: str) -> tuple[Any, datetime.datetime | None]:
        """One page that is JSON, and what time it was for the server that answered; None if it does not say."""
        async with self.kept() as connection:
            body, date = await connection.dated("GET", path)
        try:
            return msgspec.json.decode(body), date
        except msgspec.DecodeError as error:
            raise kube_errors.KubeError(
                f"port {self._port} of pod {self._namespace}/{self._pod} answers {path}, but not in JSON"
            ) from error

    @contextlib.asynccontextmanager
    async def kept(self) -> AsyncIterator["Kept"]:
        """One connection for many requests; whoever gets a KubeError from it opens another."""
        async with (
            port_forward(self._kube, self._namespace, self._pod, self._port) as stream,
            httpcore2.AsyncConnectionPool(network_backend=_Backend(stream), ssl_context=self._tls) as http,
        ):
            origin = f"{'https' if self._tls else 'http'}://{self._server_name}:{self._port}"
            yield Kept(http, origin, f"port {self._port} of pod {self._namespace}/{self._pod}")

    async def _request(self, method: str, path: str, headers: Sequence[tuple[str, str]] = ()) -> bytes:
        async with self.kept() as connection:
            return await connection.request(method, path, headers)


class Kept:
    """A connection to one port of one pod."""

    def __init__(self, http: httpcore2.AsyncConnectionPool, origin: str, place: str) -> None:
        self._http = http
        self._origin = origin
        self._place = place

    async def request(self, method: str, path: str, headers: Sequence[tuple[str, str]] = ()) -> bytes:
        """The body of the answer. Raises KubeError."""
        return (await self.dated(method, path, headers))[0]

    async def dated(
        self, method: str, path: str, headers: Sequence[tuple[str, str]] = ()
    ) -> tuple[bytes, datetime.datetime | None]:
        """The body of the answer, and the server's time by its `Date` header. Raises KubeError."""
        what = f"read {path} from {self._place}"
        try:
            response = await self._http.request(method, f"{self._origin}{path}", headers=list(headers))
        except (httpcore2.ProtocolError, httpcore2.NetworkError) as error:
            raise kube_errors.KubeError(
                f"cannot {what}: {error}", hint="is the container istio-proxy running? see `kubectl get pod`"
            ) from error
        if response.status != _OK:
            raise kube_errors.KubeError(f"cannot {what}: HTTP {response.status}", status=response.status)
        return response.content, _date(response.headers)


def _date(headers: Iterable[tuple[bytes, bytes]]) -> datetime.datetime | None:
    text = next((value.decode("latin-1") for name, value in headers if name.lower() == b"date"), "")
    try:
        return email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None


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

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
    ) -> httpcore2.AsyncNetworkStream:
        """The same stream with TLS in it. Raises httpcore2.ConnectError if the certificate is not good."""
        secured = _TlsStream(self, ssl_context, server_hostname)
        await secured.shake_hands()
        return secured

    def get_extra_info(self, info: str) -> Any:
        return None


class _TlsStream(httpcore2.AsyncNetworkStream):
    """TLS over another stream, by OpenSSL in memory: a port-forward has no socket."""

    def __init__(self, below: _Stream, context: ssl.SSLContext, server_name: str | None) -> None:
        self._below = below
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_hostname=server_name)

    async def shake_hands(self) -> None:
        try:
            await self._driven(self._tls.do_handshake)
        except ssl.SSLError as error:
            raise httpcore2.ConnectError(str(error)) from error

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 - httpcore's signature
        try:
            return await self._driven(lambda: self._tls.read(max_bytes))
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 - httpcore's signature
        await self._driven(lambda: self._tls.write(buffer) if buffer else 0)

    async def aclose(self) -> None:
        await self._below.aclose()

    def get_extra_info(self, info: str) -> Any:
        return None

    async def _driven(self, step: Callable[[], T]) -> T:
        """What `step` returns, once the other side has said what it takes."""
        while True:
            try:
                result = step()
            except ssl.SSLWantReadError:
                await self._flush()
                received = await self._below.read(_CHUNK_BYTES)
                if received:
                    self._in.write(received)
                else:
                    self._in.write_eof()
            else:
                await self._flush()
                return result

    async def _flush(self) -> None:
        if self._out.pending:
            await self._below.write(self._out.read())


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

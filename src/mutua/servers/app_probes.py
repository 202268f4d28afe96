"""The agent's answers to the kubelet: the application's own probes, asked from inside the pod."""

import asyncio
import itertools
import os
import ssl
from collections.abc import Mapping
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from mutua.capture import PASSTHROUGH_SOURCE
from mutua.injection.app_probes import AppProbe, Grpc, HttpGet
from mutua.system.logs import Log

_REDIRECTS_AT_MOST = 10
_SERVING = 1  # grpc.health.v1.HealthCheckResponse.ServingStatus
_LOG = Log("probes")


class AppProbes:
    """Asks one application what its pod declared, and nothing else.

    Who calls may choose among the declared questions, and learns the status code, or why there is none. Calls for the
    same question at the same time share one answer, so that no caller can make the application busier than its kubelet
    would.
    """

    def __init__(self, probes: Mapping[str, AppProbe], pod_address: str, folder: Path) -> None:
        """`folder` is private to the agent, for sockets."""
        self._probes = probes
        self._host = pod_address
        # From here, packets to the pod's own address pass the capture rules: they would end at Envoy, without a
        # certificate, otherwise.
        self._source = PASSTHROUGH_SOURCE[ip_address(pod_address).version].partition("/")[0]
        self._folder = folder
        self._numbers = itertools.count()
        self._asked: dict[str, asyncio.Task[tuple[int, str]]] = {}

    def routes(self) -> list[Route]:
        """For the agent's web application."""
        return [
            Route("/app-health/{container}/{probe}", self._answer, methods=["GET"]),
            Route("/app-lifecycle/{container}/{probe}", self._answer, methods=["GET"]),
        ]

    async def _answer(self, request: Request) -> Response:
        path = request.url.path
        probe = self._probes.get(path)
        if probe is None:
            return PlainTextResponse("the pod declares no such probe\n", 404)
        asked = self._asked.get(path)
        if asked is None:
            asked = self._asked[path] = asyncio.create_task(self._ask(path, probe))
            asked.add_done_callback(lambda _: self._asked.pop(path, None))
        code, text = await asyncio.shield(asked)
        return PlainTextResponse(f"{text}\n" if text else "", code)

    async def _ask(self, path: str, probe: AppProbe) -> tuple[int, str]:
        """The status for the kubelet, and why, if the application gave none itself."""
        try:
            async with asyncio.timeout(probe.seconds):
                if probe.http_get is not None:
                    return await self._http_get(probe.http_get), ""
                if probe.tcp_socket is not None:
                    await self._connect(probe.tcp_socket.port)
                    return 200, ""
                assert probe.grpc is not None  # noqa: S101 - decoded so
                return await self._grpc(probe.grpc)
        except TimeoutError:
            reason = f"no answer within {probe.seconds:g} s"
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
        except ValueError as error:
            reason = str(error)
        _LOG.debug("the application does not answer its probe", path=path, error=reason)
        return 500, reason

    async def _http_get(self, action: HttpGet) -> int:
        """The application's status. Redirects within the host are followed, others count as 200.

        Source: Kubernetes' pkg/probe/http.
        """
        import httpx2

        scheme = (action.scheme or "HTTP").lower()
        host = f"[{self._host}]" if ":" in self._host else self._host
        path = action.path if action.path.startswith("/") else f"/{action.path}"
        url = f"{scheme}://{host}:{action.port}{path}"
        headers = httpx2.Headers({"User-Agent": "kube-probe/1", "Accept": "*/*"})
        headers.update([(header.name, header.value) for header in action.http_headers])
        transport = httpx2.AsyncHTTPTransport(verify=unverified(), local_address=self._source)
        try:
            async with httpx2.AsyncClient(transport=transport, trust_env=False, timeout=None) as client:
                for _ in range(_REDIRECTS_AT_MOST):
                    # Only the head is read; the connection is closed, whatever else the application sends.
                    async with client.stream("GET", url, headers=headers) as response:
                        code, location = response.status_code, response.headers.get("location", "")
                    if not 300 <= code < 400:
                        return code
                    url = urljoin(url, location)
                    if not location or urlsplit(url).hostname != urlsplit(f"//{host}").hostname:
                        return 200
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise ValueError(f"{type(error).__name__}: {error}") from error
        raise ValueError(f"stopped after {_REDIRECTS_AT_MOST} redirects")

    async def _connect(self, port: int) -> None:
        _, writer = await asyncio.open_connection(self._host, port, local_addr=(self._source, 0))
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    async def _grpc(self, action: Grpc) -> tuple[int, str]:
        import grpc.aio
        from google.protobuf.wrappers_pb2 import Int32Value, StringValue

        # gRPC cannot choose the address that it dials from, so it dials a socket of ours that we carry on.
        socket = self._folder / f"probe-{next(self._numbers)}.sock"
        authority = f"{self._host}:{action.port}"
        options = [("grpc.default_authority", authority), ("grpc.primary_user_agent", "kube-probe/1")]

        async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                inward = await asyncio.open_connection(self._host, action.port, local_addr=(self._source, 0))
            except OSError:
                writer.close()
                return
            await asyncio.gather(_copy(reader, inward[1]), _copy(inward[0], writer))

        server = await asyncio.start_unix_server(carry, socket)
        try:
            async with grpc.aio.insecure_channel(f"unix:{socket}", options) as channel:
                # HealthCheckRequest holds one string, HealthCheckResponse one enum, both as field 1: as the wrappers.
                check = channel.unary_unary(
                    "/grpc.health.v1.Health/Check",
                    request_serializer=StringValue.SerializeToString,
                    response_deserializer=Int32Value.FromString,
                )
                response = await check(StringValue(value=action.service))
        except grpc.aio.AioRpcError as error:
            return 500, f"{error.code().name}: {error.details()}"
        finally:
            server.close()
            socket.unlink(missing_ok=True)
        return (200, "") if response.value == _SERVING else (500, f"serving status {response.value}")


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while chunk := await reader.read(65536):
            writer.write(chunk)
            await writer.drain()
    writer.close()


def unverified() -> ssl.SSLContext:
    """As the kubelet: who answers on the pod's own port is the application, whatever its certificate says."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context

"""Asking containers how they are: HTTP, TCP, gRPC and commands, from the node's network to the pod's address."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import httpx2

from localcluster.node.probes import ProbeKind, ProbeSettings, begin, next_attempt, record, settings
from localcluster.node.runtime import Container, ContainerStartError, Runtime

_SHOWN_OUTPUT_BYTES = 1024
_GRPC_SERVING = 1


@dataclass(frozen=True, slots=True)
class Answer:
    """Whether a probe or hook succeeded, and what to tell the user if not."""

    success: bool
    message: str = ""


class Prober:
    """Performs probes and lifecycle hooks for all pods of the node; one HTTP client serves them all."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        # As the kubelet: certificates are not verified, every question is a connection of its own.
        self._http = httpx2.AsyncClient(
            verify=False,
            trust_env=False,
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=0),
        )

    async def close(self) -> None:
        """Close the client."""
        await self._http.aclose()

    async def ask(
        self, handler: Mapping[str, Any], spec: Mapping[str, Any], container: Container, pod_ip: str, seconds: float
    ) -> Answer:
        """Perform one handler (`httpGet`, `tcpSocket`, `grpc`, `exec`, `sleep`) of the container `spec`."""
        try:
            async with asyncio.timeout(seconds):
                if action := handler.get("httpGet"):
                    return await self._http_get(action, spec, pod_ip)
                if action := handler.get("tcpSocket"):
                    return await _tcp_connect(action.get("host") or pod_ip, port_number(action["port"], spec))
                if action := handler.get("grpc"):
                    return await _grpc_check(f"{pod_ip}:{action['port']}", action.get("service") or "")
                if action := handler.get("exec"):
                    return await self._command(container, tuple(action.get("command") or ()))
                if action := handler.get("sleep"):
                    await asyncio.sleep(float(action.get("seconds") or 0))
                return Answer(True)
        except TimeoutError:
            return Answer(False, f"no answer within {seconds:g} s")

    async def _http_get(self, action: Mapping[str, Any], spec: Mapping[str, Any], pod_ip: str) -> Answer:
        """GET: 200 to 399 is a success. Redirects are not followed; they show that the server lives."""
        scheme = (action.get("scheme") or "HTTP").lower()
        path = action.get("path") or "/"
        host = action.get("host") or pod_ip
        headers = [("User-Agent", "kube-probe/1.33"), ("Accept", "*/*")]
        headers += [(header["name"], header["value"]) for header in action.get("httpHeaders") or ()]
        try:
            url = f"{scheme}://{host}:{port_number(action['port'], spec)}{path if path.startswith('/') else '/' + path}"
            async with self._http.stream("GET", url, headers=headers) as response:
                code = response.status_code
        except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
            return Answer(False, f'Get "{action.get("path") or "/"}": {error or type(error).__name__}')
        if 200 <= code < 400:
            return Answer(True)
        return Answer(False, f"HTTP probe failed with statuscode: {code}")

    async def _command(self, container: Container, command: tuple[str, ...]) -> Answer:
        if not command:
            return Answer(False, "exec names no command")
        try:
            process = await self._runtime.exec(container, command)
        except ContainerStartError as error:
            return Answer(False, str(error))
        try:
            output = await _read_output(process.stdout, process.stderr)
            status = await process.wait()
        finally:
            # A command that outlives its time-out is ended, or each period would add one.
            process.kill()
            process.close()
        return Answer(status.code == 0, output.decode(errors="replace"))


async def _read_output(*streams: asyncio.StreamReader | None) -> bytes:
    """The beginning of what a command prints; the rest is read and dropped, so that it never blocks."""

    async def drain(stream: asyncio.StreamReader) -> bytes:
        kept = b""
        while chunk := await stream.read(65536):
            kept += chunk[: _SHOWN_OUTPUT_BYTES - len(kept)]
        return kept

    return b"".join(await asyncio.gather(*(drain(stream) for stream in streams if stream is not None)))


async def _tcp_connect(host: str, port: int) -> Answer:
    try:
        _, writer = await asyncio.open_connection(host, port)
    except OSError as error:
        return Answer(False, f"dial tcp {host}:{port}: {error.strerror or error}")
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return Answer(True)


async def _grpc_check(address: str, service: str) -> Answer:
    """The gRPC health protocol. gRPC is loaded only here: few pods have such a probe, and it costs 20 MB."""
    # Its handlers around fork() would start threads while this process is choosing a PID namespace for a container's
    # first process. The kernel refuses threads then, and gRPC ends the process: here the whole cluster.
    os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "false"
    import grpc.aio
    from google.protobuf.wrappers_pb2 import Int32Value, StringValue

    async with grpc.aio.insecure_channel(address) as channel:
        # HealthCheckRequest holds one string, HealthCheckResponse one enum, both as field 1: the wrappers' own shape.
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=StringValue.SerializeToString,
            response_deserializer=Int32Value.FromString,
        )
        try:
            response = await check(StringValue(value=service))
        except grpc.aio.AioRpcError as error:
            return Answer(False, f"{error.code().name}: {error.details()}")
    if response.value == _GRPC_SERVING:
        return Answer(True)
    return Answer(False, f'service unhealthy (responded with "{response.value}")')


def port_number(port: Any, container: Mapping[str, Any]) -> int:
    """A port given as a number or as the name of one of the container's ports. ValueError if unknown."""
    if isinstance(port, int):
        return port
    for declared in container.get("ports") or ():
        if declared.get("name") == port:
            return int(declared["containerPort"])
    if str(port).isdigit():
        return int(port)
    raise ValueError(f'container {container["name"]} has no port "{port}"')


class ContainerProbes:
    """The probes of one run of one container.

    `on_change(kind, result)` is called when a probe's meaning changes, `on_failure(kind, message)` for each counted
    failure. Readiness and liveness begin when the startup probe has succeeded.
    """

    def __init__(
        self,
        ask: Callable[[ProbeSettings], Awaitable[Answer]],
        on_change: Callable[[ProbeKind, bool], None],
        on_failure: Callable[[ProbeSettings, str], None],
    ) -> None:
        self._ask = ask
        self._on_change = on_change
        self._on_failure = on_failure

    async def run(self, container: Mapping[str, Any]) -> None:
        """Ask until cancelled, or until there is nothing to ask any more."""
        startup = settings(container, "startup")
        if startup is not None:
            await self._probe(startup, until_success=True)
        self._on_change("startup", True)
        async with asyncio.TaskGroup() as group:
            readiness = settings(container, "readiness")
            if readiness is None:
                self._on_change("readiness", True)
            else:
                group.create_task(self._probe(readiness))
            liveness = settings(container, "liveness")
            if liveness is not None:
                group.create_task(self._probe(liveness))

    async def _probe(self, probe: ProbeSettings, *, until_success: bool = False) -> None:
        loop = asyncio.get_running_loop()
        started_at = loop.time()
        state = begin(probe, started_at)
        while True:
            await asyncio.sleep(max(0.0, next_attempt(probe, state, started_at, loop.time()) - loop.time()))
            asked_at = loop.time()
            answer = await self._ask(probe)
            before = state
            state = record(probe, state, answer.success, asked_at)
            if state.failures > before.failures:
                self._on_failure(probe, answer.message)
            if until_success and state.result:
                return
            if state.result is not None and state.result != before.result:
                self._on_change(probe.kind, state.result)
            elif probe.kind != "readiness" and state.result is False:
                self._on_change(probe.kind, False)

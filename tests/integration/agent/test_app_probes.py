"""The agent asks real applications what their pods declare."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import grpc.aio
import httpx2
import pytest
from google.protobuf.wrappers_pb2 import Int32Value, StringValue
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from fakes.serving_certificate import self_signed
from mutua.injection import app_probes
from mutua.servers import agent_status, http
from mutua.servers.app_probes import AppProbes


class Application:
    """A web application that remembers who asked."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.status = 200
        self.location = ""
        self.seconds = 0.0

    async def answer(self, request: Request) -> Response:
        """As told."""
        self.requests.append(request)
        await asyncio.sleep(self.seconds)
        if self.location and request.url.path != "/there":
            return RedirectResponse(self.location)
        return PlainTextResponse("a secret of the application", self.status)

    @property
    def web(self) -> Starlette:
        """Every path."""
        return Starlette(routes=[Route("/{path:path}", self.answer, methods=["GET", "POST"])])


@contextlib.asynccontextmanager
async def agent(folder: Path, probes: str) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of an agent's port that was told `probes`."""
    asked = AppProbes(app_probes.decode(probes), "127.0.0.1", folder)
    application = agent_status.application(asked.routes(), agent_status.own_routes(1, lambda: None))
    async with (
        http.serving(application, "127.0.0.1", 0) as port,
        httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client,
    ):
        yield client


def http_get(port: int, more: str = "") -> str:
    """One liveness probe of container `web`."""
    return f'{{"/app-health/web/livez":{{"httpGet":{{"port":{port}{more}}},"timeoutSeconds":1}}}}'


async def test_the_application_is_asked_as_declared(tmp_path: Path) -> None:
    """Path, query and headers are the pod's; whoever calls the agent adds nothing, and learns the status only."""
    application = Application()
    headers = ',"path":"/health?deep=1","httpHeaders":[{"name":"X-Who","value":"me"},{"name":"Host","value":"web"}]'
    async with (
        http.serving(application.web, "127.0.0.1", 0) as port,
        agent(tmp_path, http_get(port, headers)) as client,
    ):
        answer = await client.get("/app-health/web/livez?path=/other", headers={"X-Evil": "1"})

    assert (answer.status_code, answer.text) == (200, "")
    (request,) = application.requests
    assert (request.url.path, request.url.query) == ("/health", "deep=1")
    assert request.headers["x-who"] == "me"
    assert request.headers["host"] == "web"
    assert request.headers["user-agent"].startswith("kube-probe/")
    assert "x-evil" not in request.headers
    assert request.client is not None
    assert request.client.host == "127.0.0.6"  # so that capture lets it pass


@pytest.mark.parametrize("status", [204, 404, 503])
async def test_the_status_is_the_applications(tmp_path: Path, status: int) -> None:
    """The kubelet decides what it means."""
    application = Application()
    application.status = status
    async with (
        http.serving(application.web, "127.0.0.1", 0) as port,
        agent(tmp_path, http_get(port)) as client,
    ):
        assert (await client.get("/app-health/web/livez")).status_code == status


@pytest.mark.parametrize(
    ("location", "asked", "status"),
    [("/there", 2, 503), ("http://169.254.169.254/latest", 1, 200), ("/again", 10, 500)],
)
async def test_redirects(tmp_path: Path, location: str, asked: int, status: int) -> None:
    """Within the host they are followed, as the kubelet does; never to another."""
    application = Application()
    application.location, application.status = location, 503
    async with (
        http.serving(application.web, "127.0.0.1", 0) as port,
        agent(tmp_path, http_get(port)) as client,
    ):
        answer = await client.get("/app-health/web/livez")

    assert (answer.status_code, len(application.requests)) == (status, asked)


async def test_https(tmp_path: Path) -> None:
    """Whatever certificate the application shows."""
    application = Application()
    chain, key = self_signed("elsewhere")
    async with (
        http.serving(application.web, "127.0.0.1", 0, http.ServingCertificate(chain, key)) as port,
        agent(tmp_path, http_get(port, ',"scheme":"HTTPS"')) as client,
    ):
        assert (await client.get("/app-health/web/livez")).status_code == 200
    assert application.requests[0].url.scheme == "https"


async def test_no_answer_in_time(tmp_path: Path) -> None:
    """The probe's own limit holds."""
    application = Application()
    application.seconds = 3
    async with (
        http.serving(application.web, "127.0.0.1", 0) as port,
        agent(tmp_path, http_get(port)) as client,
    ):
        answer = await client.get("/app-health/web/livez")

    assert (answer.status_code, answer.text) == (500, "no answer within 1 s\n")


async def test_callers_at_once_share_one_answer(tmp_path: Path) -> None:
    """Who can reach the pod cannot make its application busier than the kubelet does."""
    application = Application()
    application.seconds = 0.3
    async with (
        http.serving(application.web, "127.0.0.1", 0) as port,
        agent(tmp_path, http_get(port)) as client,
    ):
        answers = await asyncio.gather(*(client.get("/app-health/web/livez") for _ in range(20)))

    assert {answer.status_code for answer in answers} == {200}
    assert len(application.requests) == 1


@pytest.mark.parametrize("path", ["/app-health/web/readyz", "/app-health/other/livez", "/app-health/web/livez/x", "/"])
async def test_only_declared_questions(tmp_path: Path, path: str) -> None:
    """The agent is no proxy."""
    async with agent(tmp_path, http_get(1)) as client:
        assert (await client.get(path)).status_code == 404


async def test_a_port_that_accepts(tmp_path: Path) -> None:
    """A connection is the proof, and it ends at the application, not at Envoy."""
    probes = '{"/app-health/web/readyz":{"tcpSocket":{"port":%d},"timeoutSeconds":1}}'
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        async with agent(tmp_path, probes % port) as client:
            assert (await client.get("/app-health/web/readyz")).status_code == 200
            connection, (source, _) = server.accept()
            connection.close()
    async with agent(tmp_path, probes % port) as client:
        refused = await client.get("/app-health/web/readyz")

    assert source == "127.0.0.6"
    assert refused.status_code == 500
    assert refused.text == "Connection refused\n"


@pytest.mark.parametrize(("served", "status"), [("shop", 200), ("", 500)])
async def test_grpc_health(tmp_path: Path, served: str, status: int) -> None:
    """The service that the pod names, asked from the address that capture lets pass."""
    peers: list[str] = []

    async def check(request: StringValue, context: grpc.aio.ServicerContext) -> Int32Value:
        peers.append(context.peer())
        return Int32Value(value=1 if request.value == served else 2)

    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(check, StringValue.FromString, Int32Value.SerializeToString)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": handler}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    probes = f'{{"/app-health/web/livez":{{"grpc":{{"port":{port},"service":"shop"}},"timeoutSeconds":5}}}}'
    try:
        async with agent(tmp_path, probes) as client:
            answers = [await client.get("/app-health/web/livez") for _ in range(2)]
    finally:
        await server.stop(None)
    left = await asyncio.to_thread(lambda: list(tmp_path.iterdir()))

    assert [answer.status_code for answer in answers] == [status, status]
    assert all(peer.startswith("ipv4:127.0.0.6") for peer in peers)
    assert left == []


@pytest.mark.parametrize(
    ("method", "caller", "status"),
    [("POST", "127.0.0.1", 200), ("POST", "::1", 200), ("POST", "10.1.2.3", 403), ("GET", "127.0.0.1", 405)],
)
async def test_only_the_pod_ends_its_sidecar(method: str, caller: str, status: int) -> None:
    """A Job's container posts to loopback; a GET ends nothing."""
    ended: list[bool] = []
    application = agent_status.application(agent_status.own_routes(1, lambda: ended.append(True)))
    transport = httpx2.ASGITransport(application, client=(caller, 40000))
    async with httpx2.AsyncClient(transport=transport, base_url="http://agent") as client:
        answer = await client.request(method, "/quitquitquit")

    assert answer.status_code == status
    assert ended == [True] * (status == 200)

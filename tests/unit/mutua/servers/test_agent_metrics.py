"""The agent's pages of metrics, with an Envoy and an application that answer in every way."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from mutua.envoy.telemetry_tags import Names
from mutua.injection.scrape import Scrape
from mutua.servers import agent_metrics, http
from mutua.servers.admin import Sample
from mutua.servers.agent_metrics import AgentMetrics

ADDRESS = "127.0.0.1"
ENVOY = 'envoy_mutua_istio_requests_total{way="destination;none;a;b;c;80"} 7\n'

SERIES = (
    'istio_requests_total{reporter="destination",source_workload="unknown",source_workload_namespace="unknown",'
    'source_app="unknown",source_canonical_service="unknown",source_principal="unknown",destination_workload="web",'
    'destination_workload_namespace="shop",destination_app="web",destination_canonical_service="web",'
    'destination_principal="unknown",destination_service="a",destination_service_name="b",'
    'destination_service_namespace="c",destination_port="80",connection_security_policy="none"}'
)


@contextlib.asynccontextmanager
async def serving(answer: Callable[[Request], Any]) -> AsyncIterator[int]:
    """A web server that answers everything so; its port."""

    async def page(request: Request) -> Response:
        return await answer(request)

    async with http.serving(Starlette(routes=[Route("/{path:path}", page)]), ADDRESS, 0) as port:
        yield port


async def envoy(_request: Request) -> Response:
    return PlainTextResponse(ENVOY)


@contextlib.asynccontextmanager
async def pages(scrape: Scrape | None, answer: Callable[[Request], Any] = envoy) -> AsyncIterator[httpx2.AsyncClient]:
    async with serving(answer) as admin:
        metrics = AgentMetrics(
            admin, ADDRESS, Names("web", "shop", "web", "web"), scrape, lambda: [Sample("istio_agent_x", 1)]
        )
        transport = httpx2.ASGITransport(Starlette(routes=metrics.routes()))
        async with httpx2.AsyncClient(transport=transport, base_url="http://agent") as client:
            yield client


async def test_one_page_shows_envoy_the_application_and_the_agent() -> None:
    async def application(request: Request) -> Response:
        assert request.url.path == "/own"
        return PlainTextResponse("up 1")

    async with serving(application) as port, pages(Scrape(port, "/own")) as client:
        answer = await client.get("/stats/prometheus")
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert answer.text.startswith(f"{SERIES} 7\nup 1\n")
        assert "\nistio_agent_x 1\n" in answer.text
        assert (await client.get("/stats/envoy")).text == f"{SERIES} 7\n"


async def ends(_request: Request) -> Response:
    return PlainTextResponse("no", 500)


async def elsewhere(_request: Request) -> Response:
    return RedirectResponse("http://169.254.169.254/")


async def binary(_request: Request) -> Response:
    return Response(b"\x00", media_type="application/vnd.google.protobuf")


async def endless(_request: Request) -> Response:
    async def lines() -> AsyncIterator[bytes]:
        while True:
            yield b"up 1\n" * 10_000
            await asyncio.sleep(0.001)

    return StreamingResponse(lines(), media_type="text/plain")


async def silent(_request: Request) -> Response:
    await asyncio.sleep(60)
    return PlainTextResponse("late 1\n")


@pytest.mark.parametrize("application", [ends, elsewhere, binary, endless, silent])
async def test_an_application_that_misbehaves_costs_its_own_part_only(
    application: Callable[[Request], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_metrics, "APPLICATION_SECONDS", 0.5)
    monkeypatch.setattr(agent_metrics, "APPLICATION_BYTES", 1_000_000)
    async with serving(application) as port, pages(Scrape(port, "/own")) as client:
        text = (await client.get("/stats/prometheus")).text
    assert text.startswith(f"{SERIES} 7\n")
    assert 'istio_agent_scrape_failures_total{type="application"} 1\n' in text
    assert "late" not in text
    assert "up 1" not in text


async def test_an_envoy_that_does_not_answer_is_said() -> None:
    async with pages(None, ends) as client:
        assert (await client.get("/stats/envoy")).status_code == 503
        text = (await client.get("/stats/prometheus")).text
    assert 'istio_agent_scrape_failures_total{type="envoy"} 1\n' in text


async def test_scrapes_at_the_same_time_ask_the_application_once() -> None:
    asked = 0

    async def application(_request: Request) -> Response:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0.1)
        return PlainTextResponse("up 1\n")

    async with serving(application) as port, pages(Scrape(port, "/")) as client:
        await asyncio.gather(*(client.get("/stats/prometheus") for _ in range(10)))
    assert asked == 1

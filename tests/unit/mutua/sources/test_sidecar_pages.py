"""Reading what sidecars count: all at once, each with limits, once for all who ask."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from mutua.envoy.bootstrap import TRAFFIC_PAGE
from mutua.servers import http
from mutua.sources import sidecar_pages
from mutua.sources.sidecar_pages import SidecarPages, Target

GOOD, SILENT, ENDLESS, BROKEN = (f"127.0.0.{number}" for number in (1, 2, 3, 4))


async def endless() -> AsyncIterator[bytes]:
    while True:
        yield b"x" * 100_000
        await asyncio.sleep(0.001)


class Sidecars:
    """Answers by the address that is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def answer(self, request: Request) -> Response:
        address = str(request.url.hostname)
        self.asked.append(address)
        match address:
            case "127.0.0.2":
                await asyncio.sleep(1)
            case "127.0.0.3":
                return StreamingResponse(endless())
            case "127.0.0.4":
                return PlainTextResponse("no", 500)
        return PlainTextResponse("a page")


@pytest.fixture
def sidecars(monkeypatch: pytest.MonkeyPatch) -> Sidecars:
    monkeypatch.setattr(sidecar_pages, "SECONDS", 0.5)
    monkeypatch.setattr(sidecar_pages, "PAGE_BYTES", 1_000_000)
    return Sidecars()


async def test_a_sidecar_that_misbehaves_costs_its_own_answer_only(sidecars: Sidecars) -> None:
    async with http.serving(Starlette(routes=[Route(TRAFFIC_PAGE, sidecars.answer)]), "0.0.0.0", 0) as port:  # noqa: S104
        targets = [Target(address, address) for address in (GOOD, SILENT, ENDLESS, BROKEN)]
        pages = SidecarPages(lambda: targets, port)
        found = {read.target.key: read for read in await pages.read()}
        await pages.close()

    assert found[GOOD].page == b"a page"
    assert not found[GOOD].trouble
    assert found[SILENT].trouble == "no answer within 0.5 s"
    assert "to tell" in found[ENDLESS].trouble
    assert found[BROKEN].trouble == "it answers 500"


async def test_who_looks_at_the_same_time_shares_one_look_and_later_ones_find_the_sidecars_there_are(
    sidecars: Sidecars, monkeypatch: pytest.MonkeyPatch
) -> None:
    targets = [Target("shop/web", GOOD)]
    async with http.serving(Starlette(routes=[Route(TRAFFIC_PAGE, sidecars.answer)]), "0.0.0.0", 0) as port:  # noqa: S104
        pages = SidecarPages(lambda: targets, port)
        await asyncio.gather(*(pages.read() for _ in range(5)))
        await pages.read()
        assert sidecars.asked == [GOOD]

        monkeypatch.setattr(sidecar_pages, "KEPT_SECONDS", 0)
        targets[:] = [Target("shop/web", BROKEN)]
        assert [read.trouble for read in await pages.read()] == ["it answers 500"]
    # A connection that the other side closed is made anew, and nobody there is said.
    assert [bool(read.trouble) for read in await pages.read()] == [True]
    await pages.close()

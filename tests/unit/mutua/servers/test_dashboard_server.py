"""The dashboard's server: who may look, what it costs while nobody looks, and what slow watchers get."""

import asyncio
from collections.abc import AsyncIterator

import httpx2
import msgspec
import pytest
from starlette.testclient import TestClient

from fakes.dashboard_mesh import START, WORD, FakeMesh, namespace, objects, pod, served
from mutua.reports import dashboard as report
from mutua.reports.dashboard import Moment
from mutua.servers import dashboard
from mutua.servers.dashboard import WATCHERS_AT_MOST, Feed


@pytest.fixture
def mesh() -> FakeMesh:
    """A mesh of one workload."""
    return FakeMesh(objects(namespace("shop"), pod("shop", "web", "10.0.0.1")))


@pytest.fixture
async def feed(mesh: FakeMesh) -> AsyncIterator[Feed]:
    """A feed that reads all the time."""
    feed = Feed(mesh.watch, 0.001)
    running = asyncio.create_task(feed.run())
    yield feed
    running.cancel()


def client(base_url: str = "http://localhost") -> TestClient:
    """The pages, without anybody who reads."""
    return TestClient(dashboard.application(WORD, Feed(FakeMesh([]).watch, 60)), base_url=base_url)


@pytest.mark.parametrize(
    "path", ["/", "/guessed/", "/guessed/events", "/guessed/page.js", f"/{WORD}x/", f"/{WORD}/nothing.js", "/style.css"]
)
def test_without_the_word_nothing_is_found(path: str) -> None:
    answer = client().get(path)

    assert answer.status_code == 404
    assert "script" not in answer.text


@pytest.mark.parametrize("name", ["../dashboard.py", "..%2fdashboard.py", "dagre.LICENSE.txt", "index.html"])
def test_only_files_of_the_page_are_served(name: str) -> None:
    assert client().get(f"/{WORD}/{name}").status_code == 404


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "192.0.2.1"])
def test_a_name_that_somebody_pointed_here_is_turned_away(host: str) -> None:
    assert client(f"http://{host}").get(f"/{WORD}/style.css").status_code == 400


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_nothing_can_be_changed(method: str) -> None:
    assert client().request(method, f"/{WORD}/").status_code == 405


@pytest.mark.parametrize("path", [f"/{WORD}/style.css", "/guessed/"])
def test_every_answer_forbids_what_the_page_does_not_need(path: str) -> None:
    policy = client().get(path).headers["content-security-policy"]

    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy


def test_data_cannot_leave_its_element() -> None:
    evil = Moment(trouble="</script><script>alert(1)</script><!-- \u2028 & -->")
    page = report.page(b'<script type="application/json"><!-- moment --></script>', msgspec.json.encode(evil))

    assert page.count(b"<") == 2
    inside = page.removeprefix(b'<script type="application/json">').removesuffix(b"</script>")
    assert msgspec.json.decode(inside, type=Moment) == evil


async def test_nothing_is_read_while_nobody_looks(mesh: FakeMesh, feed: Feed) -> None:
    await asyncio.sleep(0.02)
    assert (mesh.reads, mesh.watching) == (0, 0)

    watcher = feed.updates()
    assert await anext(watcher) is not None
    assert mesh.watching == 1

    await watcher.aclose()
    async with asyncio.timeout(5):
        await mesh.left.wait()
    reads = mesh.reads
    await asyncio.sleep(0.02)
    assert mesh.reads == reads


async def test_two_watchers_get_the_same_from_one_reading(mesh: FakeMesh, feed: Feed) -> None:
    one, other = feed.updates(), feed.updates()
    states = [await asyncio.gather(anext(one), anext(other)) for _ in range(5)]

    assert all(first is not None and second is not None for first, second in states)
    assert mesh.watching == 1


async def test_a_watcher_that_sleeps_finds_the_newest_state_alone(mesh: FakeMesh, feed: Feed) -> None:
    watcher, busy = feed.updates(), feed.updates()
    await anext(watcher)
    for _ in range(50):
        await anext(busy)
    newest = mesh.reads

    caught_up = await anext(watcher)

    assert caught_up is not None
    as_of = msgspec.json.decode(caught_up, type=Moment).as_of
    assert as_of is not None
    assert (as_of - START).total_seconds() >= 5.0 * newest


async def test_watchers_hear_the_end(mesh: FakeMesh) -> None:
    feed = Feed(mesh.watch, 60)
    running = asyncio.create_task(feed.run())
    watcher = feed.updates()
    assert await anext(watcher) is not None

    running.cancel()

    with pytest.raises(StopAsyncIteration):
        await anext(watcher)


async def test_too_many_browsers_are_turned_away(mesh: FakeMesh) -> None:
    feed = Feed(mesh.watch, 60)
    watchers = [feed.updates() for _ in range(WATCHERS_AT_MOST)]
    waiting = [asyncio.create_task(anext(watcher)) for watcher in watchers]
    await asyncio.sleep(0)

    answer = TestClient(dashboard.application(WORD, feed), base_url="http://localhost").get(f"/{WORD}/events")

    assert answer.status_code == 503
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_the_page_holds_the_first_state_and_events_bring_the_next(mesh: FakeMesh) -> None:
    async with served(mesh, poll_seconds=0.05) as address, httpx2.AsyncClient() as http:
        page = await http.get(address)
        assert '"id":"shop/web"' in page.text

        async with http.stream("GET", f"{address}events") as events:
            lines = events.aiter_lines()
            heard = [await anext(lines) for _ in range(4)]

    assert heard[0] == heard[3] == "event: moment"
    assert msgspec.json.decode(heard[1].removeprefix("data: "), type=Moment).graph.nodes[0].name == "web"

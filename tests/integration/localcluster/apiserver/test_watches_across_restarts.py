"""A watch misses, repeats and reorders nothing after its list, whatever clients write and however the server ends."""

import asyncio
import json
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from api_server import ApiServer
from hypothesis import given, settings
from hypothesis import strategies as st

Object = dict[str, Any]
Operation = tuple[str, str, str]

CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"
NAMES = "abcd"
LAST = "last"
OPERATIONS = st.tuples(
    st.sampled_from(("create", "replace", "patch", "delete")), st.sampled_from(NAMES), st.sampled_from(("yes", "no"))
)
CLIENTS = st.lists(st.lists(OPERATIONS, min_size=1, max_size=8), min_size=2, max_size=4)
# How a round ends the server, and after how many of its acknowledged writes.
ENDS = st.tuples(st.sampled_from((signal.SIGKILL, signal.SIGTERM)), st.integers(0, 12))
ROUNDS = st.lists(st.tuples(CLIENTS, ENDS), min_size=1, max_size=2)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """A server that may be killed."""
    server = ApiServer.create(tmp_path_factory.mktemp("watched"))
    server.start()
    yield server
    server.close()


@dataclass
class Writers:
    """Clients, and the versions of the writes that were acknowledged to them; `due` is set after some number."""

    session: aiohttp.ClientSession
    acknowledged: list[int] = field(default_factory=list)
    number: int = 0
    due: asyncio.Event = field(default_factory=asyncio.Event)
    due_at: int = 0

    def begin(self, due_after: int) -> None:
        """A round begins: `due` will be set after so many of its acknowledged writes, or at its end."""
        self.due.clear()
        self.due_at = len(self.acknowledged) + due_after

    async def round(self, clients: list[list[Operation]]) -> None:
        """All clients' writes, side by side."""
        await asyncio.gather(*map(self.work, clients))
        self.due.set()

    async def work(self, operations: list[Operation]) -> None:
        """One client, one request after the other; conflicts, and ends of the server, are part of life."""
        for operation in operations:
            try:
                version = await self.write(*operation)
            except aiohttp.ClientError:
                continue
            if version is not None:
                self.acknowledged.append(version)
            if len(self.acknowledged) >= self.due_at:
                self.due.set()

    async def write(self, verb: str, name: str, kept: str) -> int | None:
        """The version that the write made; None if it was refused, or answered without one."""
        self.number += 1
        about = {"name": name, "labels": {"kept": kept}}
        body = {"metadata": about, "data": {"number": str(self.number)}}
        method, path, sent = {
            "create": ("POST", CONFIG_MAPS, body),
            "replace": ("PUT", f"{CONFIG_MAPS}/{name}", body),
            "patch": ("PATCH", f"{CONFIG_MAPS}/{name}", body),
            "delete": ("DELETE", f"{CONFIG_MAPS}/{name}", None),
        }[verb]
        media_type = "application/merge-patch+json" if verb == "patch" else "application/json"
        async with self.session.request(method, path, json=sent, headers={"Content-Type": media_type}) as answer:
            written = await answer.json()
            assert answer.status in (200, 201, 404, 409), written
        return int(written["metadata"]["resourceVersion"]) if answer.ok and verb != "delete" else None

    async def acknowledge(self, name: str) -> int:
        """Write until it is acknowledged: the version."""
        while True:
            for verb in ("create", "patch"):
                try:
                    version = await self.write(verb, name, "yes")
                except aiohttp.ClientError:
                    continue
                if version is not None:
                    return version


@dataclass
class Watcher:
    """A client: its list, brought up to date by every event, and the checks that each event passes."""

    session: aiohttp.ClientSession
    selector: str = ""
    known: dict[str, Object] = field(default_factory=dict)
    position: int = 0
    seen: set[int] = field(default_factory=set)
    reached: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def list(self) -> "Watcher":
        """Begin with what there is."""
        async with self.session.get(CONFIG_MAPS, params={"labelSelector": self.selector}) as answer:
            listed = await answer.json()
        self.position = int(listed["metadata"]["resourceVersion"])
        self.known = {item["metadata"]["name"]: bare(item) for item in listed["items"]}
        return self

    async def follow(self) -> None:
        """Watch for ever; where a watch ends, from there again."""
        while True:
            wanted = {"watch": "1", "resourceVersion": str(self.position), "labelSelector": self.selector}
            try:
                async with self.session.get(CONFIG_MAPS, params=wanted) as answer:
                    assert answer.status == 200, await answer.text()
                    while (line := await answer.content.readline()).endswith(b"\n"):
                        await self.take(json.loads(line))
            except aiohttp.ClientError:
                continue

    async def take(self, told: Object) -> None:
        """Check an event against what is known, and know it."""
        kind, item = told["type"], told["object"]
        assert kind in ("ADDED", "MODIFIED", "DELETED"), told
        name, version = item["metadata"]["name"], int(item["metadata"]["resourceVersion"])
        assert version > self.position, "an event is neither repeated nor late"
        assert (kind == "ADDED") is (name not in self.known), told
        if kind == "DELETED":
            del self.known[name]
        else:
            self.known[name] = bare(item)
        async with self.reached:
            self.position = version
            self.seen.add(version)
            self.reached.notify_all()

    async def until(self, version: int) -> None:
        """Wait for an event."""
        async with self.reached:
            await self.reached.wait_for(lambda: self.position >= version)

    def upto(self, version: int) -> dict[str, Object]:
        """What is known, without what came after a version: the server's controllers write too."""
        return {name: item for name, item in self.known.items() if int(item["metadata"]["resourceVersion"]) <= version}


def bare(item: Object) -> Object:
    """An object as both lists and events show it: items of a list need not repeat their kind."""
    return {name: value for name, value in item.items() if name not in ("kind", "apiVersion")}


async def restart(server: ApiServer, writers: Writers, number: int) -> None:
    """End the server once it is due, in the midst of whatever is asked, and start it again."""
    await writers.due.wait()
    await asyncio.to_thread(server.kill, number)
    await asyncio.to_thread(server.start)


async def live(server: ApiServer, rounds: list[tuple[list[list[Operation]], tuple[int, int]]]) -> None:
    """All rounds, with watchers from before the first, from before each, and from a version that is long past."""
    async with aiohttp.ClientSession(
        f"https://127.0.0.1:{server.port}",
        headers={"Authorization": f"Bearer {server.paths.admin_token.read_text()}"},
        connector=aiohttp.TCPConnector(limit=0, ssl=server.context()),
    ) as session:
        writers = Writers(session)
        whole, selected = await Watcher(session).list(), await Watcher(session, "kept=yes").list()
        before, began = dict(whole.known), whole.position
        async with asyncio.TaskGroup() as group:
            following = [group.create_task(watcher.follow()) for watcher in (whole, selected)]
            for clients, (number, after) in rounds:
                late = await Watcher(session).list()
                following.append(group.create_task(late.follow()))
                writers.begin(after)
                ending = group.create_task(restart(server, writers, number))
                await writers.round(clients)
                await ending
                version = await writers.acknowledge(LAST)
                replayed = Watcher(session, known=dict(before), position=began)
                following.append(group.create_task(replayed.follow()))
                await asyncio.gather(*(each.until(version) for each in (whole, selected, late, replayed)))

                truth, chosen = await Watcher(session).list(), await Watcher(session, "kept=yes").list()
                assert whole.upto(version) == late.upto(version) == replayed.upto(version) == truth.upto(version)
                assert selected.upto(version) == chosen.upto(version)
                assert whole.seen.issuperset(writers.acknowledged), "no acknowledged write goes untold"
                assert {each for each in replayed.seen if each <= version} == {
                    each for each in whole.seen if each <= version
                }
            for task in following:
                task.cancel()


@settings(max_examples=5, deadline=None, derandomize=True)
@given(rounds=ROUNDS)
def test_lists_and_watches_agree(own: ApiServer, rounds: list[tuple[list[list[Operation]], tuple[int, int]]]) -> None:
    async def run() -> None:
        async with asyncio.timeout(60):
            await live(own, rounds)

    asyncio.run(run())

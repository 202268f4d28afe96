"""The local copy of the API, over a scripted server."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from localcluster.node import client_informer
from localcluster.node.client import ApiUnavailableError, resource_path
from localcluster.node.client_informer import Informer

Item = dict[str, Any]


def item(name: str, version: int) -> Item:
    return {"metadata": {"namespace": "n", "name": name, "resourceVersion": str(version)}}


def event(kind: str, name: str, version: int) -> Item:
    return {"type": kind, "object": item(name, version)}


class Script:
    """Answers lists and watches in order; when the script is over, watches stay open in silence."""

    def __init__(self, lists: list[list[Item] | Exception], watches: list[list[Item] | Exception]) -> None:
        self._lists, self._watches = lists, watches
        self.versions: list[str] = []
        self.over = asyncio.Event()

    async def request(self, _method: str, _path: str, **_options: Any) -> Item:
        answer = self._lists.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return {"metadata": {"resourceVersion": "100"}, "items": answer}

    @asynccontextmanager
    async def watch(self, _path: str, parameters: Mapping[str, str]) -> AsyncIterator[AsyncIterator[Item]]:
        self.versions.append(parameters["resourceVersion"])
        yield self._events()

    async def _events(self) -> AsyncIterator[Item]:
        if not self._watches:
            self.over.set()
            await asyncio.Event().wait()
        answer = self._watches.pop(0)
        if isinstance(answer, Exception):
            raise answer
        for one in answer:
            yield one


async def told(script: Script, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """(what happened, to whom) until the script is over."""
    monkeypatch.setattr(client_informer, "_FIRST_DELAY_SECONDS", 0.0)
    changes: list[tuple[str, str]] = []

    def on_change(old: Item | None, new: Item | None) -> None:
        kind = "added" if old is None else "removed" if new is None else "changed"
        changes.append((kind, (new or old or {})["metadata"]["name"]))
        if new is not None and new["metadata"]["name"] == "broken":
            raise ValueError("no consumer is perfect")

    task = asyncio.create_task(Informer(script, "pods", on_change).run())  # type: ignore[arg-type]
    async with asyncio.timeout(10):
        await script.over.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return changes


async def test_a_watch_goes_on_where_the_last_one_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script([[item("a", 1)]], [[event("MODIFIED", "a", 101), event("BOOKMARK", "", 150)], []])
    assert await told(script, monkeypatch) == [("added", "a"), ("changed", "a")]
    assert script.versions == ["100", "150", "150"]


async def test_a_forgotten_version_leads_to_a_new_list_and_only_differences_are_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gone = {"type": "ERROR", "object": {"code": 410, "reason": "Expired"}}
    script = Script([[item("a", 1), item("b", 2)], [item("b", 2), item("c", 3)]], [[gone]])
    assert await told(script, monkeypatch) == [("added", "a"), ("added", "b"), ("removed", "a"), ("added", "c")]


async def test_a_server_that_goes_away_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    away = ApiUnavailableError("gone")
    script = Script([away, [item("a", 1)], away, [item("a", 7)]], [away])
    assert await told(script, monkeypatch) == [("added", "a"), ("changed", "a")]


async def test_deletions_and_consumers_that_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    events = [event("ADDED", "broken", 101), event("ADDED", "a", 102), event("DELETED", "broken", 103)]
    script = Script([[]], [events])
    assert await told(script, monkeypatch) == [("added", "broken"), ("added", "a"), ("removed", "broken")]


@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        (("pods",), "/api/v1/pods"),
        (("pods", "n", "p"), "/api/v1/namespaces/n/pods/p"),
        (("discovery.k8s.io/v1/endpointslices",), "/apis/discovery.k8s.io/v1/endpointslices"),
        (("nodes", None, "local"), "/api/v1/nodes/local"),
    ],
)
def test_paths(arguments: tuple[str, ...], path: str) -> None:
    assert resource_path(*arguments) == path

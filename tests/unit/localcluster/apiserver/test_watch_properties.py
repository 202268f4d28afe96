"""A list and the watch that follows it are the truth, whatever several writers do, also across restarts."""

import asyncio
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from localcluster.apiserver.storage import RevisionMismatchError, Store

RESOURCE = "things"
Write = tuple[str, str]
WRITES = st.lists(st.tuples(st.sampled_from(("put", "remove")), st.sampled_from("abcd")), max_size=8)
ROUNDS = st.lists(st.lists(WRITES, min_size=1, max_size=3), min_size=1, max_size=3)


async def write(store: Store, writes: list[Write], writer: int) -> None:
    """One client's writes, one after the other; conflicts are part of life."""
    for number, (verb, name) in enumerate(writes):
        body: dict[str, Any] = {"metadata": {"name": name}, "by": [writer, number]}
        try:
            if verb == "put":
                await store.put(RESOURCE, "", name, body, None)
            else:
                await store.remove(RESOURCE, "", name, body, None)
        except RevisionMismatchError:
            continue


def shown(store: Store) -> dict[str, Any]:
    return {name: stored.object() for (_, name), stored in store.entries(RESOURCE)}


class Watcher:
    """A client: its list, brought up to date by every event, and the checks that each event passes."""

    def __init__(self, store: Store) -> None:
        self.known = shown(store)
        self.position = store.revision

    async def catch_up(self, store: Store, *, slowly: bool) -> None:
        """Watch from where it is until nothing is missing."""
        with store.subscribe(RESOURCE, None, self.position) as subscription:
            while any(int(body["metadata"]["resourceVersion"]) > self.position for body in shown(store).values()) or (
                self.known.keys() != shown(store).keys()
            ):
                if slowly:
                    await asyncio.sleep(0)
                for change in await subscription.next():
                    assert change.revision > self.position, "an event is neither repeated nor late"
                    self.position = change.revision
                    if change.type == "DELETED":
                        assert change.name in self.known
                        del self.known[change.name]
                        continue
                    assert (change.type == "ADDED") is (change.name not in self.known)
                    self.known[change.name] = change.object()


@settings(max_examples=25, deadline=None)
@given(ROUNDS)
def test_a_watch_misses_repeats_and_reorders_nothing(rounds: list[list[list[Write]]]) -> None:
    async def run(path: Path) -> None:
        store = Store(path)
        early = Watcher(store)
        for writers in rounds:
            late = Watcher(store)
            await asyncio.gather(*(write(store, writes, number) for number, writes in enumerate(writers)))
            await early.catch_up(store, slowly=True)
            await late.catch_up(store, slowly=False)
            assert early.known == late.known == shown(store)
            await store.close()
            store = Store(path)
            assert early.known == shown(store), "what was acknowledged is there after a restart"
        await store.close()

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(Path(folder) / "cluster.db"))


@settings(max_examples=25, deadline=None)
@given(ROUNDS)
def test_every_earlier_moment_can_be_listed_again(rounds: list[list[list[Write]]]) -> None:
    async def run(path: Path) -> None:
        store = Store(path)
        moments: list[tuple[int, dict[str, Any]]] = [(store.revision, shown(store))]
        for writers in rounds:
            await asyncio.gather(*(write(store, writes, number) for number, writes in enumerate(writers)))
            moments.append((store.revision, shown(store)))
        for revision, expected in moments:
            found = await store.entries_at(RESOURCE, None, revision)
            assert {name: stored.object() for (_, name), stored in found} == expected
        await store.close()

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(Path(folder) / "cluster.db"))

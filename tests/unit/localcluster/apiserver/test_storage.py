"""The store: durable before acknowledged, one history, nobody overwrites what he has not read."""

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from localcluster.apiserver.errors import GoneError, ServiceUnavailableError
from localcluster.apiserver.storage import Change, RevisionMismatchError, StorageError, Store


def named(name: str, **labels: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": labels}}


def told(changes: list[Change]) -> list[tuple[str, str]]:
    return [(change.type, change.name) for change in changes]


async def test_what_was_acknowledged_is_there_after_a_restart_with_its_revisions(tmp_path: Path) -> None:
    store = Store(tmp_path / "a.db")
    await store.put("pods", "ns", "a", named("a"), 0)
    written = await store.put("pods", "ns", "b", named("b"), 0)
    await store.remove("pods", "ns", "a", named("a"), 1)
    await store.close()

    again = Store(tmp_path / "a.db")

    assert again.revision == 3
    assert [name for name, _ in again.entries("pods")] == [("ns", "b")]
    assert again.get("pods", "ns", "b") == written
    assert written.object()["metadata"]["resourceVersion"] == "2"
    with again.subscribe("pods", None, 1) as changes:
        assert told(await changes.next()) == [("ADDED", "b"), ("DELETED", "a")]
    await again.close()


async def test_a_write_on_an_older_revision_is_refused(tmp_path: Path) -> None:
    store = Store(tmp_path / "a.db")
    await store.put("pods", "ns", "a", named("a"), 0)
    await store.put("pods", "ns", "a", named("a", x="1"), 1)

    with pytest.raises(RevisionMismatchError) as refused:
        await store.put("pods", "ns", "a", named("a", x="2"), 1)

    assert refused.value.current == 2
    await store.close()


async def test_of_many_writers_at_once_exactly_one_wins(tmp_path: Path) -> None:
    store = Store(tmp_path / "a.db")

    outcomes = await asyncio.gather(
        *(store.put("pods", "ns", "a", named("a", by=str(n)), 0) for n in range(50)), return_exceptions=True
    )

    assert sum(not isinstance(outcome, BaseException) for outcome in outcomes) == 1
    assert store.revision == 1
    await store.close()


async def test_readers_see_a_write_only_when_it_is_durable(tmp_path: Path) -> None:
    store = Store(tmp_path / "a.db")
    writing = asyncio.ensure_future(store.put("pods", "ns", "a", named("a"), 0))
    await asyncio.sleep(0)

    before = store.get("pods", "ns", "a"), store.get("pods", "ns", "a", latest=True)
    await writing

    assert before[0] is None
    assert before[1] is not None
    assert store.get("pods", "ns", "a") == before[1]
    await store.close()


async def test_writers_build_on_writes_that_are_not_durable_yet(tmp_path: Path) -> None:
    store = Store(tmp_path / "a.db")

    _, _, third = await asyncio.gather(
        store.put("pods", "ns", "a", named("a"), 0),
        store.remove("pods", "ns", "a", named("a"), 1),
        store.put("pods", "ns", "a", named("a", again="yes"), 0),
    )

    found = store.get("pods", "ns", "a")
    assert found == third
    assert store.get("pods", "ns", "a", latest=True) == third
    await store.close()


async def test_a_cancelled_writer_does_not_take_others_along(tmp_path: Path) -> None:
    store = Store(tmp_path / "a.db")
    first = asyncio.ensure_future(store.put("pods", "ns", "a", named("a"), 0))
    second = asyncio.ensure_future(store.put("pods", "ns", "b", named("b"), 0))
    await asyncio.sleep(0)

    first.cancel()
    await second

    assert len(store.entries("pods")) == 2
    await store.close()


async def test_a_subscription_sees_its_namespace_and_resource_in_order(tmp_path: Path) -> None:
    store = Store(tmp_path / "a.db")
    with store.subscribe("pods", "ns", store.revision) as changes:
        await store.put("pods", "other", "x", named("x"), 0)
        await store.put("services", "ns", "s", named("s"), 0)
        await store.put("pods", "ns", "a", named("a"), 0)
        await store.put("pods", "ns", "a", named("a", new="1"), 3)

        seen = await changes.next()

    assert told(seen) == [("ADDED", "a"), ("MODIFIED", "a")]
    assert seen[1].previous is not None
    assert changes.position == 4
    await store.close()


async def test_a_reader_that_falls_behind_is_served_from_the_history(tmp_path: Path) -> None:
    store = Store(tmp_path / "a.db")
    with store.subscribe("pods", None, 0) as changes:
        await asyncio.gather(*(store.put("pods", "ns", f"p{n:04}", named(f"p{n:04}"), 0) for n in range(1500)))

        seen = await changes.next()
        await store.put("pods", "ns", "last", named("last"), 0)
        seen += await changes.next()

    assert [change.revision for change in seen] == list(range(1, 1502))
    await store.close()


async def test_a_cancelled_read_of_the_history_loses_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "a.db")
    await store.put("pods", "ns", "a", named("a"), 0)
    with store.subscribe("pods", None, 0) as changes:
        reading = asyncio.ensure_future(changes.next())
        await asyncio.sleep(0)
        reading.cancel()
        await asyncio.wait([reading])

        assert told(await changes.next()) == [("ADDED", "a")]
    await store.close()


async def test_history_that_was_compacted_is_gone_and_the_future_too(tmp_path: Path) -> None:
    store = Store(tmp_path / "a.db", history_length=10)
    for n in range(40):
        await store.put("pods", "ns", f"p{n}", named(f"p{n}"), 0)

    with pytest.raises(GoneError, match="too old resource version: 5"):
        store.subscribe("pods", None, 5)
    with pytest.raises(GoneError, match="too large resource version: 41"):
        store.subscribe("pods", None, 41)
    with store.subscribe("pods", None, 38) as changes:
        assert told(await changes.next()) == [("ADDED", "p38"), ("ADDED", "p39")]
    await store.close()


async def test_a_disk_that_refuses_fails_the_writers_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "a.db")
    await store.put("pods", "ns", "a", named("a"), 0)

    def full(changes: list[Change]) -> int:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(store, "_commit", full)
        outcomes = await asyncio.gather(
            store.put("pods", "ns", "a", named("a", x="1"), 1),
            store.put("pods", "ns", "b", named("b"), 0),
            return_exceptions=True,
        )

    assert all(isinstance(outcome, ServiceUnavailableError) for outcome in outcomes)
    assert store.get("pods", "ns", "b", latest=True) is None
    assert (await store.put("pods", "ns", "a", named("a", x="2"), 1)).revision > 1
    await store.close()


async def test_two_servers_on_one_database_are_refused(tmp_path: Path) -> None:
    store = Store(tmp_path / "a.db")

    with pytest.raises(StorageError, match="another API server"):
        Store(tmp_path / "a.db")

    await store.close()


def test_the_database_is_private(tmp_path: Path) -> None:
    Store(tmp_path / "a.db")

    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}

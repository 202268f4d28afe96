"""Many streams of changes become whole sets, at once or as one burst."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from mutua.api import kinds
from mutua.api.findings import Finding
from mutua.api.kinds import AnyObject, Key
from mutua.api.meta import ObjectMeta
from mutua.api.security import PeerAuthentication
from mutua.mesh.objects import ObjectSet
from mutua.sources.merge import Merge

POLICY, SERVICE = kinds.PEER_AUTHENTICATION, kinds.SERVICE


def policy(name: str, version: str = "1") -> tuple[Key, AnyObject]:
    metadata = ObjectMeta(name=name, namespace="web", uid=version)
    item = PeerAuthentication(api_version="security.istio.io/v1", kind="PeerAuthentication", metadata=metadata)
    return POLICY.key(metadata), item


class Receiver:
    """Keeps what was delivered."""

    def __init__(self) -> None:
        self.sets: list[ObjectSet] = []
        self.findings: tuple[Finding, ...] = ()
        self.arrived = asyncio.Event()
        self.may_return = asyncio.Event()
        self.may_return.set()

    async def take(self, objects: ObjectSet, findings: tuple[Finding, ...]) -> None:
        """The callback."""
        self.sets.append(objects)
        self.findings = findings
        self.arrived.set()
        await self.may_return.wait()

    async def next(self) -> ObjectSet:
        """The set of the next delivery."""
        async with asyncio.timeout(5):
            await self.arrived.wait()
        self.arrived.clear()
        return self.sets[-1]


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


@pytest.fixture
async def merge(receiver: Receiver) -> AsyncIterator[Merge]:
    """A merge of two kinds that runs, and merges no longer than one turn of the event loop."""
    merge = Merge((POLICY, SERVICE), receiver.take, burst_seconds=0.0)
    running = asyncio.create_task(merge.run())
    yield merge
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def names(objects: ObjectSet) -> list[str]:
    return sorted(name for _namespace, name in objects.of_kind(POLICY))


async def settle() -> None:
    """Lets everything that is ready run."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_nothing_before_every_kind_is_known(merge: Merge, receiver: Receiver) -> None:
    """Half a picture would open or close doors for no reason."""
    merge.replace(POLICY, dict([policy("a")]), {})
    await settle()

    assert receiver.sets == []
    assert {"Service"} == merge.awaited
    merge.replace(SERVICE, {}, {})
    assert names(await receiver.next()) == ["a"]


async def synced(merge: Merge, receiver: Receiver, *policies: tuple[Key, AnyObject]) -> ObjectSet:
    merge.replace(POLICY, dict(policies), {})
    merge.replace(SERVICE, {}, {})
    return await receiver.next()


async def test_a_burst_is_one_delivery(merge: Merge, receiver: Receiver) -> None:
    """A thousand changes that are there together are one new picture."""
    await synced(merge, receiver)

    for number in range(1000):
        merge.put(POLICY, *policy(f"p{number}"))
    found = await receiver.next()
    await settle()

    assert len(names(found)) == 1000
    assert len(receiver.sets) == 2


async def test_changes_during_a_delivery_follow_it(merge: Merge, receiver: Receiver) -> None:
    """Deliveries never overlap, and no change is lost."""
    await synced(merge, receiver)
    receiver.may_return.clear()
    merge.put(POLICY, *policy("a"))
    await receiver.next()
    merge.put(POLICY, *policy("b"))
    await settle()

    assert len(receiver.sets) == 2
    receiver.may_return.set()
    assert names(await receiver.next()) == ["a", "b"]


async def test_a_set_once_delivered_never_changes(merge: Merge, receiver: Receiver) -> None:
    """It is a value; what did not change is shared with the next one."""
    before = await synced(merge, receiver, policy("a"))
    merge.put(POLICY, *policy("b"))
    after = await receiver.next()

    assert (names(before), names(after)) == (["a"], ["a", "b"])
    assert before.of_kind(SERVICE) is after.of_kind(SERVICE)
    assert before.get(POLICY, "web", "a") is after.get(POLICY, "web", "a")


async def test_listing_again_without_a_change_delivers_nothing(merge: Merge, receiver: Receiver) -> None:
    """A lost connection alone is no reason to push."""
    await synced(merge, receiver, policy("a"))

    merge.replace(POLICY, dict([policy("a")]), {})
    merge.put(POLICY, *policy("a"))
    merge.remove(POLICY, ("web", "none"))
    await settle()

    assert len(receiver.sets) == 1


async def test_what_cannot_be_read_is_left_out_and_told(merge: Merge, receiver: Receiver) -> None:
    """The rest goes on; the finding goes away with its cause."""
    await synced(merge, receiver, policy("a"), policy("b"))
    finding = Finding("PeerAuthentication", "web", "a", "spec", "is wrong")

    merge.put(POLICY, ("web", "a"), None, (finding,))
    assert names(await receiver.next()) == ["b"]
    assert (finding,) == receiver.findings
    merge.put(POLICY, *policy("a", "2"))
    assert names(await receiver.next()) == ["a", "b"]
    assert receiver.findings == ()


async def test_a_list_replaces_what_was_known(merge: Merge, receiver: Receiver) -> None:
    """What was deleted while nobody watched is gone."""
    await synced(merge, receiver, policy("a"), policy("b"))

    merge.replace(POLICY, dict([policy("b"), policy("c")]), {})

    assert names(await receiver.next()) == ["b", "c"]


async def test_one_change_after_a_pause_waits_for_nothing(receiver: Receiver) -> None:
    """The pause between deliveries counts from the last one, so that a single change goes out at once."""
    merge = Merge((POLICY,), receiver.take, burst_seconds=0.02)
    loop = asyncio.get_running_loop()
    running = asyncio.create_task(merge.run())
    try:
        merge.replace(POLICY, {}, {})
        await receiver.next()
        merge.put(POLICY, *policy("a"))
        merged_after = loop.time()
        await receiver.next()
        waited = loop.time() - merged_after
        merge.put(POLICY, *policy("b"))
        await receiver.next()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    assert 0.01 < waited < 5.0
    assert len(receiver.sets) == 3


async def test_what_the_receiver_raises_ends_it(merge: Merge) -> None:
    """A mistake in the push path is not swallowed."""

    async def fail(_objects: ObjectSet, _findings: Any) -> None:
        raise ValueError("a mistake")

    broken = Merge((POLICY,), fail)
    broken.replace(POLICY, {}, {})
    with pytest.raises(ValueError, match="a mistake"):
        await broken.run()

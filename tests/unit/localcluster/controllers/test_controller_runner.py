"""The runner: follows, queues, writes once, tries again, and forgets what is gone."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from itertools import pairwise
from typing import Any

import pytest

from localcluster.apiserver import kinds
from localcluster.apiserver.context import RequestContext
from localcluster.apiserver.errors import ApiError, NotFoundError
from localcluster.apiserver.kinds import KindInfo
from localcluster.apiserver.resources import Resources
from localcluster.controllers import Controller, Runner, standard
from localcluster.controllers.state import Name, State, name_of
from localcluster.controllers.writes import Again, Create, Delete, Record, Update, Write

Object = dict[str, Any]
DEFINITION = {
    "metadata": {"name": "widgets.example.com"},
    "spec": {
        "group": "example.com",
        "scope": "Namespaced",
        "names": {"plural": "widgets", "kind": "Widget"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
            }
        ],
    },
}


def deployment(name: str, replicas: int) -> Object:
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "main", "image": "web:1"}]}}
    return {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template},
    }


def config_map(name: str, **about: Any) -> Object:
    return {"metadata": {"name": name, "namespace": "default", **about}}


def config_maps_keys(state: State, kind: KindInfo, old: Object | None, new: Object | None) -> list[Name]:
    return [name_of(new or old or {})] if kind is kinds.CONFIG_MAP else []


@asynccontextmanager
async def running(resources: Resources, *controllers: Controller) -> AsyncIterator[Runner]:
    """The runner at work, until the block ends."""
    runner = Runner(resources, controllers)
    task = asyncio.create_task(runner.run())
    try:
        yield runner
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(resources: Resources, condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait for a condition that writes bring about."""
    changed = asyncio.Event()
    resources.store.on_change(lambda change: changed.set())
    async with asyncio.timeout(10):
        while not await condition():
            await changed.wait()
            changed.clear()


async def count(resources: Resources, kind: KindInfo) -> int:
    return len((await resources.list(kind))[0])


async def test_every_deployment_gets_exactly_its_pods(resources: Resources) -> None:
    async with running(resources, *standard(resources, "PEM")):
        await until(resources, lambda: _has(resources, kinds.SERVICE_ACCOUNT, "default"))
        await asyncio.gather(*(resources.create(kinds.DEPLOYMENT, deployment(f"d{i}", 5)) for i in range(6)))

        async def complete() -> bool:
            deployments, _ = await resources.list(kinds.DEPLOYMENT)
            return all((item.get("status") or {}).get("replicas") == 5 for item in deployments)

        await until(resources, complete)
        pods, _ = await resources.list(kinds.POD)
        assert Counter(pod["metadata"]["labels"]["app"] for pod in pods) == {f"d{i}": 5 for i in range(6)}
        assert await count(resources, kinds.REPLICA_SET) == 6


async def _has(resources: Resources, kind: KindInfo, name: str, namespace: str = "default") -> bool:
    try:
        await resources.get(kind, namespace, name)
    except NotFoundError:
        return False
    return True


async def test_whom_fields_belong_to_is_not_remembered_and_not_lost(resources: Resources) -> None:
    def reconcile(state: State, name: Name, now: datetime) -> list[Write]:
        item = state.get(kinds.CONFIG_MAP, *name)
        return [] if item is None or "data" in item else [Update(kinds.CONFIG_MAP, {**item, "data": {"k": "v"}})]

    somebody = RequestContext(field_manager="somebody")
    await resources.create(kinds.CONFIG_MAP, config_map("labelled", labels={"app": "a"}), somebody)
    async with running(resources, Controller("writer", config_maps_keys, reconcile)) as runner:
        await resources.create(kinds.CONFIG_MAP, config_map("bare"), somebody)
        for name in ("labelled", "bare"):
            await until(resources, lambda name=name: _has_data(resources, name))  # type: ignore[misc]
        assert all("managedFields" not in item["metadata"] for item in runner.state.all_of(kinds.CONFIG_MAP))
    found = {item["metadata"]["name"]: item for item in (await resources.list(kinds.CONFIG_MAP))[0]}
    managers = {name: [entry["manager"] for entry in item["metadata"]["managedFields"]] for name, item in found.items()}
    assert managers == {"labelled": ["somebody", "kube-controller-manager"], "bare": ["kube-controller-manager"]}


async def _has_data(resources: Resources, name: str) -> bool:
    items, _ = await resources.list(kinds.CONFIG_MAP)
    return any(item["metadata"]["name"] == name and "data" in item for item in items)


async def test_what_exists_before_the_start_is_reconciled(resources: Resources) -> None:
    await resources.create(kinds.NAMESPACE, {"metadata": {"name": "early"}})
    async with running(resources, *standard(resources, "PEM")):
        await until(resources, lambda: _has(resources, kinds.CONFIG_MAP, "kube-root-ca.crt", "early"))


async def test_a_write_counts_before_the_watch_tells_of_it(resources: Resources) -> None:
    """Else the next reconciliation would create the same again."""
    made: list[str] = []

    def reconcile(state: State, key: Name, now: datetime) -> list[Write]:
        if key[1] != "trigger" or len(made) > 5:
            return []
        if not state.all_of(kinds.SECRET, "default"):
            made.append(key[1])
            return [Create(kinds.SECRET, {"metadata": {"generateName": "child-", "namespace": "default"}})]
        return []

    async with running(resources, Controller("test", config_maps_keys, reconcile)):
        await resources.create(kinds.CONFIG_MAP, config_map("trigger"))
        for number in range(5):
            await resources.patch(kinds.CONFIG_MAP, "default", "trigger", "merge", {"data": {"n": str(number)}})
        await until(resources, lambda: _has_secrets(resources))

    assert await count(resources, kinds.SECRET) == 1


async def _has_secrets(resources: Resources) -> bool:
    return await count(resources, kinds.SECRET) > 0


async def test_a_refused_write_is_told_and_tried_again(resources: Resources) -> None:
    told: list[str] = []

    def reconcile(state: State, key: Name, now: datetime) -> list[Write]:
        # Refused until somebody makes the namespace.
        return [Create(kinds.SECRET, {"metadata": {"name": "s", "namespace": "later"}})]

    def failed(state: State, key: Name, error: ApiError, now: datetime) -> list[Write]:
        told.append(error.reason)
        return [Record(kinds.CONFIG_MAP, config_map("trigger", uid="u"), "Refused", error.message, "test", "Warning")]

    async with running(resources, Controller("test", config_maps_keys, reconcile, failed=failed)):
        await resources.create(kinds.CONFIG_MAP, config_map("trigger"))

        async def counted() -> bool:
            events, _ = await resources.list(kinds.EVENT)
            return any(event["count"] > 1 for event in events)

        await until(resources, counted)
        await resources.create(kinds.NAMESPACE, {"metadata": {"name": "later"}})
        await until(resources, lambda: _has(resources, kinds.SECRET, "s", "later"))

    assert set(told) == {"NotFound"}


async def test_a_mistake_about_one_object_does_not_stop_the_others(
    resources: Resources, caplog: pytest.LogCaptureFixture
) -> None:
    def reconcile(state: State, key: Name, now: datetime) -> list[Write]:
        if key[1] == "broken":
            raise KeyError("a bug")
        item = state.get(kinds.CONFIG_MAP, *key)
        return [] if item is None or item.get("data") else [Update(kinds.CONFIG_MAP, {**item, "data": {"seen": ""}})]

    async with running(resources, Controller("test", config_maps_keys, reconcile)):
        await resources.create(kinds.CONFIG_MAP, config_map("broken"))
        await resources.create(kinds.CONFIG_MAP, config_map("good"))

        async def seen() -> bool:
            return "data" in await resources.get(kinds.CONFIG_MAP, "default", "good")

        await until(resources, seen)
    assert "controller test failed on default/broken" in caplog.text


async def test_a_key_comes_again_after_the_time_it_asked_for(resources: Resources) -> None:
    times: list[float] = []
    thrice = asyncio.Event()

    def reconcile(state: State, key: Name, now: datetime) -> list[Write]:
        times.append(asyncio.get_running_loop().time())
        if len(times) < 3:
            return [Again(0.02)]
        thrice.set()
        return []

    async with running(resources, Controller("test", config_maps_keys, reconcile)), asyncio.timeout(10):
        await resources.create(kinds.CONFIG_MAP, config_map("trigger"))
        await thrice.wait()

    assert all(later - earlier >= 0.019 for earlier, later in pairwise(times))


async def test_a_delete_is_called_off_if_the_owner_lives_after_all(resources: Resources) -> None:
    owner = await resources.create(kinds.CONFIG_MAP, config_map("owner"))
    child = await resources.create(kinds.SECRET, {"metadata": {"name": "child", "namespace": "default"}})
    uid = owner["metadata"]["uid"]

    def reconcile(state: State, key: Name, now: datetime) -> list[Write]:
        return [Delete(kinds.SECRET, child, unless_exists=((kinds.CONFIG_MAP, "default", "owner", uid),))]

    async def gone() -> bool:
        return not await _has(resources, kinds.SECRET, "child")

    async with running(resources, Controller("test", config_maps_keys, reconcile)):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await until(resources, gone)
        await resources.delete(kinds.CONFIG_MAP, "default", "owner")
        await until(resources, gone)


async def test_objects_of_new_custom_kinds_are_followed_and_collected(resources: Resources) -> None:
    async with running(resources, *standard(resources, "PEM")):
        await resources.create(kinds.CUSTOM_RESOURCE_DEFINITION, DEFINITION)
        (widget,) = resources.kinds.custom()
        owner = await resources.create(kinds.CONFIG_MAP, config_map("owner"))
        reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["metadata"]["uid"]}
        about = {"name": "w", "namespace": "default", "ownerReferences": [reference]}
        await resources.create(widget, {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": about})
        await resources.delete(kinds.CONFIG_MAP, "default", "owner")

        async def collected() -> bool:
            return not await _has(resources, widget, "w")

        await until(resources, collected)


async def test_a_namespace_is_emptied_of_every_kind_and_goes(resources: Resources) -> None:
    async with running(resources, *standard(resources, "PEM")):
        await resources.create(kinds.CUSTOM_RESOURCE_DEFINITION, DEFINITION)
        (widget,) = resources.kinds.custom()
        await resources.create(kinds.NAMESPACE, {"metadata": {"name": "short"}})
        about = {"name": "w", "namespace": "short"}
        await resources.create(widget, {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": about})
        await until(resources, lambda: _has(resources, kinds.SERVICE_ACCOUNT, "default", "short"))
        await resources.delete(kinds.NAMESPACE, "", "short")

        async def gone() -> bool:
            return not await _has(resources, kinds.NAMESPACE, "short", "")

        await until(resources, gone)
        assert (await resources.list(widget))[0] == []

"""Our Kubernetes client against a real API server."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import yaml

from mutua.system.kube import KubeClient
from mutua.system.kube_config import KubeConfigError
from mutua.system.kube_errors import KubeConflictError, KubeNotFoundError, KubeRefusedError, KubeUnreachableError
from mutua.system.kube_resources import CONFIG_MAPS, NAMESPACES, SECRETS, EventType, PatchType, Resource, WatchEvent


def config_map(name: str, **data: str) -> dict[str, object]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


@pytest.fixture
async def namespace(kube: KubeClient, request: pytest.FixtureRequest) -> str:
    """A namespace of the test's own."""
    name = request.node.name.replace("_", "-").removeprefix("test-")
    await kube.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    return str(name)


async def test_the_life_of_an_object(kube: KubeClient, namespace: str) -> None:
    """Create, read, replace, patch, apply, delete; each answers with the object as stored."""
    created = await kube.create(CONFIG_MAPS, config_map("a", key="1"), namespace)
    created["data"] = {"key": "2"}
    replaced = await kube.replace(CONFIG_MAPS, created, namespace)
    patched = await kube.patch(CONFIG_MAPS, "a", {"data": {"other": "3"}}, namespace)
    operations = [{"op": "remove", "path": "/data/other"}]
    trimmed = await kube.patch(CONFIG_MAPS, "a", operations, namespace, patch_type=PatchType.JSON)
    applied = await kube.apply(CONFIG_MAPS, config_map("a", key="4"), namespace)

    assert replaced["data"] == {"key": "2"}
    assert patched["data"] == {"key": "2", "other": "3"}
    assert trimmed["data"] == {"key": "2"}
    assert applied["data"] == {"key": "4"}
    assert (await kube.get(CONFIG_MAPS, "a", namespace))["data"] == {"key": "4"}
    assert await kube.delete(CONFIG_MAPS, "a", namespace)
    assert not await kube.delete(CONFIG_MAPS, "a", namespace)
    assert await kube.find(CONFIG_MAPS, "a", namespace) is None


async def test_applying_twice_changes_nothing(kube: KubeClient, namespace: str) -> None:
    """Server-side apply of the same content keeps the resource version."""
    first = await kube.apply(CONFIG_MAPS, config_map("a", key="1"), namespace)
    second = await kube.apply(CONFIG_MAPS, config_map("a", key="1"), namespace)

    assert first["metadata"]["resourceVersion"] == second["metadata"]["resourceVersion"]


async def test_lists_are_read_page_by_page(kube: KubeClient, namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """More objects than fit on a page arrive all, in order and once."""
    monkeypatch.setattr("mutua.system.kube.PAGE_SIZE", 3)
    names = [f"map-{number}" for number in range(8)]
    for name in names:
        await kube.create(CONFIG_MAPS, config_map(name), namespace)

    found = await kube.list(CONFIG_MAPS, namespace, field_selector="metadata.name!=kube-root-ca.crt")

    assert names == [item["metadata"]["name"] for item in found if item["metadata"]["name"].startswith("map-")]


async def test_errors_say_what_and_why(kube: KubeClient, namespace: str) -> None:
    """The kind of failure is the type of the error; its text names action, object and place."""
    await kube.create(CONFIG_MAPS, config_map("a"), namespace)

    with pytest.raises(KubeNotFoundError, match=f"cannot get secrets/none in namespace {namespace}"):
        await kube.get(SECRETS, "none", namespace)
    with pytest.raises(KubeConflictError, match="already exists"):
        await kube.create(CONFIG_MAPS, config_map("a"), namespace)
    with pytest.raises(KubeNotFoundError):
        await kube.list(Resource("no.such.group", "v1", "things"))


def changed(kubeconfig: Path, folder: Path, part: str, field: str, value: str) -> Path:
    """A copy of a kubeconfig with one field of its cluster or user changed."""
    content = yaml.safe_load(kubeconfig.read_text())
    content[f"{part}s"][0][part][field] = value
    copy = folder / "kubeconfig"
    copy.write_text(yaml.safe_dump(content))
    return copy


async def test_wrong_credentials(api_server: Path, tmp_path: Path) -> None:
    """401 says that it is about credentials."""
    other = changed(api_server, tmp_path, "user", "token", "wrong")

    async with KubeClient.connect(str(other)) as stranger:
        with pytest.raises(KubeRefusedError, match="does not accept our credentials"):
            await stranger.list(NAMESPACES)


async def test_nobody_listens(api_server: Path, tmp_path: Path, unused_tcp_port: int) -> None:
    """A refused connection names the server and says what to look at."""
    other = changed(api_server, tmp_path, "cluster", "server", f"https://127.0.0.1:{unused_tcp_port}")

    async with KubeClient.connect(str(other)) as lost:
        with pytest.raises(KubeUnreachableError) as caught:
            await lost.list(NAMESPACES)
    assert str(unused_tcp_port) in caught.value.message
    assert "mutua status" in caught.value.hint


def test_no_kubeconfig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any description of a cluster, the way to one is shown."""
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))

    with pytest.raises(KubeConfigError) as caught:
        KubeClient.connect()

    assert "mutua up" in caught.value.hint


@contextlib.asynccontextmanager
async def watching(kube: KubeClient, namespace: str) -> AsyncIterator[AsyncIterator[WatchEvent]]:
    watch = kube.watch(CONFIG_MAPS, namespace, field_selector="metadata.name=a")
    async with contextlib.aclosing(watch), asyncio.timeout(10):
        yield watch


def told(event: WatchEvent) -> tuple[str, list[object]]:
    return event.type.value, [msgspec.json.decode(raw).get("data") for raw in event.objects]


async def test_a_watch_lists_first_and_then_tells_every_change(kube: KubeClient, namespace: str) -> None:
    """LISTED, then each change as it happens, filtered by the server."""
    await kube.create(CONFIG_MAPS, config_map("a", key="1"), namespace)

    async with watching(kube, namespace) as watch:
        assert told(await anext(watch)) == (EventType.LISTED, [{"key": "1"}])
        await kube.create(CONFIG_MAPS, config_map("b"), namespace)
        await kube.patch(CONFIG_MAPS, "a", {"data": {"key": "2"}}, namespace)
        assert told(await anext(watch)) == (EventType.MODIFIED, [{"key": "2"}])
        await kube.delete(CONFIG_MAPS, "a", namespace)
        assert (await anext(watch)).type == EventType.DELETED
        await kube.create(CONFIG_MAPS, config_map("a", key="3"), namespace)
        assert told(await anext(watch)) == (EventType.ADDED, [{"key": "3"}])


async def test_tokens_are_issued_and_reviewed(kube: KubeClient, namespace: str) -> None:
    """A service account's token is good for its audience and for no other."""
    accounts = Resource("", "v1", "serviceaccounts")
    body = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "web"}}
    await kube.create(accounts, body, namespace)
    token = await kube.service_account_token("web", namespace, ["istio-ca"])

    review = await kube.token_review(token, ["istio-ca"])
    other = await kube.token_review(token, ["something-else"])

    assert review["authenticated"]
    assert f"system:serviceaccount:{namespace}:web" == review["user"]["username"]
    assert review["audiences"] == ["istio-ca"]
    assert not other.get("authenticated")

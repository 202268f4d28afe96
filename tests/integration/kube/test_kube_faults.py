"""Our Kubernetes client when the API server fails, and its streams byte for byte."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from lightkube.config.kubeconfig import KubeConfig

from fakes.kubernetes_streams import FakeApi
from mutua.system import kube as kube_module
from mutua.system.kube import KubeClient
from mutua.system.kube_errors import KubeError, KubeNotFoundError, KubeRefusedError
from mutua.system.kube_pod_http import PodHttp
from mutua.system.kube_resources import CONFIG_MAPS, EventType
from mutua.system.kube_streams import execute


@pytest.fixture
def api() -> FakeApi:
    """The fake."""
    return FakeApi()


@pytest.fixture
async def kube(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[KubeClient]:
    """A client of the fake that does not wait between its attempts."""
    monkeypatch.setattr(kube_module, "RETRY_FIRST_SECONDS", 0.0)
    async with api.serving() as url:
        config = KubeConfig.from_server(url).get()
        assert config is not None
        async with KubeClient(config) as client:
            yield client


def item(name: str, version: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "resourceVersion": version}}


def change(kind: str, name: str, version: str) -> dict[str, Any]:
    return {"type": kind, "object": item(name, version)}


async def events(kube: KubeClient, count: int) -> list[str]:
    """The first events of a watch, as `TYPE name name`."""
    told: list[str] = []
    async with contextlib.aclosing(kube.watch(CONFIG_MAPS)) as watch, asyncio.timeout(10):
        async for event in watch:
            names = [msgspec.json.decode(raw)["metadata"]["name"] for raw in event.objects]
            told.append(" ".join([event.type, *names]))
            if len(told) == count:
                break
    return told


async def test_a_lost_connection_continues_where_it_was(kube: KubeClient, api: FakeApi) -> None:
    """The next connection starts after the last event or bookmark; nothing is listed again."""
    bookmark = {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "7"}}}
    api.objects = [item("a", "1")]
    api.scripts = [[change("ADDED", "b", "5")], [bookmark], 500, [change("DELETED", "a", "8")]]

    assert await events(kube, 3) == ["LISTED a", "ADDED b", "DELETED a"]
    assert api.asked == ["list", "watch 1", "watch 5", "watch 7", "watch 7"]


@pytest.mark.parametrize("gone", [410, [{"type": "ERROR", "object": {"code": 410, "message": "too old"}}]])
async def test_gone_lists_again(kube: KubeClient, api: FakeApi, gone: Any) -> None:
    """410, as an answer or within the stream, means that changes were missed: the whole collection comes again."""
    api.scripts = [gone, [change("ADDED", "b", "9")]]
    api.version = "3"

    assert await events(kube, 3) == [EventType.LISTED, EventType.LISTED, "ADDED b"]
    assert api.asked == ["list", "watch 3", "list", "watch 3"]


async def test_refusals_for_a_while_are_outlived(kube: KubeClient, api: FakeApi) -> None:
    """Once a list worked, a 403 or 503 is tried again."""
    api.scripts = [403, 503, 410, [change("ADDED", "b", "2")]]

    assert await events(kube, 3) == ["LISTED", "LISTED", "ADDED b"]


async def test_the_first_list_must_work(kube: KubeClient, api: FakeApi) -> None:
    """A right that is missing from the start is for the caller to tell."""
    api.list_statuses = [403]

    with pytest.raises(KubeRefusedError, match="cannot list configmaps: said the fake"):
        await events(kube, 1)


async def test_a_kind_that_goes_away_ends_the_watch(kube: KubeClient, api: FakeApi) -> None:
    """404 after the kind's definition was deleted."""
    api.scripts = [404]

    with pytest.raises(KubeNotFoundError):
        async with contextlib.aclosing(kube.watch(CONFIG_MAPS)) as watch, asyncio.timeout(10):
            async for _event in watch:
                api.list_statuses = [404]


async def test_exec(kube: KubeClient, api: FakeApi) -> None:
    """Output, complaints and exit code arrive apart."""
    cause = {"reason": "ExitCode", "message": "3"}
    failure = {"status": "Failure", "reason": "NonZeroExitCode", "details": {"causes": [cause]}}
    api.on_exec = lambda argv: (" ".join(argv).encode(), b"oh", failure)

    result = await execute(kube, "web", "pod", "app", ["echo", "a b"])

    assert result == (b"echo a b", b"oh", 3)


async def test_exec_that_never_ran(kube: KubeClient, api: FakeApi) -> None:
    """A status without an exit code is an error."""
    api.on_exec = lambda _argv: (b"", b"", {"status": "Failure", "message": "no such program"})

    with pytest.raises(KubeError, match="cannot run a command in pod web/pod: no such program"):
        await execute(kube, "web", "pod", "app", ["nothing"])


async def test_http_over_a_port_forward(kube: KubeClient, api: FakeApi) -> None:
    """A page of a pod's own loopback, however it is cut into frames."""
    seen: list[bytes] = []

    def answer(request: bytes) -> bytes:
        seen.append(request)
        return b'HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n{"a": "bc"}'

    api.pod_answers = answer

    assert await PodHttp(kube, "web", "pod").get_json("/config_dump?include_eds") == {"a": "bc"}
    assert seen[0].startswith(b"GET /config_dump?include_eds HTTP/1.1\r\nHost: 127.0.0.1:15000\r\n")


async def test_a_port_that_nobody_listens_on(kube: KubeClient, api: FakeApi) -> None:
    """The node's complaint becomes the error."""
    api.port_error = b"connection refused"

    with pytest.raises(KubeError, match="cannot reach port 15000 of pod web/pod: connection refused"):
        await PodHttp(kube, "web", "pod").get("/")


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    """A credential plugin that gives a new token at each call."""
    program = tmp_path / "plugin"
    count = tmp_path / "count"
    program.write_text(
        "#!/bin/sh\n"
        f"echo x >> {count}; n=$(wc -l < {count})\n"
        'printf \'{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential",\'\n'
        'printf \'"status":{"token":"token-%s"}}\' "$n"\n'
    )
    program.chmod(0o700)
    return program


async def test_credential_plugin(plugin: Path, api: FakeApi) -> None:
    """Its token is kept, and asked for again once the server refuses it."""
    async with api.serving() as url:
        user = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": str(plugin)}}
        config = KubeConfig.from_dict(
            {
                "current-context": "c",
                "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
                "clusters": [{"name": "c", "cluster": {"server": url}}],
                "users": [{"name": "c", "user": user}],
            }
        ).get()
        assert config is not None
        async with KubeClient(config) as client:
            await client.list(CONFIG_MAPS)
            await client.list(CONFIG_MAPS)
            api.list_statuses = [401]
            await client.list(CONFIG_MAPS)

    calls = plugin.with_name("count").read_text().split()
    assert len(calls) == 2
    assert api.asked == ["list"] * 4

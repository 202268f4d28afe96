"""Token reviews over kept connections: credentials that change, servers that end, redirect or talk nonsense."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from lightkube.config.kubeconfig import KubeConfig

from mutua.system.kube import KubeClient
from mutua.system.kube_errors import KubeError, KubeRefusedError, KubeUnreachableError
from mutua.system.kube_token_reviews import CONNECTIONS

YES = json.dumps({"status": {"authenticated": True, "audiences": ["istio-ca"]}}).encode()


class Server:
    """Answers with the next of `script` (status, headers, body; None ends the connection), then with YES."""

    def __init__(self) -> None:
        self.script: list[tuple[int, str, bytes] | None] = []
        self.heard: list[str] = []  # who asked
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
                headers = dict(line.split(": ", 1) for line in head[1:] if line)
                await reader.readexactly(int(headers["content-length"]))
                self.heard.append(f"{head[0].split()[1]} {headers.get('authorization', 'nobody')}")
                answer = self.script.pop(0) if self.script else (201, "", YES)
                if answer is None:
                    break
                status, more, body = answer
                writer.write(f"HTTP/1.1 {status} x\r\n{more}content-length: {len(body)}\r\n\r\n".encode() + body)
        writer.close()


@pytest.fixture
async def server() -> AsyncIterator[tuple[Server, str]]:
    """The fake and its URL."""
    fake = Server()
    listening = await asyncio.start_server(fake.serve, "127.0.0.1", 0)
    async with listening:
        yield fake, f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"


def client(url: str, token_file: Path | None = None) -> KubeClient:
    """As a pod's service account, or as nobody."""
    user = {"tokenFile": str(token_file)} if token_file else {}
    entries = {
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    config = KubeConfig.from_dict(entries).get()
    assert config is not None
    return KubeClient(config)


async def test_a_token_that_the_kubelet_replaced_is_read_again(server: tuple[Server, str], tmp_path: Path) -> None:
    """The first 401 makes the client read its file again, a second one is an error."""
    fake, url = server
    ours = tmp_path / "token"
    ours.write_text("first")
    async with client(url, ours) as kube:
        assert (await kube.token_review("t", ("istio-ca",)))["authenticated"]
        ours.write_text("second")
        fake.script = [(401, "", b"{}")]
        assert (await kube.token_review("t", ("istio-ca",)))["authenticated"]
        fake.script = [(401, "", b"{}"), (401, "", b"{}")]
        with pytest.raises(KubeRefusedError):
            await kube.token_review("t", ("istio-ca",))

    credentials = [line.split(maxsplit=1)[1] for line in fake.heard]
    assert credentials == ["bearer first", "bearer first", "bearer second", "bearer second", "bearer second"]


async def test_a_token_goes_nowhere_else(server: tuple[Server, str], tmp_path: Path) -> None:
    """A redirect is an error: neither the pod's token nor ours is sent after it."""
    fake, url = server
    (tmp_path / "token").write_text("ours")
    fake.script = [(307, f"location: {url}/elsewhere\r\n", b"")]
    async with client(url, tmp_path / "token") as kube:
        with pytest.raises(KubeError, match="HTTP 307"):
            await kube.token_review("t", ("istio-ca",))
    assert [line.split()[0] for line in fake.heard] == ["/apis/authentication.k8s.io/v1/tokenreviews"]


async def test_a_kept_connection_that_ends_is_no_failure(server: tuple[Server, str]) -> None:
    """Whether it ended before it was used again, or at that moment; one that always ends is a failure."""
    fake, url = server
    async with client(url) as kube:
        fake.script = [(201, "", YES), None]
        for _ in range(2):
            assert (await kube.token_review("t", ("istio-ca",)))["authenticated"]
        assert fake.connections == 2
        fake.script = [None, None]
        with pytest.raises(KubeUnreachableError, match=url):
            await kube.token_review("t", ("istio-ca",))


async def test_a_fleet_shares_few_connections(server: tuple[Server, str]) -> None:
    """However many tokens are to be reviewed, there are at most so many connections."""
    fake, url = server
    async with client(url) as kube:
        answers = await asyncio.gather(*(kube.token_review(str(number), ("istio-ca",)) for number in range(200)))
    assert all(answer["authenticated"] for answer in answers)
    assert len(fake.heard) == 200
    assert 1 < fake.connections <= CONNECTIONS


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"status": 5}'])
async def test_nonsense_is_an_error(server: tuple[Server, str], body: bytes) -> None:
    """An answer that is no review says nothing about the token."""
    fake, url = server
    fake.script = [(201, "", body)]
    async with client(url) as kube:
        with pytest.raises(KubeError, match="review a token"):
            await kube.token_review("t", ("istio-ca",))


async def test_no_status_is_no_authentication(server: tuple[Server, str]) -> None:
    """A review without a status does not say yes."""
    fake, url = server
    fake.script = [(201, "", b"{}")]
    async with client(url) as kube:
        assert await kube.token_review("t", ("istio-ca",)) == {}

"""Fetching issuers' keys: from real servers on the loopback, and never from where a user could aim at us."""

import asyncio
import contextlib
import ipaddress
from collections.abc import AsyncIterator

import pytest

from mutua.sources import key_sets
from mutua.sources.key_sets import KeySets, may_be_dialled

KEYS = b'{"keys":[{"kty":"RSA","kid":"one","n":"AQAB","e":"AQAB"}]}'


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.9.9.9", "::1", "0.0.0.0", "::", "169.254.169.254", "fe80::1", "::ffff:127.0.0.1"),  # noqa: S104
        *("::ffff:169.254.169.254", "fd00:ec2::254", "100.100.100.200", "224.0.0.1", "255.255.255.255", "240.0.0.1"),
    ],
)
def test_what_is_ours_alone_is_never_dialled(address: str) -> None:
    assert not may_be_dialled(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["8.8.8.8", "10.96.3.4", "192.168.1.7", "2606:4700::1111", "fd12::7"])
def test_issuers_in_the_world_and_in_clusters_are(address: str) -> None:
    assert may_be_dialled(ipaddress.ip_address(address))


@contextlib.asynccontextmanager
async def serving(*answers: bytes) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server that gives these answers in order, the last one for ever; its address, and the requests it got."""
    requests: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answers[min(len(requests), len(answers)) - 1])
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://localhost:{server.sockets[0].getsockname()[1]}", requests


def http(body: bytes, head: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {head}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n".encode() + body


@contextlib.asynccontextmanager
async def following(*locations: str, judge: object = None) -> AsyncIterator[tuple[KeySets, asyncio.Event]]:
    changed = asyncio.Event()
    made = KeySets(changed.set, judge=(lambda _: True) if judge is None else may_be_dialled)
    made.want(frozenset(locations))
    running = asyncio.create_task(made.run())
    try:
        async with asyncio.timeout(10):
            yield made, changed
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def problem(made: KeySets, location: str) -> str:
    while location not in made.problems:  # noqa: ASYNC110 - the fetch has no event of failure
        await asyncio.sleep(0)
    return made.problems[location]


async def test_keys_are_fetched_and_said_once() -> None:
    async with serving(http(KEYS)) as (address, requests), following(f"{address}/keys?v=1#x") as (made, changed):
        await changed.wait()

        assert made.current == {f"{address}/keys?v=1#x": KEYS.decode()}
    assert requests[0].startswith(b"GET /keys?v=1 HTTP/1.1\r\n")
    assert b"host: localhost:" in requests[0].lower()


async def test_an_issuer_s_discovery_document_leads_to_its_keys() -> None:
    async with serving(http(KEYS)) as (keys, _):
        discovery = http(b'{"issuer":"x","jwks_uri":"' + keys.encode() + b'/keys"}')
        async with serving(discovery) as (issuer, _), following(issuer) as (made, changed):
            await changed.wait()
            assert made.current == {issuer: KEYS.decode()}


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (http(b"", "404 Not Found"), "HTTP 404"),
        (http(KEYS, "302 Found\r\nlocation: http://169.254.169.254/"), "no redirect"),
        (http(b"garbage"), "not JSON"),
        (http(b"[1]"), "no JSON Web Key Set"),
        (http(b'{"keys": 7}'), "no JSON Web Key Set"),
        (http(b" " * (key_sets.LARGEST_ANSWER + 1)), "longer than"),
        (b"", ""),
    ],
)
async def test_what_is_not_keys_leaves_the_issuer_without(answer: bytes, words: str) -> None:
    async with serving(answer) as (address, _), following(address) as (made, _):
        assert words in await problem(made, address)
        assert made.current == {}


@pytest.mark.parametrize("location", ["http://localhost:{}/", "http://127.0.0.1:{}/", "http://[::ffff:127.0.0.1]:{}/"])
async def test_the_control_plane_cannot_be_made_to_call_itself(location: str) -> None:
    async with serving(http(KEYS)) as (address, requests):
        aimed = location.format(address.rpartition(":")[2])
        async with following(aimed, judge=may_be_dialled) as (made, _):
            assert "no keys are fetched from" in await problem(made, aimed)
    assert requests == []


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://x/", "http://user:word@example.com/", "nothing"])
async def test_only_http_is_spoken(location: str) -> None:
    async with following(location) as (made, _):
        assert "no http or https address" in await problem(made, location)


async def test_after_a_failure_it_is_tried_again_and_others_are_not_held_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_sets, "FIRST_RETRY_SECONDS", 0.01)
    async with (
        serving(http(b"", "503 Busy"), http(KEYS)) as (flaky, _),
        serving(http(KEYS)) as (good, _),
        following(flaky, good) as (made, changed),
    ):
        while len(made.current) < 2:
            await changed.wait()
            changed.clear()
        assert made.problems == {}


async def test_the_last_good_keys_stay_while_the_issuer_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_sets, "REFRESH_SECONDS", 0.01)
    async with serving(http(KEYS), http(b"", "503 Busy")) as (address, _), following(address) as (made, _):
        assert "503" in await problem(made, address)
        assert made.current == {address: KEYS.decode()}

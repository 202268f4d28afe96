"""Clients that take their time over a request, or never come to its end, against the real HTTP server."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
import uvicorn
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from localcluster.apiserver.errors import ApiError
from localcluster.apiserver.http import connection, negotiation


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the length of the body."""
    try:
        answer = PlainTextResponse(str(len(await negotiation.body_of(Request(scope, receive)))))
    except ApiError as error:
        answer = PlainTextResponse(error.message, error.code)
    await answer(scope, receive, send)


@asynccontextmanager
async def serving() -> AsyncIterator[int]:
    """The port of a running server."""
    config = uvicorn.Config(
        application, http=connection.HttpProtocol, lifespan="off", log_config=None, port=0, timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        await server.shutdown()


async def answer(port: int, *pieces: bytes) -> bytes:
    """All that comes back for these pieces, until the server closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with suppress(ConnectionError):
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
    found = b""
    with suppress(ConnectionError):  # whoever is cut off while still sending may not even read why
        while piece := await asyncio.wait_for(reader.read(65536), 10):
            found += piece
    writer.close()
    return found


@pytest.mark.parametrize("begun", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\n", b"\r\n"])
async def test_a_head_that_does_not_come_closes_the_connection(monkeypatch: pytest.MonkeyPatch, begun: bytes) -> None:
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.1)
    async with serving() as port:
        assert await answer(port, begun) == b""


async def test_a_later_head_has_its_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.3)
    whole = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    async with serving() as port:
        found = await answer(port, whole, b"GET / HTTP/1.1\r\nHost:")
    assert found.count(b"HTTP/1.1 200") == 1


@pytest.mark.parametrize("part", [b"X: " + b"a" * 2_000_000, b"X: a\r\n" * 400_000])
async def test_an_endless_head_is_refused(part: bytes) -> None:
    async with serving() as port:
        found = await answer(port, b"GET / HTTP/1.1\r\nHost: x\r\n", part)
    assert found in (
        b"",
        b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
    )


async def test_a_body_that_does_not_come_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(negotiation, "BODY_SECONDS", 0.1)
    async with serving() as port:
        found = await answer(port, b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 10\r\n\r\nabc")
    assert found.startswith(b"HTTP/1.1 408")
    assert found.endswith(b"the body of the request did not come within 0 s")


async def test_others_are_answered_meanwhile() -> None:
    async with serving() as port:
        slow = [asyncio.create_task(asyncio.open_connection("127.0.0.1", port)) for _ in range(200)]
        opened = [await task for task in slow]
        whole = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        assert (await answer(port, whole)).startswith(b"HTTP/1.1 200")
        for _, writer in opened:
            writer.close()

"""The dashboard's page on this machine's loopback: read-only, behind a word that only its address holds."""

import asyncio
import contextlib
import hmac
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from http import HTTPStatus
from pathlib import Path
from typing import Final

import msgspec
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mutua.reports import dashboard as report
from mutua.reports.dashboard import Moment

WATCHERS_AT_MOST: Final = 32
HEARTBEAT_SECONDS: Final = 10.0
"""A browser that hears nothing for longer than this takes the connection for dead."""

_FIRST_SECONDS: Final = 3.0
_FILES: Final = Path(__file__).parent / "dashboard_page"
_TYPES: Final = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
# Scripts and styles are files of ours only; the page builds its elements without ever parsing markup.
_HEADERS: Final = {
    "content-security-policy": "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self'",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        )
    ),
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}

Read = Callable[[], Awaitable[Moment]]
Watch = Callable[[], AbstractAsyncContextManager[Read]]
"""Begins to follow a mesh; what it gives reads the state of now. It tells troubles in the moment and raises none."""


class Feed:
    """Reads the mesh every few seconds while somebody watches, and only then; every watcher gets the newest state.

    A watcher that is slow or asleep misses states between: nothing is kept for it but the last.
    """

    def __init__(self, watch: Watch, poll_seconds: float) -> None:
        self._watch = watch
        self._poll_seconds = poll_seconds
        self._watchers = 0
        self._wanted = asyncio.Event()
        self._latest: bytes | None = None
        self._changed = asyncio.Event()
        self._ended = False

    @property
    def is_full(self) -> bool:
        """Whether no further watcher is taken."""
        return self._watchers >= WATCHERS_AT_MOST

    async def run(self) -> None:
        """Until cancelled; then all watchers hear the end."""
        try:
            while True:
                await self._wanted.wait()
                async with self._watch() as read:
                    await self._read_while_watched(read)
                self._latest = None
                if not self._watchers:
                    self._wanted.clear()
        finally:
            self._ended = True
            self._changed.set()

    async def _read_while_watched(self, read: Read) -> None:
        idle = 0
        # A page that is loaded anew, or comes back from behind other windows, finds the reading still going.
        while idle < 2:
            self._publish(msgspec.json.encode(await read()))
            await asyncio.sleep(self._poll_seconds)
            idle = 0 if self._watchers else idle + 1

    async def updates(self) -> AsyncGenerator[bytes | None, None]:
        """States as JSON, the newest first; None when there was none for a while."""
        self._watchers += 1
        self._wanted.set()
        told: bytes | None = None
        try:
            while not self._ended:
                changed = self._changed
                if self._latest is not None and self._latest is not told:
                    told = self._latest
                    yield told
                    continue
                try:
                    async with asyncio.timeout(HEARTBEAT_SECONDS):
                        await changed.wait()
                except TimeoutError:
                    yield None
        finally:
            self._watchers -= 1

    def _publish(self, moment: bytes) -> None:
        self._latest = moment
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


def application(word: str, feed: Feed) -> ASGIApp:
    """`/{word}/`: the page, its files, and `events`, which goes on telling what is new. Anything else is not found."""

    async def page(_: Request) -> Response:
        moment = b"null"
        async with contextlib.aclosing(feed.updates()) as updates:
            with contextlib.suppress(TimeoutError, StopAsyncIteration):
                async with asyncio.timeout(_FIRST_SECONDS):
                    newest = await anext(updates)
                    moment = moment if newest is None else newest
        template = (_FILES / "index.html").read_bytes()
        return Response(report.page(template, moment), media_type="text/html; charset=utf-8")

    async def events(_: Request) -> Response:
        if feed.is_full:
            return PlainTextResponse("too many browsers watch already", HTTPStatus.SERVICE_UNAVAILABLE)
        return StreamingResponse(_events(feed), media_type="text/event-stream")

    async def file(request: Request) -> Response:
        found = next((each for each in _FILES.iterdir() if each.name == request.path_params["name"]), None)
        if found is None or found.suffix not in _TYPES:
            return PlainTextResponse("not found", HTTPStatus.NOT_FOUND)
        return FileResponse(found, media_type=_TYPES[found.suffix])

    def guarded(show: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        async def guard(request: Request) -> Response:
            if not hmac.compare_digest(str(request.path_params["word"]).encode(), word.encode()):
                return PlainTextResponse("not found", HTTPStatus.NOT_FOUND)
            return await show(request)

        return guard

    routes = [
        Route("/{word}/", guarded(page), methods=["GET"]),
        Route("/{word}/events", guarded(events), methods=["GET"]),
        Route("/{word}/{name}", guarded(file), methods=["GET"]),
    ]
    # A page elsewhere that points its own name at this machine is turned away by the host it asks for.
    trusted = Middleware(TrustedHostMiddleware, allowed_hosts=["localhost", "127.0.0.1"], www_redirect=False)
    return _with_headers(Starlette(routes=routes, middleware=[trusted]))


async def _events(feed: Feed) -> AsyncGenerator[bytes, None]:
    async with contextlib.aclosing(feed.updates()) as updates:
        async for moment in updates:
            yield b"event: alive\ndata:\n\n" if moment is None else b"event: moment\ndata: " + moment + b"\n\n"


def _with_headers(inner: ASGIApp) -> ASGIApp:
    """Every answer, also a refusal, forbids what the page does not need."""
    extra = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *extra]
            await send(message)

        await inner(scope, receive, sending)

    return app

"""Puts the API server together and runs it on sockets that are already bound."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import uvicorn

from localcluster.apiserver import bootstrap, expiry
from localcluster.apiserver.authn import Authenticator
from localcluster.apiserver.errors import NotFoundError
from localcluster.apiserver.http.application import Application
from localcluster.apiserver.http.connection import HttpProtocol
from localcluster.apiserver.http.metrics import Metrics
from localcluster.apiserver.http.streams import Streams
from localcluster.apiserver.http.websocket_protocol import WebSocketProtocol
from localcluster.apiserver.kinds import KindInfo, Kinds
from localcluster.apiserver.resources import Resources
from localcluster.apiserver.settings import Settings
from localcluster.apiserver.storage import Store
from localcluster.apiserver.tokens import TokenAuthority

_logger = logging.getLogger(__name__)

_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 30.0
# Objects are trees, which go without the collector; with Python's thresholds it takes a third of a busy server's time
# to look at thousands of them that stay.
_COLLECTOR_THRESHOLDS = (50_000, 20, 20)
# Open watches never end by themselves; they may not hold up a shutdown.
_SHUTDOWN_SECONDS = 1


async def serve(settings: Settings, sockets: Sequence[socket.socket]) -> None:
    """Serve the API on `sockets` until SIGTERM or SIGINT. StorageError if the database can't be opened."""
    store = Store(settings.paths.database)
    resources = Resources(store, Kinds(), settings)
    try:
        await bootstrap.populate(resources, settings)
        node = settings.paths.node_socket
        application = Application(
            resources,
            _authenticator(resources, settings),
            Streams(resources, node),
            Metrics(resources, node),
            settings.paths.audit_log,
        )
        background = [
            asyncio.create_task(supervise("controllers", lambda: _controllers(resources, settings))),
            asyncio.create_task(supervise("definitions", lambda: resources.definitions.run(resources))),
            asyncio.create_task(supervise("expiry", lambda: expiry.run(resources))),
        ]
        # What was loaded lives as long as the process; the collector need not look at it again.
        gc.freeze()
        gc.set_threshold(*_COLLECTOR_THRESHOLDS)
        try:
            await _Server(_configuration(application, settings)).serve(sockets=list(sockets))
        finally:
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
    finally:
        await resources.close()
        await store.close()


def _authenticator(resources: Resources, settings: Settings) -> Authenticator:
    async def look_up(kind: KindInfo, namespace: str, name: str) -> dict[str, Any] | None:
        try:
            return await resources.get(kind, namespace, name)
        except NotFoundError:
            return None

    pki = settings.pki
    return Authenticator(pki.admin_token, pki.node_token, TokenAuthority(pki.service_account_key, look_up))


async def _controllers(resources: Resources, settings: Settings) -> None:
    from localcluster import controllers

    await controllers.run(resources, settings)


async def supervise(name: str, start: Callable[[], Awaitable[None]]) -> None:
    """Run `start` for ever: when it fails it is logged and begun again, after a pause that doubles up to 30 s."""
    pause = _FIRST_PAUSE_SECONDS
    loop = asyncio.get_running_loop()
    while True:
        began = loop.time()
        try:
            await start()
            _logger.error("%s ended; beginning again in %.1f s", name, pause)
        except Exception:
            _logger.exception("%s failed; beginning again in %.1f s", name, pause)
        if loop.time() - began > _LONGEST_PAUSE_SECONDS:
            pause = _FIRST_PAUSE_SECONDS
        await asyncio.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._stopping = asyncio.Event()

    async def main_loop(self) -> None:
        """Wait for the end. Uvicorn's own loop wakes ten times a second, only to keep a Date header current."""
        await self._stopping.wait()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """End in order on SIGTERM and SIGINT; uvicorn would kill the process before the database is closed."""
        loop = asyncio.get_running_loop()

        def stop() -> None:
            self.should_exit = True
            self._stopping.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop)
        yield


def _configuration(application: Application, settings: Settings) -> uvicorn.Config:
    return uvicorn.Config(
        application,
        lifespan="off",
        log_config=None,
        access_log=False,
        http=HttpProtocol,
        ws=WebSocketProtocol,
        ws_per_message_deflate=False,
        server_header=False,
        # Nobody stands between a client and this server, so nobody else may say whose address a request comes from.
        proxy_headers=False,
        date_header=False,
        ssl_certfile=str(settings.pki.certificate_file),
        ssl_keyfile=str(settings.pki.key_file),
        timeout_keep_alive=90,
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
    )

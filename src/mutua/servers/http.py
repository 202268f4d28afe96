"""Running an HTTP application inside a program: no signals of its own, TLS whose certificate can be changed."""

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import AsyncIterator

import uvicorn
from starlette.types import ASGIApp

from mutua.errors import UnavailableError

_SHUTDOWN_SECONDS = 3


class ServingCertificate:
    """A TLS server's certificate that is replaced while the server runs; the key is never written to a disk."""

    def __init__(self, certificate_chain: bytes, private_key: bytes) -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.replace(certificate_chain, private_key)

    def replace(self, certificate_chain: bytes, private_key: bytes) -> None:
        """New connections see this chain (PEM, leaf first). Raises ssl.SSLError if chain and key do not fit."""
        # OpenSSL's loader wants a file: one in memory that no other process can name.
        descriptor = os.memfd_create("serving-certificate", os.MFD_CLOEXEC)
        with os.fdopen(descriptor, "wb") as file:
            file.write(private_key.rstrip() + b"\n" + certificate_chain)
            file.flush()
            self.context.load_cert_chain(f"/proc/self/fd/{descriptor}")


@contextlib.asynccontextmanager
async def serving(
    app: ASGIApp, host: str, port: int, certificate: ServingCertificate | None = None
) -> AsyncIterator[int]:
    """Serves `app` while the block runs; the port, which was chosen if `port` is 0. Raises UnavailableError."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=256)
    except OSError as error:
        raise UnavailableError(
            f"cannot listen on {host}:{port}: {error.strerror}", "is another program using the port?"
        ) from error
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        server_header=False,
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
        ssl_context_factory=None if certificate is None else lambda _config, _default: certificate.context,
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]), name=f"http {port}")
    try:
        await server.up.wait()
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        await asyncio.gather(task, return_exceptions=True)
        listener.close()


class _Server(uvicorn.Server):
    """Leaves signals to the program, and says when it is up."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        finally:
            self.up.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # A TLS peer that keeps an idle connection would be waited for: it answers our goodbye when it likes.
        for connection in list(self.server_state.connections):
            cycle = getattr(connection, "cycle", None)
            if cycle is None or cycle.response_complete:
                connection.transport.abort()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def]
        yield

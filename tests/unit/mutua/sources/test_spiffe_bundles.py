"""SPIFFE bundle end points: over HTTPS alone, by the rules of issuers' keys."""

import asyncio
import base64
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from fakes.certificates import root_authority
from fakes.serving_certificate import self_signed
from mutua.sources.key_sets import may_be_dialled
from mutua.sources.spiffe_bundles import SpiffeBundles

ROOT = root_authority()
DER = base64.b64encode(ROOT.certificate.public_bytes(Encoding.DER)).decode()
BUNDLE = msgspec.json.encode({"keys": [{"kty": "EC", "use": "x509-svid", "x5c": [DER]}]})


@contextlib.asynccontextmanager
async def end_point(body: bytes, folder: Path) -> AsyncIterator[tuple[str, ssl.SSLContext]]:
    """An HTTPS server on the loopback that answers with `body`; its address, and a client's settings that trust it."""
    certificate, key = self_signed("localhost")
    path = folder / "server.pem"
    path.write_bytes(certificate + key)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body) + body)
        await writer.drain()
        writer.close()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield f"https://localhost:{port}/bundle", ssl.create_default_context(cadata=certificate.decode())


async def outcome(location: str, tls: ssl.SSLContext | None = None, *, judged: bool = False) -> tuple[str, str]:
    """Roots and problem of one location, once there is either."""
    made = SpiffeBundles(lambda: None, judge=may_be_dialled if judged else lambda _: True, tls=tls)
    made.want(frozenset({location}))
    running = asyncio.create_task(made.run())
    try:
        async with asyncio.timeout(10):
            while not made.current and not made.problems:  # noqa: ASYNC110 - a failure has no event
                await asyncio.sleep(0.01)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    return made.current.get(location, ""), made.problems.get(location, "")


async def test_another_mesh_s_roots_are_fetched(tmp_path: Path) -> None:
    async with end_point(BUNDLE, tmp_path) as (location, tls):
        assert await outcome(location, tls) == (ROOT.root_bundle, "")


async def test_what_is_no_bundle_gives_no_roots(tmp_path: Path) -> None:
    async with end_point(b'{"keys": []}', tmp_path) as (location, tls):
        roots, problem = await outcome(location, tls)
    assert roots == ""
    assert "no X.509 roots" in problem


async def test_a_server_that_nobody_vouches_for_gives_no_roots(tmp_path: Path) -> None:
    async with end_point(BUNDLE, tmp_path) as (location, _):
        roots, problem = await outcome(location)
    assert roots == ""
    assert "certificate" in problem.lower()


@pytest.mark.parametrize("location", ["http://partner.org/bundle", "file:///etc/passwd"])
async def test_plaintext_is_never_believed(location: str) -> None:
    assert "is not https" in (await outcome(location))[1]


async def test_the_control_plane_cannot_be_made_to_call_itself(tmp_path: Path) -> None:
    async with end_point(BUNDLE, tmp_path) as (location, tls):
        assert "no keys are fetched from" in (await outcome(location, tls, judged=True))[1]

"""Asking the API server whose a token is: the one request that a whole fleet causes at once, so by the fastest client.

Through the client that does everything else here, a review costs more than the certificate that it is for.
"""

import ssl
from collections.abc import Sequence
from typing import Any

import aiohttp
import httpx2
import msgspec

from mutua.system import kube_errors

CONNECTIONS = 8
"""Reviews beyond these wait: each would open a connection, and a TLS handshake costs more than a review."""

_ACTION = "review a token"
_REFUSED = 401
_FIRST_ERROR = 300  # an API server redirects nobody, and a token goes nowhere else


class _Review(msgspec.Struct):
    status: dict[str, Any] | None = None


_review = msgspec.json.Decoder(_Review)


class TokenReviews:
    """Kept connections to one API server; made where an event loop runs."""

    def __init__(
        self,
        url: httpx2.URL,
        auth: httpx2.Auth | None,
        tls: ssl.SSLContext | bool,
        *,
        user_agent: str,
        timeout_seconds: float,
        uses_proxy: bool,
    ) -> None:
        """`url` is the one of the reviews; `auth` says who asks, and gets a second try where it was refused."""
        self._url = url
        self._text = str(url)
        self._server = f"{url.scheme}://{url.netloc.decode('ascii')}"
        self._auth = auth
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=tls, limit=CONNECTIONS),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={
                "Accept": "application/json",
                "Accept-Encoding": "identity",
                "Content-Type": "application/json",
                "User-Agent": user_agent,
            },
            # Not of the whole: it would count the wait for one of the connections.
            timeout=aiohttp.ClientTimeout(sock_connect=timeout_seconds, sock_read=timeout_seconds),
            trust_env=uses_proxy,
        )

    async def close(self) -> None:
        """Closes all connections."""
        await self._session.close()

    async def status(self, token: str, audiences: Sequence[str]) -> dict[str, Any]:
        """The `status` of a TokenReview: `authenticated`, `user`, `audiences`, `error`. Raises KubeError."""
        body = msgspec.json.encode(
            {
                "apiVersion": "authentication.k8s.io/v1",
                "kind": "TokenReview",
                "spec": {"token": token, "audiences": list(audiences)},
            }
        )
        code, answer = await self._as_user(body)
        if code >= _FIRST_ERROR:
            raise kube_errors.from_response(code, answer, _ACTION)
        try:
            return _review.decode(answer).status or {}
        except msgspec.DecodeError as error:
            raise kube_errors.KubeError(f"cannot {_ACTION}: the API server's answer cannot be read: {error}") from error

    async def _as_user(self, body: bytes) -> tuple[int, bytes]:
        if self._auth is None:
            return await self._post({}, body)
        flow = self._auth.async_auth_flow(httpx2.Request("POST", self._url))
        try:
            request = await anext(flow)
            while True:
                code, answer = await self._post({"Authorization": request.headers["Authorization"]}, body)
                if code != _REFUSED:
                    return code, answer
                try:
                    request = await flow.asend(httpx2.Response(code))
                except StopAsyncIteration:
                    return code, answer
        finally:
            await flow.aclose()

    async def _post(self, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        try:
            try:
                return await self._post_once(headers, body)
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                # A kept connection ends at the moment it is used again; asking twice changes nothing there.
                return await self._post_once(headers, body)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise kube_errors.unreachable(self._server, error) from error

    async def _post_once(self, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        posted = self._session.post(self._text, data=body, headers=headers, allow_redirects=False)
        async with posted as response:
            return response.status, await response.read()

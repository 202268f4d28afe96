"""Calls webhooks, of admission and of conversion: over TLS that their configuration trusts, within their time."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from localcluster.apiserver.admission.endpoint import UnreachableError, targets, trust
from localcluster.apiserver.storage import Store

if TYPE_CHECKING:
    import httpx2

Object = dict[str, Any]
_CONNECT_SECONDS = 3.0
_LARGEST_ANSWER_BYTES = 16 * 2**20


class WebhookFailureError(Exception):
    """The webhook could not be asked, or its answer not be understood."""


class Caller:
    """The connections to all webhooks."""

    def __init__(self, store: Store) -> None:
        """Find services' endpoints in `store`."""
        self._store = store
        self._clients: dict[ssl.SSLContext, httpx2.AsyncClient] = {}

    async def post(self, client_config: Mapping[str, Any], review: Object, timeout_seconds: int) -> Object:
        """The answer to a review. WebhookFailureError."""
        import httpx2

        try:
            client = self._client(trust(client_config.get("caBundle") or ""))
            places = targets(self._store, client_config)
        except UnreachableError as error:
            raise WebhookFailureError(str(error)) from error
        problem: Exception = WebhookFailureError("nothing answered")
        try:
            async with asyncio.timeout(timeout_seconds):
                # Once more at the end: a kept connection may have been closed by the other side in the meantime.
                for place in (*places, places[0]):
                    try:
                        async with client.stream(
                            "POST",
                            place.url,
                            params={"timeout": f"{timeout_seconds}s"},
                            json=review,
                            headers={"Host": place.host},
                            # Connects to the pod's address, but the certificate must be the service's.
                            extensions={"sni_hostname": place.host},
                        ) as response:
                            return _decoded(place.url, response.status_code, await _content(response))
                    except httpx2.TransportError as error:
                        problem = error
        except TimeoutError as error:
            raise WebhookFailureError(f"no answer within {timeout_seconds} s (context deadline exceeded)") from error
        raise WebhookFailureError(f"Post {places[0].url}: {problem!r}") from problem

    def _client(self, context: ssl.SSLContext) -> httpx2.AsyncClient:
        import httpx2

        client = self._clients.get(context)
        if client is None:
            # The caller times the whole; an address where nobody is must leave time for the next one.
            limits = httpx2.Timeout(None, connect=_CONNECT_SECONDS)
            # No proxy from the environment: webhooks are in the cluster's own network.
            client = httpx2.AsyncClient(verify=context, trust_env=False, timeout=limits)
            self._clients[context] = client
        return client

    async def close(self) -> None:
        """Close all connections."""
        for client in self._clients.values():
            await client.aclose()


async def _content(response: httpx2.Response) -> bytes:
    """The body, which may not fill this server's memory."""
    pieces, size = [], 0
    async for piece in response.aiter_bytes():
        pieces.append(piece)
        size += len(piece)
        if size > _LARGEST_ANSWER_BYTES:
            raise WebhookFailureError(f"the answer is larger than {_LARGEST_ANSWER_BYTES} bytes")
    return b"".join(pieces)


def _decoded(url: str, code: int, content: bytes) -> Object:
    if code != 200:
        raise WebhookFailureError(f"{url} answered {code}: {content[:200].decode(errors='replace')}")
    try:
        answer = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise WebhookFailureError(f"the answer is not JSON: {error}") from error
    if not isinstance(answer, dict):
        raise WebhookFailureError(f"{url} answered with something that is no review")
    return answer

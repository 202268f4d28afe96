"""What the control plane tells operators about proxies, under `/debug` of its TLS port. Every page needs a credential.

The credential is a token for the audience `mutua-debug` of the service account of that name in the control plane's
namespace: so the cluster's own access rules (who may create tokens for it) decide who may look.
"""

import hashlib
import time
from collections.abc import Awaitable, Callable, Iterable
from http import HTTPStatus
from typing import Final, Protocol

import msgspec
from starlette.applications import Starlette
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mutua.ca.caller import TokenReviewStatus
from mutua.installation.access import DEBUG_ACCOUNT, DEBUG_AUDIENCE
from mutua.reports import envoy_words
from mutua.reports.proxy_status import PlaintextSeen, ProxyState, Rejected, TypeState, cause
from mutua.reports.traffic import TrafficPage
from mutua.servers.plaintext import Seen
from mutua.servers.xds_connection import ProxyStatus
from mutua.system.logs import Log
from mutua.xds.node import Node
from mutua.xds.sync_state import Sent

REMEMBERED_SECONDS: Final = 5.0
"""How long a token that was revoked may still open a page."""
_SCHEME: Final = "Bearer "
_log: Final = Log("debug")

Review = Callable[[str, tuple[str, ...]], Awaitable[TokenReviewStatus]]
"""(token, audiences) → what the API server says about it."""

Endpoint = Callable[[Request], Awaitable[Response]]


class SentTo(Protocol):
    """What the proxy of a pod was sent last, as `XdsServer.sent` tells it."""

    def __call__(self, namespace: str, pod: str, *, bodies: bool) -> Iterable[Sent]:
        """() if the pod's proxy is not connected."""


def application(
    review: Review,
    namespace: str,
    proxies: Callable[[str], Iterable[ProxyState]],
    plaintext: Callable[[str], Iterable[PlaintextSeen]],
    sent: SentTo,
    traffic: Callable[[str], Awaitable[TrafficPage]],
) -> Starlette:
    """The pages, each a list of JSON objects.

    `syncz`, `plaintext` and `traffic`, which has one: `?namespace=` chooses one, "" is all. `sent`: what the proxy of
    `?pod=` in `?namespace=` was sent last, with `&bodies=true` also the resources; they hold no key.
    """
    reviewed = _Reviewed(review)

    def page(content: Callable[[QueryParams], Iterable[msgspec.Struct]]) -> Endpoint:
        async def read(asked: QueryParams) -> Iterable[msgspec.Struct]:
            return content(asked)

        return awaited(read)

    def awaited(content: Callable[[QueryParams], Awaitable[Iterable[msgspec.Struct]]]) -> Endpoint:
        async def show(request: Request) -> Response:
            if refusal := await _refusal(request, reviewed, namespace):
                _log.warn("look refused", page=request.url.path, reason=refusal)
                return JSONResponse({"error": "a token for this page is needed"}, HTTPStatus.UNAUTHORIZED)
            shown = await content(request.query_params)
            return Response(msgspec.json.encode(list(shown)), media_type="application/json")

        return show

    def sent_to(asked: QueryParams) -> Iterable[Sent]:
        return sent(asked.get("namespace", ""), asked.get("pod", ""), bodies=asked.get("bodies") == "true")

    async def traffic_of(asked: QueryParams) -> Iterable[msgspec.Struct]:
        return [await traffic(asked.get("namespace", ""))]

    return Starlette(
        routes=[
            Route("/traffic", awaited(traffic_of)),
            Route("/syncz", page(lambda asked: proxies(asked.get("namespace", "")))),
            Route("/plaintext", page(lambda asked: plaintext(asked.get("namespace", "")))),
            Route("/sent", page(sent_to)),
        ]
    )


class _Reviewed:
    """Remembers for a moment which tokens are good, by their digest: who watches looks several times a second."""

    def __init__(self, review: Review) -> None:
        self._review = review
        self._good: dict[bytes, tuple[float, TokenReviewStatus]] = {}

    async def __call__(self, token: str, audiences: tuple[str, ...]) -> TokenReviewStatus:
        now, key = time.monotonic(), hashlib.sha256(token.encode()).digest()
        self._good = {each: entry for each, entry in self._good.items() if entry[0] > now}
        if key in self._good:
            return self._good[key][1]
        status = await self._review(token, audiences)
        if status.authenticated:
            self._good[key] = (now + REMEMBERED_SECONDS, status)
        return status


async def _refusal(request: Request, review: Review, namespace: str) -> str:
    """Why the caller may not look; "" if it may. Whatever goes wrong is a no."""
    header = request.headers.get("authorization", "")
    if not header.startswith(_SCHEME):
        return "no bearer token"
    try:
        status = await review(header.removeprefix(_SCHEME), (DEBUG_AUDIENCE,))
    except Exception as error:
        return f"the token cannot be reviewed: {error!r}"
    if not status.authenticated or DEBUG_AUDIENCE not in status.audiences:
        return status.error or "not a token for this audience"
    wanted = f"system:serviceaccount:{namespace}:{DEBUG_ACCOUNT}"
    return "" if status.user.username == wanted else f"a token of {status.user.username}, not of {wanted}"


def proxy_states(
    statuses: Iterable[ProxyStatus], control_plane: str, version: str, cluster: str, rule_of: Callable[[Node, str], str]
) -> list[ProxyState]:
    """The proxies of this replica. `rule_of` names the object that shaped a cluster, "" if none did."""
    return [
        ProxyState(
            pod=each.node.pod,
            namespace=each.node.namespace,
            identity=str(each.identity),
            control_plane=control_plane,
            version=version,
            cluster=cluster,
            error=each.error,
            mode=each.inbound.default_mode,
            port_modes=each.inbound.all_port_modes,
            types=tuple(
                TypeState(
                    item.type,
                    item.state,
                    tuple(
                        Rejected(name, envoy_words.reason(words), cause(name, words, rule_of(each.node, name)))
                        for name, words in item.rejected
                    ),
                )
                for item in each.types
            ),
        )
        for each in statuses
    ]


def plaintext_seen(edges: Iterable[Seen]) -> list[PlaintextSeen]:
    """What was seen without mutual TLS."""
    return [
        PlaintextSeen(
            each.edge.client,
            each.edge.server,
            each.edge.port,
            each.edge.refused,
            each.connections,
            each.edge.reason,
            f"{each.edge.would_refuse.namespace}/{each.edge.would_refuse.name}" if each.edge.would_refuse else "",
            each.would_refuse,
            each.first,
            each.last,
        )
        for each in edges
    ]

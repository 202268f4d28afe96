"""The API server as an ASGI application: who may come in, and which part answers."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from localcluster.apiserver import tokens
from localcluster.apiserver.authn import Authenticator
from localcluster.apiserver.authorization.rules import Attributes
from localcluster.apiserver.context import UserInfo
from localcluster.apiserver.errors import (
    ApiError,
    BadRequestError,
    InternalServerError,
    UnauthorizedError,
)
from localcluster.apiserver.http import access, audit, discovery, negotiation, targets
from localcluster.apiserver.http.metrics import GROUP as METRICS
from localcluster.apiserver.http.metrics import Metrics
from localcluster.apiserver.http.requests import Requests
from localcluster.apiserver.http.streams import SUBRESOURCES as STREAMS
from localcluster.apiserver.http.streams import Streams
from localcluster.apiserver.http.subresources import ACTIONS, REVIEWS, Actions
from localcluster.apiserver.http.verbs import Verbs
from localcluster.apiserver.resources import Resources

_logger = logging.getLogger(__name__)
_HEALTH = re.compile(r"/(healthz|livez|readyz)(/ping)?")
_AGGREGATED = "APIGroupDiscoveryList"


class Application:
    """Answers HTTP requests and WebSocket upgrades."""

    def __init__(
        self,
        resources: Resources,
        authenticator: Authenticator,
        streams: Streams,
        metrics: Metrics,
        audit_log: Path,
    ) -> None:
        """Serve `resources` to whom `authenticator` knows; pods' streams and measures come from the node.

        While there is a file `audit_log`, every request is told in it.
        """
        self._audit_log = audit_log
        self._requests = Requests()
        self._resources = resources
        self._authenticator = authenticator
        self._streams = streams
        self._metrics = metrics
        self._verbs = Verbs(resources)
        self._actions = Actions(resources, authenticator)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI's entry."""
        trail = audit.begin(self._audit_log, scope)
        if trail is not None:
            send = trail.sending(send, long=scope["type"] == "websocket" or b"watch=" in scope["query_string"])
        try:
            if scope["type"] == "websocket":
                await self._websocket(WebSocket(scope, receive, send))
                return
            request = Request(scope, receive)
            response = await self._guarded(request)
            self._requests.count(request.method, response.status_code)
            await response(scope, receive, send)
        finally:
            if trail is not None:
                trail.ended()

    async def _guarded(self, request: Request) -> Response:
        try:
            return await self._respond(request)
        except ApiError as error:
            return self._refused(request, error)
        except Exception:
            _logger.exception("%s %s failed", request.method, request.url.path)
            return self._refused(
                request,
                InternalServerError("Internal error occurred: this is a bug; the API server's log has the details"),
            )

    @staticmethod
    def _refused(connection: HTTPConnection, error: ApiError) -> Response:
        if (trail := audit.of(connection.scope)) is not None:
            trail.failed(error)
        return negotiation.failure(error)

    async def _respond(self, request: Request) -> Response:
        path = request.scope["path"]
        if _HEALTH.fullmatch(path):
            return PlainTextResponse("ok")
        if path in ("/version", "/version/"):
            return negotiation.answer(discovery.VERSION)
        user = await self._caller(request)
        if not targets.names_resource(path):
            self._authorize(request, access.of_path(request.method, path, user))
            document = self._document(request, path)
            if document is None:
                raise targets.unknown_path()
            return document
        target = targets.parse(path, self._resources.kinds)
        self._authorize(
            request, access.of_target(request.method, request.query_params, target, user), target.kind.version
        )
        if target.subresource in STREAMS:
            await self._streams.refuse_without_websocket(request, target)
        if target.kind.group == METRICS:
            return await self._metrics.answer(request, target)
        if target.subresource == "log":
            return await self._streams.logs(request, target)
        if target.subresource in ACTIONS or target.kind.plural in REVIEWS:
            return await self._actions.answer(request, target, user)
        return await self._verbs.answer(request, target, user)

    async def _caller(self, connection: HTTPConnection) -> UserInfo:
        """Who is authenticated, or whom it may act as. UnauthorizedError, ForbiddenError."""
        headers = connection.headers
        user = await self._authenticator.authenticate(headers.get("authorization"))
        if user is None:
            raise UnauthorizedError
        trail = audit.of(connection.scope)
        if trail is not None:
            trail.caller(user, user)
        acts_as = access.impersonated(headers, headers.getlist("impersonate-group"), user, self._resources.authorizer)
        if trail is not None:
            trail.caller(user, acts_as)
        return acts_as

    def _authorize(self, connection: HTTPConnection, wanted: Attributes, api_version: str = "") -> None:
        """ForbiddenError if the caller may not."""
        trail = audit.of(connection.scope)
        if trail is not None:
            trail.asked(wanted, api_version)
        self._resources.authorizer.require(wanted)
        if trail is not None:
            trail.allowed()

    def _document(self, request: Request, path: str) -> Response | None:
        """Discovery and OpenAPI; None if the path is neither."""
        kinds = self._resources.kinds
        steps = path.strip("/").split("/")
        shown: dict[str, Any] | None
        match steps:
            case ["api"] | ["apis"]:
                wanted = negotiation.wanted(request, views=("", _AGGREGATED))
                if wanted.view and wanted.version in ("v2", "v2beta1"):
                    shown = discovery.aggregated(kinds, core=steps == ["api"], version=wanted.version)
                    media_type = f"{negotiation.JSON};g=apidiscovery.k8s.io;v={wanted.version};as={_AGGREGATED}"
                    return Response(negotiation.encode(shown), media_type=media_type)
                shown = discovery.api_versions() if steps == ["api"] else discovery.group_list(kinds)
            case ["api", version]:
                shown = discovery.resource_list(kinds, "", version)
            case ["apis", group]:
                shown = discovery.group(kinds, group)
            case ["apis", group, version]:
                shown = discovery.resource_list(kinds, group, version)
            case ["openapi", "v2"]:
                from localcluster.apiserver import openapi

                if openapi.V2_PROTOBUF in request.headers.get("accept", ""):
                    return Response(openapi.V2_WITHOUT_KINDS, media_type=openapi.V2_PROTOBUF.replace("@", "."))
                negotiation.wanted(request, views=("",))
                shown = openapi.v2_document(kinds)
            case ["openapi", "v3"]:
                from localcluster.apiserver import openapi

                shown = openapi.v3_index(kinds)
            case ["openapi", "v3", *group_version]:
                from localcluster.apiserver import openapi

                negotiation.wanted(request, views=("",))
                shown = openapi.v3_document("/".join(group_version), kinds)
            case [".well-known", "openid-configuration"]:
                shown = tokens.issuer_configuration()
            case ["metrics"]:
                return PlainTextResponse(self._requests.exposition(), media_type="text/plain; version=0.0.4")
            case ["openid", "v1", "jwks"]:
                key_set = tokens.key_set(self._authenticator.authority.key)
                return Response(negotiation.encode(key_set), media_type="application/jwk-set+json")
            case [""]:
                shown = {
                    "paths": [
                        "/.well-known/openid-configuration",
                        "/api",
                        "/apis",
                        "/healthz",
                        "/livez",
                        "/metrics",
                        "/openapi/v2",
                        "/openapi/v3",
                        "/openid/v1/jwks",
                        "/readyz",
                        "/version",
                    ]
                }
            case _:
                return None
        if shown is None:
            raise targets.unknown_path()
        return negotiation.answer(shown)

    async def _websocket(self, websocket: WebSocket) -> None:
        try:
            user = await self._caller(websocket)
            target = targets.parse(websocket.scope["path"], self._resources.kinds)
            self._authorize(websocket, access.of_target("GET", {}, target, user), target.kind.version)
            if target.subresource not in STREAMS:
                raise BadRequestError("only pods' exec, attach and portforward are spoken over WebSocket")
        except ApiError as error:
            await websocket.send_denial_response(self._refused(websocket, error))
            return
        await self._streams.connect(websocket, target)

"""The agent's web application on port 15020: a list of routes, each subject's in a file of its own."""

import asyncio
from collections.abc import Callable, Iterable
from ipaddress import ip_address

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from mutua.errors import UnavailableError
from mutua.system import envoy_admin

_OK = 200


def application(*routes: Iterable[BaseRoute]) -> Starlette:
    """Everything is answered in plaintext to whoever reaches the pod: a route says itself whom it answers."""
    return Starlette(routes=[route for part in routes for route in part])


def own_routes(readiness_port: int, stop: Callable[[], None]) -> list[BaseRoute]:
    """Whether Envoy is ready; and the end of the sidecar, for a Job that has done its work. Source: Istio."""

    async def ready(_request: Request) -> Response:
        try:
            code, _ = await asyncio.to_thread(
                envoy_admin.request, "GET", "/healthz/ready", port=readiness_port, timeout_seconds=1
            )
        except UnavailableError as error:
            return PlainTextResponse(f"{error.message}\n", 503)
        return PlainTextResponse("", 200 if code == _OK else 503)

    async def end(request: Request) -> Response:
        if request.client is None or not ip_address(request.client.host).is_loopback:
            return PlainTextResponse("only the pod itself may end its sidecar\n", 403)
        stop()
        return PlainTextResponse("OK\n")

    return [Route("/healthz/ready", ready), Route("/quitquitquit", end, methods=["POST"])]

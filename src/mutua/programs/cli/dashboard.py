"""`mutua dashboard`: a page about the mesh, served to this machine only, behind a word that only its address holds."""

import asyncio
import contextlib
import hmac
import os
import secrets
import webbrowser
from typing import Annotated

import typer
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from mutua.analysis import run
from mutua.errors import MutuaError, UnsupportedError
from mutua.programs.cli import common, control_plane, live
from mutua.programs.cli.main import Options
from mutua.reports import dashboard as report
from mutua.reports.proxy_status import PlaintextSeen
from mutua.servers import http
from mutua.system.kube import KubeClient

_PAGES = ("", "kiali", "mutua")
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def dashboard(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="kiali, or nothing: there is one page.", show_default=False)] = "",
    port: Annotated[int, typer.Option("--port", "-p", help="Local port; 0 chooses one.")] = 0,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open a browser.")] = True,
) -> None:
    """Serve a page about the mesh on this machine until interrupted: workloads, modes, plaintext, findings."""
    if name not in _PAGES:
        raise UnsupportedError(f'there is no dashboard "{name}"', "`mutua dashboard` shows the one that there is")

    async def serve(kube: KubeClient, chosen: Options) -> None:
        # Fails before an address is printed if the cluster cannot be read.
        await live.world(kube, chosen)
        word = secrets.token_urlsafe(16)
        async with http.serving(_application(kube, chosen, word), "127.0.0.1", port) as bound:
            address = f"http://localhost:{bound}/{word}/"
            print(address, flush=True)
            if not browser:
                common.say("skipping opening a browser")
            elif any(os.environ.get(key) for key in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")):
                await asyncio.to_thread(webbrowser.open, address)
            await asyncio.Event().wait()

    with contextlib.suppress(KeyboardInterrupt):
        common.with_kube(context, serve)


def _application(kube: KubeClient, chosen: Options, word: str) -> Starlette:
    async def show(request: Request) -> Response:
        if not hmac.compare_digest(request.path_params["word"].encode(), word.encode()):
            return PlainTextResponse("not found", 404)
        try:
            return HTMLResponse(report.page(await _overview(kube, chosen)), headers=_HEADERS)
        except MutuaError as error:
            return PlainTextResponse(str(error), 502, headers=_HEADERS)

    # A page elsewhere that points its own name at this machine is turned away by the host it asks for.
    trusted = Middleware(TrustedHostMiddleware, allowed_hosts=["localhost", "127.0.0.1"])
    return Starlette(routes=[Route("/{word}/", show, methods=["GET"])], middleware=[trusted])


async def _overview(kube: KubeClient, chosen: Options) -> report.Overview:
    read = await live.world(kube, chosen)
    seen: list[PlaintextSeen] = []
    trouble = ""
    try:
        seen = await control_plane.plaintext(kube, chosen)
    except MutuaError as error:
        trouble = f"Not known: {error.message}"
    now = f"{read.now:%Y-%m-%d %H:%M:%S} UTC" if read.now else ""
    return report.Overview(live.snapshot(read), run.analyze(read), seen, trouble, now)

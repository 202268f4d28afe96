"""`mutua dashboard`: the live graph of a mesh, for this machine only, behind a word that only its address holds."""

import asyncio
import contextlib
import os
import secrets
import tempfile
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from mutua.api.meta import duration_seconds
from mutua.errors import InvalidInputError, UnsupportedError
from mutua.programs.cli import common, dashboard_reads, live
from mutua.programs.cli.dashboard_reads import ClusterReads
from mutua.programs.cli.main import Options
from mutua.servers import dashboard as server
from mutua.servers import http
from mutua.servers.dashboard import Feed
from mutua.system.kube import KubeClient

_PAGES = ("", "kiali", "mutua")
_WINDOW_AT_LEAST, _WINDOW_AT_MOST = 10.0, 3600.0


def dashboard(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="kiali, or nothing: there is one page.", show_default=False)] = "",
    port: Annotated[int, typer.Option("--port", "-p", help="Local port; 0 chooses one.")] = 0,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open a browser.")] = True,
    window: Annotated[str, typer.Option("--window", help="How far back rates and locks look, 10s to 1h.")] = "1m",
) -> None:
    """Serve the live graph of the mesh on this machine until interrupted: who calls whom, with and without mTLS."""
    if name not in _PAGES:
        raise UnsupportedError(f'there is no dashboard "{name}"', "`mutua dashboard` shows the one that there is")
    seconds = _window_seconds(window)

    async def serve(kube: KubeClient, chosen: Options) -> None:
        # Fails before an address is printed if the cluster cannot be read.
        await live.world(kube, chosen)
        feed = Feed(ClusterReads(kube, chosen, seconds).watching, dashboard_reads.POLL_SECONDS)
        word = secrets.token_urlsafe(16)
        async with http.serving(server.application(word, feed), "127.0.0.1", port) as bound:
            address = f"http://localhost:{bound}/{word}/"
            print(address, flush=True)
            with tempfile.TemporaryDirectory(prefix="mutua-dashboard-") as folder:
                if not browser:
                    common.say("skipping opening a browser")
                elif any(os.environ.get(key) for key in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")):
                    await asyncio.to_thread(webbrowser.open, _door(Path(folder), address).as_uri())
                await feed.run()

    with contextlib.suppress(KeyboardInterrupt):
        common.with_kube(context, serve)


def _door(folder: Path, address: str) -> Path:
    """A file that leads to the address. Everybody on this machine sees a browser's arguments, but only we the file."""
    door = folder / "dashboard.html"
    door.write_text(
        f'<!doctype html><meta http-equiv="refresh" content="0; url={address}"><a href="{address}">mutua</a>'
    )
    return door


def _window_seconds(text: str) -> float:
    try:
        seconds = duration_seconds(text)
    except ValueError as error:
        raise InvalidInputError(f"--window: {error}") from error
    if not _WINDOW_AT_LEAST <= seconds <= _WINDOW_AT_MOST:
        raise InvalidInputError(f"--window {text} is not between 10s and 1h", "1m shows what happens now")
    return seconds

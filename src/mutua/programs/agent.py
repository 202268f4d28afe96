"""`mutua-agent`: what runs beside an application. Starts Envoy, then keeps it in certificates."""

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from mutua.envoy.bootstrap import ADMIN_PORT, PEER_VARIABLE, READINESS_PORT, bootstrap, own_names
from mutua.errors import MutuaError, UnavailableError
from mutua.programs import agent_settings
from mutua.programs.agent_settings import AgentSettings
from mutua.system import files, logs, processes, sockets

_OK = 200


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit code."""
    options = _parser().parse_args(arguments)
    logs.configure()
    try:
        match options.command:
            case "proxy":
                return _proxy(options)
            case "request":
                return _request(options.method, options.path)
            case _:
                return _wait(options.timeout_seconds, options.period_millis / 1000, options.url_port)
    except (MutuaError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _proxy(options: argparse.Namespace) -> int:
    processes.leave_no_core()
    # As a container's first process we would lose a SIGTERM that comes before there is a handler; now it waits.
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT))
    settings = agent_settings.read(
        os.environ,
        labels=_labels(),
        version=metadata.version("mutua"),
        cluster_domain=options.domain.partition(".svc.")[2] or "cluster.local",
        proxy_log_level=options.proxy_log_level,
        component_log_level=options.component_log_level,
    )
    logs.Log("agent").info(
        "starting",
        node=settings.bootstrap.node_id,
        identity=settings.identity,
        control_plane=settings.renewal_address,
        rotation_at=f"{1 - settings.grace_ratio:.0%}",
    )
    for folder in (settings.config_folder, settings.socket_path.parent):
        files.ensure_private_folder(folder)
    # Envoy asks for its certificate before there is anybody to answer; to wait here costs it no line of the log.
    waiting = sockets.listening(settings.socket_path)
    # Envoy first: it needs as long to start as we do, and at this moment this process has one thread.
    envoy = _start_envoy(settings)
    import asyncio

    from mutua.programs import agent_session

    return asyncio.run(agent_session.run(settings, envoy, waiting))


def _start_envoy(settings: AgentSettings) -> "subprocess.Popen[bytes]":
    binary = processes.envoy_binary()
    config = settings.config_folder / "envoy-rev.json"
    files.write_atomically(config, bootstrap(settings.bootstrap))
    command = [
        str(binary),
        *("--config-path", str(config)),
        "--disable-hot-restart",
        *("--concurrency", str(settings.concurrency)),
        *("--drain-time-s", str(max(1, round(settings.drain.total_seconds())))),
        *("--drain-strategy", "immediate"),
        # Access logs reach the reader while it still wonders; Envoy's own default is ten seconds.
        *("--file-flush-interval-msec", "200"),
        *("--log-level", settings.proxy_log_level),
        *("--component-log-level", settings.component_log_level),
    ]
    return processes.start(command, os.environ | {PEER_VARIABLE: own_names(settings.bootstrap).text})


def _labels() -> str:
    path = Path(os.environ.get("MUTUA_ROOT") or "/") / "etc/istio/pod/labels"
    try:
        return files.read_limited(path, 1024 * 1024).decode("utf-8", "replace")
    except FileNotFoundError:
        return ""


def _request(method: str, path: str) -> int:
    from mutua.system import envoy_admin

    status, body = envoy_admin.request(method.upper(), path if path.startswith("/") else f"/{path}", port=_admin_port())
    sys.stdout.buffer.write(body)
    sys.stdout.flush()
    return 0 if status == _OK else 1


def _wait(timeout_seconds: float, period_seconds: float, port: int) -> int:
    """Return once Envoy is ready; applications that must not start before it are held by this."""
    from mutua.system import envoy_admin

    end = time.monotonic() + timeout_seconds
    while True:
        try:
            status, _ = envoy_admin.request("GET", "/healthz/ready", port=port, timeout_seconds=1)
            reason = f"it answers {status}"
            if status == _OK:
                return 0
        except UnavailableError as error:
            reason = error.message
        if time.monotonic() >= end:
            raise UnavailableError(f"Envoy is not ready after {timeout_seconds:g} s: {reason}")
        time.sleep(period_seconds)


def _admin_port() -> int:
    return int(os.environ.get("ENVOY_ADMIN_PORT") or ADMIN_PORT)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mutua-agent", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True)
    proxy = commands.add_parser("proxy", help="run Envoy with certificates and configuration of the mesh")
    proxy.add_argument("role", choices=["sidecar"])
    proxy.add_argument("--domain", default="", help="<namespace>.svc.<cluster domain>")
    proxy.add_argument("--proxyLogLevel", dest="proxy_log_level", default="warning")
    proxy.add_argument("--proxyComponentLogLevel", dest="component_log_level", default="misc:error")
    request = commands.add_parser("request", help="ask Envoy's admin interface")
    request.add_argument("method", help="GET or POST")
    request.add_argument("path", help="for example config_dump")
    wait = commands.add_parser("wait", help="wait until Envoy is ready")
    wait.add_argument("--timeoutSeconds", dest="timeout_seconds", type=float, default=60)
    wait.add_argument("--periodMillis", dest="period_millis", type=float, default=500)
    wait.add_argument("--port", dest="url_port", type=int, default=READINESS_PORT)
    return parser


if __name__ == "__main__":
    sys.exit(main())

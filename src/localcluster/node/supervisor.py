"""The node process: PID 1 of the cluster. It keeps the API server alive and runs the node agent."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from localcluster import images
from localcluster.host_ports import HostPorts
from localcluster.images import Image
from localcluster.node import rootfs
from localcluster.node.processes import Child, Processes
from localcluster.node.runtime import ExitStatus, Network, Runtime
from localcluster.paths import ClusterPaths

logger = logging.getLogger(__name__)

_AGENT = "localcluster.node.agent"
_FIRST_DELAY_SECONDS = 0.1
_LONGEST_DELAY_SECONDS = 5.0
_STABLE_SECONDS = 10.0
_STARTS_TO_TRY = 3
_API_STOP_SECONDS = 3.0
_AGENT_STOP_SECONDS = 5.0


class NodeError(Exception):
    """The node cannot go on; `hint` says where to look."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True)
class NodeContext:
    """What `localcluster.node.agent.run(context)` works with.

    The agent calls `report_ready` once its Node object is Ready. It runs until `stopping` is set, then ends its pods
    within `grace_seconds` and returns. `images` are the built-in ones with those of images.json on top. The node's
    network (bridge, 10.96.0.1 and 10.96.0.10 on `lo`) is set up before the agent starts.
    """

    paths: ClusterPaths
    runtime: Runtime
    network: Network
    images: Mapping[str, Image]
    host_ports: HostPorts
    report_ready: Callable[[], None]
    stopping: asyncio.Event
    grace_seconds: float = 2.0


def main(
    paths: ClusterPaths, api_sockets: Sequence[socket.socket], outside: socket.socket, ready: Callable[[], None]
) -> None:
    """Run the node until SIGTERM. `api_sockets` listen for the API, `outside` leads to `host_ports`' helper.

    Raises NodeError.
    """
    asyncio.run(_run(paths, api_sockets, outside, ready))


async def _run(
    paths: ClusterPaths, api_sockets: Sequence[socket.socket], outside: socket.socket, ready: Callable[[], None]
) -> None:
    processes = Processes()
    processes.start()
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    # First of all, even before the rest of the node's own code is loaded: the API server needs the longest to start.
    server = ApiServer(processes, paths, [listener.fileno() for listener in api_sockets])
    serving = asyncio.create_task(server.run(), name="API server")
    await asyncio.sleep(0)
    from localcluster.node.network import BridgeNetwork
    from localcluster.node.runtime_linux import LinuxRuntime

    agent: Callable[[NodeContext], Awaitable[None]] = importlib.import_module(_AGENT).run
    network = BridgeNetwork()
    await network.setup_node()

    def report_ready() -> None:
        server.was_ready = True
        ready()

    context = NodeContext(
        paths=paths,
        runtime=LinuxRuntime(processes, rootfs.host_layout(paths.directory.parent), _staging(paths), tools()),
        network=network,
        images=images.load(paths),
        host_ports=HostPorts(outside),
        report_ready=report_ready,
        stopping=stopping,
    )
    working = asyncio.ensure_future(agent(context))
    stop_requested = asyncio.create_task(stopping.wait(), name="stop")
    await asyncio.wait((serving, working, stop_requested), return_when=asyncio.FIRST_COMPLETED)
    stopping.set()
    await asyncio.wait((working,), timeout=context.grace_seconds + _AGENT_STOP_SECONDS)
    for task in (working, stop_requested):
        if task.cancel():
            logger.warning("%s was still at work", task)
    await server.stop()
    serving.cancel()
    outcomes = await asyncio.gather(serving, working, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            raise outcome


def _staging(paths: ClusterPaths) -> Path:
    folder = paths.run / "root"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def tools(which: Callable[[str], str | None] = images.find_program) -> dict[str, str]:
    """Scripts that stand in for programs which images have and this host may lack, by name."""
    if which("curl"):
        return {}
    program = Path(__file__).parent.parent / "builtin" / "curl.py"
    return {"curl": f"#!/bin/sh\nexec '{sys.executable}' -P '{program}' \"$@\"\n"}


class ApiServer:
    """The API server, restarted when it ends: it keeps nothing in memory that is not in its database."""

    def __init__(self, processes: Processes, paths: ClusterPaths, descriptors: Sequence[int]) -> None:
        self.was_ready = False
        self._processes = processes
        self._paths = paths
        self._descriptors = descriptors
        self._child: Child | None = None
        self._stopping = False

    async def run(self) -> None:
        """Start the server whenever it does not run. Raises NodeError if it never gets to work."""
        delay, failures = _FIRST_DELAY_SECONDS, 0
        while True:
            started = time.monotonic()
            self._child = self._start()
            status = await self._child.wait()
            if self._stopped():
                return
            if time.monotonic() - started > _STABLE_SECONDS:
                delay = _FIRST_DELAY_SECONDS
            failures += 1
            logger.warning("the API server ended (%s), starting it again in %.1f s", _text(status), delay)
            if not self.was_ready and failures >= _STARTS_TO_TRY:
                raise NodeError(f"the API server does not start ({_text(status)})", f"see {self._log}")
            await asyncio.sleep(delay)
            delay = min(delay * 2, _LONGEST_DELAY_SECONDS)

    async def stop(self) -> None:
        """End the server, and wait for its end."""
        self._stopping = True
        if self._child is None:
            return
        self._child.kill(signal.SIGTERM)
        try:
            async with asyncio.timeout(_API_STOP_SECONDS):
                await self._child.wait()
        except TimeoutError:
            self._child.kill(signal.SIGKILL)

    def _stopped(self) -> bool:
        return self._stopping

    @property
    def _log(self) -> Path:
        return self._paths.logs / "apiserver.log"

    def _start(self) -> Child:
        listen = [word for descriptor in self._descriptors for word in ("--listen-fd", str(descriptor))]
        command = [sys.executable, "-P", "-m", "localcluster.apiserver", "--directory", str(self._paths.directory)]
        log = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        with contextlib.closing(os.fdopen(log, "wb")):
            return self._processes.spawn([*command, *listen], os.environ, inherit=self._descriptors, output=log)


def _text(status: ExitStatus) -> str:
    return f"exit code {status.code}" if status.signal is None else signal.strsignal(status.signal) or "killed"

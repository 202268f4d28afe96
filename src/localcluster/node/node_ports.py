"""Node ports on the host's loopback: each connection is passed on to its service's address, byte by byte."""

import asyncio
import logging
import socket
import struct
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

from localcluster.host_ports import HostPorts

_log = logging.getLogger(__name__)
_CHUNK_BYTES = 65536
_RETRY_SECONDS = 5.0
# A service's rules follow its endpoints by moments; a client on the host can be quicker.
_PATIENCE_SECONDS = 1.0
_TRY_AGAIN_SECONDS = 0.05
# struct linger: on, 0 seconds.
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
Target = tuple[str, int]
"""A service's address and port."""


def wanted_ports(services: Iterable[Mapping[str, Any]]) -> dict[int, tuple[Target, Mapping[str, Any]]]:
    """Each TCP node port, with where its connections go and the service that it belongs to."""
    found: dict[int, tuple[Target, Mapping[str, Any]]] = {}
    for service in services:
        spec = service.get("spec") or {}
        if spec.get("type") not in ("NodePort", "LoadBalancer") or spec.get("clusterIP") in (None, "", "None"):
            continue
        for port in spec.get("ports") or ():
            if port.get("nodePort") and port.get("protocol", "TCP") == "TCP":
                found[int(port["nodePort"])] = ((spec["clusterIP"], int(port["port"])), service)
    return found


class NodePorts:
    """Keeps the host's loopback equal to what services ask for. `refused` is told of ports that can't be had."""

    def __init__(
        self,
        host: HostPorts,
        services: Mapping[Any, Mapping[str, Any]],
        refused: Callable[[Mapping[str, Any], str], None],
    ) -> None:
        self._host = host
        self._services = services
        self._refused = refused
        self._open: dict[int, asyncio.Server] = {}
        self._targets: dict[int, Target] = {}
        self._dirty = asyncio.Event()
        self._connections: set[asyncio.Task[None]] = set()

    def changed(self) -> None:
        """Services have changed."""
        self._dirty.set()

    async def run(self) -> None:
        """Open and close ports until cancelled."""
        failed = False
        try:
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout(_RETRY_SECONDS if failed else None):
                        await self._dirty.wait()
                self._dirty.clear()
                failed = not await self._update()
        finally:
            for server in self._open.values():
                server.close()
            for connection in self._connections:
                connection.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)

    async def _update(self) -> bool:
        """Whether every port that is asked for is open."""
        wanted = wanted_ports(self._services.values())
        for port in self._open.keys() - wanted.keys():
            self._open.pop(port).close()
        self._targets = {port: target for port, (target, _) in wanted.items()}
        complete = True
        for port in sorted(wanted.keys() - self._open.keys()):
            try:
                listener = await self._host.listen(port)
                self._open[port] = await asyncio.start_server(self._handler(port), sock=listener)
            except OSError as error:
                complete = False
                _log.warning("node port %d: %s", port, error)
                self._refused(wanted[port][1], f"node port {port} is not open on the host: {error}")
        return complete

    def _handler(self, port: int) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], None]:
        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.create_task(self._connect(port, reader, writer), name=f"node port {port}")
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)

        return accept

    async def _dial(self, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to the service. Raises OSError if nobody is behind it, KeyError if it is gone."""
        clock = asyncio.get_running_loop().time
        end = clock() + _PATIENCE_SECONDS
        while True:
            try:
                return await asyncio.open_connection(*self._targets[port])
            except OSError:
                if clock() > end:
                    raise
            await asyncio.sleep(_TRY_AGAIN_SECONDS)

    async def _connect(self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            inner_reader, inner_writer = await self._dial(port)
        except (OSError, KeyError):  # nobody behind the service, or it has just gone: the client is told by a reset
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            writer.transport.abort()
            await asyncio.gather(writer.wait_closed(), return_exceptions=True)
            return
        both = (writer, inner_writer)
        try:
            await asyncio.gather(_copy(reader, inner_writer), _copy(inner_reader, writer))
        except asyncio.CancelledError:
            for each in both:
                each.transport.abort()
            raise
        finally:
            for each in both:
                each.close()
            await asyncio.gather(*(each.wait_closed() for each in both), return_exceptions=True)


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    """Everything from one side to the other, and then its end; the other direction may go on."""
    with suppress(ConnectionError):
        while data := await source.read(_CHUNK_BYTES):
            target.write(data)
            await target.drain()
        if target.can_write_eof():
            target.write_eof()

"""Ports on the host's loopback for a cluster that runs in namespaces of its own.

A process that stays outside binds them when the node asks, and hands the listening sockets over: a socket stays in the
network in which it was made, so the node itself accepts and answers, and no byte passes through the helper. It ends
when its socket to the node closes, with the node's last process.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
from typing import NoReturn

_LOOPBACK = "127.0.0.1"
_BACKLOG = 512
_LONGEST_MESSAGE = 1024


def start_helper() -> socket.socket:
    """Fork the helper, which keeps nothing but its end of a socket; the other end is returned. Raises OSError.

    To be called before the caller enters other namespaces, and while it has no threads.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork() == 0:
        try:
            os.setsid()
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            # The cluster's lock among them: it must be free as soon as the node has ended.
            os.closerange(3, theirs.fileno())
            os.closerange(theirs.fileno() + 1, os.sysconf("SC_OPEN_MAX"))
            os.chdir("/")
            _serve(theirs)
        finally:
            os._exit(1)
    theirs.close()
    return ours


def _serve(node: socket.socket) -> NoReturn:
    while request := node.recv(_LONGEST_MESSAGE):
        port = int(json.loads(request)["port"])
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
            try:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind((_LOOPBACK, port))
                listener.listen(_BACKLOG)
            except OSError as error:
                node.send(json.dumps({"error": os.strerror(error.errno or 0)}).encode())
            else:
                socket.send_fds(node, [b"{}"], [listener.fileno()])
    os._exit(0)


class HostPorts:
    """The node's side: asks for listening sockets, one at a time."""

    def __init__(self, helper: socket.socket) -> None:
        helper.setblocking(False)
        self._helper = helper
        self._turn = asyncio.Lock()

    async def listen(self, port: int) -> socket.socket:
        """A socket that listens on the host's loopback. Raises OSError: the port is taken, or the helper is gone."""
        loop = asyncio.get_running_loop()
        async with self._turn:
            await loop.sock_sendall(self._helper, json.dumps({"port": port}).encode())
            readable = loop.create_future()
            loop.add_reader(self._helper, _set_once, readable)
            try:
                await readable
            finally:
                loop.remove_reader(self._helper)
            answer, descriptors, _, _ = socket.recv_fds(self._helper, _LONGEST_MESSAGE, 1)
        if descriptors:
            return socket.socket(fileno=descriptors[0])
        if not answer:
            raise ConnectionResetError("the process that binds ports on the host has ended")
        raise OSError(f"127.0.0.1:{port} on the host: {json.loads(answer)['error']}")

    def close(self) -> None:
        """Let the helper end."""
        with contextlib.suppress(OSError):
            self._helper.close()


def _set_once(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)

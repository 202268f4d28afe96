"""The program that becomes a cluster's node: `python -m localcluster.host`, started by `lifecycle.up`.

It binds the API's port on the host's loopback, enters namespaces of its own, and forks PID 1 there. Then it exits:
PID 1 holds the cluster's lock, and everything of the cluster ends with it.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import logging
import os
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

from localcluster import host_ports, kubeconfig, linux, namespaces, pki
from localcluster.paths import ClusterPaths, write_atomically

logger = logging.getLogger(__name__)

_LOOPBACK = "127.0.0.1"
_API_SERVICE = ("10.96.0.1", 443)
_BACKLOG = 512


class Report:
    """What the waiting `up` is told, as lines of JSON; nobody waiting is no error."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor

    def failed(self, message: str, hint: str) -> None:
        """The cluster does not start."""
        self._send({"error": message, "hint": hint})

    def ready(self) -> None:
        """The cluster is ready."""
        self._send({"ready": True})

    def close(self) -> None:
        """Say no more."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    @property
    def said(self) -> bool:
        """Whether the outcome was reported."""
        return self._descriptor is None

    def _send(self, line: object) -> None:
        if self._descriptor is not None:
            with contextlib.suppress(BrokenPipeError):
                os.write(self._descriptor, json.dumps(line).encode() + b"\n")
            self.close()


def write_process(paths: ClusterPaths, pid: int, api_port: int, *, ready: bool) -> None:
    """Write down which process (by the host's numbers) is PID 1; valid only while the lock is held."""
    content = json.dumps({"pid": pid, "api_port": api_port, "ready": ready}).encode()
    write_atomically(paths.run / "host.json", content)


def main() -> None:
    """Start a cluster, and exit when its PID 1 is on its way."""
    arguments = argparse.ArgumentParser(prog="localcluster.host")
    arguments.add_argument("--directory", type=Path, required=True)
    arguments.add_argument("--lock-fd", type=int, required=True)
    arguments.add_argument("--report-fd", type=int, required=True)
    options = arguments.parse_args()
    os.umask(0o077)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx2").setLevel(logging.WARNING)  # a line per request would be most of the log
    for descriptor in (options.lock_fd, options.report_fd):
        os.set_inheritable(descriptor, False)
    paths, report = ClusterPaths(options.directory), Report(options.report_fd)
    try:
        api = bind_api(paths)
        port = api.getsockname()[1]
        pki.ensure(paths, (), (), datetime.now(UTC))
        kubeconfig.write(paths, port)
        outside = host_ports.start_helper()
        namespaces.enter()
        number_read, number_write = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(number_write)
            outer_pid = int(os.read(number_read, 32))
            os.close(number_read)
            _become_node(paths, report, (api, outside), outer_pid)
        os.write(number_write, str(pid).encode())
    except (namespaces.NamespaceError, pki.PkiError) as error:
        _fail(report, str(error), error.hint)
    except OSError as error:
        _fail(report, f"cannot start the cluster: {error}", _hint(error, paths))
    os._exit(0)


def bind_api(paths: ClusterPaths) -> socket.socket:
    """The API's socket on the host's loopback: the port of the last time if it is free, else any. Raises OSError."""
    try:
        wanted = int(json.loads(paths.settings.read_bytes())["api_port"])
    except (OSError, ValueError, KeyError, TypeError):
        wanted = 0
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((_LOOPBACK, wanted))
    except OSError as error:
        if not wanted or error.errno not in {errno.EADDRINUSE, errno.EACCES}:
            raise
        logger.warning("port %d is taken: the API gets another one", wanted)
        listener.bind((_LOOPBACK, 0))
    listener.listen(_BACKLOG)
    write_atomically(paths.settings, json.dumps({"api_port": listener.getsockname()[1]}).encode())
    return listener


def _become_node(
    paths: ClusterPaths, report: Report, sockets: tuple[socket.socket, socket.socket], outer_pid: int
) -> NoReturn:
    """Be PID 1. `sockets` are the API's, and that to the process that binds ports on the host."""
    from localcluster.node import supervisor

    api, outside = sockets
    code = 1
    try:
        os.setsid()
        namespaces.prepare_root()
        port = api.getsockname()[1]
        write_process(paths, outer_pid, port, ready=False)

        def ready() -> None:
            write_process(paths, outer_pid, port, ready=True)
            report.ready()

        supervisor.main(paths, (api, _bind_inside()), outside, ready)
        code = 0
    except (namespaces.NamespaceError, supervisor.NodeError) as error:
        logger.error("%s (%s)", error, error.hint)
        report.failed(str(error), error.hint)
    except Exception as error:
        logger.exception("the node ends")
        report.failed(f"the node failed: {error}", f"see {paths.logs / 'host.log'}")
    finally:
        paths.node_socket.unlink(missing_ok=True)
        os._exit(code)


def _bind_inside() -> socket.socket:
    """The API's socket for pods. The address comes with the node's network; the API server need not wait for it."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.IPPROTO_IP, linux.IP_FREEBIND, 1)
    listener.bind(_API_SERVICE)
    listener.listen(_BACKLOG)
    return listener


def _hint(error: OSError, paths: ClusterPaths) -> str:
    if error.errno == errno.ENOSPC:
        return f"the disk that holds {paths.directory} is full: make room, or set MUTUA_HOME to another one"
    if error.errno in {errno.EROFS, errno.EACCES}:
        return f"make {paths.directory} writable, or set MUTUA_HOME to a folder that is"
    if error.errno == errno.EADDRNOTAVAIL:
        return "the loopback interface has no 127.0.0.1: as root: ip link set lo up"
    return f"see {paths.logs / 'host.log'}"


def _fail(report: Report, message: str, hint: str) -> NoReturn:
    logger.error("%s (%s)", message, hint)
    report.failed(message, hint)
    os._exit(1)


if __name__ == "__main__":
    main()

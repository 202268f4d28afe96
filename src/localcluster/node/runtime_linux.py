"""The runtime: containers as namespaces of this machine's kernel, children of the node process."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import signal as signals
import socket
import struct
import termios
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

from localcluster import linux
from localcluster.images import CONTAINER_PATH
from localcluster.node import runtime_child
from localcluster.node.processes import Child, Processes
from localcluster.node.rootfs import TOOLS_FOLDER, HostLayout, RootPlan, is_mapped
from localcluster.node.runtime import Container, ContainerSpec, ContainerStartError, ExitStatus, PodNetwork, StreamName
from localcluster.node.runtime_child import Identity, Launch
from localcluster.node.runtime_output import LogFile, OutputPump

# Longer than a container that has written too much is left unread.
_DRAIN_SECONDS = 3.0
_LONGEST_REPORT = 1 << 14
_ANOTHER_USER = 1000  # any id but 0: where it is unknown, 0 is the only one


class LinuxContainer:
    """A running container (`runtime.Container`)."""

    def __init__(
        self,
        spec: ContainerSpec,
        child: Child,
        pump: OutputPump,
        stdin: asyncio.StreamWriter | None,
        terminal: int | None,
    ) -> None:
        self.spec = spec
        self.pidfd = child.pidfd
        self.started_at = datetime.now(UTC)
        self._child = child
        self._pump = pump
        self._stdin = stdin
        self._terminal = terminal
        self._end = asyncio.create_task(self._finish(), name=f"container {spec.name} of pod {spec.pod_uid}")

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def stdin(self) -> asyncio.StreamWriter | None:
        return self._stdin

    @property
    def running(self) -> bool:
        """Whether its first process has not ended."""
        return not self._child.ended

    async def wait(self) -> ExitStatus:
        return await asyncio.shield(self._end)

    def kill(self, signal: int = signals.SIGTERM) -> None:
        self._child.kill(signal)

    def output(self) -> AsyncIterator[tuple[StreamName, bytes]]:
        return self._pump.listen()

    def resize(self, rows: int, columns: int) -> None:
        if self._terminal is not None:
            _resize(self._terminal, rows, columns)

    async def _finish(self) -> ExitStatus:
        status = await self._child.wait()
        try:
            # All its processes are gone, so its pipes end now; only a descriptor given away could keep one open.
            async with asyncio.timeout(_DRAIN_SECONDS):
                await self._pump.finished()
        except TimeoutError:
            self._pump.close()
        if self._stdin is not None:
            self._stdin.close()
        if self._terminal is not None:
            os.close(self._terminal)
            self._terminal = None
        return status


class LinuxExec:
    """A command inside a container (`runtime.ExecProcess`)."""

    def __init__(
        self,
        child: Child,
        stdin: asyncio.StreamWriter | None,
        stdout: asyncio.StreamReader,
        stderr: asyncio.StreamReader | None,
        transports: Sequence[asyncio.BaseTransport],
        terminal: int | None,
    ) -> None:
        self._child = child
        self.stdin = stdin
        self.stdout = stdout
        self.stderr = stderr
        self._transports = transports
        self._terminal = terminal

    @property
    def pid(self) -> int:
        return self._child.pid

    async def wait(self) -> ExitStatus:
        return await self._child.wait()

    def kill(self, signal: int = signals.SIGKILL) -> None:
        self._child.kill(signal)

    def resize(self, rows: int, columns: int) -> None:
        if self._terminal is not None:
            _resize(self._terminal, rows, columns)

    def close(self) -> None:
        for transport in self._transports:
            transport.close()
        if self._terminal is not None:
            os.close(self._terminal)
            self._terminal = None


class LinuxRuntime:
    """Starts containers (`runtime.Runtime`) as children of this process, which is the node's PID 1."""

    def __init__(self, processes: Processes, layout: HostLayout, staging: Path, tools: Mapping[str, str]) -> None:
        """`staging` is an empty folder on which roots are built, each in its own mount namespace.

        `tools` are scripts for the containers' PATH (name to text), which stand in for what the host lacks.
        """
        self._processes = processes
        self.layout = layout
        self._staging = str(staging)
        self._tools = tools
        self._user_map = Path("/proc/self/uid_map").read_text()
        self._group_map = Path("/proc/self/gid_map").read_text()
        self._home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    async def start(self, spec: ContainerSpec, network: PodNetwork, beside: Container | None = None) -> Container:
        """See `runtime.Runtime.start`."""
        if beside is not None and not (isinstance(beside, LinuxContainer) and beside.running):
            raise ContainerStartError("the container whose processes it is to see is not running")
        log = None if spec.log_path is None else _open_log(spec.log_path)
        plan = RootPlan(
            staging=self._staging,
            layout=self.layout,
            mounts=spec.mounts,
            files=spec.files,
            tools=self._tools if spec.root_folder is None else {},
            root_folder=None if spec.root_folder is None else str(spec.root_folder),
            read_only=spec.read_only_root,
            writable_bytes=spec.writable_bytes,
        )
        namespace = None if spec.host_network else network.namespace_fd
        starting = _Starting(tty=spec.tty, stdin=spec.stdin)
        launch = self._launch(spec, spec.argv, {}, starting)
        try:
            child, terminal = await self._run(
                starting,
                lambda: runtime_child.container(launch, plan, spec.hostname, namespace),
                beside.pidfd if isinstance(beside, LinuxContainer) else None,
            )
        except BaseException:
            if log is not None:
                log.close(0)
            raise
        if terminal is not None:
            streams: dict[StreamName, int] = {"stdout": os.dup(terminal)}
            stdin = await _writer(os.dup(terminal)) if spec.stdin else None
        else:
            streams = {"stdout": starting.take_stdout(), "stderr": starting.take_stderr()}
            stdin = await _writer(starting.take_stdin()) if spec.stdin else None
        for descriptor in streams.values():
            os.set_blocking(descriptor, False)
        return LinuxContainer(spec, child, OutputPump(streams, log), stdin, terminal)

    async def exec(
        self,
        container: Container,
        argv: Sequence[str],
        env: Mapping[str, str] | None = None,
        *,
        tty: bool = False,
        stdin: bool = False,
    ) -> LinuxExec:
        """See `runtime.Runtime.exec`."""
        if not isinstance(container, LinuxContainer):
            raise TypeError(f"not a container of this runtime: {container!r}")
        if not container.running:
            raise ContainerStartError(f"container {container.spec.name} is not running")
        starting = _Starting(tty=tty, stdin=stdin)
        launch = self._launch(container.spec, tuple(argv), env or {}, starting)
        pidfd = container.pidfd
        child, terminal = await self._run(starting, lambda: runtime_child.command(launch, pidfd), pidfd)
        if terminal is not None:
            stdout, output_transport = await _reader(os.dup(terminal))
            writer = await _writer(os.dup(terminal)) if stdin else None
            return LinuxExec(child, writer, stdout, None, _transports(writer, output_transport), terminal)
        stdout, output_transport = await _reader(starting.take_stdout())
        stderr, error_transport = await _reader(starting.take_stderr())
        writer = await _writer(starting.take_stdin()) if stdin else None
        return LinuxExec(child, writer, stdout, stderr, _transports(writer, output_transport, error_transport), None)

    async def connect(self, network: PodNetwork, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """See `runtime.Runtime.connect`."""
        # A socket stays in the network namespace in which it was made; nothing awaits while this thread is there.
        linux.setns(network.namespace_fd, linux.CLONE_NEWNET)
        try:
            connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        finally:
            linux.setns(self._home, linux.CLONE_NEWNET)
        try:
            connection.setblocking(False)
            await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", port))
            return await asyncio.open_connection(sock=connection)
        except BaseException:
            connection.close()
            raise

    def _launch(
        self, spec: ContainerSpec, argv: tuple[str, ...], env: Mapping[str, str], starting: _Starting
    ) -> Launch:
        identity = self._identity(spec)
        defaults = {"PATH": CONTAINER_PATH, "HOME": "/root" if identity is None or identity.user == 0 else "/"}
        if spec.hostname:
            defaults["HOSTNAME"] = spec.hostname
        if starting.tty:
            defaults["TERM"] = "xterm"
        if not is_mapped(_ANOTHER_USER, self._user_map):
            # There is one user, who is root here: an archive's other owners cannot be given to its files (kubectl cp).
            defaults["TAR_OPTIONS"] = "--no-same-owner"
        variables = {**defaults, **spec.env, **env}
        if self._tools:
            variables["PATH"] += f":{TOOLS_FOLDER}"
        return Launch(argv, variables, spec.working_dir or "/", identity, starting.child_stdio, starting.child_status)

    def _identity(self, spec: ContainerSpec) -> Identity | None:
        user, group = spec.run_as_user or 0, spec.run_as_group or 0
        user = user if is_mapped(user, self._user_map) else 0
        group = group if is_mapped(group, self._group_map) else 0
        supplemental = tuple(number for number in spec.supplemental_groups if is_mapped(number, self._group_map))
        # An ordinary user's namespace knows one user and one group, and forbids changing groups.
        if user == 0 and group == 0 and not any(supplemental):
            return None
        return Identity(user, group, supplemental)

    async def _run(
        self, starting: _Starting, work: Callable[[], NoReturn], pid_namespace: int | None
    ) -> tuple[Child, int | None]:
        """Fork, and wait until the program runs; the terminal's descriptor if it has one."""
        with contextlib.ExitStack() as cleanup:
            cleanup.callback(starting.close)
            try:
                child = self._processes.fork(work, pid_namespace=pid_namespace)
            except OSError as error:
                if error.errno == errno.ENOMEM and pid_namespace is not None:
                    raise ContainerStartError("the container has ended") from error
                raise ContainerStartError(f"cannot start a process: {error.strerror}") from error
            try:
                starting.close_child_side()
                terminal = await starting.outcome()
            except BaseException:
                child.kill(signals.SIGKILL)
                raise
            cleanup.pop_all()
        starting.status.close()
        return child, terminal


class _Starting:
    """The descriptors between the node and a process that is being started."""

    def __init__(self, *, tty: bool, stdin: bool) -> None:
        self.tty = tty
        self.status, child = socket.socketpair()
        self.status.setblocking(False)
        self.child_status = child.detach()
        self._child_side = [self.child_status]
        self._ours: dict[str, int] = {}
        self.child_stdio: tuple[int, int, int] | None = None
        if tty:
            return
        if stdin:
            inputs, self._ours["stdin"] = os.pipe()
        else:
            inputs = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self._ours["stdout"], outputs = os.pipe()
        self._ours["stderr"], errors = os.pipe()
        self.child_stdio = (inputs, outputs, errors)
        self._child_side += self.child_stdio

    def take_stdin(self) -> int:
        """Our end of its standard input; the caller closes it."""
        return self._ours.pop("stdin")

    def take_stdout(self) -> int:
        """Our end of its standard output; the caller closes it."""
        return self._ours.pop("stdout")

    def take_stderr(self) -> int:
        """Our end of its standard error; the caller closes it."""
        return self._ours.pop("stderr")

    def close_child_side(self) -> None:
        """Close what only the child needs."""
        while self._child_side:
            os.close(self._child_side.pop())

    def close(self) -> None:
        """Close everything that nobody took."""
        self.close_child_side()
        self.status.close()
        while self._ours:
            os.close(self._ours.popitem()[1])

    async def outcome(self) -> int | None:
        """Wait until the program runs. Returns its terminal's master side, if any. Raises ContainerStartError."""
        report, terminal = b"", None
        while True:
            received, descriptors = await self._receive()
            if descriptors:
                terminal = descriptors[0]
            report += received
            if not received:
                break
        text = report.removeprefix(b"T").decode(errors="replace")
        if text:
            if terminal is not None:
                os.close(terminal)
            raise ContainerStartError(text.removeprefix("E"))
        return terminal

    async def _receive(self) -> tuple[bytes, list[int]]:
        loop = asyncio.get_running_loop()
        while True:
            try:
                received, descriptors, _, _ = socket.recv_fds(self.status, _LONGEST_REPORT, 1)
            except BlockingIOError:
                readable = loop.create_future()
                loop.add_reader(self.status, _set_once, readable)
                try:
                    await readable
                finally:
                    loop.remove_reader(self.status)
            else:
                return received, descriptors


def _set_once(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class _PipeReaderProtocol(asyncio.StreamReaderProtocol):
    """A reader for which the end of a terminal (EIO) is an end, not an error."""

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(None if isinstance(exc, OSError) and exc.errno == errno.EIO else exc)


async def _reader(descriptor: int) -> tuple[asyncio.StreamReader, asyncio.BaseTransport]:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    file = os.fdopen(descriptor, "rb", buffering=0)
    transport, _ = await loop.connect_read_pipe(lambda: _PipeReaderProtocol(reader), file)
    return reader, transport


async def _writer(descriptor: int) -> asyncio.StreamWriter:
    loop = asyncio.get_running_loop()
    file = os.fdopen(descriptor, "wb", buffering=0)
    transport, protocol = await loop.connect_write_pipe(
        lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader()), file
    )
    return asyncio.StreamWriter(transport, protocol, None, loop)


def _transports(
    writer: asyncio.StreamWriter | None, *readers: asyncio.BaseTransport
) -> tuple[asyncio.BaseTransport, ...]:
    return readers if writer is None else (*readers, writer.transport)


def _resize(terminal: int, rows: int, columns: int) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def _open_log(path: Path) -> LogFile:
    try:
        return LogFile(path)
    except OSError as error:
        raise ContainerStartError(f"cannot write the log {path}: {error.strerror}") from error

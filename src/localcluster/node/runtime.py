"""Containers of the node: what to start, and how to start, watch, enter and end it."""

from __future__ import annotations

import asyncio
import signal as signals
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal, Protocol

StreamName = Literal["stdout", "stderr"]


class ContainerStartError(Exception):
    """A container (or a command inside one) could not be started; the text is fit for the pod's status."""


@dataclass(frozen=True)
class Mount:
    """One volume of a container.

    `source` is a file or folder on the node (None only with `tmpfs`); `target` is absolute inside the container and
    is made if missing. Binds are recursive; symbolic links inside the source stay what they are.
    """

    source: Path | None
    target: str
    read_only: bool
    tmpfs: bool = False


WRITABLE_BYTES = 1 << 30
"""What a container may write beside its volumes, if it names no limit: it is kept in memory."""


@dataclass(frozen=True)
class ContainerSpec:
    """Everything the runtime needs to start one container; nothing is looked up elsewhere.

    `argv` is the whole command line (never empty; argv[0] is searched on the environment's PATH inside the
    container's root). `env` is complete except that PATH, HOME and HOSTNAME get defaults. `files` maps
    `/etc/hosts`, `/etc/resolv.conf`, `/etc/hostname` to their text. `root_folder` None means the host's programs.
    Users and groups that the user namespace does not map (an ordinary user has only 0) are left as 0.
    `writable_bytes` is what it may write beside its volumes: more, and it gets ENOSPC.
    `log_path` is written in the CRI log format (`<RFC 3339 nanoseconds> stdout|stderr F|P <text>`), appended to.
    """

    pod_uid: str
    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    working_dir: str | None = None
    mounts: tuple[Mount, ...] = ()
    hostname: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    root_folder: Path | None = None
    run_as_user: int | None = None
    run_as_group: int | None = None
    supplemental_groups: tuple[int, ...] = ()
    read_only_root: bool = False
    writable_bytes: int = WRITABLE_BYTES
    stdin: bool = False
    tty: bool = False
    log_path: Path | None = None
    host_network: bool = False


@dataclass(frozen=True)
class ExitStatus:
    """How a process ended: `code` is what Kubernetes shows (128 + signal when a signal ended it)."""

    code: int
    signal: int | None
    finished_at: datetime


class PodNetwork(Protocol):
    """A pod's network: its IPv4 address and an open descriptor of its network namespace."""

    @property
    def address(self) -> str: ...
    @property
    def namespace_fd(self) -> int: ...


class Container(Protocol):
    """A container that was started."""

    @property
    def pid(self) -> int: ...
    @property
    def started_at(self) -> datetime: ...
    @property
    def stdin(self) -> asyncio.StreamWriter | None:
        """Where attach writes, if the spec asked for stdin."""

    async def wait(self) -> ExitStatus:
        """Wait for the end; may be awaited any number of times, also afterwards."""
        ...

    def kill(self, signal: int = signals.SIGTERM) -> None:
        """Send a signal to the container's first process; SIGKILL ends all of them. No error when it has ended."""

    def output(self) -> AsyncIterator[tuple[StreamName, bytes]]:
        """Live output from now on, for attach; ends with the container."""
        ...

    def resize(self, rows: int, columns: int) -> None:
        """Tell the terminal's new size; ignored without a terminal."""


class ExecProcess(Protocol):
    """A command inside a running container. With a terminal, everything comes from `stdout` and `stderr` is None."""

    @property
    def pid(self) -> int: ...
    @property
    def stdin(self) -> asyncio.StreamWriter | None: ...
    @property
    def stdout(self) -> asyncio.StreamReader: ...
    @property
    def stderr(self) -> asyncio.StreamReader | None: ...
    async def wait(self) -> ExitStatus: ...
    def kill(self, signal: int = signals.SIGKILL) -> None: ...
    def resize(self, rows: int, columns: int) -> None: ...
    def close(self) -> None:
        """Give up the streams; does not end the process."""


class Runtime(Protocol):
    """Starts containers. Implemented by `localcluster.node.runtime_linux.LinuxRuntime`."""

    async def start(self, spec: ContainerSpec, network: PodNetwork, beside: Container | None = None) -> Container:
        """Start a container; returns when its program runs. Raises ContainerStartError.

        It sees the processes of the container `beside`, if there is one, and else only its own.
        """
        ...

    async def exec(
        self,
        container: Container,
        argv: Sequence[str],
        env: Mapping[str, str] | None = None,
        *,
        tty: bool = False,
        stdin: bool = False,
    ) -> ExecProcess:
        """Run a command inside a container, as its user, `env` added to its environment. Raises ContainerStartError."""
        ...

    async def connect(self, network: PodNetwork, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to a TCP port on the pod's loopback, from inside the pod. Raises OSError."""
        ...


class Network(Protocol):
    """The node's network. Implemented by `localcluster.node.network.BridgeNetwork`."""

    async def setup_node(self) -> None:
        """Make the bridge, the node's addresses and the routing. Raises OSError."""

    async def create(self, pod_uid: str) -> PodNetwork:
        """Make a pod's network namespace and address; the same pod gets the same one again. Raises OSError."""
        ...

    async def delete(self, pod_uid: str) -> None:
        """Remove a pod's network; nothing to remove is no error."""

"""What a forked child does on its way to become a container's program; it never returns."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import termios
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

from localcluster import linux
from localcluster.node import rootfs_build
from localcluster.node.rootfs import RootPlan

# What container runtimes grant by default (OCI's default list), and NET_ADMIN: a mesh writes packet rules in its
# pod's own network namespace. SYS_ADMIN is not among them, so what was mounted read-only stays so.
_CAPABILITIES = (0, 1, 3, 4, 5, 6, 7, 8, 10, linux.CAP_NET_ADMIN, linux.CAP_NET_RAW, 18, 27, 29, 31)
_AMBIENT_CAPABILITIES = (linux.CAP_NET_BIND_SERVICE, linux.CAP_NET_ADMIN, linux.CAP_NET_RAW)
_STATUS_DESCRIPTOR = 3
# Processes and threads of one container: far more than a service needs, few enough for a laptop.
MOST_PROCESSES = 2048
_KERNEL_WITH_LIMITS = (6, 14)
# asm-generic/ioctls.h
_TIOCSPTLCK = 0x40045431
_TIOCGPTPEER = 0x5441
_NAMESPACES_OF_A_CONTAINER = linux.CLONE_NEWNS | linux.CLONE_NEWUTS | linux.CLONE_NEWIPC | linux.CLONE_NEWNET


@dataclass(frozen=True)
class Identity:
    """The user and groups of a program other than root's."""

    user: int
    group: int
    supplemental: tuple[int, ...]


@dataclass(frozen=True)
class Launch:
    """What to execute. `stdio` are descriptors of this process, or None for a terminal of its own.

    Through the socket `status` the parent gets the terminal's master side, or the text of what went wrong; it closes
    by itself when the program runs.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str]
    working_dir: str
    identity: Identity | None
    stdio: tuple[int, int, int] | None
    status: int


def container(launch: Launch, plan: RootPlan, hostname: str, network: int | None) -> NoReturn:
    """Become a container's first process. `network` is the pod's network namespace, None for the node's."""
    stage = "prepare the process"
    try:
        os.umask(0o022)
        if network is not None:
            stage = "enter the pod's network"
            linux.setns(network, linux.CLONE_NEWNET)
        _descriptors(launch)
        stage = "make namespaces"
        linux.unshare(linux.CLONE_NEWNS | linux.CLONE_NEWIPC | linux.CLONE_NEWUTS)
        if hostname:
            socket.sethostname(hostname)
        _limit_processes()
        stage = "make the container's root"
        rootfs_build.enter(plan)
        stage = "run"
        _execute(launch, make_working_dir=True)
    except BaseException as error:
        _report(stage, error)


def command(launch: Launch, container_process: int) -> NoReturn:
    """Become a command inside the container whose first process the pidfd `container_process` names."""
    stage = "enter the container"
    try:
        os.umask(0o022)
        linux.setns(container_process, _NAMESPACES_OF_A_CONTAINER)
        _descriptors(launch)
        stage = "run"
        _execute(launch, make_working_dir=False)
    except BaseException as error:
        _report(stage, error)


def _limit_processes() -> None:
    """One who forks without end finds its own end: the limit is this PID namespace's alone.

    Kernels before 6.14 have one limit for the whole machine, which is none of ours to change; nor is that of the node,
    whose namespace a container may share.
    """
    version = tuple(int(part) for part in os.uname().release.split("-")[0].split(".")[:2] if part.isdigit())
    if version >= _KERNEL_WITH_LIMITS and os.getpid() == 1:
        with open("/proc/sys/kernel/pid_max", "w") as limit:
            limit.write(str(MOST_PROCESSES))


def _descriptors(launch: Launch) -> None:
    os.setsid()
    os.dup2(launch.status, _STATUS_DESCRIPTOR, inheritable=False)
    for number, descriptor in enumerate(launch.stdio or ()):
        os.dup2(descriptor, number)
    linux.close_from(_STATUS_DESCRIPTOR + 1)


def _execute(launch: Launch, *, make_working_dir: bool) -> NoReturn:
    if launch.stdio is None:
        _open_terminal()
    identity = launch.identity
    if identity is not None:
        for number in range(3):  # so that /dev/stdout can be opened again, as nginx's image does
            os.fchown(number, identity.user, identity.group)
    linux.limit_capabilities(_CAPABILITIES)
    if make_working_dir and not os.path.isdir(launch.working_dir):
        os.makedirs(launch.working_dir)
    if identity is not None:
        linux.become(identity.user, identity.group, identity.supplemental, _AMBIENT_CAPABILITIES)
    os.chdir(launch.working_dir)
    try:
        os.execvpe(launch.argv[0], launch.argv, launch.env)  # noqa: S606 becoming that program is the purpose
    except FileNotFoundError as error:
        where = "no such file or directory" if "/" in launch.argv[0] else "executable file not found in $PATH"
        raise OSError(error.errno, f'exec: "{launch.argv[0]}": {where}') from error
    except OSError as error:
        raise OSError(error.errno, f'exec: "{launch.argv[0]}": {os.strerror(error.errno or 0).lower()}') from error


def _open_terminal() -> None:
    master = os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    fcntl.ioctl(master, _TIOCSPTLCK, struct.pack("i", 0))
    terminal = fcntl.ioctl(master, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY)
    with socket.socket(fileno=os.dup(_STATUS_DESCRIPTOR)) as status:
        socket.send_fds(status, [b"T"], [master])
    os.close(master)
    for number in range(3):
        os.dup2(terminal, number)
    os.close(terminal)
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _report(stage: str, error: BaseException) -> NoReturn:
    reason = error.strerror or str(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
    text = reason if reason.startswith("exec: ") else f"cannot {stage}: {reason}"
    try:
        os.write(_STATUS_DESCRIPTOR, b"E" + text.encode())
    finally:
        os._exit(127)

"""Entering the namespaces in which a cluster lives, and saying why when the kernel refuses."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from localcluster import linux

ALL = (
    linux.CLONE_NEWUSER
    | linux.CLONE_NEWNET
    | linux.CLONE_NEWNS
    | linux.CLONE_NEWPID
    | linux.CLONE_NEWIPC
    | linux.CLONE_NEWUTS
)

_MAXIMUM = "/proc/sys/user/max_user_namespaces"
_DEBIAN_SWITCH = "/proc/sys/kernel/unprivileged_userns_clone"
_APPARMOR_SWITCH = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns"
# mount_setattr(2), with which a tree of mounts becomes read-only.
_OLDEST_KERNEL = (5, 12)


class NamespaceError(Exception):
    """This machine does not let us make namespaces; `hint` says what would help."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True)
class Refusal:
    """What the kernel refused: the step, its errno, and who asked."""

    step: str
    number: int
    is_root: bool


def enter() -> None:
    """Move this single-threaded process into new namespaces of every kind; its next child is PID 1 there.

    Root's user namespace maps every id to itself, so that containers may have users; an ordinary user's maps the
    user to 0, which is all that the kernel allows without help. Raises NamespaceError.
    """
    user, group = os.geteuid(), os.getegid()
    is_root = user == 0
    _require_kernel(os.uname().release)
    try:
        if is_root:
            _unshare_with_all_ids()
        else:
            linux.unshare(ALL)
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"0 {user} 1")
            Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    except OSError as error:
        raise explain(Refusal("make a user namespace", error.errno or 0, is_root), _setting) from error


def prepare_root() -> None:
    """As PID 1: a mount tree of our own, with the process and device views of the new namespaces."""
    try:
        linux.mount(None, "/", None, linux.MS_REC | linux.MS_PRIVATE)
    except OSError as error:
        refusal = Refusal("change mounts in a user namespace", error.errno or 0, os.geteuid() == 0)
        raise explain(refusal, _setting) from error
    flags = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC
    try:
        linux.mount("proc", "/proc", "proc", flags)
    except OSError as error:
        raise NamespaceError(
            f"the kernel refuses a new /proc: {error.strerror}",
            "parts of /proc are covered, as in most containers: run on the machine itself, or start the container with "
            "an uncovered /proc (docker run --security-opt systempaths=unconfined)",
        ) from error
    # Only interfaces' files differ; who cannot have it sees the host's.
    with contextlib.suppress(OSError):
        linux.mount("sysfs", "/sys", "sysfs", flags)


def explain(refusal: Refusal, setting: Callable[[str], str | None]) -> NamespaceError:
    """The error for a refusal; `setting` reads a file of /proc/sys, None if there is no such file."""
    message = f"this machine does not let us {refusal.step}: {os.strerror(refusal.number)}"
    if setting(_MAXIMUM) == "0":
        return NamespaceError(
            message, "user namespaces are switched off; as root: sysctl -w user.max_user_namespaces=15000"
        )
    if not refusal.is_root and setting(_DEBIAN_SWITCH) == "0":
        return NamespaceError(
            message, "only root may make them here; as root: sysctl -w kernel.unprivileged_userns_clone=1"
        )
    if not refusal.is_root and setting(_APPARMOR_SWITCH) == "1":
        return NamespaceError(
            message,
            "AppArmor restricts user namespaces (Ubuntu 23.10 and newer); as root: "
            "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        )
    if refusal.number in {errno.ENOSPC, errno.EUSERS}:
        return NamespaceError(
            message, "the limit of user namespaces is used up; as root raise user.max_user_namespaces"
        )
    if refusal.number == errno.EINVAL:
        return NamespaceError(message, "the kernel was built without user namespaces (CONFIG_USER_NS)")
    return NamespaceError(
        message,
        "a container or security profile forbids it (seccomp, SELinux): run on the machine itself, or start the "
        "container with --privileged",
    )


def _setting(path: str) -> str | None:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None


def _require_kernel(release: str) -> None:
    version = tuple(int(part) for part in release.split("-")[0].split(".")[:2] if part.isdigit())
    if version < _OLDEST_KERNEL:
        wanted = ".".join(map(str, _OLDEST_KERNEL))
        raise NamespaceError(f"Linux {release} is too old", f"a cluster needs Linux {wanted} or newer")


def _unshare_with_all_ids() -> None:
    """Only a process outside the new namespace may map more than one id, so a child that stays out does it."""
    unshared_read, unshared_write = os.pipe()
    helper = os.fork()
    if helper == 0:
        os.close(unshared_write)
        os.read(unshared_read, 1)
        code = 1
        try:
            for kind in ("uid_map", "gid_map"):
                # What this process has, unchanged: in a container that is less than everything.
                own = [line.split() for line in Path(f"/proc/self/{kind}").read_text().splitlines()]
                same = "\n".join(f"{first} {first} {count}" for first, _, count in own)
                Path(f"/proc/{os.getppid()}/{kind}").write_text(same)
            code = 0
        finally:
            os._exit(code)
    os.close(unshared_read)
    try:
        linux.unshare(ALL)
    finally:
        os.close(unshared_write)
        status = os.waitpid(helper, 0)[1]
    if status != 0:  # a root without CAP_SETUID
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text("0 0 1")
        Path("/proc/self/gid_map").write_text("0 0 1")

"""The few system calls of Linux that Python 3.11 lacks: namespaces, mounts, capabilities."""

import ctypes
import errno
import fcntl
import os
import socket
import struct
from collections.abc import Iterable

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_REC = 0x4000
MS_PRIVATE = 0x40000
MNT_DETACH = 0x2

MOUNT_ATTR_RDONLY = 0x1

CAP_NET_BIND_SERVICE = 10
CAP_NET_ADMIN = 12
CAP_NET_RAW = 13

# linux/socket.h and linux/in.h: not in Python's socket module everywhere.
IP_FREEBIND = 15

# The same number on every architecture: these calls came after the tables were unified.
_BYTES_FOR_A_FILE = 4096
_SYS_OPEN_TREE = 428
_SYS_MOVE_MOUNT = 429
_SYS_CLOSE_RANGE = 436
_SYS_MOUNT_SETATTR = 442
_OPEN_TREE_CLONE = 0x1
_OPEN_TREE_CLOEXEC = os.O_CLOEXEC
_AT_FDCWD = -100
_AT_RECURSIVE = 0x8000
_AT_EMPTY_PATH = 0x1000
_MOVE_MOUNT_F_EMPTY_PATH = 0x4

_PR_CAPBSET_DROP = 24
_PR_SET_KEEPCAPS = 8
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_CAPABILITY_VERSION_3 = 0x20080522

_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 0x1

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p]
_libc.syscall.restype = ctypes.c_long
_libc.prctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong]


class _MountAttributes(ctypes.Structure):
    """struct mount_attr (mount_setattr(2))."""

    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


def _checked(result: int, action: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{action}: {os.strerror(number)}")
    return result


def unshare(flags: int) -> None:
    """Leave namespaces for new ones (unshare(2)). Raises OSError."""
    _checked(_libc.unshare(ctypes.c_int(flags)), "unshare")


def setns(descriptor: int, flags: int) -> None:
    """Enter the namespaces of `descriptor`: one of /proc/PID/ns, or a pidfd (setns(2)). Raises OSError."""
    _checked(_libc.setns(ctypes.c_int(descriptor), ctypes.c_int(flags)), "setns")


def mount(source: str | None, target: str, kind: str | None, flags: int = 0, options: str | None = None) -> None:
    """mount(2). Raises OSError that names the target."""
    encoded = (None if text is None else os.fsencode(text) for text in (source, target, kind))
    first, second, third = encoded
    result = _libc.mount(first, second, third, flags, None if options is None else os.fsencode(options))
    _checked(result, f"mount {kind or source or ''} at {target}")


def tmpfs_options(mode: int, most_bytes: int) -> str:
    """Mount options of a tmpfs with a limit for what is in it, and for the number of files, which take memory too."""
    return f"mode={mode:04o},size={most_bytes},nr_inodes={max(1024, most_bytes // _BYTES_FOR_A_FILE)}"


def umount(target: str, flags: int = 0) -> None:
    """umount2(2). Raises OSError."""
    _checked(_libc.umount2(os.fsencode(target), ctypes.c_int(flags)), f"unmount {target}")


def pivot_root(new_root: str, old_root: str) -> None:
    """pivot_root(2). Raises OSError."""
    _checked(_libc.pivot_root(os.fsencode(new_root), os.fsencode(old_root)), f"pivot_root to {new_root}")


def clone_mount(path: str) -> int:
    """A detached copy of what is mounted at `path` and below: the descriptor for `attach_mount`. Raises OSError."""
    flags = _OPEN_TREE_CLONE | _OPEN_TREE_CLOEXEC | _AT_RECURSIVE
    result = _libc.syscall(
        ctypes.c_long(_SYS_OPEN_TREE), ctypes.c_int(_AT_FDCWD), os.fsencode(path), ctypes.c_uint(flags)
    )
    return _checked(result, f"clone the mount {path}")


def make_read_only(descriptor: int, *, recursive: bool = True) -> None:
    """Make a mount, and everything mounted below it, read-only; no other flag changes (locked ones may not)."""
    attributes = _MountAttributes(attr_set=MOUNT_ATTR_RDONLY)
    result = _libc.syscall(
        ctypes.c_long(_SYS_MOUNT_SETATTR),
        ctypes.c_int(descriptor),
        b"",
        ctypes.c_uint(_AT_EMPTY_PATH | (_AT_RECURSIVE if recursive else 0)),
        ctypes.byref(attributes),
        ctypes.c_size_t(ctypes.sizeof(attributes)),
    )
    _checked(result, "make a mount read-only")


def attach_mount(descriptor: int, target: str) -> None:
    """Mount a detached mount at `target` (move_mount(2)); closes the descriptor. Raises OSError."""
    try:
        result = _libc.syscall(
            ctypes.c_long(_SYS_MOVE_MOUNT),
            ctypes.c_int(descriptor),
            b"",
            ctypes.c_int(_AT_FDCWD),
            os.fsencode(target),
            ctypes.c_uint(_MOVE_MOUNT_F_EMPTY_PATH),
        )
        _checked(result, f"mount at {target}")
    finally:
        os.close(descriptor)


def bind(source: str, target: str, *, read_only: bool) -> None:
    """Mount `source` and what is mounted below it at `target` too. Raises OSError."""
    descriptor = clone_mount(source)
    if read_only:
        make_read_only(descriptor)
    attach_mount(descriptor, target)


def close_from(first: int) -> None:
    """Close every descriptor from `first` on (close_range(2)). Raises OSError."""
    result = _libc.syscall(
        ctypes.c_long(_SYS_CLOSE_RANGE), ctypes.c_uint(first), ctypes.c_uint(0xFFFFFFFF), ctypes.c_uint(0)
    )
    _checked(result, "close descriptors")


def limit_capabilities(kept: Iterable[int]) -> None:
    """Drop every capability but `kept`, for this process and what it executes. Raises OSError."""
    keep = frozenset(kept)
    for capability in range(64):
        if capability not in keep and _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) < 0:
            if ctypes.get_errno() == errno.EINVAL:  # past the last capability that this kernel knows
                break
            _checked(-1, "drop a capability")
    _set_capabilities(keep)


def become(user: int, group: int, supplemental: Iterable[int], ambient: Iterable[int]) -> None:
    """Change to `user` and `group`; a user other than 0 keeps the capabilities `ambient`. Raises OSError."""
    os.setgroups(list(supplemental))
    os.setresgid(group, group, group)
    if user == 0:
        return
    _checked(_libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0), "keep capabilities")
    os.setresuid(user, user, user)
    kept = frozenset(ambient)
    _set_capabilities(kept)
    for capability in kept:
        _checked(_libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, capability, 0, 0), "raise a capability")


def _set_capabilities(kept: frozenset[int]) -> None:
    mask = sum(1 << capability for capability in kept)
    # Effective, permitted, inheritable: the low words of all three, then the high ones.
    low, high = mask & 0xFFFFFFFF, mask >> 32
    header = struct.pack("Ii", _CAPABILITY_VERSION_3, 0)
    body = struct.pack(
        "6I", low, low, low, high, high, high
    )  # effective, permitted, inheritable; low words, high words
    _checked(_libc.capset(header, body), "set capabilities")


def set_link_up(name: str) -> None:
    """Bring a network interface of this network namespace up (netdevice(7)). Raises OSError."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sH14x", name.encode(), 0)
        flags = struct.unpack("16sH14x", fcntl.ioctl(control, _SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH14x", name.encode(), flags | _IFF_UP))

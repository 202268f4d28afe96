"""What of the host's file system containers see, and the plan of one container's root."""

from __future__ import annotations

import os
import pwd
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from localcluster.node.runtime import WRITABLE_BYTES, Mount

# Every container has its own of these.
OWN_FOLDERS = frozenset({"dev", "proc", "sys", "tmp", "run", "home", "root"})
_LEFT_OUT = frozenset({"boot", "lost+found", "media", "mnt"})
# A home that is one of these (of a system user) holds what programs need.
_NEVER_HIDDEN = frozenset(f"/{name}" for name in ("", "bin", "etc", "lib", "lib64", "nix", "opt", "sbin", "usr", "var"))
# What root can read of the machine and no container needs.
_CREDENTIALS = ("/etc/shadow", "/etc/shadow-", "/etc/gshadow", "/etc/gshadow-", "/etc/ssh", "/etc/ssl/private")
# Where programs write, and what images have that hosts may lack.
_MERGED_PARENTS = ("usr", "usr/local", "var")
_MERGED = ("/usr/share/nginx/html", "/usr/local/apache2/htdocs", "/var/lib", "/var/cache")
# What separates the options and layers of an overlay.
_UNFIT_FOR_OVERLAY = frozenset(":,\\")
# On the PATH of containers: programs that the host lacks and an image would have.
TOOLS_FOLDER = "/run/localcluster/bin"


@dataclass(frozen=True)
class HostLayout:
    """What of the host every container sees. Paths are absolute, names are those of top-level entries.

    `layered` folders lie below an overlay, so that they may be written to (which is discarded), also in their folders
    `merged`; `composed` ones, which hold mounts, are put together from their entries, read-only. `links` are symbolic
    links. `private` folders and files (homes, the machine's credentials) and `state` (the clusters' files, with their
    keys) show empty; `python` folders are shown read-only although they lie in folders that are not.
    """

    layered: tuple[str, ...]
    merged: tuple[str, ...]
    composed: tuple[str, ...]
    links: Mapping[str, str]
    private: tuple[str, ...]
    state: str
    python: tuple[str, ...]


@dataclass(frozen=True)
class RootPlan:
    """One container's root.

    `staging` is an empty folder to build it on. `mounts` are the volumes. `files` and `tools` map absolute paths
    (files) and program names (tools) to their text. Without `root_folder`, programs are the host's. What is written to
    the root and not to a volume takes `writable_bytes` at most.
    """

    staging: str
    layout: HostLayout
    mounts: tuple[Mount, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    tools: Mapping[str, str] = field(default_factory=dict)
    root_folder: str | None = None
    read_only: bool = False
    writable_bytes: int = WRITABLE_BYTES


def host_layout(state: Path) -> HostLayout:
    """Look at the host's file system from inside the node's namespaces. `state` is the folder of all clusters."""
    points = mount_points(Path("/proc/self/mountinfo").read_text())
    layered: list[str] = []
    composed: list[str] = []
    links: dict[str, str] = {}
    for entry in sorted(os.scandir("/"), key=lambda found: found.name):
        if entry.is_symlink():
            links[entry.name] = os.readlink(entry.path)  # noqa: PTH115 as it is written, not as a path
        elif entry.is_dir() and entry.name not in OWN_FOLDERS | _LEFT_OUT:
            (layered if may_be_layered(entry.path, points) else composed).append(entry.name)
    hidden_homes = tuple(sorted(homes() - _NEVER_HIDDEN))
    hidden = (*hidden_homes, os.path.realpath(state))
    candidates = (sys.prefix, sys.base_prefix, *sys.path)
    python = python_folders([path for path in candidates if path and Path(path).exists()], hidden_homes)
    shown = frozenset(layered) | frozenset(composed)
    return HostLayout(
        tuple(layered),
        merged_folders([*layered, *composed]),
        tuple(composed),
        links,
        (*hidden_homes, *(path for path in _CREDENTIALS if os.access(path, os.R_OK))),
        hidden[-1],
        tuple(path for path in python if not is_shown(path, shown, hidden)),
    )


def merged_folders(shown: Sequence[str]) -> tuple[str, ...]:
    """The folders in which every container may make files: absolute paths in the `shown` ones."""
    inside = [Path("/", parent) for parent in _MERGED_PARENTS if parent.split("/")[0] in shown]
    below = [path for parent in inside if parent.is_dir() for path in sorted(parent.iterdir())]
    wanted = [*below, *(Path(path) for path in _MERGED if path.split("/")[1] in shown)]
    # Under a link, the folder it leads to is the one that counts, and it is in the list if it is one of these.
    return tuple(str(path) for path in wanted if not path.is_symlink() and (path.is_dir() or not path.exists()))


def mount_points(mountinfo: str) -> tuple[str, ...]:
    """The mount points in a text of /proc/PID/mountinfo (proc(5)); blanks are written as octal escapes there."""
    return tuple(line.split()[4].encode("latin-1").decode("unicode_escape") for line in mountinfo.splitlines())


def may_be_layered(folder: str, points: Iterable[str]) -> bool:
    """Whether an overlay may lie over `folder`: the kernel refuses where it would uncover what a mount in it hides."""
    below = folder + "/"
    return not _UNFIT_FOR_OVERLAY & set(folder) and not any(point.startswith(below) for point in points)


def homes() -> set[str]:
    """The home folders of the user that this process acts for, resolved."""
    found = {os.environ.get("HOME", "")}
    try:
        found.add(pwd.getpwuid(outer_id(os.getuid(), Path("/proc/self/uid_map").read_text())).pw_dir)
    except KeyError:
        found.discard("")  # a user without an entry has the home of the environment, if any
    return {os.path.realpath(home) for home in found if home.startswith("/")}


def outer_id(inner: int, id_map: str) -> int:
    """Which id outside the user namespace stands behind `inner`, by a text of uid_map (user_namespaces(7))."""
    for line in id_map.splitlines():
        first, outside, count = (int(word) for word in line.split())
        if first <= inner < first + count:
            return outside + inner - first
    return inner


def is_mapped(identifier: int, id_map: str) -> bool:
    """Whether the user namespace knows an id, by a text of uid_map or gid_map."""
    ranges = ([int(word) for word in line.split()] for line in id_map.splitlines())
    return any(first <= identifier < first + count for first, _, count in ranges)


def python_folders(candidates: Iterable[str], hidden: Sequence[str]) -> tuple[str, ...]:
    """The folders among `candidates`, as named and resolved, outermost only; none that would show a hidden one."""
    named = {PurePosixPath(path) for path in candidates}
    folders = {str(path) for path in named if path.is_absolute()} | {os.path.realpath(path) for path in named}
    safe = {path for path in folders if path != "/" and not any(is_within(secret, path) for secret in hidden)}
    return tuple(sorted(path for path in safe if not any(path != other and is_within(path, other) for other in safe)))


def is_shown(path: str, top_level: Iterable[str], hidden: Iterable[str]) -> bool:
    """Whether a path of the host is visible by the top-level folders alone."""
    first = PurePosixPath(path).parts[1]
    return first in top_level and not any(is_within(path, folder) for folder in hidden)


def is_within(path: str, folder: str) -> bool:
    """Whether `path` is `folder` or lies below it."""
    return PurePosixPath(path).is_relative_to(folder)

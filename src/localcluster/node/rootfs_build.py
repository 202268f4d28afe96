"""Building a container's root: runs in the forked child, in namespaces of its own, before the program.

It uses `os` and system calls alone: this is on the way of every container's start.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from localcluster import linux
from localcluster.node.rootfs import TOOLS_FOLDER, RootPlan
from localcluster.node.runtime import Mount

_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_DEVICE_LINKS = {
    "ptmx": "pts/ptmx",
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
}
_SHARED = 0o1777
# Of what nothing is kept in; and of shared memory, as container runtimes give it.
_DEVICES_BYTES = 1 << 20
_SHARED_MEMORY_BYTES = 64 << 20
# A folder of more entries is mounted as a whole: each entry's mount takes time.
_MOST_ENTRIES = 512
_WRITTEN_IN_IMAGES = tuple(
    f"/{name}" for name in ("etc", "home", "root", "run", "tmp", "var/cache", "var/lib", "var/log", "var/tmp")
)
# What a container could use to reach the machine through the kernel's files, as with every container runtime.
_READ_ONLY_IN_PROC = ("sys", "sysrq-trigger", "irq", "bus", "fs")


@dataclass(frozen=True)
class _Attachment:
    """A detached mount and where it belongs."""

    descriptor: int
    target: str


def enter(plan: RootPlan) -> None:
    """Make the planned root this process's root, and `/` its folder.

    To be called in a new mount namespace, by the first process of a new pid namespace. Raises OSError, whose text
    names what could not be made.
    """
    attachments = [_Attachment(_clone(path, read_only=True), path) for path in plan.layout.python]
    volumes = [(mount, _volume(mount)) for mount in sorted(plan.mounts, key=lambda mount: mount.target.count("/"))]
    staging = plan.staging
    linux.mount(
        "tmpfs", staging, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, linux.tmpfs_options(0o755, plan.writable_bytes)
    )
    root, layers = f"{staging}/root", f"{staging}/layers"
    os.mkdir(root)
    os.mkdir(layers)
    if plan.root_folder is None:
        linux.bind(root, root, read_only=False)
        base = _host_root(plan, root, layers)
    else:
        _overlay(plan.root_folder, root, f"{layers}/root", _folders_of_image(plan, plan.root_folder))
        base = [root]
    files = [_Attachment(_file(f"{layers}/files", path, text), path) for path, text in plan.files.items()]
    sealable = [os.open(path, os.O_PATH | os.O_CLOEXEC) for path in base] if plan.read_only else []
    _devices(f"{root}/dev")
    _kernel_views(root)
    os.chdir(root)
    linux.pivot_root(".", ".")
    linux.umount(".", linux.MNT_DETACH)
    os.chdir("/")
    # From here on, symbolic links lead to where they lead inside the container.
    if plan.root_folder is None:
        _hide(plan.layout.private)
        _attach(attachments)
        _hide([plan.layout.state])
    _attach(files)
    for mount, descriptor in volumes:
        _attach_volume(mount, descriptor)
    for descriptor in sealable:
        linux.make_read_only(descriptor, recursive=False)


def _host_root(plan: RootPlan, root: str, layers: str) -> list[str]:
    """Fill `root` with the host's top-level folders; returns the mounts that a container may write to."""
    layout = plan.layout
    writable = [root]
    for name, target in layout.links.items():
        os.symlink(target, f"{root}/{name}")
    ours = [*layout.merged, *_folders_of(plan)]
    for name in layout.layered:
        os.mkdir(f"{root}/{name}")
        wanted = [path for path in ours if _top(path) == name]
        if _try_overlay(f"/{name}", f"{root}/{name}", f"{layers}/{name}", wanted):
            writable.append(f"{root}/{name}")
        else:
            linux.bind(f"/{name}", f"{root}/{name}", read_only=True)
    for name in layout.composed:
        os.mkdir(f"{root}/{name}")
        _compose(f"/{name}", f"{root}/{name}", f"{layers}/{name}", [path for path in ours if _top(path) == name])
    for name, mode in (("tmp", _SHARED), ("run", 0o755), ("run/lock", _SHARED), ("home", 0o755), ("root", 0o755)):
        if not os.path.islink(f"{root}/{name}"):
            os.mkdir(f"{root}/{name}")
            os.chmod(f"{root}/{name}", mode)
    for name, mode in (("var/tmp", _SHARED), ("var/log", 0o755)):
        if os.path.isdir(f"{root}/{name}") and not os.path.islink(f"{root}/{name}"):
            own = f"{layers}/{name.replace('/', '-')}"
            os.mkdir(own)
            os.chmod(own, mode)
            linux.bind(own, f"{root}/{name}", read_only=False)
            writable.append(f"{root}/{name}")
    _add_tools(root + TOOLS_FOLDER, plan.tools)
    return writable


def _compose(source: str, target: str, layer: str, folders: Iterable[str]) -> None:
    """Show a folder that holds mounts: a folder of our own, and each entry mounted in it, read-only.

    What is needed in `folders` may be written to: below an overlay, or, in a folder that holds mounts itself, as
    `/var/lib` does where containers run, put together in the same way.
    """
    entries = list(os.scandir(source)) if os.access(source, os.R_OK | os.X_OK) else []
    if not 0 < len(entries) <= _MOST_ENTRIES:
        linux.bind(source, target, read_only=True)
        return
    os.makedirs(layer)
    for entry in entries:
        path = f"{target}/{entry.name}"
        if entry.is_symlink():
            os.symlink(os.readlink(entry.path), path)
            continue
        if not entry.is_dir():
            _write(path, "", 0o644)
            linux.bind(entry.path, path, read_only=True)
            continue
        os.mkdir(path)
        wanted = [folder for folder in folders if f"{folder}/".startswith(f"{entry.path}/")]
        if not wanted:
            linux.bind(entry.path, path, read_only=True)
        elif not _try_overlay(entry.path, path, f"{layer}/{entry.name}", wanted):
            _compose(entry.path, path, f"{layer}/{entry.name}/entries", wanted)


def _folders_of(plan: RootPlan) -> list[str]:
    """The folders, by the host's symbolic links, that volumes and files need to exist."""
    targets = [mount.target for mount in plan.mounts if mount.source is None or os.path.isdir(mount.source)]
    targets += [os.path.dirname(mount.target) for mount in plan.mounts if mount.target not in targets]
    shown = plan.layout.layered + plan.layout.composed
    return [os.path.realpath(path) for path in targets if _top(path) in shown]


def _folders_of_image(plan: RootPlan, root_folder: str) -> list[str]:
    """The folders of an image that its programs, volumes and files are written to, as far as it has them."""
    parents = [os.path.dirname(path) for path in (*plan.files, *(mount.target for mount in plan.mounts))]
    return [f"{root_folder.rstrip('/')}{os.path.normpath(path)}" for path in (*_WRITTEN_IN_IMAGES, *parents)]


def _top(path: str) -> str:
    """The top-level folder of an absolute path."""
    return os.path.normpath(path).split("/", 2)[1]


def _try_overlay(lower: str, target: str, layer: str, folders: Iterable[str]) -> bool:
    """Whether the overlay could be mounted: some file systems cannot be a lower layer, nor what holds mounts."""
    try:
        _overlay(lower, target, layer, folders)
    except OSError:
        return False
    return True


def _overlay(lower: str, target: str, layer: str, folders: Iterable[str]) -> None:
    """Mount an overlay over `lower`. `folders` (absolute, in `lower`) will be ours, so that they can be written to.

    An ordinary user cannot copy up a folder of root's, as the kernel would for a first file in it: the copy would
    belong to a user whom the user namespace does not know. A folder that the upper layer has already needs no copy.
    """
    upper, work = f"{layer}/upper", f"{layer}/work"
    os.mkdir(layer)
    _make_like(lower, upper)
    os.mkdir(work)
    for folder in folders:
        path, below = lower, upper
        for part in folder[len(lower) :].split("/"):
            if os.path.islink(f"{path}/{part}"):
                break  # where it leads to is a folder of its own
            if part:
                path, below = f"{path}/{part}", f"{below}/{part}"
                _make_like(path, below)
    # Without root, the kernel's own marks on files need the `user.` attributes (overlayfs.rst, "userxattr").
    linux.mount("overlay", target, "overlay", 0, f"lowerdir={lower},upperdir={upper},workdir={work},userxattr")


def _make_like(model: str, folder: str) -> None:
    """Make a folder with the mode of another, if there is such a one."""
    try:
        os.mkdir(folder)
        os.chmod(folder, stat.S_IMODE(os.stat(model).st_mode))
    except (FileExistsError, FileNotFoundError):
        return


def _clone(path: str, *, read_only: bool) -> int:
    descriptor = linux.clone_mount(path)
    if read_only:
        linux.make_read_only(descriptor)
    return descriptor


def _volume(mount: Mount) -> int | None:
    if mount.tmpfs or mount.source is None:
        return None
    return _clone(str(mount.source), read_only=mount.read_only)


def _file(folder: str, path: str, text: str) -> int:
    os.makedirs(folder, exist_ok=True)
    name = f"{folder}/{path.replace('/', '_')}"
    _write(name, text, 0o644)
    return linux.clone_mount(name)


def _write(path: str, text: str, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def _add_tools(folder: str, tools: Mapping[str, str]) -> None:
    if tools:
        os.makedirs(folder, exist_ok=True)
    for name, text in tools.items():
        _write(f"{folder}/{name}", text, 0o755)


def _devices(folder: str) -> None:
    _make_folder(folder)
    linux.mount("tmpfs", folder, "tmpfs", linux.MS_NOSUID, linux.tmpfs_options(0o755, _DEVICES_BYTES))
    for name in _DEVICES:
        _write(f"{folder}/{name}", "", 0o644)
        linux.bind(f"/dev/{name}", f"{folder}/{name}", read_only=False)
    for name, target in _DEVICE_LINKS.items():
        os.symlink(target, f"{folder}/{name}")
    os.mkdir(f"{folder}/pts")
    terminals = "newinstance,ptmxmode=0666,mode=0620"
    linux.mount("devpts", f"{folder}/pts", "devpts", linux.MS_NOSUID | linux.MS_NOEXEC, terminals)
    os.mkdir(f"{folder}/shm")
    shared = linux.tmpfs_options(_SHARED, _SHARED_MEMORY_BYTES)
    linux.mount("tmpfs", f"{folder}/shm", "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, shared)


def _kernel_views(root: str) -> None:
    flags = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC
    _make_folder(f"{root}/proc")
    _make_folder(f"{root}/sys")
    try:
        linux.mount("proc", f"{root}/proc", "proc", flags)
    except OSError:  # the host's own is partly covered, as in a container: it is all that we may show
        linux.bind("/proc", f"{root}/proc", read_only=True)
    else:
        for name in _READ_ONLY_IN_PROC:
            if os.path.exists(f"{root}/proc/{name}"):
                linux.bind(f"{root}/proc/{name}", f"{root}/proc/{name}", read_only=True)
    try:
        linux.mount("sysfs", f"{root}/sys", "sysfs", flags | linux.MS_RDONLY)
    except OSError:
        linux.bind("/sys", f"{root}/sys", read_only=True)


def _make_folder(path: str) -> None:
    if not os.path.isdir(path):
        os.mkdir(path)


def _hide(paths: Iterable[str]) -> None:
    for path in paths:
        if os.path.isfile(path):
            linux.bind("/dev/null", path, read_only=True)
        elif os.path.isdir(path) and os.listdir(path):
            linux.mount(
                "tmpfs", path, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, linux.tmpfs_options(0o755, _DEVICES_BYTES)
            )


def _attach(attachments: Iterable[_Attachment]) -> None:
    for attachment in attachments:
        is_folder = stat.S_ISDIR(os.fstat(attachment.descriptor).st_mode)
        linux.attach_mount(attachment.descriptor, _make_target(attachment.target, is_folder=is_folder))


def _attach_volume(mount: Mount, descriptor: int | None) -> None:
    if descriptor is not None:
        _attach([_Attachment(descriptor, mount.target)])
        return
    target = _make_target(mount.target, is_folder=True)
    flags = linux.MS_NOSUID | linux.MS_NODEV | (linux.MS_RDONLY if mount.read_only else 0)
    linux.mount("tmpfs", target, "tmpfs", flags, "mode=0777")


def _make_target(path: str, *, is_folder: bool) -> str:
    """Where to mount: `path` with its symbolic links followed, made if missing."""
    target = os.path.realpath(path)
    try:
        os.makedirs(target if is_folder else os.path.dirname(target), exist_ok=True)
        if not is_folder and not os.path.exists(target):
            _write(target, "", 0o644)
    except OSError as error:
        raise OSError(error.errno, f"cannot make the mount point {path}: {error.strerror}") from error
    return target

"""Writing a volume's files so that readers see all of the old ones or all of the new ones."""

import os
import shutil
import stat
import tempfile
from pathlib import Path, PurePosixPath

from localcluster.node.volumes import Files, VolumeError, VolumeFile

_CURRENT = "..data"
_NEXT = "..data_tmp"
_FOLDER_MODE = 0o755


def write_atomically(directory: Path, files: Files) -> bool:
    """Make `directory` show exactly `files`; returns whether anything changed.

    Layout and steps are the kubelet's atomic writer: the files are in a fresh folder, `..data` points to it and is
    replaced by one rename, and the visible names are links through `..data`.
    Raises VolumeError for a path that would leave the volume, OSError for the disk's refusals.
    """
    for path in files:
        _check_relative(path)
    make_folder(directory)
    current = directory / _CURRENT
    old = current.resolve() if current.is_symlink() else None
    if old is not None and _read(old) == files:
        return False
    fresh = Path(tempfile.mkdtemp(prefix="..", dir=directory))
    fresh.chmod(_FOLDER_MODE)
    for path, file in files.items():
        _write(fresh / path, file)
    following = directory / _NEXT
    following.unlink(missing_ok=True)
    following.symlink_to(fresh.name)
    following.rename(current)
    wanted = {PurePosixPath(path).parts[0] for path in files}
    for name in wanted:
        link = directory / name
        if not link.is_symlink():
            link.symlink_to(f"{_CURRENT}/{name}")
    for link in directory.iterdir():
        if not link.name.startswith("..") and link.name not in wanted:
            link.unlink()
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)
    return True


def make_folder(path: Path) -> None:
    """Makes a folder and its parents so that a container's user may enter: the umask is for our own files."""
    missing = [each for each in (path, *path.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir(exist_ok=True)
        each.chmod(_FOLDER_MODE)


def give_to_group(folder: Path, group: int | None) -> None:
    """Let `fsGroup` write to a volume, and own what is made in it. A group that this machine's user has not: no change.

    Rootless clusters know one user and one group, whom every volume belongs to already.
    """
    if group is None:
        return
    try:
        os.chown(folder, -1, group)
    except OSError:
        return
    folder.chmod(stat.S_IMODE(folder.stat().st_mode) | stat.S_ISGID | stat.S_IRWXG)


def _check_relative(path: str) -> None:
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or parts[0].startswith(".."):
        raise VolumeError(f"invalid path {path!r}: it must be relative, and stay inside the volume")


def _write(path: Path, file: VolumeFile) -> None:
    make_folder(path.parent)
    # Closed to others before the content is in it.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as target:
        target.write(file.content)
        os.fchmod(descriptor, file.mode & 0o777)


def _read(directory: Path) -> Files:
    files: Files = {}
    for path in directory.rglob("*"):
        if path.is_file():
            mode = stat.S_IMODE(path.stat().st_mode)
            try:
                files[str(path.relative_to(directory))] = VolumeFile(path.read_bytes(), mode)
            except PermissionError:
                continue  # unreadable even for us (mode 0 without root): treated as changed, and written anew
    return files


def inside(root: Path, sub_path: str) -> Path:
    """The real path of `sub_path` below `root`, made as a folder if it is missing.

    Raises VolumeError if it leads out of the volume: the container may have planted links there.
    """
    base = root.resolve()
    target = (base / sub_path).resolve()
    if not target.is_relative_to(base) or sub_path.startswith("/"):
        raise VolumeError(f"subPath {sub_path!r} leads out of its volume")
    if not target.exists():
        make_folder(target)
    return target

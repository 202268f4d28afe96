"""Files that hold secrets or that others read while we write: private, whole or not at all, never through a link."""

import contextlib
import os
import secrets
from pathlib import Path

PRIVATE = 0o600
PUBLIC = 0o644


def write_atomically(path: Path, content: bytes, mode: int = PRIVATE) -> None:
    """Put `content` at `path` in one step; a reader sees the old bytes or the new ones. Raises OSError.

    The mode is given at creation, so the content is at no moment readable for more people. The new file is made beside
    the old one by O_EXCL and O_NOFOLLOW: whoever may write the folder cannot lead us elsewhere by a link.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def read_limited(path: Path, limit: int) -> bytes:
    """The content of a file of at most `limit` bytes. Raises OSError; ValueError when it is longer.

    Links are followed: Kubernetes mounts every projected file as one.
    """
    with path.open("rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f"{path} has more than {limit} bytes")
    return content


def ensure_private_folder(path: Path) -> None:
    """Make the folder, for its owner alone. One that exists (a mounted volume) keeps its mode."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)

"""What the mesh tells the agent through files: its roots, and by whom certificates are signed now."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec

from mutua.ca import bundle
from mutua.system import files
from mutua.system.logs import Log

ANNOUNCEMENT_FILE = "issuer.json"
CRL_FILE = "ca-crl.pem"
POLL_SECONDS = 1.0
_MAX_ANNOUNCEMENT = 4096

_LOG = Log("agent")


class Told(NamedTuple):
    """The files' content. `issuer` and `nudge` are "" where a control plane does not say them."""

    roots: bytes = b""
    issuer: str = ""
    nudge: str = ""
    revoked: bytes = b""

    @property
    def digest(self) -> str:
        """Of the roots, whatever their order; "" if they cannot be read."""
        return digest(self.roots)


class _Announcement(msgspec.Struct, frozen=True):
    issuer: str = ""
    nudge: str = ""


def digest(roots: bytes) -> str:
    """`bundle.digest` of a PEM text, "" if it cannot be read."""
    try:
        return bundle.digest(bundle.certificates(roots))
    except ValueError:
        return ""


class TrustFolder:
    """The folder with the mesh's roots, as the kubelet mounts and replaces it."""

    def __init__(self, root_path: Path, poll_seconds: float = POLL_SECONDS) -> None:
        self._root_path = root_path
        self._poll_seconds = poll_seconds

    def read(self) -> Told:
        """What the files hold now. A file that is missing or broken counts as empty: it never takes trust away."""
        folder = self._root_path.parent
        roots = _content(self._root_path, bundle.MAX_BYTES)
        if not digest(roots):
            roots = b""
        try:
            said = msgspec.json.decode(_content(folder / ANNOUNCEMENT_FILE, _MAX_ANNOUNCEMENT), type=_Announcement)
        except msgspec.DecodeError:
            said = _Announcement()
        return Told(roots, said.issuer, said.nudge, _content(folder / CRL_FILE, bundle.MAX_BYTES))

    async def changed(self, known: Told, seconds_left: Callable[[], float]) -> Told | None:
        """The new content once it differs from `known`; None when no seconds are left by the wall clock."""
        marks = None
        while True:
            if (found := self._marks()) != marks:
                marks = found
                now = self.read()
                if now != known and (now.roots or not known.roots):
                    return now
            left = seconds_left()
            if left <= 0:
                return None
            await asyncio.sleep(min(left, self._poll_seconds))

    def _marks(self) -> tuple[tuple[int, int, int] | None, ...]:
        folder = self._root_path.parent
        return tuple(_mark(path) for path in (self._root_path, folder / ANNOUNCEMENT_FILE, folder / CRL_FILE))


def _mark(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _content(path: Path, limit: int) -> bytes:
    try:
        return files.read_limited(path, limit)
    except FileNotFoundError:
        return b""
    except (OSError, ValueError) as error:
        _LOG.warn("a file of the mesh's trust cannot be read", path=path, error=error)
        return b""

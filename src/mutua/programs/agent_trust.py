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
TRUST_FILE = "trust-domains.json"
POLL_SECONDS = 1.0
_MAX_ANNOUNCEMENT = 4096

_LOG = Log("agent")


class Told(NamedTuple):
    """The files' content. `issuer` and `nudge` are "" where a control plane does not say them."""

    roots: bytes = b""
    issuer: str = ""
    nudge: str = ""
    revoked: bytes = b""
    domains: tuple[str, ...] = ()  # for which the roots vouch, where others are believed besides
    foreign: tuple[tuple[str, bytes], ...] = ()  # (trust domain of another mesh, its roots)

    @property
    def digest(self) -> str:
        """Of the roots, whatever their order; "" if they cannot be read."""
        return digest(self.roots)

    @property
    def besides(self) -> tuple[object, ...]:
        """What else decides whom Envoy believes."""
        return self.revoked, self.domains, self.foreign


class _TrustDomains(msgspec.Struct, frozen=True):
    domains: tuple[str, ...] = ()
    foreign: dict[str, str] = {}


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
        revoked = _content(folder / CRL_FILE, bundle.MAX_BYTES)
        return Told(roots, said.issuer, said.nudge, revoked, *self._others(folder / TRUST_FILE))

    def _others(self, path: Path) -> tuple[tuple[str, ...], tuple[tuple[str, bytes], ...]]:
        """Whom to believe besides; nobody, if the file cannot be read."""
        try:
            found = msgspec.json.decode(_content(path, bundle.MAX_BYTES) or b"{}", type=_TrustDomains)
        except msgspec.DecodeError as error:
            _LOG.warn("other trust domains are not believed: the file cannot be read", path=path, error=error)
            return (), ()
        foreign = {domain: roots.encode() for domain, roots in found.foreign.items() if domain not in found.domains}
        return found.domains, tuple(sorted(foreign.items()))

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
        names = (ANNOUNCEMENT_FILE, CRL_FILE, TRUST_FILE)
        return tuple(_mark(path) for path in (self._root_path, *(folder / name for name in names)))


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

"""Where a cluster's files are, and who may own the folders they are in."""

import os
import re
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import platformdirs

# A Unix socket's address holds 108 bytes with the closing zero (unix(7), sun_path).
_LONGEST_SOCKET_PATH = 107
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_LONGEST_NAME = 63


class ClusterPathError(Exception):
    """A cluster's folder cannot be used; `hint` says what to do about it."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True, slots=True)
class ClusterPaths:
    """The files of one cluster, all below `directory`. Nothing here touches the disk."""

    directory: Path

    @property
    def name(self) -> str:
        """The cluster's name: its folder's."""
        return self.directory.name

    @property
    def database(self) -> Path:
        """SQLite: every object of the API."""
        return self.directory / "cluster.db"

    @property
    def pki(self) -> Path:
        """Keys, certificates and tokens."""
        return self.directory / "pki"

    @property
    def ca_certificate(self) -> Path:
        """The cluster's CA, PEM: what clients of the API trust."""
        return self.pki / "ca.crt"

    @property
    def ca_key(self) -> Path:
        """The CA's private key, PEM."""
        return self.pki / "ca.key"

    @property
    def serving_certificate(self) -> Path:
        """The API server's certificate, PEM."""
        return self.pki / "apiserver.crt"

    @property
    def serving_key(self) -> Path:
        """The API server's private key, PEM."""
        return self.pki / "apiserver.key"

    @property
    def service_account_key(self) -> Path:
        """Signs service account tokens (ES256), PEM."""
        return self.pki / "service-account.key"

    @property
    def admin_token(self) -> Path:
        """The user's bearer token (group `system:masters`)."""
        return self.pki / "admin.token"

    @property
    def node_token(self) -> Path:
        """The node process's bearer token."""
        return self.pki / "node.token"

    @property
    def kubeconfig(self) -> Path:
        """What kubectl reads."""
        return self.directory / "kubeconfig"

    @property
    def images(self) -> Path:
        """How to run each image name."""
        return self.directory / "images.json"

    @property
    def node_socket(self) -> Path:
        """The node process's HTTP socket: logs, exec, attach, port-forward."""
        return self.directory / "node.sock"

    @property
    def lock(self) -> Path:
        """Held while the cluster runs or is being changed."""
        return self.directory / "lock"

    @property
    def audit_log(self) -> Path:
        """What is asked of the API, line by line, while the file exists (`lifecycle.up`)."""
        return self.logs / "audit.log"

    @property
    def settings(self) -> Path:
        """What the cluster was started with."""
        return self.directory / "settings.json"

    @property
    def logs(self) -> Path:
        """Containers' output."""
        return self.directory / "logs"

    @property
    def volumes(self) -> Path:
        """Pods' volumes."""
        return self.directory / "volumes"

    @property
    def claims(self) -> Path:
        """The folders of persistent volumes."""
        return self.directory / "claims"

    @property
    def run(self) -> Path:
        """What lives only as long as the cluster's processes."""
        return self.directory / "run"


def validate_name(name: str) -> str:
    """`name`, if it may name a cluster (RFC 1123 label, as Kubernetes uses it), else ClusterPathError."""
    if len(name) > _LONGEST_NAME or not _NAME.fullmatch(name):
        raise ClusterPathError(
            f"cluster name {name!r} is not valid",
            "use at most 63 lower-case letters, digits and '-', beginning and ending with a letter or digit",
        )
    return name


def state_root(environment: Mapping[str, str] | None = None) -> Path:
    """The folder of all clusters' state, created (0700) if it is missing.

    $MUTUA_HOME if set (left as it is); else the user's state folder; else, when there is no home that can be written
    to, /tmp/mutua-<uid>. Raises ClusterPathError if the folder belongs to someone else or cannot be made.
    """
    variables = os.environ if environment is None else environment
    chosen = variables.get("MUTUA_HOME", "")
    if chosen:
        # A folder that the user names may be in use for more than us: its mode is theirs.
        return private_directory(Path(chosen).expanduser().absolute(), tightens=False)
    try:
        return private_directory(platformdirs.user_state_path("mutua"))
    except (ClusterPathError, RuntimeError):  # RuntimeError: the user has no home at all
        # Anyone may create this name first; private_directory refuses a folder that is not ours.
        return private_directory(Path(tempfile.gettempdir()) / f"mutua-{os.getuid()}")


def cluster_paths(name: str, root: Path | None = None) -> ClusterPaths:
    """The paths of the cluster called `name` below `root` (default: state_root()). Creates nothing but the root."""
    validate_name(name)
    paths = ClusterPaths((state_root() if root is None else root) / "clusters" / name)
    if len(os.fsencode(paths.node_socket)) > _LONGEST_SOCKET_PATH:
        raise ClusterPathError(
            f"the path {paths.node_socket} is too long for a Unix socket ({_LONGEST_SOCKET_PATH} bytes)",
            "set MUTUA_HOME to a folder with a shorter path",
        )
    return paths


def private_directory(path: Path, *, tightens: bool = True) -> Path:
    """`path` as a folder that is ours and writable, created (0700) with its parents if missing.

    `tightens`: an existing one is closed to others (0700); otherwise it is refused only if others may write to it.
    Raises ClusterPathError.
    """
    hint = "set MUTUA_HOME to a folder of your own that can be written to"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
        # lstat: a link planted in /tmp must not lead us into a folder of the attacker's choice.
        found = path.lstat()
    except OSError as error:
        raise ClusterPathError(f"cannot use {path} for state: {error.strerror}", hint) from error
    if not stat.S_ISDIR(found.st_mode):
        raise ClusterPathError(f"cannot use {path} for state: it is not a folder", hint)
    if found.st_uid != os.getuid():
        raise ClusterPathError(
            f"cannot use {path} for state: it belongs to user id {found.st_uid}, not to you ({os.getuid()})", hint
        )
    if not os.access(path, os.W_OK | os.X_OK):
        raise ClusterPathError(f"cannot use {path} for state: it is read-only", hint)
    mode = stat.S_IMODE(found.st_mode)
    if tightens and mode & 0o077:
        path.chmod(0o700)
    elif mode & 0o022:
        raise ClusterPathError(f"cannot use {path} for state: others may write to it", f"run `chmod go-w {path}`")
    return path


def write_atomically(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Replace `path` by `content` in one step: readers see the old file or the new one, also after a crash."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise

"""Clusters as their user sees them: up, down, status."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from localcluster import images as image_table
from localcluster.images import Image
from localcluster.paths import ClusterPathError, ClusterPaths, cluster_paths, private_directory, state_root

State = Literal["running", "starting", "stopped"]

_START_SECONDS = 60.0
_STOP_SECONDS = 15.0
_FAILURE_SECONDS = 5.0
_POLL_SECONDS = 0.02
_LOG_LINES_SHOWN = 5


class ClusterError(Exception):
    """A cluster cannot be started, found or stopped. `hint` says what to do about it."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True)
class Cluster:
    """A running cluster. `pid` is its PID 1 by the host's numbers; `api_port` is on 127.0.0.1."""

    name: str
    directory: Path
    kubeconfig: Path
    api_port: int
    pid: int


@dataclass(frozen=True)
class ClusterStatus:
    """What is known of a cluster; `cluster` only while it is running."""

    name: str
    directory: Path
    state: State
    cluster: Cluster | None


def up(
    name: str,
    *,
    images: Mapping[str, Image],
    root: Path | None = None,
    audit_log: bool = False,
    progress: Callable[[str], None] = lambda line: None,
) -> Cluster:
    """The cluster `name`, started if it is not running, ready for use. Raises ClusterError.

    `images` are added to its table. `root` is the folder of all state (default: `paths.state_root()`). Whoever calls
    at the same time gets the same cluster. `audit_log`: from now on every request of the API is told in
    `paths.audit_log`, also where the cluster runs already; that ends when the file is removed.
    """
    paths = _paths(name, root)
    with _as_cluster_errors(paths):
        for folder in (paths.directory, paths.logs, paths.volumes, paths.run):
            private_directory(folder)
        if audit_log:
            paths.audit_log.touch(mode=0o600)
        deadline = time.monotonic() + _START_SECONDS
        waiting = False
        while (lock := _lock(paths)) is None:
            found = _find(paths)
            if found is not None:
                return found
            if not waiting:
                progress(f"cluster {name} is being started by another process: waiting for it")
                waiting = True
            if time.monotonic() > deadline:
                raise ClusterError(f"cluster {name} did not become ready", f"see {paths.logs / 'host.log'}")
            time.sleep(_POLL_SECONDS)
        try:
            progress(f"starting cluster {name}")
            _clean(paths)
            if images:
                image_table.store(paths, images)
            found = _start(paths, lock, deadline)
        except (ClusterError, OSError):
            os.close(lock)
            _wait_until_free(paths, _FAILURE_SECONDS)
            raise
        except BaseException:  # somebody pressed Ctrl-C: what was begun is not left half done
            os.close(lock)
            _stop(paths)
            raise
        os.close(lock)
        return found


def down(name: str, *, keep_state: bool = False, root: Path | None = None) -> bool:
    """Stop the cluster `name`; without `keep_state` its files go too. False if there was nothing.

    Raises ClusterError.
    """
    paths = _paths(name, root)
    if not paths.directory.exists():
        return False
    with _as_cluster_errors(paths):
        was_running = _stop(paths, gently=keep_state)
        lock = _lock(paths)
        if lock is None:
            raise ClusterError(f"cluster {name} was started again while it was being stopped")
        try:
            _clean(paths)
            if not keep_state:
                _remove(paths.directory)
            return was_running or not keep_state
        finally:
            os.close(lock)


def status(name: str, *, root: Path | None = None) -> ClusterStatus:
    """What is known of the cluster `name`. Raises ClusterError if the name is not valid."""
    paths = _paths(name, root)
    if not paths.directory.is_dir():
        return ClusterStatus(name, paths.directory, "stopped", None)
    with _as_cluster_errors(paths):
        lock = _lock(paths)
        if lock is not None:
            os.close(lock)
            return ClusterStatus(name, paths.directory, "stopped", None)
        found = _find(paths)
        return ClusterStatus(name, paths.directory, "starting" if found is None else "running", found)


def clusters(*, root: Path | None = None) -> list[ClusterStatus]:
    """Every cluster that has files, by name."""
    try:
        folder = (state_root() if root is None else root) / "clusters"
    except ClusterPathError as error:
        raise ClusterError(str(error), error.hint) from error
    if not folder.is_dir():
        return []
    found = []
    for entry in sorted(folder.iterdir()):
        with contextlib.suppress(ClusterError):  # something else that lies there
            if entry.is_dir():
                found.append(status(entry.name, root=root))
    return found


def _paths(name: str, root: Path | None) -> ClusterPaths:
    try:
        return cluster_paths(name, root)
    except ClusterPathError as error:
        raise ClusterError(str(error), error.hint) from error


@contextlib.contextmanager
def _as_cluster_errors(paths: ClusterPaths) -> Iterator[None]:
    try:
        yield
    except (ClusterPathError, image_table.ImagesError) as error:
        raise ClusterError(str(error), getattr(error, "hint", "")) from error
    except OSError as error:
        hint = "set MUTUA_HOME to a folder of your own that can be written to"
        if error.errno == errno.ENOSPC:
            hint = "the disk is full: make room, or set MUTUA_HOME to a folder on another one"
        where = error.filename or paths.directory
        raise ClusterError(f"cannot use {where}: {error.strerror}", hint) from error


def _lock(paths: ClusterPaths) -> int | None:
    """The cluster's lock (a descriptor), or None while a cluster or somebody who changes it holds it."""
    while True:
        descriptor = os.open(paths.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # `down` removes the file with the folder: a lock on a removed file locks nobody out.
            if _is_same_file(descriptor, paths.lock):
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _is_same_file(descriptor: int, path: Path) -> bool:
    try:
        found = path.stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(descriptor), found)


def _find(paths: ClusterPaths) -> Cluster | None:
    """The cluster that holds the lock, if it is ready."""
    try:
        content: dict[str, Any] = json.loads((paths.run / "host.json").read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    if not content["ready"]:
        return None
    return Cluster(paths.name, paths.directory, paths.kubeconfig, content["api_port"], content["pid"])


def _clean(paths: ClusterPaths) -> None:
    """Remove what a cluster that was killed left behind. To be called with the lock."""
    paths.node_socket.unlink(missing_ok=True)
    _remove(paths.run)
    private_directory(paths.run)


def _start(paths: ClusterPaths, lock: int, deadline: float) -> Cluster:
    report_read, report_write = os.pipe()
    command = [sys.executable, "-P", "-m", "localcluster.host", "--directory", str(paths.directory)]
    log_path = paths.logs / "host.log"
    with os.fdopen(report_read, "rb") as report:
        try:
            with log_path.open("ab") as log:
                log_path.chmod(0o600)
                process = subprocess.Popen(
                    [*command, "--lock-fd", str(lock), "--report-fd", str(report_write)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=(lock, report_write),
                    start_new_session=True,
                    cwd="/",
                )
        finally:
            os.close(report_write)
        outcome = _outcome(report.fileno(), deadline)
    # It exits as soon as it has forked PID 1, or has failed.
    process.wait(_STOP_SECONDS)
    if outcome.get("ready"):
        found = _find(paths)
        if found is not None:
            return found
    if "error" in outcome:
        raise ClusterError(outcome["error"], outcome["hint"])
    if outcome.get("timeout"):
        _terminate(paths, signal.SIGKILL)
        raise ClusterError(f"cluster {paths.name} was not ready after {_START_SECONDS:.0f} s", f"see {paths.logs}")
    raise ClusterError(f"cluster {paths.name} ended while it started: {_last_lines(log_path)}", f"see {log_path}")


def _outcome(descriptor: int, deadline: float) -> dict[str, Any]:
    """What the starting cluster reports: the one line it writes; empty if it ended without."""
    received = b""
    while not received.endswith(b"\n"):
        readable, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
        if not readable:
            return {"timeout": True}
        chunk = os.read(descriptor, 1 << 16)
        if not chunk:
            return {}
        received += chunk
    outcome: dict[str, Any] = json.loads(received)
    return outcome


def _last_lines(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return " / ".join(lines[-_LOG_LINES_SHOWN:]) or "no reason was given"


def _stop(paths: ClusterPaths, *, gently: bool = True) -> bool:
    """Stop whatever holds the lock. False if nothing did.

    Where nothing is kept there is nothing to be gentle for: the first process is killed, and the kernel takes the rest.
    """
    if _is_free(paths):
        return False
    deadline = time.monotonic() + _STOP_SECONDS
    # Somebody who has just begun to start it has no process to stop yet.
    while not _terminate(paths, signal.SIGTERM if gently else signal.SIGKILL):
        if _is_free(paths):
            return True
        if time.monotonic() > deadline:
            break
        time.sleep(_POLL_SECONDS)
    if _wait_until_free(paths, deadline - time.monotonic()):
        return True
    _terminate(paths, signal.SIGKILL)
    if _wait_until_free(paths, _STOP_SECONDS):
        return True
    raise ClusterError(
        f"cluster {paths.name} does not end", f"another process holds {paths.lock}; see {paths.logs / 'host.log'}"
    )


def _wait_until_free(paths: ClusterPaths, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not (free := _is_free(paths)) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    return free


def _is_free(paths: ClusterPaths) -> bool:
    lock = _lock(paths)
    if lock is not None:
        os.close(lock)
    return lock is not None


def _terminate(paths: ClusterPaths, number: signal.Signals) -> bool:
    """Signal the cluster's PID 1. False if it is not known yet.

    The number is its own, and no other process's that came later: it is opened first, and then the lock, which only
    that process holds, shows that it had not ended by then.
    """
    try:
        pid = int(json.loads((paths.run / "host.json").read_bytes())["pid"])
        process = os.pidfd_open(pid)
    except (FileNotFoundError, ValueError, ProcessLookupError):
        return False
    try:
        if _is_free(paths):
            return False
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(process, number)
        return True
    finally:
        os.close(process)


def _remove(folder: Path) -> None:
    if not folder.exists():
        return
    try:
        shutil.rmtree(folder)
    except PermissionError:
        # Pods may leave folders that not even their owner may enter.
        for path, folders, _ in os.walk(folder):
            for name in folders:
                if not Path(path, name).is_symlink():
                    Path(path, name).chmod(0o700)
        shutil.rmtree(folder)

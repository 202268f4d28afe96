"""Termination messages: what a container wrote, before it ended, into the file at its terminationMessagePath."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from localcluster.node.logs import written_so_far
from localcluster.node.runtime import Mount

_FOLDER = ".termination"
_ANYONE = 0o666
# Limits of k8s.io/kubernetes/pkg/kubelet/kuberuntime (MaxContainerTerminationMessage...).
_LONGEST_MESSAGE = 4096
_LONGEST_LOG_MESSAGE = 2048
_MOST_LOG_LINES = 80


class TerminationMessage:
    """The message of one run of one container; its file lies below `volumes`, in the pod's own folder."""

    def __init__(self, volumes: Path, pod_uid: str, container: Mapping[str, Any], run: int) -> None:
        self._path = volumes / pod_uid / _FOLDER / f"{container['name']}.{run}"
        self._container = container

    def mounts(self) -> tuple[Mount, ...]:
        """The file, made empty, for the container to write to. Raises OSError."""
        target = self._container.get("terminationMessagePath")
        if not target:
            return ()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_bytes(b"")
        self._path.chmod(_ANYONE)
        return (Mount(self._path, target, read_only=False),)

    def read(self, exit_code: int, log: Path | None) -> str:
        """What the container left; by policy FallbackToLogsOnError the end of its log if it failed without a word."""
        try:
            with self._path.open("rb") as file:
                message = file.read(_LONGEST_MESSAGE).decode(errors="replace")
        except OSError:
            message = ""
        policy = self._container.get("terminationMessagePolicy")
        if message or not exit_code or policy != "FallbackToLogsOnError" or log is None:
            return message
        output = b"".join(data for _, data in written_so_far(log))[-_LONGEST_LOG_MESSAGE:]
        return b"".join(output.splitlines(keepends=True)[-_MOST_LOG_LINES:]).decode(errors="replace")

"""The volumes of one pod: made before its containers start, kept current while they run, removed with it."""

import asyncio
import logging
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lightkube.utils.quantity import parse_quantity

from localcluster import linux
from localcluster.node.client import ApiClient, ApiStatusError, ApiUnavailableError
from localcluster.node.environment import PodPlace, References, expand
from localcluster.node.runtime import WRITABLE_BYTES, Mount
from localcluster.node.volumes import (
    PROJECTED_KINDS,
    TokenSource,
    VolumeError,
    references_of,
    token_sources,
    unsupported,
    volume_files,
)
from localcluster.node.volumes_claims import claim_folder
from localcluster.node.volumes_disk import give_to_group, inside, make_folder, write_atomically

_log = logging.getLogger(__name__)
_RENEW_AT = 0.8
_RENEWAL_RETRY_SECONDS = 10.0
_SHARED_FOLDER_MODE = 0o777


@dataclass(frozen=True, slots=True)
class VolumeRoots:
    """Where volumes are: `disk` for what pods write, `memory` (a tmpfs) for secrets and what asks for it.

    `claims` holds the folders of provisioned persistent volumes, which outlive pods. Where the node may mount,
    `memory_for(folder, most_bytes)` gives a folder a tmpfs of its own, so that nobody takes another's memory.
    """

    disk: Path
    memory: Path
    claims: Path
    memory_for: Callable[[Path, int], None] | None = None


class PodVolumes:
    """One pod's volumes. `pod` is the API's object; its labels and annotations may be replaced by `refresh`."""

    def __init__(
        self, client: ApiClient, references: References, roots: VolumeRoots, pod: Mapping[str, Any], place: PodPlace
    ) -> None:
        self._client = client
        self._references = references
        self._roots = roots
        self._pod = pod
        self._place = place
        self._tokens: dict[TokenSource, str] = {}
        self._renewals: list[asyncio.Task[None]] = []
        self._volumes: dict[str, Mapping[str, Any]] = {
            volume["name"]: volume for volume in pod["spec"].get("volumes") or ()
        }

    def uses(self, resource: str, name: str) -> bool:
        """Whether a volume's files come from this config map or secret."""
        return any((resource, name) in references_of(volume) for volume in self._volumes.values())

    async def set_up(self) -> None:
        """Make every volume. Raises VolumeError for what is missing; calling again goes on where it stopped."""
        if message := unsupported(self._volumes.values()):
            raise VolumeError(message)
        try:
            for volume in self._volumes.values():
                for source in token_sources(volume):
                    if source not in self._tokens:
                        await self._request_token(source)
                self._make(volume)
        except (ApiStatusError, ApiUnavailableError) as error:
            raise VolumeError(f"service account token: {error}") from error
        except OSError as error:
            raise VolumeError(str(error)) from error

    def refresh(self, pod: Mapping[str, Any]) -> None:
        """Write again what comes from the API, after a change there. What has gone missing keeps its last files."""
        self._pod = pod
        for volume in self._volumes.values():
            try:
                if _projected_kind(volume):
                    self._make(volume)
            except (VolumeError, OSError) as error:
                _log.info("pod %s: %s", self._uid, error)

    def mounts(self, container: Mapping[str, Any], variables: Mapping[str, str]) -> tuple[Mount, ...]:
        """Where the container sees them. Raises VolumeError for a volume that the pod does not have."""
        mounts = []
        for wanted in container.get("volumeMounts") or ():
            volume = self._volumes.get(wanted["name"])
            if volume is None:
                raise VolumeError(f'container {container["name"]}: the pod has no volume "{wanted["name"]}"')
            source = self._path(volume)
            sub_path = wanted.get("subPath") or expand(wanted.get("subPathExpr") or "", variables)
            if sub_path:
                source = inside(source, sub_path)
            claim = volume.get("persistentVolumeClaim") or {}
            read_only = bool(wanted.get("readOnly") or claim.get("readOnly")) or _projected_kind(volume)
            mounts.append(Mount(source, wanted["mountPath"], read_only))
        return tuple(mounts)

    async def remove(self) -> None:
        """Remove everything that is the pod's own, and stop renewing its tokens."""
        for task in self._renewals:
            task.cancel()
        for task in self._renewals:
            with suppress(asyncio.CancelledError):
                await task
        self._renewals.clear()
        if self._roots.memory_for is not None:
            for volume in filter(_is_own_memory, self._volumes.values()):
                with suppress(OSError):
                    linux.umount(str(self._path(volume)), linux.MNT_DETACH)
        for root in (self._roots.disk, self._roots.memory):
            await asyncio.to_thread(shutil.rmtree, root / self._uid, ignore_errors=True)

    @property
    def _uid(self) -> str:
        return str(self._pod["metadata"]["uid"])

    def _path(self, volume: Mapping[str, Any]) -> Path:
        if host := volume.get("hostPath"):
            return Path(host["path"])
        if claim := volume.get("persistentVolumeClaim"):
            namespace = self._pod["metadata"]["namespace"]
            return claim_folder(self._references, self._roots.claims, namespace, claim["claimName"])
        root = self._roots.memory if _projected_kind(volume) or _is_own_memory(volume) else self._roots.disk
        return root / self._uid / str(volume["name"])

    def _make(self, volume: Mapping[str, Any]) -> None:
        path = self._path(volume)
        if _projected_kind(volume):
            write_atomically(path, volume_files(volume, self._pod, self._place, self._references, self._tokens))
        elif host := volume.get("hostPath"):
            _check_host_path(path, host.get("type") or "", volume["name"])
        elif not path.exists():
            path.mkdir(parents=True)
            path.chmod(_SHARED_FOLDER_MODE)
            if _is_own_memory(volume) and self._roots.memory_for is not None:
                self._roots.memory_for(path, _memory_bytes(volume))
        if not _projected_kind(volume) and not volume.get("hostPath"):
            give_to_group(path, (self._pod["spec"].get("securityContext") or {}).get("fsGroup"))

    async def _request_token(self, source: TokenSource) -> None:
        metadata = self._pod["metadata"]
        account = self._pod["spec"].get("serviceAccountName") or "default"
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {
                "audiences": [source.audience] if source.audience else [],
                "expirationSeconds": source.expiration_seconds,
                "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": metadata["name"], "uid": metadata["uid"]},
            },
        }
        path = f"/api/v1/namespaces/{metadata['namespace']}/serviceaccounts/{account}/token"
        status = (await self._client.request("POST", path, body))["status"]
        first = source not in self._tokens
        self._tokens[source] = status["token"]
        if first:
            expires_at = datetime.fromisoformat(status["expirationTimestamp"])
            self._renewals.append(asyncio.create_task(self._renew(source, expires_at)))

    async def _renew(self, source: TokenSource, expires_at: datetime) -> None:
        """Replace the token at 80 % of its life, again and again."""
        seconds = (expires_at - datetime.now(UTC)).total_seconds()
        delay = max(seconds * _RENEW_AT, 1.0)
        while True:
            await asyncio.sleep(delay)
            try:
                await self._request_token(source)
            except (ApiStatusError, ApiUnavailableError) as error:
                _log.warning("pod %s: token for %r not renewed: %s", self._uid, source.audience, error)
                delay = _RENEWAL_RETRY_SECONDS
                continue
            delay = max(seconds * _RENEW_AT, 1.0)
            self.refresh(self._pod)


def _is_own_memory(volume: Mapping[str, Any]) -> bool:
    return (volume.get("emptyDir") or {}).get("medium") == "Memory"


def _memory_bytes(volume: Mapping[str, Any]) -> int:
    """What an emptyDir in memory may hold: its sizeLimit, or as much as a container may write elsewhere."""
    limit = parse_quantity(str(volume["emptyDir"].get("sizeLimit") or WRITABLE_BYTES))
    return int(limit or WRITABLE_BYTES)


def _projected_kind(volume: Mapping[str, Any]) -> bool:
    return any(kind in volume for kind in PROJECTED_KINDS)


def _check_host_path(path: Path, kind: str, name: str) -> None:
    """The checks of `hostPath.type`; the empty type checks nothing."""
    if kind == "DirectoryOrCreate":
        make_folder(path)
    elif kind == "FileOrCreate":
        path.touch()
        path.chmod(0o644)
    checks = {"Directory": path.is_dir, "File": path.is_file, "Socket": path.is_socket}
    if kind in checks and not checks[kind]():
        raise VolumeError(
            f'MountVolume.SetUp failed for volume "{name}" : hostPath type check failed: {path} is not a {kind.lower()}'
        )
    if not kind and not path.exists():
        make_folder(path)

"""Persistent volumes on this node: which folder a claim's files are in, and what becomes of folders without volume."""

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from localcluster.node.environment import References
from localcluster.node.volumes import VolumeError
from localcluster.storage import PROVISIONER


def claim_folder(references: References, claims: Path, namespace: str, name: str) -> Path:
    """The folder of a bound claim. Raises VolumeError for a claim that cannot be mounted (yet)."""
    claim = references.claim(namespace, name)
    if claim is None:
        raise VolumeError(f'persistentvolumeclaim "{name}" not found')
    if claim["metadata"].get("deletionTimestamp"):
        raise VolumeError(f'persistentvolumeclaim "{name}" is being deleted')
    volume_name = claim["spec"].get("volumeName")
    volume = references.persistent_volume(volume_name) if volume_name else None
    if volume is None or (claim.get("status") or {}).get("phase") != "Bound":
        raise VolumeError(f'persistentvolumeclaim "{name}" is not bound to a volume')
    spec = volume["spec"]
    if (spec.get("csi") or {}).get("driver") == PROVISIONER:
        # The handle becomes a path: it names a folder here, and nothing else.
        handle = str(spec["csi"]["volumeHandle"])
        if "/" in handle or handle in ("", ".", ".."):
            raise VolumeError(f'persistentvolume "{volume_name}": {handle!r} is no volume handle')
        return claims / handle
    for kind in ("hostPath", "local"):
        if kind in spec:
            return Path(spec[kind]["path"])
    raise VolumeError(f'persistentvolume "{volume_name}": this node mounts its own folders, hostPath and local')


def remove_folder(claims: Path, volume: Mapping[str, Any]) -> None:
    """Remove the files of a volume that is gone, if they were provisioned here."""
    source = volume["spec"].get("csi") or {}
    handle = str(source.get("volumeHandle", ""))
    if source.get("driver") == PROVISIONER and handle and "/" not in handle and handle not in (".", ".."):
        shutil.rmtree(claims / handle, ignore_errors=True)


def remove_strangers(claims: Path, volumes: Iterable[Mapping[str, Any]]) -> None:
    """Remove the folders of volumes that were deleted while the node was away."""
    if not claims.is_dir():
        return
    known = {str((volume["spec"].get("csi") or {}).get("volumeHandle", "")) for volume in volumes}
    for entry in claims.iterdir():
        if entry.name not in known:
            shutil.rmtree(entry, ignore_errors=True)

"""Claims on the node: which folder a claim is, and which folders go."""

from pathlib import Path
from typing import Any

import pytest

from localcluster.node.volumes import VolumeError
from localcluster.node.volumes_claims import claim_folder, remove_folder, remove_strangers
from localcluster.storage import PROVISIONER

Object = dict[str, Any]
BOUND = {"metadata": {}, "spec": {"volumeName": "v"}, "status": {"phase": "Bound"}}


def made(handle: str) -> Object:
    return {"spec": {"csi": {"driver": PROVISIONER, "volumeHandle": handle}}}


class Known:
    """What exists: one claim, one volume, or neither."""

    def __init__(self, claim: Object | None = None, volume: Object | None = None) -> None:
        self._claim, self._volume = claim, volume

    def claim(self, namespace: str, name: str) -> Object | None:
        return self._claim

    def persistent_volume(self, name: str) -> Object | None:
        return self._volume

    def config_map(self, namespace: str, name: str) -> Object | None:
        return None

    def secret(self, namespace: str, name: str) -> Object | None:
        return None


def folder(known: Known) -> Path:
    return claim_folder(known, Path("/claims"), "demo", "data")


def test_a_bound_claim_is_a_folder() -> None:
    assert folder(Known(BOUND, made("pvc-1"))) == Path("/claims/pvc-1")
    assert folder(Known(BOUND, {"spec": {"hostPath": {"path": "/srv/files"}}})) == Path("/srv/files")


@pytest.mark.parametrize(
    ("known", "message"),
    [
        (Known(), "not found"),
        (Known({**BOUND, "spec": {}}), "not bound"),
        (Known({**BOUND, "metadata": {"deletionTimestamp": "now"}}, made("pvc-1")), "being deleted"),
        (Known(BOUND, made("../../etc")), "no volume handle"),
        (Known(BOUND, {"spec": {"nfs": {}}}), "this node mounts"),
    ],
)
def test_what_cannot_be_mounted_is_said(known: Known, message: str) -> None:
    with pytest.raises(VolumeError, match=message):
        folder(known)


def test_folders_go_with_their_volumes_and_nothing_else_does(tmp_path: Path) -> None:
    for name in ("kept", "gone", "stranger"):
        (tmp_path / name).mkdir()
    outside = tmp_path.parent / "outside"
    outside.mkdir()

    remove_folder(tmp_path, made("gone"))
    remove_folder(tmp_path, made("../outside"))
    remove_strangers(tmp_path, [made("kept")])

    assert [entry.name for entry in tmp_path.iterdir()] == ["kept"]
    assert outside.is_dir()

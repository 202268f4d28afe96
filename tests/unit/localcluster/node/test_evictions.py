"""Who takes too much of the disk is ended, and nobody else."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from localcluster.node import evictions
from localcluster.node.evictions import Evictions

MEBIBYTE = 1 << 20


class Pod:
    """A pod that remembers why it was evicted."""

    def __init__(self, uid: str, *volumes: Mapping[str, Any]) -> None:
        self.pod: Mapping[str, Any] = {"metadata": {"uid": uid}, "spec": {"volumes": list(volumes)}}
        self.why: list[str] = []

    def evict(self, message: str) -> None:
        self.why.append(message)


def cache(limit: str | None = None, medium: str = "") -> dict[str, Any]:
    return {"name": "cache", "emptyDir": {"medium": medium} | ({"sizeLimit": limit} if limit else {})}


def written(root: Path, pod: Pod, mebibytes: int) -> None:
    folder = root / pod.pod["metadata"]["uid"] / "cache" / "deep"
    folder.mkdir(parents=True)
    (folder / "file").write_bytes(os.urandom(mebibytes * MEBIBYTE))
    (folder / "link").symlink_to("/usr")


def disk(free_bytes: int, total_bytes: int) -> os.statvfs_result:
    block = 4096
    return os.statvfs_result((block, block, total_bytes // block, 0, free_bytes // block, 0, 0, 0, 0, 255))


async def test_a_volume_over_its_limit_ends_its_pod(tmp_path: Path) -> None:
    over, under, unlimited = Pod("over", cache("1Mi")), Pod("under", cache("3Mi")), Pod("unlimited", cache())
    kept_by_the_kernel, claimed = Pod("memory", cache("1Mi", "Memory")), Pod("claimed", {"name": "cache"})
    everybody = (over, under, unlimited, kept_by_the_kernel, claimed)
    for pod in everybody:
        written(tmp_path, pod, 2)

    await Evictions(tmp_path, lambda: everybody).look()

    assert over.why == ['Usage of EmptyDir volume "cache" exceeds the limit "1Mi".']
    assert [pod.why for pod in everybody if pod is not over] == [[]] * 4


async def test_a_full_disk_ends_the_pod_that_takes_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    most, less = Pod("most", cache()), Pod("less", cache())
    written(tmp_path, most, 70)
    written(tmp_path, less, 65)
    look = Evictions(tmp_path, lambda: (less, most)).look

    monkeypatch.setattr(evictions.os, "statvfs", lambda _: disk(2 << 30, 100 << 30))
    await look()
    assert (most.why, less.why) == ([], [])

    monkeypatch.setattr(evictions.os, "statvfs", lambda _: disk(900 << 20, 100 << 30))
    await look()
    assert [text.partition(":")[0] for text in most.why] == ["The node was low on resource"]
    assert less.why == []


async def test_nobody_is_ended_for_what_others_than_pods_have_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = Pod("small", cache())
    written(tmp_path, small, 1)
    monkeypatch.setattr(evictions.os, "statvfs", lambda _: disk(0, 100 << 30))

    await Evictions(tmp_path, lambda: (small,)).look()

    assert small.why == []


def test_what_is_not_there_takes_nothing(tmp_path: Path) -> None:
    assert evictions.disk_bytes(tmp_path / "gone") == 0
    assert not evictions.is_nearly_full(disk(1 << 29, 1 << 30))

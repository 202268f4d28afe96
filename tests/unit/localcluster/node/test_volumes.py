"""Which files volumes hold, and how they are swapped."""

import base64
from pathlib import Path
from typing import Any

import pytest

from localcluster.node.environment import PodPlace
from localcluster.node.volumes import TokenSource, VolumeError, VolumeFile, token_sources, unsupported, volume_files
from localcluster.node.volumes_disk import inside, write_atomically

POD: dict[str, Any] = {
    "metadata": {"name": "p", "namespace": "shop", "uid": "u", "labels": {"a": 'say "x"', "b": "2"}},
    "spec": {"containers": [{"name": "c", "resources": {"limits": {"cpu": "2"}}}]},
}
PLACE = PodPlace("10.244.0.5", "10.244.0.1", 2, 4 << 30)


class Objects:
    def config_map(self, namespace: str, name: str) -> dict[str, Any] | None:
        binary = base64.b64encode(b"\xff").decode()
        return {"data": {"a": "1", "b": "2"}, "binaryData": {"c": binary}} if name == "cm" else None

    def secret(self, namespace: str, name: str) -> dict[str, Any] | None:
        return {"data": {"key": base64.b64encode(b"k").decode()}} if name == "sec" else None


def files(tokens: dict[TokenSource, str] | None = None, **volume: Any) -> dict[str, tuple[bytes, int]]:
    found = volume_files({"name": "v", **volume}, POD, PLACE, Objects(), tokens or {})
    return {path: (file.content, file.mode) for path, file in found.items()}


def test_config_maps_and_secrets() -> None:
    assert files(configMap={"name": "cm"}) == {"a": (b"1", 0o644), "b": (b"2", 0o644), "c": (b"\xff", 0o644)}
    assert files(secret={"secretName": "sec", "defaultMode": 0o400}) == {"key": (b"k", 0o400)}
    items = [{"key": "a", "path": "x/y", "mode": 0o600}]
    assert files(configMap={"name": "cm", "items": items}) == {"x/y": (b"1", 0o600)}


@pytest.mark.parametrize(
    ("volume", "message"),
    [
        ({"configMap": {"name": "no"}}, 'configmap "no" not found'),
        ({"secret": {"secretName": "no"}}, 'secret "no" not found'),
        (
            {"configMap": {"name": "cm", "items": [{"key": "z", "path": "z"}]}},
            "references non-existent config key: z",
        ),
        ({"projected": {"sources": [{"configMap": {"name": "no"}}]}}, 'configmap "no" not found'),
    ],
)
def test_what_is_missing_is_named(volume: dict[str, Any], message: str) -> None:
    with pytest.raises(VolumeError) as raised:
        files(**volume)
    assert str(raised.value) == f'MountVolume.SetUp failed for volume "v" : {message}'


def test_optional_sources_may_be_missing() -> None:
    assert files(configMap={"name": "no", "optional": True}) == {}
    assert files(secret={"secretName": "no", "optional": True}) == {}


def test_projected_volumes_bring_everything_together() -> None:
    sources = [
        {"serviceAccountToken": {"path": "token", "audience": "istio-ca", "expirationSeconds": 600}},
        {"configMap": {"name": "cm", "items": [{"key": "a", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
    ]
    volume = {"projected": {"sources": sources, "defaultMode": 0o600}}
    assert token_sources({"name": "v", **volume}) == [TokenSource("istio-ca", 600)]
    assert files({TokenSource("istio-ca", 600): "jwt"}, **volume) == {
        "token": (b"jwt", 0o600),
        "ca.crt": (b"1", 0o600),
        "labels": (b'a="say \\"x\\""\nb="2"', 0o600),
    }


def test_contents_are_never_shown() -> None:
    assert "hush" not in repr(VolumeFile(b"hush"))


def test_unknown_kinds_are_refused_by_name() -> None:
    message = unsupported([{"name": "data", "nfs": {"server": "x", "path": "/"}}])
    assert message is not None
    assert 'volume "data": nfs is not available' in message
    assert unsupported([{"name": "data", "emptyDir": {}}]) is None


def test_an_update_is_one_swap_and_leaves_nothing_behind(tmp_path: Path) -> None:
    volume = tmp_path / "v"
    assert write_atomically(volume, {"a": VolumeFile(b"1"), "d/e": VolumeFile(b"2", 0o600)})
    assert (volume / "a").read_bytes() == b"1"
    assert (volume / "a").is_symlink()
    assert (volume / "d/e").stat().st_mode & 0o777 == 0o600
    assert not write_atomically(volume, {"a": VolumeFile(b"1"), "d/e": VolumeFile(b"2", 0o600)})
    reader = (volume / "a").open("rb")
    assert write_atomically(volume, {"a": VolumeFile(b"new")})
    assert (volume / "a").read_bytes() == b"new"
    assert reader.read() == b"1"
    reader.close()
    hidden = [path.name for path in volume.iterdir() if path.name.startswith("..")]
    assert sorted(path.name for path in volume.iterdir() if path.name not in hidden) == ["a"]
    assert len(hidden) == 2  # the link and what it points to


@pytest.mark.parametrize("path", ["../x", "/etc/x", "a/../../x", "..data/x"])
def test_paths_stay_inside(tmp_path: Path, path: str) -> None:
    with pytest.raises(VolumeError):
        write_atomically(tmp_path / "v", {path: VolumeFile(b"")})


def test_sub_paths_are_made_and_never_lead_out(tmp_path: Path) -> None:
    root = tmp_path / "v"
    root.mkdir()
    assert inside(root, "a/b").is_dir()
    (root / "link").symlink_to("/etc")
    for path in ("link", "../other", "/etc"):
        with pytest.raises(VolumeError):
            inside(root, path)

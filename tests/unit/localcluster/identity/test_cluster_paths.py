"""Where state lives, and whose folders are refused."""

import os
import stat
from pathlib import Path

import pytest

from localcluster.paths import ClusterPathError, cluster_paths, private_directory, state_root, write_atomically


def test_the_chosen_home_is_made_for_us_alone(tmp_path: Path) -> None:
    found = state_root({"MUTUA_HOME": str(tmp_path / "deep" / "home")})

    assert found == tmp_path / "deep" / "home"
    assert stat.S_IMODE(found.stat().st_mode) == 0o700


def test_a_chosen_home_that_cannot_be_used_is_an_error_with_a_hint(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(ClusterPathError, match="cannot use") as caught:
        state_root({"MUTUA_HOME": str(tmp_path / "file")})
    assert "MUTUA_HOME" in caught.value.hint


def test_a_home_that_cannot_be_written_leads_to_the_temporary_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the home should be")
    monkeypatch.setenv("XDG_STATE_HOME", str(blocked))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    assert state_root({}) == tmp_path / f"mutua-{os.getuid()}"


def test_a_link_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "home").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(ClusterPathError, match="not a folder"):
        private_directory(tmp_path / "home")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    os.chown(tmp_path / "home", 65534, 65534)

    with pytest.raises(ClusterPathError, match="belongs to user id 65534"):
        private_directory(tmp_path / "home")


def test_a_chosen_home_keeps_its_mode_but_others_may_not_write_to_it(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    home.chmod(0o755)
    assert stat.S_IMODE(state_root({"MUTUA_HOME": str(home)}).stat().st_mode) == 0o755

    home.chmod(0o777)
    with pytest.raises(ClusterPathError, match="others may write"):
        state_root({"MUTUA_HOME": str(home)})


def test_a_folder_open_to_others_is_closed(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir(mode=0o755)

    assert stat.S_IMODE(private_directory(tmp_path / "home").stat().st_mode) == 0o700


def test_a_cluster_has_its_folder_below_the_root(tmp_path: Path) -> None:
    paths = cluster_paths("demo-1", tmp_path)

    assert paths.directory == tmp_path / "clusters" / "demo-1"
    assert (paths.name, paths.kubeconfig.name, paths.node_socket.name) == ("demo-1", "kubeconfig", "node.sock")


@pytest.mark.parametrize("name", ["", "Demo", "-a", "a-", "a/b", "..", "a" * 64, "a\n"])
def test_a_name_that_is_no_label_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ClusterPathError, match="is not valid"):
        cluster_paths(name, tmp_path)


def test_a_root_too_deep_for_sockets_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(ClusterPathError, match="too long for a Unix socket"):
        cluster_paths("demo", tmp_path / ("x" * 100))


def test_files_are_replaced_whole_and_kept_from_others(tmp_path: Path) -> None:
    target = tmp_path / "secret"
    write_atomically(target, b"one")
    write_atomically(target, b"two")

    assert target.read_bytes() == b"two"
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]

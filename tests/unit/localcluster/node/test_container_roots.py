"""What of the host containers see, decided from texts and names."""

from pathlib import Path

import pytest

from localcluster.node import rootfs

MOUNTINFO = """\
21 1 254:0 / / rw,relatime - ext4 /dev/vda rw
22 21 0:21 / /proc rw - proc proc rw
23 21 0:22 /hosts /etc/hosts rw - ext4 /dev/vda rw
24 21 0:23 / /data\\040disk/a rw - tmpfs tmpfs rw
"""


def test_mount_points_are_read_with_their_escapes() -> None:
    assert rootfs.mount_points(MOUNTINFO) == ("/", "/proc", "/etc/hosts", "/data disk/a")


@pytest.mark.parametrize(
    ("folder", "layered"), [("/usr", True), ("/etc", False), ("/data disk", False), ("/data", True), ("/a,b", False)]
)
def test_a_folder_that_holds_mounts_cannot_be_layered(folder: str, layered: bool) -> None:
    assert rootfs.may_be_layered(folder, rootfs.mount_points(MOUNTINFO)) is layered


def test_ids_are_looked_up_in_the_maps_of_the_user_namespace() -> None:
    single, identity = "         0       1000          1\n", "0 0 4294967295\n"

    assert rootfs.outer_id(0, single) == 1000
    assert rootfs.outer_id(1337, identity) == 1337
    assert rootfs.is_mapped(0, single)
    assert not rootfs.is_mapped(1337, single)
    assert rootfs.is_mapped(1337, identity)


def test_python_is_shown_without_its_parts_and_without_a_home(tmp_path: Path) -> None:
    home = tmp_path / "home"
    environment = home / "venv"
    library = environment / "lib"
    library.mkdir(parents=True)

    folders = rootfs.python_folders([str(library), str(environment), str(home), str(tmp_path), "/"], [str(home)])

    assert folders == (str(environment),)


def test_a_link_to_python_is_shown_as_named_and_as_resolved(tmp_path: Path) -> None:
    real = tmp_path / "python-3.12.1"
    real.mkdir()
    link = tmp_path / "python-3.12"
    link.symlink_to(real)

    assert rootfs.python_folders([str(link)], ()) == (str(link), str(real))


@pytest.mark.parametrize(
    ("path", "shown"),
    [("/usr/lib/python3", True), ("/home/a/venv", False), ("/opt/app/venv", False), ("/opt/python", True)],
)
def test_only_what_lies_elsewhere_needs_to_be_shown_apart(path: str, shown: bool) -> None:
    assert rootfs.is_shown(path, {"usr", "opt"}, ["/opt/app"]) is shown

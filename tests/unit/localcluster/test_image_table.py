"""Image names, as pods write them, to programs."""

from pathlib import Path

import pytest

from localcluster import images
from localcluster.images import Image, ImagesError, UnknownImage
from localcluster.node.agent_images import ImageTable
from localcluster.paths import ClusterPaths


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("nginx", "nginx"),
        ("nginx:1.27", "nginx"),
        ("docker.io/library/nginx:1.27", "nginx"),
        ("library/nginx", "nginx"),
        ("docker.io/curlimages/curl", "curlimages/curl"),
        ("nginx@sha256:0123", "nginx"),
        ("nginx:1.27@sha256:0123", "nginx"),
        ("localhost:5000/team/app:v1", "localhost:5000/team/app"),
        ("registry.k8s.io/pause:3.9", "registry.k8s.io/pause"),
    ],
)
def test_names_are_compared_without_registry_tag_and_digest(reference: str, name: str) -> None:
    assert images.name_of(reference) == name


def test_an_unknown_image_says_how_to_add_it() -> None:
    unknown = images.resolve("example.com/shop/cart:v2", {})

    assert isinstance(unknown, UnknownImage)
    assert unknown.reference == "example.com/shop/cart:v2"
    assert '{"example.com/shop/cart": {"command": ["program"]}}' in unknown.message
    assert "images.json" in unknown.message


@pytest.mark.parametrize(
    ("image", "command", "args", "expected"),
    [
        (Image(("curl",), entrypoint=True), (), ("-s", "http://x"), ("curl", "-s", "http://x")),
        (Image(("curl",), entrypoint=True), (), (), ("curl",)),
        (Image(("sh",)), (), ("sleep", "1"), ("sleep", "1")),
        (Image(("sh",)), ("sleep",), ("1",), ("sleep", "1")),
        (Image(("curl",), entrypoint=True), ("sleep",), (), ("sleep",)),
    ],
)
def test_command_and_arguments_follow_kubernetes_rules(
    image: Image, command: tuple[str, ...], args: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    assert image.argv(command, args) == expected


def test_the_hosts_nginx_is_used_if_there_is_one() -> None:
    with_nginx = images.builtin(lambda program: f"/usr/sbin/{program}")["nginx"]
    without = images.builtin(lambda program: None)["nginx"]

    assert with_nginx.command[0] == "nginx"
    assert without.command[-3].endswith("web.py")


def test_entries_of_the_cluster_come_before_the_built_in_ones(tmp_path: Path) -> None:
    paths = ClusterPaths(tmp_path)
    images.store(paths, {"docker.io/library/nginx:1": Image(("my-nginx",), {"A": "b"}, Path("/srv/root"), True)})
    images.store(paths, {"shop/cart": Image(("cart",))})

    table = images.load(paths)

    assert table["nginx"] == Image(("my-nginx",), {"A": "b"}, Path("/srv/root"), True)
    assert table["shop/cart"] == Image(("cart",))
    assert table["busybox"] == Image(("sh",))


def test_without_a_file_the_table_is_the_built_in_one(tmp_path: Path) -> None:
    assert images.load(ClusterPaths(tmp_path)) == images.builtin()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("[", "not JSON"),
        ("[]", "must hold an object"),
        ('{"a": []}', 'image "a": must be an object'),
        ('{"a": {"comand": []}}', 'unknown field "comand"'),
        ('{"a": {"command": "sh"}}', '"command" must be a list of strings'),
        ('{"a": {"command": [], "env": {"A": 1}}}', '"env" must map names to strings'),
        ('{"a": {"command": [], "rootFolder": "x"}}', '"rootFolder" must be an absolute path'),
    ],
)
def test_a_table_that_is_wrong_is_refused_with_the_entry_and_the_reason(
    tmp_path: Path, content: str, complaint: str
) -> None:
    paths = ClusterPaths(tmp_path)
    paths.images.write_text(content)

    with pytest.raises(ImagesError, match=complaint):
        images.load(paths)


def test_images_are_added_and_removed_by_any_spelling_of_their_name(tmp_path: Path) -> None:
    paths = ClusterPaths(tmp_path)
    images.store(paths, {"docker.io/library/tool:3": Image(("tool",)), "other": Image(("other",))})

    assert images.added(paths) == {"tool": Image(("tool",)), "other": Image(("other",))}
    assert images.remove(paths, "tool:latest")
    assert not images.remove(paths, "tool")
    assert list(images.added(paths)) == ["other"]


def test_a_node_takes_the_table_as_it_is_now(tmp_path: Path) -> None:
    paths = ClusterPaths(tmp_path)
    table = ImageTable(paths, images.load(paths), lambda: None)
    assert isinstance(table.find("tool"), UnknownImage)

    images.store(paths, {"tool": Image(("tool",))})
    assert table.find("tool:3") == Image(("tool",))
    images.remove(paths, "tool")
    assert isinstance(table.find("tool"), UnknownImage)
    paths.images.write_text("[")
    assert table.find("busybox") == Image(("sh",))

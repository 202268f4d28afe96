"""Whatever users write, the analysis ends and raises nothing: the corpus, with pieces taken out or put in wrongly."""

import copy
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from mutua.analysis import run
from mutua.analysis.inputs import World
from mutua.api import decode
from mutua.mesh import build
from mutua.mesh.objects import ObjectSet

CORPUS = tuple(yaml.safe_load_all(Path(__file__).with_name("corpus.yaml").read_text()))
ODD_VALUES = (None, "", 0, -1, 70000, "*", "**", "a/b/c", [], {}, True, "[", {"a": "b"}, ["a"], [None], [{}], "*.", "~")


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value inside."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inside:
        yield (*path, key)
        yield from places(item, (*path, key))


def spoiled(document: Any, chance: random.Random) -> Any:
    """A copy with one or two values gone or odd."""
    copied = copy.deepcopy(document)
    for _ in range(chance.randint(1, 2)):
        paths = [path for path in places(copied) if path[0] not in ("apiVersion", "kind")]
        if not paths:
            break
        *way, last = chance.choice(paths)
        inside = copied
        for step in way:
            inside = inside[step]
        if chance.random() < 0.3:
            del inside[last]
        else:
            inside[last] = copy.deepcopy(chance.choice(ODD_VALUES))
    return copied


@pytest.mark.parametrize("seed", range(40))
def test_odd_objects_are_no_reason_to_fail(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - the same mistakes every time
    documents = [spoiled(document, chance) if chance.random() < 0.5 else document for document in CORPUS]
    decoded = [decode.any_from_mapping(document) for document in documents]
    objects = ObjectSet.of(item.value for item in decoded if item.value is not None)
    world = World(objects, unreadable=tuple(finding for item in decoded for finding in item.findings))
    run.analyze(world)
    snapshot = build.snapshot(objects, world.mesh_config)
    for item in decoded:
        if item.value is not None:
            run.if_applied(world, snapshot, item.value)

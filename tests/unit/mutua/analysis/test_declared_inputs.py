"""A check reads the kinds that it declares and no others; what else there is changes nothing for it."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from analysis_worlds import world

from mutua.analysis import pages, registry, run
from mutua.analysis.check import Check
from mutua.analysis.inputs import Inputs, Shared, World
from mutua.api import kinds
from mutua.errors import InternalError
from mutua.mesh.objects import ObjectSet

CORPUS = Path(__file__).with_name("corpus.yaml")


def everything() -> World:
    """A cluster with something of every kind, and most of it wrong."""
    examples = "\n---\n".join(page.example for page in pages.PAGES.values() if '"..."' not in page.example)
    return world(CORPUS.read_text() + "\n---\n" + examples)


def only(given: World, check: Check) -> World:
    """The same world without the kinds that the check did not declare."""
    return msgspec.structs.replace(
        given, objects=ObjectSet({kind.name: given.objects.of_kind(kind) for kind in check.inputs})
    )


@pytest.mark.parametrize("check", registry.CHECKS, ids=lambda check: check.name)
def test_reads_what_it_declares(check: Check) -> None:
    given = everything()
    with_all = run.analyze(given, [check])
    assert run.analyze(only(given, check), [check]) == with_all
    assert {message.code for message in with_all} <= set(check.codes)


def test_reading_more_is_a_mistake() -> None:
    def greedy(inputs: Inputs) -> Iterator[object]:
        yield from inputs.all(kinds.SECRET, kinds.SECRET.struct)

    with pytest.raises(InternalError, match="reads Secret, which it does not declare"):
        list(greedy(Inputs(Shared(everything()), (kinds.POD,))))


def test_the_corpus_has_something_of_every_kind() -> None:
    given = everything()
    declared = {kind.name: kind for check in registry.CHECKS for kind in check.inputs}
    missing = [name for name, kind in declared.items() if not given.objects.of_kind(kind)]
    assert missing == []

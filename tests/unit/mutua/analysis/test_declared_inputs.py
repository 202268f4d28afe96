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


SENT_TO_NO_WEBHOOK = {
    "MUT0012": kinds.POD,
    "MUT0013": kinds.SERVICE,
    "MUT0016": kinds.SECRET,
}
"""Findings about kinds whose writes do not wait for the control plane's opinion, and whose secrets it is not sent."""


def test_every_own_finding_is_heard_when_applying_what_it_is_about() -> None:
    heard = {code for check in registry.CHECKS if check.when_applied for code in check.codes}
    own = {code for check in registry.CHECKS for code in check.codes if code.startswith("MUT")}

    assert own - heard == SENT_TO_NO_WEBHOOK.keys()
    asked = {kind.name for check in registry.CHECKS for kind in check.when_applied}
    assert asked <= {kind.name for kind in kinds.ours()}, "the webhook would not be asked"
    for code, kind in SENT_TO_NO_WEBHOOK.items():
        assert any(code in check.codes and kind in check.inputs for check in registry.CHECKS)

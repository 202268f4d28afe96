"""From one issuer to the next: states in, states out, and never a proxy left behind."""

from datetime import timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.certificates import NOW
from mutua.ca import rollover
from mutua.ca.rollover import Digests, Holding, Rollover, Stage

OLD, NEW = "old-way-roots", "new-way-roots"
DIGESTS = Digests(both="both", successor="new")
WEB, API = ("shop", "web-0"), ("shop", "api-0")
SETTLED = Rollover(issuer=OLD, origin="istio-ca-secret")
BEGUN = rollover.begin(SETTLED, NEW, "cacerts", "secret cacerts was added", NOW)
BEFORE = Holding(roots="old", issuer="old-way")
TRUSTS_BOTH = Holding(roots="both", issuer="old-way")
RENEWED = Holding(roots="both", issuer="new-way")
DONE = Holding(roots="new", issuer="new-way")


def step(state: Rollover, web: Holding | None, api: Holding | None, *, announced: bool = True) -> Rollover:
    """One look at two proxies."""
    holdings = {pod: holding for pod, holding in ((WEB, web), (API, api)) if holding is not None}
    return rollover.advance(state, (WEB, API), holdings, DIGESTS, NOW, announced=announced)


def test_the_whole_way() -> None:
    """Each stage waits for the last proxy, and then goes on."""
    assert (BEGUN.stage, BEGUN.nudge) == (Stage.DISTRIBUTE, 1)
    assert step(BEGUN, TRUSTS_BOTH, BEFORE) is BEGUN
    renew = step(BEGUN, TRUSTS_BOTH, TRUSTS_BOTH)
    assert renew.stage is Stage.RENEW
    assert step(renew, RENEWED, TRUSTS_BOTH) is renew
    retire = step(renew, RENEWED, RENEWED)
    assert retire.stage is Stage.RETIRE
    assert step(retire, DONE, RENEWED) is retire
    settled = step(retire, DONE, DONE)
    assert (settled.stage, settled.issuer, settled.origin, settled.successor) == (Stage.SETTLED, NEW, "cacerts", "")


def test_who_is_waited_for_and_why() -> None:
    """An operator sees the proxies that hold it up."""
    waiting = rollover.lagging(BEGUN, (WEB, API), {WEB: BEFORE}, DIGESTS)
    assert [(each.pod, each.why) for each in waiting] == [
        ("api-0", "has not told what it holds"),
        ("web-0", "does not trust the new root yet"),
    ]
    renew = step(BEGUN, TRUSTS_BOTH, TRUSTS_BOTH)
    (late,) = rollover.lagging(renew, (WEB, API), {WEB: RENEWED, API: TRUSTS_BOTH}, DIGESTS)
    assert late == rollover.Lagging("shop", "api-0", "still presents a certificate of the old issuer")


def test_nothing_goes_on_before_the_roots_are_written() -> None:
    """A namespace whose config map is not written yet may get a pod at any moment."""
    assert step(BEGUN, TRUSTS_BOTH, TRUSTS_BOTH, announced=False) is BEGUN


def test_a_silent_proxy_is_asked_again() -> None:
    """What it said may have been lost with a replica; a clock set back does not stop the asking."""
    later = rollover.advance(BEGUN, (WEB,), {}, DIGESTS, NOW + rollover.NUDGE_AFTER, announced=True)
    assert (later.stage, later.nudge) == (Stage.DISTRIBUTE, BEGUN.nudge + 1)
    back = rollover.advance(BEGUN, (WEB,), {}, DIGESTS, NOW - timedelta(days=1), announced=True)
    assert back.nudge == BEGUN.nudge + 1


def test_paused() -> None:
    """Nothing moves until it is resumed."""
    held = rollover.paused(BEGUN, True)
    assert step(held, TRUSTS_BOTH, TRUSTS_BOTH) is held
    assert step(rollover.paused(held, False), TRUSTS_BOTH, TRUSTS_BOTH).stage is Stage.RENEW


@pytest.mark.parametrize("renewing", [False, True])
def test_aborted(renewing: bool) -> None:
    """The old issuer signs again at once, the new root goes last, and the same authority is not begun again."""
    state = step(BEGUN, TRUSTS_BOTH, TRUSTS_BOTH) if renewing else BEGUN
    back = rollover.abort(state, NOW)
    assert (back.stage, back.issuer, back.successor, back.declined) == (Stage.RENEW, NEW, OLD, NEW)
    digests = Digests(both="both", successor="old")
    holdings = {WEB: RENEWED}
    assert rollover.advance(back, (WEB,), holdings, digests, NOW, announced=True) is back
    retire = rollover.advance(back, (WEB,), {WEB: BEFORE}, digests, NOW, announced=True)
    settled = rollover.advance(retire, (WEB,), {WEB: BEFORE}, digests, NOW, announced=True)
    assert (settled.stage, settled.issuer, settled.origin, settled.declined) == (
        Stage.SETTLED,
        OLD,
        "istio-ca-secret",
        NEW,
    )


def test_too_late_to_abort() -> None:
    """Once the old root goes there is no way back."""
    retire = msgspec.structs.replace(BEGUN, stage=Stage.RETIRE)
    assert rollover.abort(retire, NOW) is retire


def test_survives_being_written_down() -> None:
    """What one replica writes, another one reads."""
    for state in (SETTLED, BEGUN, rollover.abort(BEGUN, NOW)):
        assert msgspec.json.decode(msgspec.json.encode(state), type=Rollover) == state


holdings_of_two = st.tuples(*[st.sampled_from([None, BEFORE, TRUSTS_BOTH, RENEWED, DONE])] * 2)


@given(st.lists(st.tuples(holdings_of_two, st.booleans()), max_size=30))
def test_nobody_is_ever_cut_off(looks: list[tuple[tuple[Holding | None, Holding | None], bool]]) -> None:
    """Whatever proxies say in whatever order: no new signer before all trust it, no root goes before all left it."""
    state = BEGUN
    for (web, api), announced in looks:
        before, state = state, step(state, web, api, announced=announced)
        if before.stage is Stage.DISTRIBUTE and state.stage is not before.stage:
            assert state.stage is Stage.RENEW
            assert all(each is not None and each.roots == "both" for each in (web, api))
        if before.stage is Stage.RENEW and state.stage is not before.stage:
            assert state.stage is Stage.RETIRE
            assert all(each is not None and each.issuer == "new-way" for each in (web, api))

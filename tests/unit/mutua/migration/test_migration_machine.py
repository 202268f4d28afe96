"""What a migration wants at each stage, and that nothing can lead it to where it must not be."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mutua.mesh.proxy_view import MtlsMode
from mutua.migration import machine, words
from mutua.migration.machine import (
    BACK_WITHIN,
    BLIND_AT_MOST,
    LIVE_WITHIN,
    Before,
    Cause,
    Migration,
    Observation,
    Progress,
    Refusal,
    Stage,
    Step,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SOAK = 60.0


def begun(
    *names: str,
    rest: tuple[str, ...] = (),
    target: MtlsMode = MtlsMode.STRICT,
    proven: tuple[str, ...] = (),
    forced: bool = False,
    rollback_on: int = 1,
) -> Migration:
    steps = tuple(
        Step(name, (("app", name),), Progress.PROVEN if name in proven else Progress.PENDING) for name in names
    )
    return Migration(
        namespace="shop",
        target=target,
        steps=steps,
        rest=rest,
        before=Before("default", "PERMISSIVE"),
        soak_seconds=SOAK,
        rollback_on=rollback_on,
        forced=forced,
        by="somebody",
        began=NOW,
        since=NOW,
    )


def refusal(workload: str, connections: int = 1) -> Refusal:
    return Refusal(workload, "shop/legacy", f"shop/{workload}-1", 80, connections, "the client has no sidecar", NOW)


def quiet(state: Migration, *, until: Stage) -> Migration:
    """The state once it has got to a stage, with everything live and nobody refused."""
    for _ in range(100):
        if state.stage is until:
            return state
        state = machine.advance(state, Observation(state.since + timedelta(seconds=SOAK)))
    raise AssertionError(f"never {until}: {state}")


def names(state: Migration) -> list[str]:
    return [step.name for step in machine.wanted(state).steps]


def test_the_whole_way() -> None:
    state, seen = begun("api", "web"), []
    while not state.stage.is_final:
        seen.append((state.stage, names(state), machine.wanted(state).mode))
        state = machine.advance(state, Observation(state.since + timedelta(seconds=SOAK)))

    strict = MtlsMode.STRICT
    assert seen == [
        (Stage.READY, [], None),
        (Stage.SWITCH, ["api"], None),
        (Stage.SOAK, ["api"], None),
        (Stage.READY, ["api"], None),
        (Stage.SWITCH, ["api", "web"], None),
        (Stage.SOAK, ["api", "web"], None),
        (Stage.READY, ["api", "web"], None),
        (Stage.NAMESPACE, ["api", "web"], strict),
        (Stage.REPLACE, [], strict),
    ]
    assert (state.stage, machine.wanted(state).mode, state.cause) == (Stage.DONE, strict, None)


def test_what_only_the_namespace_reaches_is_watched_too() -> None:
    state = quiet(begun("api", rest=("other",)), until=Stage.NAMESPACE_SOAK)

    assert machine.advance(state, Observation(state.since + timedelta(seconds=SOAK - 1))) is state
    back = machine.advance(state, Observation(state.since, refusals=(refusal("other"),)))
    assert (back.stage, names(back), machine.wanted(back).mode) == (Stage.BACK, ["api"], None)


@pytest.mark.parametrize("stage", [Stage.SWITCH, Stage.SOAK])
def test_a_refusal_rolls_back_the_workload_and_keeps_what_was_proven(stage: Stage) -> None:
    state = quiet(begun("api", "web", proven=("api",)), until=stage)
    back = machine.advance(state, Observation(NOW, lagging=("web-1",), refusals=(refusal("web"),)))

    assert (back.stage, names(back), back.cause) == (Stage.BACK, ["api"], Cause.REFUSED)
    assert "shop/legacy was refused by shop/web-1:80" in back.why
    stopped = machine.advance(back, Observation(NOW))
    assert (stopped.stage, names(stopped), stopped.ended) == (Stage.STOPPED, ["api"], NOW)


def test_a_refusal_of_a_proven_workload_undoes_it_and_what_is_not_proven_yet() -> None:
    state = quiet(begun("api", "web", "db", proven=("api", "db")), until=Stage.SOAK)

    assert names(machine.advance(state, Observation(NOW, refusals=(refusal("api"),)))) == ["db"]


def test_refusals_are_counted_together_up_to_the_limit() -> None:
    state = quiet(begun("web", rollback_on=3), until=Stage.SOAK)

    assert machine.advance(state, Observation(NOW, refusals=(refusal("web", 2),))) is state
    assert machine.advance(state, Observation(NOW, refusals=(refusal("web", 3),))).stage is Stage.BACK


def test_refusals_that_the_migration_did_not_bring_about_change_nothing() -> None:
    state = quiet(begun("web", "later", rest=("rest",)), until=Stage.SOAK)
    others = tuple(map(refusal, ("later", "rest", "")))

    assert machine.advance(state, Observation(NOW, refusals=others)) is state


@pytest.mark.parametrize("stage", [Stage.SWITCH, Stage.SOAK, Stage.NAMESPACE, Stage.NAMESPACE_SOAK])
def test_nothing_stays_strict_unseen_or_unasked(stage: Stage) -> None:
    state = quiet(begun("web", rest=("rest",)), until=stage)
    for seen, cause in (
        (Observation(NOW, blind=BLIND_AT_MOST), Cause.BLIND),
        (Observation(NOW, changed="somebody deleted it"), Cause.CHANGED),
        (Observation(NOW, interrupted=True), Cause.INTERRUPTED),
    ):
        back = machine.advance(state, seen)
        assert (back.stage, back.cause, machine.wanted(back).mode) == (Stage.BACK, cause, None)
        assert names(back) == list(state.named(Progress.PROVEN))


def test_a_policy_that_is_not_taken_up_is_taken_back() -> None:
    state = quiet(begun("web"), until=Stage.SWITCH)
    late = state.since + LIVE_WITHIN

    assert machine.advance(state, Observation(late - timedelta(seconds=1), lagging=("web-1",))) is state
    back = machine.advance(state, Observation(late, lagging=("web-1",)))
    assert (back.cause, back.why) == (Cause.NOT_LIVE, "not live after 60 s at web-1")


def test_a_soak_lasts_until_pods_that_came_up_meanwhile_have_the_policy() -> None:
    state = quiet(begun("web"), until=Stage.SOAK)
    over = state.since + timedelta(seconds=SOAK)

    assert machine.advance(state, Observation(over, lagging=("web-2",))) is state
    assert machine.advance(state, Observation(over)).named(Progress.PROVEN) == ("web",)


def test_a_soak_that_nobody_watched_begins_anew() -> None:
    state = quiet(begun("web"), until=Stage.SOAK)
    later = state.since + timedelta(hours=1)
    again = machine.resumed(state, later)

    assert machine.due(again) == later + timedelta(seconds=SOAK)
    assert machine.resumed(quiet(begun("web"), until=Stage.DONE), later).since != later


def test_a_roll_back_that_is_not_confirmed_is_said_to_be_none() -> None:
    state = machine.advance(quiet(begun("web"), until=Stage.SOAK), Observation(NOW, refusals=(refusal("web"),)))
    lagging = ("web-1",)

    assert machine.advance(state, Observation(NOW + BACK_WITHIN / 2, lagging=lagging)) is state
    stopped = machine.advance(state, Observation(NOW + BACK_WITHIN, lagging=lagging))
    assert stopped.stage is Stage.STOPPED
    assert stopped.why.endswith("rolled back, which web-1 did not confirm")


@pytest.mark.parametrize(
    ("stage", "said"),
    [
        (Stage.SWITCH, "UNWATCHED: api is STRICT"),
        (Stage.SOAK, "UNWATCHED: api is STRICT"),
        (Stage.NAMESPACE, "UNWATCHED: the whole namespace shop is STRICT"),
        (Stage.NAMESPACE_SOAK, "UNWATCHED: the whole namespace shop is STRICT"),
        (Stage.READY, "nothing that is not proven is STRICT"),
        (Stage.REPLACE, "nothing that is not proven is STRICT"),
    ],
)
def test_what_a_run_that_died_has_left_is_told_with_the_next_step(stage: Stage, said: str) -> None:
    text = "\n".join(words.unwatched(quiet(begun("api", "web", rest=("db",)), until=stage)))

    assert said in text
    assert "mutua migrate run -n shop --to STRICT" in text


def test_a_roll_back_that_was_left_says_what_may_still_refuse() -> None:
    state = machine.advance(quiet(begun("web"), until=Stage.SOAK), Observation(NOW, refusals=(refusal("web"),)))

    assert "rolled back; web may still be STRICT" in "\n".join(words.unwatched(state))


def test_back_to_permissive_needs_no_proof_and_opens_before_it_takes_away() -> None:
    state = begun("web", target=MtlsMode.PERMISSIVE, proven=("web",))
    state = machine.advance(state, Observation(NOW, blockers=("anybody",)))
    assert (state.stage, names(state), machine.wanted(state).mode) == (
        Stage.NAMESPACE,
        ["web"],
        MtlsMode.PERMISSIVE,
    )
    state = machine.advance(state, Observation(NOW))
    assert (state.stage, names(state)) == (Stage.REPLACE, [])


def test_the_state_survives_being_written_down() -> None:
    state = machine.advance(quiet(begun("web"), until=Stage.SOAK), Observation(NOW, refusals=(refusal("web"),)))

    assert msgspec.json.decode(msgspec.json.encode(state), type=Migration) == state


WORKLOADS = ("api", "web", "db")


class AnyCourse(RuleBasedStateMachine):
    """Whatever is seen in whatever order."""

    @initialize(rest=st.sampled_from([(), ("rest",)]), forced=st.booleans(), proven=st.sets(st.sampled_from(WORKLOADS)))
    def begin(self, rest: tuple[str, ...], forced: bool, proven: set[str]) -> None:
        self.state = begun(*WORKLOADS, rest=rest, forced=forced, proven=tuple(proven))
        self.now = NOW
        self.last: Observation | None = None
        self.before = self.state

    @precondition(lambda self: hasattr(self, "state"))
    @rule(
        seconds=st.sampled_from([0.2, 1.0, 31.0, 61.0]),
        lagging=st.sampled_from([(), (), (), ("pod",)]),
        refused=st.sampled_from([(), (), (), (), *[(name,) for name in (*WORKLOADS, "rest", "")]]),
        blind=st.sampled_from([0, 0, 0, 4, 6]),
        blockers=st.sampled_from([(), (), (), ("a client",)]),
        changed=st.sampled_from(["", "", "", "changed"]),
        interrupted=st.sampled_from([False, False, False, True]),
    )
    def look(
        self,
        seconds: float,
        lagging: tuple[str, ...],
        refused: tuple[str, ...],
        blind: int,
        blockers: tuple[str, ...],
        changed: str,
        interrupted: bool,
    ) -> None:
        self.now += timedelta(seconds=seconds)
        refusals = tuple(map(refusal, refused))
        self.last = Observation(self.now, lagging, refusals, timedelta(seconds=blind), blockers, changed, interrupted)
        self.before = self.state
        self.state = machine.advance(self.state, self.last)

    @precondition(lambda self: hasattr(self, "state"))
    @rule()
    def die_and_come_back(self) -> None:
        read = msgspec.json.decode(msgspec.json.encode(self.state), type=Migration)
        self.before = self.state = machine.resumed(read, self.now)
        self.last = None

    @invariant()
    def holds(self) -> None:
        if not hasattr(self, "state") or self.last is None:
            return
        before, after, seen = self.before, self.state, self.last
        held = {step.name for step in machine.wanted(after).steps}
        held_before = {step.name for step in machine.wanted(before).steps}
        if machine.wanted(after).mode is MtlsMode.STRICT:
            held = {*WORKLOADS, "rest"}
        if machine.wanted(before).mode is MtlsMode.STRICT:
            held_before = {*WORKLOADS, "rest"}
        newly = held - held_before
        # Never STRICT with known blockers, unless somebody has taken it upon himself.
        assert not newly or not seen.blockers or after.forced
        # One workload after the other, and the namespace only once all are proven.
        if machine.wanted(after).mode is None:
            assert len(newly) <= 1 or after.stage is Stage.BACK
        elif machine.wanted(before).mode is None:
            assert set(before.named(Progress.PROVEN)) == set(WORKLOADS)
        # Whoever refuses somebody on account of the migration is as before with the next step.
        refused = {item.workload for item in seen.refusals} & held_before
        if refused and before.stage is not Stage.BACK and not before.stage.is_final:
            assert after.stage is Stage.BACK
            assert not refused & held
        # What is not proven does not stay STRICT where a run goes back.
        if after.stage in (Stage.BACK, Stage.STOPPED):
            assert machine.wanted(after).mode is None
            assert held == set(after.named(Progress.PROVEN))
        # The workloads' own policies go only when the namespace's is in force everywhere.
        if after.stage is Stage.REPLACE and before.stage is not Stage.REPLACE:
            assert not seen.lagging
        if after.stage.is_final:
            assert after.ended is not None
            assert machine.advance(after, seen) is after


AnyCourse.TestCase.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)
test_any_course = AnyCourse.TestCase

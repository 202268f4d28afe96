"""A migration to STRICT as a value: what is wanted of the cluster at each stage, and when to go on or back.

```
READY ──next workload──▶ SWITCH ──live──▶ SOAK ──quiet long enough──▶ READY … ──all proven──▶ NAMESPACE
NAMESPACE ──live──▶ NAMESPACE_SOAK (if it covers more than the workloads did) ──▶ REPLACE ──live──▶ DONE
from each of them, on refusals, blindness or an interruption: BACK ──live──▶ STOPPED
```
What is proven stays STRICT when a later workload is rolled back. Towards PERMISSIVE there is nothing to prove:
READY, NAMESPACE, REPLACE, DONE.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

import msgspec

from mutua.mesh.proxy_view import MtlsMode

LIVE_WITHIN: Final = timedelta(seconds=60)
"""A policy that some proxy has not taken up after this time is taken back."""
BACK_WITHIN: Final = timedelta(seconds=30)
"""After this time a roll-back is called done, and said not to be confirmed by everybody."""
BLIND_AT_MOST: Final = timedelta(seconds=5)
"""Without the control plane nobody tells of refusals; what is not proven does not stay STRICT unseen for longer."""


class Stage(StrEnum):
    """Where a migration is."""

    READY = "READY"
    SWITCH = "SWITCH"
    SOAK = "SOAK"
    NAMESPACE = "NAMESPACE"
    NAMESPACE_SOAK = "NAMESPACE_SOAK"
    REPLACE = "REPLACE"
    BACK = "BACK"
    STOPPED = "STOPPED"
    DONE = "DONE"

    @property
    def is_final(self) -> bool:
        """Whether nothing more happens."""
        return self in (Stage.STOPPED, Stage.DONE)


class Progress(StrEnum):
    """How far one workload is."""

    PENDING = "PENDING"
    TRIED = "TRIED"  # STRICT, and watched
    PROVEN = "PROVEN"  # STRICT through its whole soak
    UNDONE = "UNDONE"  # rolled back


class Cause(StrEnum):
    """Why a migration went back or stopped."""

    REFUSED = "REFUSED"  # somebody was
    BLOCKED = "BLOCKED"  # somebody would have been
    BLIND = "BLIND"  # nobody would have told
    NOT_LIVE = "NOT_LIVE"  # a proxy did not take up its policy
    CHANGED = "CHANGED"  # somebody else changed what the migration had made
    INTERRUPTED = "INTERRUPTED"


class Step(msgspec.Struct, frozen=True):
    """One workload. `selector` are the labels of its pods, sorted."""

    name: str
    selector: tuple[tuple[str, str], ...]
    progress: Progress = Progress.PENDING


class Before(msgspec.Struct, frozen=True):
    """The policy of the namespace as it was found; `name` "" = there was none. `mode` None = it said none."""

    name: str = ""
    mode: str | None = None


class Refusal(msgspec.Struct, frozen=True):
    """Connections that were refused since the run began: whose, and by which workload ("" = by none of the steps)."""

    workload: str
    client: str
    server: str  # namespace/pod
    port: int
    connections: int
    reason: str
    seen: datetime | None = None  # when the first of them was, as the control plane says


class Migration(msgspec.Struct, frozen=True, omit_defaults=True):
    """The whole state; kept in the cluster, so that a run goes on where another one ended."""

    namespace: str
    target: MtlsMode
    steps: tuple[Step, ...]
    rest: tuple[str, ...]  # workloads that change with the policy of the namespace only
    before: Before
    soak_seconds: float
    rollback_on: int  # so many refusals roll back
    forced: bool  # goes on in spite of known blockers
    by: str
    began: datetime
    since: datetime  # when the stage was entered
    stage: Stage = Stage.READY
    ended: datetime | None = None
    cause: Cause | None = None  # of going back
    why: str = ""
    refusals: tuple[Refusal, ...] = ()  # that made it go back
    baseline: tuple[tuple[str, int], ...] = ()  # refusals counted before it began, `tally.key` → connections

    @property
    def seconds_to_roll_back(self) -> float | None:
        """From the first refusal until every proxy had confirmed the roll-back; None if nothing was refused."""
        seen = [item.seen for item in self.refusals if item.seen]
        return (self.ended - min(seen)).total_seconds() if seen and self.ended else None

    def named(self, progress: Progress) -> tuple[str, ...]:
        """The workloads that are so far."""
        return tuple(step.name for step in self.steps if step.progress is progress)


class Observation(msgspec.Struct, frozen=True):
    """What was seen at one moment. `lagging`: proxies that have not acknowledged all that is wanted."""

    now: datetime
    lagging: tuple[str, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    blind: timedelta = timedelta()  # how long the control plane has not answered
    blockers: tuple[str, ...] = ()  # asked for at READY only
    changed: str = ""  # what somebody else has done to a policy of the migration; "" = nothing
    interrupted: bool = False


class Wanted(msgspec.Struct, frozen=True):
    """What the cluster should hold: the workloads with a policy of their own, and the mode of the namespace's.

    `mode` None: the namespace's policy is as it was before.
    """

    steps: tuple[Step, ...]
    mode: MtlsMode | None


def wanted(state: Migration) -> Wanted:
    """What the cluster should hold at this stage."""
    mode = None
    if state.stage in (Stage.NAMESPACE, Stage.NAMESPACE_SOAK, Stage.REPLACE, Stage.DONE):
        mode = state.target
    if state.stage in (Stage.REPLACE, Stage.DONE):
        return Wanted((), mode)
    held = (Progress.TRIED, Progress.PROVEN)
    return Wanted(tuple(step for step in state.steps if step.progress in held), mode)


def advance(state: Migration, seen: Observation) -> Migration:
    """The state after an observation; the same state if there is nothing to do."""
    match state.stage:
        case Stage.STOPPED | Stage.DONE:
            return state
        case Stage.BACK:
            return _after_back(state, seen)
    if state.target is MtlsMode.STRICT:
        counted = [item for item in seen.refusals if _concerns(state, item)]
        if sum(item.connections for item in counted) >= state.rollback_on:
            return _back(state, seen.now, Cause.REFUSED, _told(counted), counted)
        if seen.blind >= BLIND_AT_MOST and state.stage not in (Stage.READY, Stage.REPLACE):
            why = f"the control plane has not answered for {seen.blind.total_seconds():.0f} s: nobody tells of refusals"
            return _back(state, seen.now, Cause.BLIND, why)
    if seen.changed and state.stage is not Stage.REPLACE:
        return _back(state, seen.now, Cause.CHANGED, seen.changed)
    # Once all is proven, an end in the middle leaves nothing open and refuses nobody: the next run ends it.
    if seen.interrupted and state.stage is not Stage.REPLACE:
        return _back(state, seen.now, Cause.INTERRUPTED, "interrupted")
    return _forward(state, seen)


def resumed(state: Migration, now: datetime) -> Migration:
    """The state for a run that goes on: a soak that nobody watched is no soak, and begins anew."""
    return state if state.stage.is_final else msgspec.structs.replace(state, since=now)


def due(state: Migration) -> datetime | None:
    """When a soak is over; None where nothing soaks."""
    if state.stage not in (Stage.SOAK, Stage.NAMESPACE_SOAK):
        return None
    return state.since + timedelta(seconds=state.soak_seconds)


def _forward(state: Migration, seen: Observation) -> Migration:
    now, is_live = seen.now, not seen.lagging
    end_of_soak = due(state)
    match state.stage:
        case Stage.READY:
            return _next(state, seen)
        case Stage.SWITCH | Stage.NAMESPACE | Stage.REPLACE if not is_live:
            if now - state.since < LIVE_WITHIN or state.stage is Stage.REPLACE:
                return state
            who = ", ".join(seen.lagging[:5])
            return _back(state, now, Cause.NOT_LIVE, f"not live after {LIVE_WITHIN.total_seconds():.0f} s at {who}")
        case Stage.SWITCH:
            return _enter(state, Stage.SOAK, now)
        # A pod that comes up meanwhile has yet to take up the policy: the soak lasts until all have.
        case Stage.SOAK | Stage.NAMESPACE_SOAK if not is_live or (end_of_soak is not None and now < end_of_soak):
            return state
        case Stage.SOAK:
            return _enter(_marked(state, Progress.TRIED, Progress.PROVEN), Stage.READY, now)
        case Stage.NAMESPACE if state.rest and state.target is MtlsMode.STRICT:
            return _enter(state, Stage.NAMESPACE_SOAK, now)
        case Stage.NAMESPACE | Stage.NAMESPACE_SOAK:
            return _enter(state, Stage.REPLACE, now)
        case Stage.REPLACE:
            return msgspec.structs.replace(_enter(state, Stage.DONE, now), ended=now)
    return state


def _next(state: Migration, seen: Observation) -> Migration:
    if state.target is MtlsMode.STRICT and seen.blockers and not state.forced:
        return _back(state, seen.now, Cause.BLOCKED, f"STRICT would cut off {seen.blockers[0]}")
    pending = next((step for step in state.steps if step.progress is Progress.PENDING), None)
    if pending is None or state.target is not MtlsMode.STRICT:
        return _enter(state, Stage.NAMESPACE, seen.now)
    tried = msgspec.structs.replace(pending, progress=Progress.TRIED)
    steps = tuple(tried if step is pending else step for step in state.steps)
    return _enter(msgspec.structs.replace(state, steps=steps), Stage.SWITCH, seen.now)


def _after_back(state: Migration, seen: Observation) -> Migration:
    if seen.lagging and seen.now - state.since < BACK_WITHIN:
        return state
    why = state.why
    if seen.lagging:
        why += f"; rolled back, which {', '.join(seen.lagging[:5])} did not confirm"
    stopped = _enter(state, Stage.STOPPED, seen.now)
    return msgspec.structs.replace(stopped, why=why, ended=seen.now)


def _back(state: Migration, now: datetime, cause: Cause, why: str, refusals: Iterable[Refusal] = ()) -> Migration:
    """What is not proven goes back to what it was before, and so does what refused somebody."""
    named = {item.workload for item in refusals}
    steps = tuple(
        msgspec.structs.replace(step, progress=Progress.UNDONE)
        if step.progress is Progress.TRIED or (step.progress is Progress.PROVEN and step.name in named)
        else step
        for step in state.steps
    )
    undone = msgspec.structs.replace(state, steps=steps, cause=cause, why=why, refusals=tuple(refusals))
    return _enter(undone, Stage.BACK, now)


def _concerns(state: Migration, refusal: Refusal) -> bool:
    """Whether the workload refuses because of this migration."""
    if refusal.workload in state.named(Progress.TRIED) or refusal.workload in state.named(Progress.PROVEN):
        return True
    in_force = wanted(state).mode is not None
    return in_force and refusal.workload in state.rest


def _told(refusals: list[Refusal]) -> str:
    first = refusals[0]
    count = sum(item.connections for item in refusals)
    others = len({(item.client, item.workload) for item in refusals}) - 1
    more = f" and {others} more" if others else ""
    return f"{first.client} was refused by {first.server}:{first.port}{more} ({count} refused): {first.reason}"


def _marked(state: Migration, old: Progress, new: Progress) -> Migration:
    steps = tuple(msgspec.structs.replace(step, progress=new) if step.progress is old else step for step in state.steps)
    return msgspec.structs.replace(state, steps=steps)


def _enter(state: Migration, stage: Stage, now: datetime) -> Migration:
    return msgspec.structs.replace(state, stage=stage, since=now)

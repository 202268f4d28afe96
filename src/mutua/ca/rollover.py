"""From one issuer to the next without an outage: which roots are trusted, who signs, and when to go on.

```
SETTLED ──begin──▶ DISTRIBUTE ──all trust both──▶ RENEW ──all present the new──▶ RETIRE ──all dropped the old──▶ SETTLED
issuer   old        old                            new                            new                             new
roots    old        old + new                      old + new                      new                             new
```
"""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from enum import StrEnum

import msgspec

Pod = tuple[str, str]
"""(namespace, name)"""

NUDGE_AFTER = timedelta(seconds=10)
"""A proxy that has not told what it holds is asked again this often."""


class Stage(StrEnum):
    """Where a rollover is."""

    SETTLED = "SETTLED"
    DISTRIBUTE = "DISTRIBUTE"
    RENEW = "RENEW"
    RETIRE = "RETIRE"


class Rollover(msgspec.Struct, frozen=True, omit_defaults=True):
    """The whole state; kept in the cluster, so that any replica goes on where another one ended.

    `issuer` and `successor` are authorities' ids (`Authority.id`); "" = none.
    """

    stage: Stage = Stage.SETTLED
    issuer: str = ""
    successor: str = ""
    reason: str = ""
    origin: str = ""  # secret that the issuer came from
    successor_origin: str = ""
    began: datetime | None = None
    since: datetime | None = None  # when this stage was entered
    nudge: int = 0  # a change of it asks every proxy to tell again what it holds
    nudged: datetime | None = None
    paused: bool = False
    declined: str = ""  # id that was aborted, and is not begun again by itself


class Holding(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one proxy said that its Envoy has acknowledged, proven by the certificate with which it said so."""

    roots: str  # digest of the bundle in force, `bundle.digest`
    issuer: str  # `authority.issuer_id` of the chain it presents


class Digests(msgspec.Struct, frozen=True):
    """The two bundles of a rollover, as `bundle.digest` gives them.

    `signs_workloads`: their certificates come from these issuers. Where an external authority signs them there is
    nothing to renew, and only the roots are led over.
    """

    both: str
    successor: str
    signs_workloads: bool = True


class Lagging(msgspec.Struct, frozen=True):
    """A proxy for which a rollover waits, and why."""

    namespace: str
    pod: str
    why: str


def begin(state: Rollover, successor: str, origin: str, reason: str, now: datetime) -> Rollover:
    """Start towards `successor`; only from SETTLED."""
    if state.stage is not Stage.SETTLED:
        return state
    return Rollover(
        stage=Stage.DISTRIBUTE,
        issuer=state.issuer,
        successor=successor,
        reason=reason,
        origin=state.origin,
        successor_origin=origin,
        began=now,
        since=now,
        nudge=state.nudge + 1,
        nudged=now,
    )


def advance(
    state: Rollover,
    proxies: Iterable[Pod],
    holdings: Mapping[Pod, Holding],
    digests: Digests,
    now: datetime,
    *,
    announced: bool,
) -> Rollover:
    """The state after looking at who holds what; the same state if there is nothing to do.

    `announced`: the roots of this stage are written in every namespace and in the webhooks. Never goes on while one
    of `proxies` lacks what the stage gives; asks them again now and then, since what they said may have been lost.
    """
    if state.stage is Stage.SETTLED or state.paused:
        return state
    if announced and not lagging(state, proxies, holdings, digests):
        return _next(state, now)
    if state.nudged is None or now - state.nudged >= NUDGE_AFTER or state.nudged > now:
        return msgspec.structs.replace(state, nudge=state.nudge + 1, nudged=now)
    return state


def abort(state: Rollover, now: datetime) -> Rollover:
    """Back to the issuer of before. While nobody trusts the new root only it is dropped; later the way is walked back.

    From RETIRE there is no way back: the old root is not trusted any more.
    """
    match state.stage:
        case Stage.DISTRIBUTE | Stage.RENEW:
            # Both roots are (at most) what proxies hold, so the old issuer may sign at once and the new root goes last.
            return Rollover(
                stage=Stage.RENEW,
                issuer=state.successor,
                successor=state.issuer,
                reason=f"aborted: {state.reason}",
                origin=state.successor_origin,
                successor_origin=state.origin,
                began=state.began,
                since=now,
                nudge=state.nudge + 1,
                nudged=now,
                declined=state.successor,
            )
        case _:
            return state


def paused(state: Rollover, paused: bool) -> Rollover:
    """The state held where it is, or let go on. What was asked of proxies stays asked."""
    return state if state.stage is Stage.SETTLED else msgspec.structs.replace(state, paused=paused)


def lagging(
    state: Rollover, proxies: Iterable[Pod], holdings: Mapping[Pod, Holding], digests: Digests
) -> tuple[Lagging, ...]:
    """The proxies for which this stage waits, by namespace and name. At SETTLED: none."""
    found = []
    for namespace, name in sorted(proxies):
        if why := _lacks(state, holdings.get((namespace, name)), digests):
            found.append(Lagging(namespace, name, why))
    return tuple(found)


def _lacks(state: Rollover, holding: Holding | None, digests: Digests) -> str:
    if state.stage is Stage.SETTLED:
        return ""
    if holding is None:
        return "has not told what it holds"
    match state.stage:
        case Stage.DISTRIBUTE:
            return "" if holding.roots == digests.both else "does not trust the new root yet"
        case Stage.RENEW if digests.signs_workloads and holding.issuer != state.successor.rpartition("-")[0]:
            return "still presents a certificate of the old issuer"
        case Stage.RENEW:
            # While a rollover is walked back some hold only what they held before, and that is enough.
            return "" if holding.roots in (digests.both, digests.successor) else "does not trust both roots yet"
        case _:
            return "" if holding.roots == digests.successor else "still trusts the old root"


def _next(state: Rollover, now: datetime) -> Rollover:
    following = {Stage.DISTRIBUTE: Stage.RENEW, Stage.RENEW: Stage.RETIRE}
    if stage := following.get(state.stage):
        return msgspec.structs.replace(state, stage=stage, since=now, nudge=state.nudge + 1, nudged=now)
    return Rollover(
        issuer=state.successor,
        origin=state.successor_origin,
        since=now,
        nudge=state.nudge + 1,
        declined=state.declined,
    )

"""Traffic of the last while, from counters that only grow: what was added between two reads, and what that tells."""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Final, Self

import msgspec

from mutua.reports.traffic import EdgeTraffic

NO_NAMESPACE: Final = ""
"""Where whoever is no workload of the cluster is: an address, or nobody that is known."""


class Lock(StrEnum):
    """What an edge's traffic of the window was. CLOSED is all of it mutual TLS; one plaintext request opens it."""

    CLOSED = "closed"
    PART = "part"
    OPEN = "open"
    REFUSED = "refused"  # plaintext came, and none of it was taken
    FAILED = "failed"  # it was tried, and nobody answered
    LEAVES = "leaves"  # it goes to where the mesh protects nothing, so that nothing is said of its protection
    QUIET = "quiet"


class End(msgspec.Struct, frozen=True, order=True):
    """A client or server: a workload, or with NO_NAMESPACE an address."""

    namespace: str
    name: str


class Way(msgspec.Struct, frozen=True, order=True):
    """One client's way to one port of one server. `unit` is what is counted: "requests" or "connections"."""

    client: End
    server: End
    service: str
    port: int
    protocol: str
    unit: str


class Counts(msgspec.Struct, frozen=True):
    """How often, as in `EdgeTraffic`; `milliseconds` is the sum over all requests that were served."""

    count: float = 0
    mutual_tls: float = 0
    plaintext: float = 0
    errors: float = 0
    denied: float = 0
    refused: float = 0
    milliseconds: float = 0

    def __add__(self, other: Self) -> Self:
        return type(self)(*(mine + theirs for mine, theirs in zip(_values(self), _values(other), strict=True)))

    @property
    def served(self) -> float:
        """With and without mutual TLS."""
        return self.mutual_tls + self.plaintext

    @property
    def lock(self) -> Lock:
        """What these counts alone say."""
        if self.plaintext > 0:
            return Lock.PART if self.mutual_tls > 0 else Lock.OPEN
        if self.mutual_tls > 0:
            return Lock.CLOSED
        if self.refused > 0:
            return Lock.REFUSED
        return Lock.FAILED if self.count > 0 else Lock.QUIET

    @property
    def mutual_tls_percent(self) -> int | None:
        """Whole percent, rounded so that 0 and 100 mean none and all; None without traffic."""
        if not self.served:
            return None
        share = round(100 * self.mutual_tls / self.served)
        return min(max(share, 1 if self.mutual_tls else 0), 99 if self.plaintext else 100)


class Interval(msgspec.Struct, frozen=True):
    """What was added from `begin` to `end`, in seconds of a clock that never goes back.

    `begin` None: since the sidecars started. Ways to which nothing was added are left out.
    """

    begin: float | None
    end: float
    added: Mapping[Way, Counts]


class Window(msgspec.Struct, frozen=True):
    """The reads of the last `seconds`, and the counters at the last one. A value: `observe` makes the next."""

    seconds: float
    totals: Mapping[Way, Counts] = msgspec.field(default_factory=dict)
    intervals: tuple[Interval, ...] = ()
    plaintext_at: Mapping[Way, float] = msgspec.field(default_factory=dict)


class Flow(msgspec.Struct, frozen=True):
    """One way's traffic. `recent` is of `recent_seconds` (0: no rate is known yet); `seen` decides the lock.

    `plaintext_age` is how many seconds ago plaintext was last seen to grow; None if never while somebody looked.
    """

    recent: Counts
    recent_seconds: float
    seen: Counts
    total: Counts
    plaintext_age: float | None = None

    @property
    def lock(self) -> Lock:
        """Closed only if all that was seen in the window was mutual TLS."""
        return self.seen.lock


def observe(window: Window, at: float, edges: Iterable[EdgeTraffic], *, complete: bool = True) -> Window:
    """The window after one more read of all counters; not `complete`: some sidecars did not tell theirs this time.

    The first read counts as seen: what sidecars served before anybody looked is plaintext until a whole window says
    otherwise. A counter that went back is the sum over sidecars of which one has started anew or is gone.
    """
    totals: dict[Way, Counts] = {}
    for edge in edges:
        way = _way(edge)
        totals[way] = totals.get(way, Counts()) + _counts(edge)
    if not complete:
        totals = {way: _highest(window, totals, way) for way in {**window.totals, **totals}}
    last = window.intervals[-1].end if window.intervals else None
    since = {way: _since(window, way, now) for way, now in totals.items()}
    if last is not None:
        since |= _renamed(window, totals, since)
    added = {way: counts for way, counts in since.items() if any(_values(counts))}
    plaintext = (
        dict.fromkeys((way for way, counts in added.items() if counts.plaintext), at) if last is not None else {}
    )
    return Window(
        window.seconds,
        totals,
        (*(each for each in window.intervals if each.end > at - window.seconds), Interval(last, at, added)),
        {way: moment for way, moment in {**window.plaintext_at, **plaintext}.items() if way in totals},
    )


def flows(window: Window) -> dict[Way, Flow]:
    """Every way that has a counter, and every one whose server vanished within the window."""
    rated = [each for each in window.intervals if each.begin is not None and _fits(window, each)]
    seconds = sum(each.end - (each.begin or 0) for each in rated)
    recent, seen = _sum(rated), _sum(window.intervals)
    now = window.intervals[-1].end if window.intervals else 0.0
    return {
        way: Flow(
            recent.get(way, Counts()),
            seconds,
            seen.get(way, Counts()),
            window.totals.get(way, seen.get(way, Counts())),
            now - window.plaintext_at[way] if way in window.plaintext_at else None,
        )
        for way in sorted({*window.totals, *seen})
    }


def _fits(window: Window, interval: Interval) -> bool:
    """Whether it is of this window: nobody looked for a while otherwise, and its rate would be of long ago."""
    return interval.begin is not None and interval.end - interval.begin <= window.seconds


def _sum(intervals: Iterable[Interval]) -> dict[Way, Counts]:
    found: dict[Way, Counts] = {}
    for interval in intervals:
        for way, counts in interval.added.items():
            found[way] = found.get(way, Counts()) + counts
    return found


def _since(window: Window, way: Way, now: Counts) -> Counts:
    before = window.totals.get(way, Counts())
    added = Counts(*(max(0, new - old) for new, old in zip(_values(now), _values(before), strict=True)))
    # How much of what is left was added since, nobody knows; only what opens a lock is taken to be new.
    return msgspec.structs.replace(added, plaintext=now.plaintext) if now.plaintext < before.plaintext else added


def _renamed(window: Window, totals: Mapping[Way, Counts], since: Mapping[Way, Counts]) -> dict[Way, Counts]:
    """What may have been added to ways that were not there before: no more than their server's port has more in all.

    Counters of clients without identity are kept by address. When its pod goes, or another gets the address, the very
    same counts are told of somebody else.
    """
    growth: dict[Way, Counts] = {}
    for counters, sign in ((totals, 1), (window.totals, -1)):
        for way, counts in counters.items():
            port = msgspec.structs.replace(way, client=End(NO_NAMESPACE, ""))
            growth[port] = growth.get(port, Counts()) + Counts(*(sign * value for value in _values(counts)))
    found = {}
    for way in since.keys() - window.totals.keys():
        more = growth[msgspec.structs.replace(way, client=End(NO_NAMESPACE, ""))]
        pairs = zip(_values(since[way]), _values(more), strict=True)
        share = min((min(1.0, max(0.0, limit) / added) for added, limit in pairs if added), default=0.0)
        found[way] = Counts(*(share * added for added in _values(since[way])))
    return found


def _highest(window: Window, totals: Mapping[Way, Counts], way: Way) -> Counts:
    """What was known keeps counting for those that are silent: when they speak again, it is not added once more."""
    pairs = zip(_values(window.totals.get(way, Counts())), _values(totals.get(way, Counts())), strict=True)
    return Counts(*(max(before, now) for before, now in pairs))


def _way(edge: EdgeTraffic) -> Way:
    client = End(edge.source_namespace, edge.source_workload)
    return Way(
        client if client.name else End(NO_NAMESPACE, edge.source_address or edge.source_principal),
        _server(edge),
        edge.destination_service,
        edge.destination_port,
        edge.protocol,
        edge.unit.value,
    )


def _server(edge: EdgeTraffic) -> End:
    """The workload; of a Service without any, the Service; else a host that is not of this cluster."""
    namespace, name = edge.destination_namespace, edge.destination_workload
    service, _, rest = edge.destination_service.partition(".")
    if not name and namespace and rest.startswith(f"{namespace}.svc"):
        name = service
    return End(namespace, name) if name else End(NO_NAMESPACE, edge.destination_service)


def _counts(edge: EdgeTraffic) -> Counts:
    return Counts(
        edge.count,
        edge.mutual_tls,
        edge.plaintext,
        edge.errors,
        edge.denied,
        edge.refused,
        edge.duration_sum_milliseconds,
    )


def _values(counts: Counts) -> tuple[float, ...]:
    return msgspec.structs.astuple(counts)

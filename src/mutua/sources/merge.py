"""One consistent picture from many streams of changes: the first change goes out at once, a burst as one."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping

from mutua.api.findings import Finding
from mutua.api.kinds import AnyObject, Key, Kind
from mutua.mesh.objects import ObjectSet

# Two deliveries are at least this far apart; a single change after a pause waits for nothing.
BURST_SECONDS = 0.02

Deliver = Callable[[ObjectSet, tuple[Finding, ...]], Awaitable[None]]


class Merge:
    """Collects objects by kind and delivers the whole set whenever something changed.

    `deliver` gets the objects and everything that is wrong with those left out. It is called only after every kind was
    listed once, never concurrently, and never twice for the same state. What did not change keeps its identity.
    """

    def __init__(self, kinds: Iterable[Kind], deliver: Deliver, *, burst_seconds: float = BURST_SECONDS) -> None:
        self._objects: dict[str, dict[Key, AnyObject]] = {}
        self._findings: dict[tuple[str, Key], tuple[Finding, ...]] = {}
        self._awaited = {kind.name for kind in kinds}
        self._touched = self._awaited.copy()
        self._delivered: dict[str, Mapping[Key, AnyObject]] = {}
        self._deliver = deliver
        self._burst_seconds = burst_seconds
        self._changed = asyncio.Event()

    @property
    def awaited(self) -> frozenset[str]:
        """Names of kinds that were never listed yet; nothing is delivered before this is empty."""
        return frozenset(self._awaited)

    def replace(
        self, kind: Kind, objects: Mapping[Key, AnyObject], findings: Mapping[Key, tuple[Finding, ...]]
    ) -> None:
        """All objects of a kind at once. Those equal to what was known keep their identity."""
        known = self._objects.get(kind.name, {})
        kept = {key: known[key] if known.get(key) == value else value for key, value in objects.items()}
        old_findings = {key: value for (of, key), value in self._findings.items() if of == kind.name}
        first = kind.name in self._awaited
        self._awaited.discard(kind.name)
        same = kept.keys() == known.keys() and all(kept[key] is known[key] for key in kept)
        if same and old_findings == findings and not first:
            return
        for key in old_findings:
            del self._findings[kind.name, key]
        self._findings |= {(kind.name, key): value for key, value in findings.items()}
        self._objects[kind.name] = kept
        self._touch(kind)

    def put(self, kind: Kind, key: Key, value: AnyObject | None, findings: tuple[Finding, ...] = ()) -> None:
        """One object is new or changed; None if it could not be read, and then it is left out."""
        objects = self._objects.setdefault(kind.name, {})
        if objects.get(key) == value and self._findings.get((kind.name, key), ()) == findings:
            return
        if value is None:
            objects.pop(key, None)
        else:
            objects[key] = value
        self._findings.pop((kind.name, key), None)
        if findings:
            self._findings[kind.name, key] = findings
        self._touch(kind)

    def remove(self, kind: Kind, key: Key) -> None:
        """One object is gone."""
        self.put(kind, key, None)

    async def run(self) -> None:
        """Delivers until cancelled. What `deliver` raises ends it."""
        loop = asyncio.get_running_loop()
        earliest = loop.time()
        while True:
            await self._changed.wait()
            # Sleeping lets every stream that is ready add to the burst.
            await asyncio.sleep(max(0.0, earliest - loop.time()))
            self._changed.clear()
            if self._awaited:
                continue
            earliest = loop.time() + self._burst_seconds
            await self._deliver(self._current(), self._all_findings())

    def _touch(self, kind: Kind) -> None:
        self._touched.add(kind.name)
        self._changed.set()

    def _current(self) -> ObjectSet:
        for name in self._touched:
            self._delivered[name] = dict(self._objects.get(name, {}))
        self._touched.clear()
        return ObjectSet(self._delivered)

    def _all_findings(self) -> tuple[Finding, ...]:
        return tuple(sorted(finding for findings in self._findings.values() for finding in findings))

"""Runs the controllers: follows every kind, queues what changed, reconciles, and does what comes out."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

from localcluster.apiserver import kinds
from localcluster.apiserver.context import RequestContext
from localcluster.apiserver.errors import (
    AlreadyExistsError,
    ApiError,
    ConflictError,
    GoneError,
    InvalidError,
    NotFoundError,
)
from localcluster.apiserver.kinds import KindInfo
from localcluster.apiserver.resources import Resources
from localcluster.controllers import events, scheduling
from localcluster.controllers.state import Name, State, is_terminating, name_of, without_managers
from localcluster.controllers.writes import Again, Bind, Create, Delete, Patch, Record, Update, Write

Object = dict[str, Any]
Keys = Callable[[State, KindInfo, Object | None, Object | None], Iterable[Name]]
Reconcile = Callable[[State, Name, datetime], list[Write]]

_log = logging.getLogger(__name__)

_FIRST_DELAY_SECONDS = 0.005
# Short, because what refuses is on this machine too and comes back quickly (a webhook that restarts).
_LONGEST_DELAY_SECONDS = 5.0
_PAUSE_AFTER_A_BROKEN_WATCH_SECONDS = 1.0
_CONCURRENT_KEYS = 16
_MOST_WAITING_RECORDS = 1000
_FIRST_BATCH = 8


@dataclass(frozen=True)
class Controller:
    """One controller: which keys a change concerns, and what has to be written for a key.

    `created` says what follows from an object that a reconciliation made; `failed` what from a refusal of one.
    """

    name: str
    keys: Keys
    reconcile: Reconcile
    created: Callable[[State, Name, Object], list[Write]] | None = None
    failed: Callable[[State, Name, ApiError, datetime], list[Write]] | None = None


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Runner:
    """Keeps `State` up to date from the API's watches and from the answers to its own writes.

    A write's answer counts at once: without it the next reconciliation would not know what the last one did, and
    would, for example, create the same pods again.
    """

    def __init__(
        self, resources: Resources, controllers: Iterable[Controller], clock: Callable[[], datetime] = _utc_now
    ) -> None:
        """Run `controllers` on `resources`."""
        self._resources = resources
        self._controllers = tuple(controllers)
        self._clock = clock
        self.state = State()
        self._seen: dict[tuple[str, str], int] = defaultdict(int)
        self._ended: set[str] = set()
        self._watches: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._busy: set[tuple[str, Name]] = set()
        self._again: set[tuple[str, Name]] = set()
        self._failures: dict[tuple[str, Name], int] = {}
        self._timers: dict[tuple[str, Name], tuple[float, asyncio.TimerHandle]] = {}
        self._room = asyncio.Semaphore(_CONCURRENT_KEYS)
        self._records: asyncio.Queue[Record] = asyncio.Queue(_MOST_WAITING_RECORDS)
        self._group: asyncio.TaskGroup

    async def run(self) -> None:
        """Follow and reconcile until cancelled."""
        try:
            async with asyncio.TaskGroup() as self._group:
                versions = [(kind, await self._list(kind)) for kind in _watched(kinds.BUILTIN)]
                custom = [(kind, await self._list(kind)) for kind in self._resources.kinds.custom()]
                for kind, version in [*versions, *custom]:
                    self._watches[kind.stored_as] = self._group.create_task(self._follow(kind, version))
                for kind, _ in [*versions, *custom]:
                    for item in self.state.all_of(kind):
                        self._dispatch(kind, None, item)
                self._group.create_task(self._write_records())
        finally:
            for _, timer in self._timers.values():
                timer.cancel()

    # What is there

    async def _list(self, kind: KindInfo) -> str:
        items, version = await self._resources.list(kind)
        for item in items:
            self.state.put(kind, without_managers(item))
        return version

    async def _follow(self, kind: KindInfo, version: str) -> None:
        while True:
            try:
                async for change, item in self._resources.watch(kind, None, version):
                    self._observe(kind, item, is_deleted=change == "DELETED", is_watched=True)
                return
            except GoneError:
                version = await self._list_again(kind)
            except ApiError as error:
                _log.warning("watching %s failed: %s", kind.resource, error.message)
                await asyncio.sleep(_PAUSE_AFTER_A_BROKEN_WATCH_SECONDS)
                version = await self._list_again(kind)

    async def _list_again(self, kind: KindInfo) -> str:
        items, version = await self._resources.list(kind)
        present = {name_of(item) for item in items}
        for item in self.state.all_of(kind):
            if name_of(item) not in present:
                self._forget(kind, item)
        for item in items:
            self._observe(kind, item, is_deleted=False, is_watched=True)
        return version

    def _observe(self, kind: KindInfo, item: Object, *, is_deleted: bool, is_watched: bool) -> None:
        """Take note of an object's new form, unless something newer is known already."""
        uid, version = item["metadata"]["uid"], int(item["metadata"]["resourceVersion"])
        known = self.state.get(kind, *name_of(item))
        known_version = int(known["metadata"]["resourceVersion"]) if known else 0
        if is_watched:
            self._seen[kind.stored_as] = max(self._seen[kind.stored_as], version)
        elif version <= self._seen[kind.stored_as]:
            # The watch is past this point: it has told us this, and maybe the object's end.
            return
        if is_deleted:
            if is_watched:
                self._ended.discard(uid)
            else:
                self._ended.add(uid)
            if known is not None and known["metadata"]["uid"] == uid:
                self._forget(kind, item)
        elif version > known_version and uid not in self._ended:
            kept = without_managers(item)
            self.state.put(kind, kept)
            self._dispatch(kind, known, kept)

    def _forget(self, kind: KindInfo, last: Object) -> None:
        self.state.remove(kind, *name_of(last))
        self._dispatch(kind, last, None)

    def _dispatch(self, kind: KindInfo, old: Object | None, new: Object | None) -> None:
        if kind is kinds.CUSTOM_RESOURCE_DEFINITION:
            self._follow_definition(old, new)
        for controller in self._controllers:
            for key in set(controller.keys(self.state, kind, old, new)):
                self._queue(controller, key)

    def _follow_definition(self, old: Object | None, new: Object | None) -> None:
        """Begin to watch the objects of a new definition; stop when it is gone."""
        kind = kinds.from_definition(new or old or {})
        if kind is None:
            return
        if new is None:
            watch = self._watches.pop(kind.stored_as, None)
            if watch is not None:
                watch.cancel()
            for item in self.state.all_of(kind):
                self._forget(kind, item)
        elif kind.stored_as not in self._watches:
            self._watches[kind.stored_as] = self._group.create_task(self._begin_following(kind))

    async def _begin_following(self, kind: KindInfo) -> None:
        await self._follow(kind, await self._list_again(kind))

    # What to do

    def _queue(self, controller: Controller, key: Name) -> None:
        """Reconcile `key` now; once more afterwards if that is going on already."""
        place = (controller.name, key)
        if place in self._busy:
            self._again.add(place)
            return
        self._busy.add(place)
        self._group.create_task(self._work(controller, key))

    async def _work(self, controller: Controller, key: Name) -> None:
        place = (controller.name, key)
        async with self._room:
            self._again.discard(place)
            try:
                await self._reconcile(controller, key)
                self._failures.pop(place, None)
            except ApiError as error:
                self._retry(controller, key, error)
            except Exception:
                # One controller's mistake about one object must not stop the others.
                _log.exception("controller %s failed on %s/%s", controller.name, *key)
                self._retry(controller, key, None)
        self._busy.discard(place)
        if place in self._again:
            self._queue(controller, key)

    async def _reconcile(self, controller: Controller, key: Name) -> None:
        for is_creation, group in groupby(
            controller.reconcile(self.state, key, self._clock()), key=lambda write: isinstance(write, Create)
        ):
            if is_creation:
                await self._create_all(controller, key, [write for write in group if isinstance(write, Create)])
                continue
            for write in group:
                if isinstance(write, Again):
                    self._later(controller, key, write.seconds)
                else:
                    await self._write(write)

    async def _create_all(self, controller: Controller, key: Name, creations: list[Create]) -> None:
        """Create side by side, so that the store can make them durable in one go; raise the first refusal.

        Batches grow, so that what is refused a few times is not tried a hundred times.
        """
        done, size = 0, _FIRST_BATCH
        while done < len(creations):
            batch = creations[done : done + size]
            results = await asyncio.gather(*map(self._write, batch), return_exceptions=True)
            for result in results:
                if isinstance(result, ApiError) and controller.failed is not None:
                    for consequence in controller.failed(self.state, key, result, self._clock()):
                        await self._write(consequence)
                if isinstance(result, BaseException):
                    raise result
                if result is not None and controller.created is not None:
                    for consequence in controller.created(self.state, key, result):
                        await self._write(consequence)
            done, size = done + len(batch), size * 2

    def _retry(self, controller: Controller, key: Name, error: ApiError | None) -> None:
        place = (controller.name, key)
        failures = self._failures[place] = self._failures.get(place, 0) + 1
        delay = min(_FIRST_DELAY_SECONDS * 2 ** min(failures - 1, 20), _LONGEST_DELAY_SECONDS)
        if error is not None:
            level = logging.DEBUG if isinstance(error, ConflictError | NotFoundError) else logging.WARNING
            _log.log(level, "controller %s: %s/%s: %s; again in %.3f s", controller.name, *key, error.message, delay)
        self._later(controller, key, delay)

    def _later(self, controller: Controller, key: Name, seconds: float) -> None:
        """Reconcile after a while; of several such wishes the earliest counts."""
        place = (controller.name, key)
        loop = asyncio.get_running_loop()
        due = loop.time() + max(seconds, 0.0)
        if place in self._timers:
            planned, timer = self._timers[place]
            if planned <= due:
                return
            timer.cancel()

        def fire() -> None:
            self._timers.pop(place, None)
            self._queue(controller, key)

        self._timers[place] = (due, loop.call_at(due, fire))

    async def _write(self, write: Write) -> Object | None:
        """Do it, and take note of the answer. None: there was nothing to do (any more)."""
        match write:
            case Create(kind, item):
                home = self.state.get(kinds.NAMESPACE, "", item["metadata"].get("namespace") or "")
                if home is not None and is_terminating(home):
                    # Nothing new may come; what asks for it goes too.
                    return None
                try:
                    return self._noted(kind, await self._resources.create(kind, item))
                except AlreadyExistsError:
                    return None
            case Update(kind, item, subresource):
                about = {name: value for name, value in item["metadata"].items() if name != "resourceVersion"}
                return self._noted(kind, await self._resources.update(kind, {**item, "metadata": about}, subresource))
            case Patch(kind, namespace, name, body, subresource):
                try:
                    patched = await self._resources.patch(kind, namespace, name, "merge", body, subresource)
                except NotFoundError:
                    return None
                return self._noted(kind, patched)
            case Delete():
                return await self._delete(write)
            case Bind(pod, node):
                namespace, name = name_of(pod)

                def bind(current: Object) -> Object:
                    return scheduling.bound(current, node, self._clock())

                bound = await self._resources.modify(kinds.POD, namespace, name, bind, RequestContext())
                return self._noted(kinds.POD, bound)
            case Record():
                if not self._records.full():
                    self._records.put_nowait(write)
        return None

    async def _delete(self, write: Delete) -> Object | None:
        namespace, name = name_of(write.object)
        for kind, owner_namespace, owner_name, uid in write.unless_exists:
            if await self._lives(kind, owner_namespace, owner_name, uid):
                return None
        preconditions = {"uid": write.object["metadata"]["uid"]}
        options = {"propagationPolicy": write.propagation, "preconditions": preconditions}
        try:
            last = await self._resources.delete(write.kind, namespace, name, options)
        except (NotFoundError, ConflictError):  # gone, or another object by now
            return None
        is_gone = not last["metadata"].get("deletionTimestamp")
        self._observe(write.kind, last, is_deleted=is_gone, is_watched=False)
        return last

    async def _lives(self, kind: KindInfo, namespace: str, name: str, uid: str) -> bool:
        """Ask the API itself: the watch that would tell of a new owner may be behind that of its dependents."""
        try:
            found = await self._resources.get(kind, namespace, name)
        except NotFoundError:
            return False
        return bool(found["metadata"]["uid"] == uid)

    def _noted(self, kind: KindInfo, item: Object) -> Object:
        self._observe(kind, item, is_deleted=False, is_watched=False)
        return item

    async def _write_records(self) -> None:
        """Write events behind everything else: nobody waits for them."""
        while True:
            record = await self._records.get()
            item = events.event(record, self._clock())
            namespace, name = name_of(item)
            try:
                try:
                    await self._resources.create(kinds.EVENT, item)
                except AlreadyExistsError:
                    existing = await self._resources.get(kinds.EVENT, namespace, name)
                    body = events.repeated(existing, self._clock())
                    await self._resources.patch(kinds.EVENT, namespace, name, "merge", body)
            except (ApiError, InvalidError) as error:
                # For example: the namespace ends. An event is not worth another attempt.
                _log.debug("event %s/%s was not written: %s", namespace, name, error.message)


def _watched(served: Iterable[KindInfo]) -> list[KindInfo]:
    """The kinds to follow: every stored one, once."""
    found: dict[tuple[str, str], KindInfo] = {}
    for kind in served:
        if "watch" in kind.verbs and kind.stored_as == (kind.group, kind.plural):
            found.setdefault(kind.stored_as, kind)
    return list(found.values())

"""The durable store: every object and the history of changes in SQLite, the current state in memory."""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec

from localcluster.apiserver.errors import GoneError, ServiceUnavailableError

Name = tuple[str, str]
"""Namespace ("" for cluster-scoped objects) and name."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS objects (
    resource TEXT, namespace TEXT, name TEXT, revision INTEGER NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (resource, namespace, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS history (
    revision INTEGER PRIMARY KEY, resource TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL,
    type TEXT NOT NULL, body BLOB NOT NULL, previous BLOB
);
CREATE INDEX IF NOT EXISTS history_of_resource ON history (resource, revision);
CREATE TABLE IF NOT EXISTS revisions (name TEXT PRIMARY KEY, revision INTEGER NOT NULL) WITHOUT ROWID;
INSERT OR IGNORE INTO revisions VALUES ('current', 0), ('compacted', 0);
"""
_LONGEST_QUEUE = 1000

_logger = logging.getLogger(__name__)
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class RevisionMismatchError(Exception):
    """The object is not at the revision that the writer read; `current` is where it is, 0 if it does not exist."""

    def __init__(self, current: int) -> None:
        super().__init__(f"the object is at revision {current}")
        self.current = current


class StorageError(Exception):
    """The database can't be opened; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Stored:
    """One object at one revision; `body` is its JSON, with the revision as its `metadata.resourceVersion`."""

    revision: int
    body: bytes

    def object(self) -> dict[str, Any]:
        """A copy of its own for the caller."""
        return dict(_decode(self.body))


@dataclass(frozen=True)
class Change:
    """One step of the history: ADDED, MODIFIED or DELETED, with the object after it (DELETED: its last form)."""

    revision: int
    resource: str
    namespace: str
    name: str
    type: str
    body: bytes
    previous: bytes | None

    def object(self) -> dict[str, Any]:
        """A copy of the object for the caller."""
        return dict(_decode(self.body))

    @cached_property
    def shared(self) -> MappingProxyType[str, Any]:
        """The object, decoded once for all watchers, to look at only."""
        return MappingProxyType(_decode(self.body))

    @cached_property
    def shared_previous(self) -> MappingProxyType[str, Any] | None:
        """The object before the change, to look at only; None if it is new."""
        return None if self.previous is None else MappingProxyType(_decode(self.previous))


@dataclass
class _Write:
    change: Change
    durable: asyncio.Future[None] = field(repr=False)


class Subscription:
    """Changes of one resource after a revision, in order. Close it, or use it as a context manager."""

    def __init__(self, store: Store, resource: str, namespace: str | None, after: int) -> None:
        """Use `Store.subscribe`."""
        self._store = store
        self._resource = resource
        self._namespace = namespace
        self._position = after
        self._queue: deque[Change] = deque()
        self._behind = after < store.revision
        self._wake = asyncio.Event()

    @property
    def position(self) -> int:
        """Everything up to this revision has been handed out."""
        return self._position if self._behind or self._queue else self._store.revision

    def offer(self, change: Change) -> None:
        """Take a committed change; a reader that does not keep up is sent back to the history."""
        if self._behind or (self._namespace is not None and change.namespace != self._namespace):
            return
        if len(self._queue) >= _LONGEST_QUEUE:
            self._queue.clear()
            self._behind = True
        else:
            self._queue.append(change)
        self._wake.set()

    async def next(self) -> list[Change]:
        """The next changes, at least one; waits for them. GoneError if the history no longer reaches back."""
        while True:
            self._wake.clear()
            if self._behind:
                upto = self._store.revision
                self._behind = False
                try:
                    changes = await self._store.history(self._resource, self._namespace, self._position, upto)
                except BaseException:
                    self._behind = True
                    raise
                self._position = upto
                if changes:
                    return changes
            elif self._queue:
                changes = [change for change in self._queue if change.revision > self._position]
                self._queue.clear()
                self._position = self._store.revision
                if changes:
                    return changes
            else:
                await self._wake.wait()

    def close(self) -> None:
        """Stop taking changes."""
        self._store.unsubscribe(self._resource, self)

    def __enter__(self) -> Subscription:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Store:
    """Objects by resource ("pods", "deployments.apps"), namespace and name, with one revision counter for all.

    Readers see only what is on disk. Writers see their predecessors at once, so that the commits of one moment share
    one `fsync`; nobody is told of a write before it is durable. One event loop, one process.
    """

    def __init__(self, path: Path, history_length: int = 5000) -> None:
        """Open (or create) the database and load it. StorageError if that is impossible."""
        self._history_length = history_length
        self._compact_every = max(1, history_length // 10)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sqlite")
        self._objects: dict[str, dict[Name, Stored]] = {}
        self._pending: dict[tuple[str, str, str], tuple[int, Stored | None]] = {}
        self._queue: list[_Write] = []
        self._flushing: asyncio.Task[None] | None = None
        self._subscriptions: dict[str, set[Subscription]] = {}
        self._on_change: list[Callable[[Change], None]] = []
        # The file holds Secrets: it is made private before SQLite can make it otherwise (the WAL inherits its mode).
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        try:
            self._connection = sqlite3.connect(path, timeout=2, isolation_level=None, check_same_thread=False)
            # Exclusive: a second server on the same files must fail, not diverge.
            for pragma in ("locking_mode=EXCLUSIVE", "journal_mode=WAL", "synchronous=FULL"):
                self._connection.execute(f"PRAGMA {pragma}")
            self._connection.executescript(_SCHEMA)
            for resource, namespace, name, revision, body in self._connection.execute("SELECT * FROM objects"):
                self._objects.setdefault(resource, {})[namespace, name] = Stored(revision, body)
            revisions = dict(self._connection.execute("SELECT name, revision FROM revisions"))
        except sqlite3.Error as error:
            self._thread.shutdown()
            raise StorageError(
                f"cannot open the cluster's database {path}: {error}; is another API server running on it?"
            ) from error
        self.revision = int(revisions["current"])
        self._compacted = int(revisions["compacted"])
        self._assigned = self.revision

    async def close(self) -> None:
        """Finish what is queued, then close the file."""
        while self._flushing is not None:
            await asyncio.wait([self._flushing])
        self._thread.shutdown()
        self._connection.close()

    def get(self, resource: str, namespace: str, name: str, *, latest: bool = False) -> Stored | None:
        """The object on disk, None if there is none; with `latest`, as writers before us will have left it."""
        if latest and (resource, namespace, name) in self._pending:
            return self._pending[resource, namespace, name][1]
        return self._objects.get(resource, {}).get((namespace, name))

    def entries(self, resource: str, namespace: str | None = None) -> list[tuple[Name, Stored]]:
        """The objects on disk, ordered by namespace and name; of all namespaces if None."""
        found = self._objects.get(resource, {})
        return sorted(
            (item for item in found.items() if namespace is None or item[0][0] == namespace),
            key=lambda item: item[0],
        )

    async def entries_at(self, resource: str, namespace: str | None, revision: int) -> list[tuple[Name, Stored]]:
        """The objects at an earlier revision, ordered by namespace and name. GoneError if it is too old."""
        upto, found = self.revision, dict(self._objects.get(resource, {}))
        for change in reversed(await self.history(resource, None, revision, upto)):
            if change.previous is None:
                found.pop((change.namespace, change.name), None)
            else:
                found[change.namespace, change.name] = Stored(0, change.previous)
        wanted = (item for item in found.items() if namespace is None or item[0][0] == namespace)
        return sorted(wanted, key=lambda item: item[0])

    def count(self, resource: str) -> int:
        """How many there are."""
        return len(self._objects.get(resource, {}))

    async def put(
        self, resource: str, namespace: str, name: str, object: dict[str, Any], expected: int | None
    ) -> Stored:
        """Write the object, with its new `metadata.resourceVersion`; returns when it is durable.

        `expected` is the revision that must be the current one: 0 if it must not exist yet, None for any.
        RevisionMismatchError if it isn't, ServiceUnavailableError if the disk refuses.
        """
        before = self._check(resource, namespace, name, expected)
        revision = self._next_revision()
        object["metadata"]["resourceVersion"] = str(revision)
        stored = Stored(revision, _encode(object))
        kind_of_change = "ADDED" if before is None else "MODIFIED"
        previous = None if before is None else before.body
        await self._write(Change(revision, resource, namespace, name, kind_of_change, stored.body, previous), stored)
        return stored

    async def remove(
        self, resource: str, namespace: str, name: str, object: dict[str, Any], expected: int | None
    ) -> Stored:
        """Delete it; `object` is the last form that watchers see. Returns it with the revision of its deletion."""
        before = self._check(resource, namespace, name, expected)
        if before is None:
            raise RevisionMismatchError(0)
        revision = self._next_revision()
        object["metadata"]["resourceVersion"] = str(revision)
        body = _encode(object)
        await self._write(Change(revision, resource, namespace, name, "DELETED", body, before.body), None)
        return Stored(revision, body)

    def on_change(self, listener: Callable[[Change], None]) -> None:
        """Call `listener` with every durable change, before the writer is told and before any watcher."""
        self._on_change.append(listener)

    def subscribe(self, resource: str, namespace: str | None, after: int) -> Subscription:
        """The changes after a revision. GoneError if it is older than the history, or not ours (from the future)."""
        self._check_reachable(after)
        subscription = Subscription(self, resource, namespace, after)
        self._subscriptions.setdefault(resource, set()).add(subscription)
        return subscription

    def unsubscribe(self, resource: str, subscription: Subscription) -> None:
        """Forget a subscription."""
        self._subscriptions.get(resource, set()).discard(subscription)

    async def history(self, resource: str, namespace: str | None, after: int, upto: int) -> list[Change]:
        """The changes with after < revision <= upto. GoneError if some are no longer kept."""
        changes = await asyncio.get_running_loop().run_in_executor(self._thread, self._read, resource, after, upto)
        self._check_reachable(after)
        return [change for change in changes if namespace is None or change.namespace == namespace]

    def _check_reachable(self, after: int) -> None:
        if after < self._compacted:
            raise GoneError(f"too old resource version: {after} ({self._compacted})")
        if after > self.revision:
            raise GoneError(f"too large resource version: {after}, current: {self.revision}")

    def _read(self, resource: str, after: int, upto: int) -> list[Change]:
        rows = self._connection.execute(
            "SELECT revision, resource, namespace, name, type, body, previous FROM history "
            "WHERE resource = ? AND revision > ? AND revision <= ? ORDER BY revision",
            (resource, after, upto),
        )
        return [Change(*row) for row in rows]

    def _check(self, resource: str, namespace: str, name: str, expected: int | None) -> Stored | None:
        before = self.get(resource, namespace, name, latest=True)
        current = 0 if before is None else before.revision
        if expected is not None and expected != current:
            raise RevisionMismatchError(current)
        return before

    def _next_revision(self) -> int:
        self._assigned += 1
        return self._assigned

    async def _write(self, change: Change, stored: Stored | None) -> None:
        loop = asyncio.get_running_loop()
        self._pending[change.resource, change.namespace, change.name] = (change.revision, stored)
        write = _Write(change, loop.create_future())
        self._queue.append(write)
        if self._flushing is None:
            self._flushing = loop.create_task(self._flush())
        # Shielded: a client that goes away must not take the write of others in the same commit with it.
        await asyncio.shield(write.durable)

    async def _flush(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._queue:
                batch, self._queue = self._queue, []
                try:
                    compacted = await loop.run_in_executor(self._thread, self._commit, [w.change for w in batch])
                except sqlite3.Error as error:
                    self._abandon(batch, error)
                    continue
                self._compacted = max(self._compacted, compacted)
                for write in batch:
                    self._publish(write.change)
                for write in batch:
                    write.durable.set_result(None)
        finally:
            self._flushing = None

    def _commit(self, changes: list[Change]) -> int:
        last = changes[-1].revision
        compacted = 0
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        try:
            for change in changes:
                key = (change.resource, change.namespace, change.name)
                if change.type == "DELETED":
                    execute("DELETE FROM objects WHERE resource = ? AND namespace = ? AND name = ?", key)
                else:
                    execute(
                        "INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?)", (*key, change.revision, change.body)
                    )
                execute(
                    "INSERT INTO history VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (change.revision, *key, change.type, change.body, change.previous),
                )
            execute("UPDATE revisions SET revision = ? WHERE name = 'current'", (last,))
            if changes[0].revision // self._compact_every != (last + 1) // self._compact_every:
                compacted = max(0, last - self._history_length)
                execute("DELETE FROM history WHERE revision <= ?", (compacted,))
                execute("UPDATE revisions SET revision = max(revision, ?) WHERE name = 'compacted'", (compacted,))
            execute("COMMIT")
        except sqlite3.Error:
            if self._connection.in_transaction:
                execute("ROLLBACK")
            raise
        return compacted

    def _publish(self, change: Change) -> None:
        objects = self._objects.setdefault(change.resource, {})
        if change.type == "DELETED":
            objects.pop((change.namespace, change.name), None)
        else:
            objects[change.namespace, change.name] = Stored(change.revision, change.body)
        key = (change.resource, change.namespace, change.name)
        if key in self._pending and self._pending[key][0] == change.revision:
            del self._pending[key]
        self.revision = change.revision
        for listener in self._on_change:
            try:
                listener(change)
            except Exception:
                # The write is on disk: its writer and the watchers must hear of it whatever we do with it.
                _logger.exception("a listener failed on %s %s/%s", change.resource, change.namespace, change.name)
        for subscription in tuple(self._subscriptions.get(change.resource, ())):
            subscription.offer(change)

    def _abandon(self, batch: list[_Write], error: sqlite3.Error) -> None:
        # Later writes were checked against these, so they fall too.
        failed, self._queue = batch + self._queue, []
        self._pending.clear()
        for write in failed:
            write.durable.set_exception(
                ServiceUnavailableError(f"the cluster's database refuses to write: {error}; is the disk full?")
            )

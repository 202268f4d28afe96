"""Watches over HTTP: a stream of JSON events, filtered by selectors, as objects or table rows."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import StreamingResponse

from localcluster.apiserver.conversion import is_stored_form
from localcluster.apiserver.errors import ApiError, BadRequestError
from localcluster.apiserver.http import views
from localcluster.apiserver.http.negotiation import Wanted, wanted
from localcluster.apiserver.http.targets import Target
from localcluster.apiserver.kinds import KindInfo
from localcluster.apiserver.resources import Resources, parse_version, selection
from localcluster.apiserver.storage import Change, Subscription

Object = dict[str, Any]
Selected = Callable[[Mapping[str, Any]], bool]

_BOOKMARK_SECONDS = 60
# As Kubernetes' --min-request-timeout: watches end after half an hour to an hour, so that they don't end together.
_SHORTEST_SECONDS = 1800


def response(request: Request, target: Target, resources: Resources) -> StreamingResponse:
    """Begin the watch that the request asks for. ApiError if its parameters can't be read or its version is gone."""
    query = request.query_params
    kind, namespace, store = target.kind, target.namespace, resources.store
    by_name = f"metadata.name={target.name}" if target.name else ""
    field_selector = ",".join(part for part in (query.get("fieldSelector", ""), by_name) if part)
    selected = selection(kind, query.get("labelSelector"), field_selector)
    version = query.get("resourceVersion", "")
    sends_initial = query.get("sendInitialEvents") in ("true", "1")
    if sends_initial and query.get("resourceVersionMatch") != "NotOlderThan":
        raise BadRequestError("sendInitialEvents requires resourceVersionMatch=NotOlderThan")
    after = parse_version(version)
    from_now = sends_initial or after == 0
    existing = store.entries(kind.storage_key, namespace) if from_now else []
    subscription = store.subscribe(kind.storage_key, namespace, store.revision if from_now else after)
    stream = _Stream(kind, resources, selected, wanted(request), query.get("includeObject", ""))
    events = _events(
        stream,
        [stored.object() for _, stored in existing],
        subscription,
        seconds=_seconds(query.get("timeoutSeconds")),
        bookmarks=query.get("allowWatchBookmarks") in ("true", "1"),
        marks_end=sends_initial,
    )
    media_type = "application/json;stream=watch"
    return StreamingResponse(events, media_type=media_type if not stream.as_table else "application/json")


def _seconds(text: str | None) -> float:
    if text is not None:
        if not text.isdigit():
            raise BadRequestError(f"timeoutSeconds must be a number of seconds, not {text!r}")
        if int(text):
            return float(text)
    return _SHORTEST_SECONDS * (1 + random.random())  # noqa: S311 - spreads load


class _Stream:
    """Turns changes into lines."""

    def __init__(
        self, kind: KindInfo, resources: Resources, selected: Selected | None, form: Wanted, include: str
    ) -> None:
        self._kind = kind
        self._kinds = resources.kinds
        self._conversion = resources.conversion
        self._selected = selected
        self._form = form
        self._include = include
        self._has_columns = False

    @property
    def as_table(self) -> bool:
        return self._form.view == "Table"

    @property
    def sends_bytes(self) -> bool:
        return not self._form.view and is_stored_form(self._kind)

    @property
    def is_current(self) -> bool:
        """Whether the definition of a custom kind still says what it said when the watch began."""
        if self._kind.definition is None:
            return True
        now = self._kinds.by_plural(self._kind.group, self._kind.version, self._kind.plural)
        if now is None or now.definition is None:
            return False
        return now.definition is self._kind.definition or now.definition["spec"] == self._kind.definition["spec"]

    def selects(self, object: Mapping[str, Any]) -> bool:
        return self._selected is None or self._selected(object)

    async def change(self, change: Change) -> bytes:
        """The line for a change, empty if the selectors hide it. Leaving the selection is a deletion."""
        event, object_bytes = change.type, change.body
        if self._selected is not None:
            before = change.shared_previous
            was = before is not None and self.selects(before)
            now = change.type != "DELETED" and self.selects(change.shared)
            if not was and not now:
                return b""
            event = "MODIFIED" if was and now else "ADDED" if now else "DELETED"
        if self.sends_bytes:
            return b'{"type":"' + event.encode() + b'","object":' + object_bytes + b"}\n"
        return self.event(event, await self._conversion.from_stored(self._kind, change.object()))

    async def beginning(self, objects: list[Object]) -> list[bytes]:
        """A line for each of the objects that exist already and are selected."""
        chosen = [object for object in objects if self.selects(object)]
        return [self.event("ADDED", object) for object in await self._conversion.all_from_stored(self._kind, chosen)]

    def event(self, event: str, object: Object) -> bytes:
        """The line for an object that is already in the version asked for."""
        shown = views.of_object(self._kind, object, self._form, self._include)
        if self.as_table:
            # Only the first event names the columns (apiserver/pkg/endpoints/handlers/response.go).
            if self._has_columns:
                shown = {**shown, "columnDefinitions": None}
            self._has_columns = True
        return msgspec.json.encode({"type": event, "object": shown}) + b"\n"

    def bookmark(self, revision: int, *, ends_initial: bool = False) -> bytes:
        metadata: Object = {"resourceVersion": str(revision), "creationTimestamp": None}
        if ends_initial:
            metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
        bare: Object = {"kind": self._kind.kind, "apiVersion": self._kind.api_version, "metadata": metadata}
        if self.as_table:
            bare = {
                "kind": "Table",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": {"resourceVersion": str(revision)},
                "columnDefinitions": None,
                "rows": [{"cells": [], "object": views.metadata_only(bare)}],
            }
        elif self._form.view:
            bare = views.metadata_only(bare)
        return msgspec.json.encode({"type": "BOOKMARK", "object": bare}) + b"\n"


async def _events(
    stream: _Stream,
    existing: list[Object],
    subscription: Subscription,
    *,
    seconds: float,
    bookmarks: bool,
    marks_end: bool,
) -> AsyncIterator[bytes]:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    with subscription:
        try:
            first = await stream.beginning(existing)
        except ApiError as error:
            yield _error(error)
            return
        if marks_end:
            first.append(stream.bookmark(subscription.position, ends_initial=True))
        # Also an empty piece sends the headers, so that the client knows that its watch has begun.
        yield b"".join(first)
        while (remaining := deadline - loop.time()) > 0:
            try:
                async with asyncio.timeout(min(remaining, _BOOKMARK_SECONDS)):
                    changes = await subscription.next()
                if not stream.is_current:
                    return  # as in Kubernetes: the client watches on, at what is served now
                lines = b"".join([await stream.change(change) for change in changes])
            except TimeoutError:
                if bookmarks and deadline > loop.time():
                    yield stream.bookmark(subscription.position)
                continue
            except ApiError as error:
                yield _error(error)
                return
            if lines:
                yield lines


def _error(error: ApiError) -> bytes:
    return msgspec.json.encode({"type": "ERROR", "object": error.status()}) + b"\n"

"""CustomResourceDefinitions at work: accepted at once, served at once, and their objects deleted before them."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from localcluster.apiserver import lifecycle
from localcluster.apiserver.context import RequestContext
from localcluster.apiserver.errors import ApiError, NotFoundError
from localcluster.apiserver.kinds import CUSTOM_RESOURCE_DEFINITION, KindInfo, Kinds
from localcluster.apiserver.metadata import timestamp
from localcluster.apiserver.storage import Change, Store

if TYPE_CHECKING:
    from localcluster.apiserver.resources import Resources

Object = dict[str, Any]
_logger = logging.getLogger(__name__)


def status_of(definition: Object, others: list[KindInfo], old: Object | None) -> Object:
    """The status of a new or changed definition: names accepted unless another kind of its group has them. Pure."""
    spec, names = definition["spec"], definition["spec"]["names"]
    before = (old or {}).get("status") or {}
    taken = [kind for kind in others if kind.group == spec["group"] and kind.resource != definition["metadata"]["name"]]
    clash = next(
        (kind for kind in taken if kind.kind == names["kind"] or {kind.plural, kind.singular} & _words(names)), None
    )
    if clash is None:
        accepted = ("True", "NoConflicts", "no conflicts found")
        established = ("True", "InitialNamesAccepted", "the initial names have been accepted")
    else:
        accepted = ("False", "NamesConflict", f"names are already in use by {clash.resource}")
        established = ("False", "NotAccepted", "not all names are accepted")
    storage = next((version["name"] for version in spec["versions"] if version.get("storage")), "")
    return {
        "conditions": [
            _condition("NamesAccepted", *accepted, before),
            _condition("Established", *established, before),
        ],
        "acceptedNames": names if clash is None else {"plural": "", "kind": ""},
        "storedVersions": list(dict.fromkeys([*(before.get("storedVersions") or ()), storage])),
    }


def _words(names: Object) -> set[str]:
    return {names["plural"], names.get("singular") or str(names["kind"]).lower()}


def _condition(type_: str, status: str, reason: str, message: str, before: Object) -> Object:
    known: Object = next((item for item in before.get("conditions") or () if item.get("type") == type_), {})
    since = known.get("lastTransitionTime") if known.get("status") == status else None
    return {
        "type": type_,
        "status": status,
        "lastTransitionTime": since or timestamp(),
        "reason": reason,
        "message": message,
    }


def is_established(definition: Object) -> bool:
    """Whether its objects are served."""
    conditions = (definition.get("status") or {}).get("conditions") or ()
    return any(item.get("type") == "Established" and item.get("status") == "True" for item in conditions)


class Definitions:
    """Keeps `kinds` in step with the stored definitions, and empties those that are being deleted."""

    def __init__(self, store: Store, kinds: Kinds) -> None:
        """Serve what the store already defines."""
        self._store = store
        self._kinds = kinds
        self._ending: set[str] = set()
        self._wake = asyncio.Event()
        for _, stored in store.entries(CUSTOM_RESOURCE_DEFINITION.storage_key):
            self._learn(stored.object())
        store.on_change(self._follow)

    def complete(self, definition: Object, old: Object | None) -> None:
        """Set the status of a definition that is about to be stored."""
        definition["status"] = status_of(definition, list(self._kinds), old)

    def _learn(self, definition: Object) -> None:
        name = definition["metadata"]["name"]
        if is_established(definition):
            self._kinds.define(definition)
        else:
            self._kinds.undefine(name)
        if definition["metadata"].get("deletionTimestamp"):
            self._ending.add(name)
            self._wake.set()

    def _follow(self, change: Change) -> None:
        if change.resource == CUSTOM_RESOURCE_DEFINITION.storage_key:
            if change.type == "DELETED":
                self._kinds.undefine(change.name)
                self._ending.discard(change.name)
            else:
                self._learn(change.object())
        elif change.type == "DELETED" and change.resource in self._ending:
            self._wake.set()

    async def run(self, resources: Resources) -> None:
        """Delete the objects of ending definitions, then let go of the definitions; for ever."""
        while True:
            self._wake.clear()
            for name in sorted(self._ending):
                try:
                    await self._end(resources, name)
                except ApiError as error:
                    _logger.warning("cannot delete the objects of %s: %s", name, error)
            await self._wake.wait()

    async def _end(self, resources: Resources, name: str) -> None:
        kind = next((kind for kind in self._kinds.custom() if kind.resource == name), None)
        for (namespace, object_name), stored in self._store.entries(name) if kind is not None else ():
            if kind is not None and not stored.object()["metadata"].get("deletionTimestamp"):
                try:
                    await resources.delete(kind, namespace, object_name)
                except NotFoundError:
                    continue
        if self._store.entries(name):
            return

        def let_go(definition: Object) -> Object:
            finalizers = definition["metadata"].get("finalizers") or []
            definition["metadata"]["finalizers"] = [f for f in finalizers if f != lifecycle.DEFINITION_FINALIZER]
            return definition

        try:
            await resources.modify(CUSTOM_RESOURCE_DEFINITION, "", name, let_go, RequestContext())
        except NotFoundError:
            self._ending.discard(name)

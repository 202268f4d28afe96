"""What the controllers know: every object of the API as last seen, with the look-ups that they need."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from localcluster.apiserver.kinds import KindInfo

Object = dict[str, Any]
Name = tuple[str, str]
"""Namespace ("" for cluster-scoped kinds) and name."""
_Stored = tuple[str, str]


class State:
    """Objects by kind, namespace, name and owner. Callers look at them and never change them."""

    def __init__(self, objects: Iterable[tuple[KindInfo, Object]] = ()) -> None:
        """Begin with these objects."""
        self._kinds: dict[_Stored, KindInfo] = {}
        self._objects: dict[_Stored, dict[str, dict[str, Object]]] = defaultdict(lambda: defaultdict(dict))
        self._dependents: dict[str, set[tuple[_Stored, str, str]]] = defaultdict(set)
        self._owners: dict[str, tuple[_Stored, str, str]] = {}
        for kind, item in objects:
            self.put(kind, item)

    def put(self, kind: KindInfo, item: Object) -> None:
        """Remember `item` as the present form of its name."""
        about = item["metadata"]
        namespace, name = about.get("namespace") or "", about["name"]
        self.remove(kind, namespace, name)
        self._kinds[kind.stored_as] = kind
        self._objects[kind.stored_as][namespace][name] = item
        place = (kind.stored_as, namespace, name)
        if about.get("uid"):
            self._owners[about["uid"]] = place
        for reference in about.get("ownerReferences") or ():
            self._dependents[reference["uid"]].add(place)

    def remove(self, kind: KindInfo, namespace: str, name: str) -> None:
        """Forget the object; nothing happens if it is not known."""
        item = self._objects[kind.stored_as][namespace].pop(name, None)
        if item is None:
            return
        place = (kind.stored_as, namespace, name)
        if self._owners.get(item["metadata"].get("uid", "")) == place:
            del self._owners[item["metadata"]["uid"]]
        for reference in item["metadata"].get("ownerReferences") or ():
            self._dependents[reference["uid"]].discard(place)
            if not self._dependents[reference["uid"]]:
                del self._dependents[reference["uid"]]

    def get(self, kind: KindInfo, namespace: str, name: str) -> Object | None:
        """The object, None if there is none."""
        return self._objects[kind.stored_as][namespace].get(name)

    def all_of(self, kind: KindInfo, namespace: str | None = None) -> list[Object]:
        """The objects of a kind; of every namespace if `namespace` is None."""
        by_namespace = self._objects[kind.stored_as]
        if namespace is not None:
            return list(by_namespace[namespace].values())
        return [item for items in by_namespace.values() for item in items.values()]

    def by_uid(self, uid: str) -> tuple[KindInfo, Object] | None:
        """The object with this uid, and its kind."""
        place = self._owners.get(uid)
        return None if place is None else self._at(place)

    def dependents(self, uid: str) -> list[tuple[KindInfo, Object]]:
        """The objects whose ownerReferences name this uid."""
        return [self._at(place) for place in sorted(self._dependents.get(uid, ()))]

    def controlled(self, kind: KindInfo, owner: Object) -> list[Object]:
        """The objects of `kind` whose controller is `owner`."""
        uid = owner["metadata"]["uid"]
        return [
            item
            for found, item in self.dependents(uid)
            if found.stored_as == kind.stored_as and (controller_of(item) or {}).get("uid") == uid
        ]

    def contents(self, namespace: str) -> list[tuple[KindInfo, Object]]:
        """Everything that lives in a namespace."""
        return [
            (self._kinds[stored], item)
            for stored, by_namespace in self._objects.items()
            for item in by_namespace.get(namespace, {}).values()
            if namespace
        ]

    def _at(self, place: tuple[_Stored, str, str]) -> tuple[KindInfo, Object]:
        stored, namespace, name = place
        return self._kinds[stored], self._objects[stored][namespace][name]


def controller_of(item: Object) -> Object | None:
    """The owner reference of the object's controller."""
    for reference in item["metadata"].get("ownerReferences") or ():
        if reference.get("controller"):
            found: Object = reference
            return found
    return None


def owner_reference(kind: KindInfo, owner: Object) -> Object:
    """The reference that makes `owner` the controller of the object that holds it."""
    return {
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def name_of(item: Object) -> Name:
    """Namespace and name of an object."""
    return item["metadata"].get("namespace") or "", item["metadata"]["name"]


def without_managers(item: Object) -> Object:
    """The object without `metadata.managedFields`: no controller reads it, and it takes as much room as all the rest.

    What is written without it keeps what is stored.
    """
    about = {name: value for name, value in item["metadata"].items() if name != "managedFields"}
    return {**item, "metadata": about}


def is_terminating(item: Object) -> bool:
    """Whether its deletion was asked for."""
    return bool(item["metadata"].get("deletionTimestamp"))

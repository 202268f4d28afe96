"""All accepted objects, by kind and key. A change makes a new set that shares the rest."""

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple, TypeVar

from mutua.api import kinds
from mutua.api.kinds import AnyObject, Key, Kind

T = TypeVar("T", bound=AnyObject)

_NOTHING: Final[Mapping[Key, AnyObject]] = MappingProxyType({})


class Change(NamedTuple):
    """One object as it is now; `value` None means that it is gone."""

    kind: Kind
    key: Key
    value: AnyObject | None


class ObjectSet:
    """A value: never changed once made. Kinds that a change does not touch keep their very mapping."""

    __slots__ = ("_by_kind",)

    def __init__(self, by_kind: Mapping[str, Mapping[Key, AnyObject]] | None = None) -> None:
        self._by_kind: dict[str, Mapping[Key, AnyObject]] = dict(by_kind or {})

    @classmethod
    def of(cls, objects: Iterable[AnyObject]) -> "ObjectSet":
        """A set of decoded objects; the kind is told by the struct."""
        return cls().replace(
            Change(kind, kind.key(item.metadata), item) for item in objects for kind in (_kind_of(item),) if kind
        )

    def replace(self, changes: Iterable[Change]) -> "ObjectSet":
        """A new set with the changes applied in order. Without effective changes, this very set."""
        copies: dict[str, dict[Key, AnyObject]] = {}
        for kind, key, value in changes:
            current = copies.get(kind.name, self.of_kind(kind))
            if current.get(key) is value:
                continue
            if kind.name not in copies:
                copies[kind.name] = dict(current)
            if value is None:
                del copies[kind.name][key]
            else:
                copies[kind.name][key] = value
        return ObjectSet({**self._by_kind, **copies}) if copies else self

    def knows(self, kind: Kind) -> bool:
        """Whether objects of the kind were looked for, so that one that is not here does not exist."""
        return kind.name in self._by_kind

    def of_kind(self, kind: Kind) -> Mapping[Key, AnyObject]:
        """All objects of the kind, by (namespace, name)."""
        return self._by_kind.get(kind.name, _NOTHING)

    def typed(self, kind: Kind, struct: type[T]) -> Mapping[Key, T]:
        """The same, for a caller that knows the struct."""
        if not issubclass(kind.struct, struct):
            raise TypeError(f"objects of kind {kind.name} are {kind.struct.__name__}, not {struct.__name__}")
        return self.of_kind(kind)  # type: ignore[return-value]

    def get(self, kind: Kind, namespace: str, name: str) -> AnyObject | None:
        """One object, or None."""
        return self.of_kind(kind).get((namespace if kind.namespaced else "", name))

    def __iter__(self) -> Iterator[tuple[Kind, AnyObject]]:
        """Every object with its kind, in table order."""
        for kind in kinds.KINDS:
            for item in self.of_kind(kind).values():
                yield kind, item

    def __len__(self) -> int:
        return sum(len(objects) for objects in self._by_kind.values())


_BY_STRUCT: Final = {kind.struct: kind for kind in kinds.KINDS}


def _kind_of(item: AnyObject) -> Kind | None:
    return _BY_STRUCT.get(type(item))

"""How server-side apply looks at each part of a kind: lists with keys, sets, and values that are owned as a whole.

Source: `x-kubernetes-list-type`, `-list-map-keys` and `-map-type` of Kubernetes' own OpenAPI, and of custom schemas.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from localcluster.apiserver import schemas
from localcluster.apiserver.kinds import CONFIG_MAP, KindInfo
from localcluster.apiserver.schemas import custom

Names = tuple[str, ...]
"""Field names from the object's root; list elements add nothing."""

# Where apply tells elements apart by more than strategic merge patch does.
_SEVERAL_KEYS = {
    "containerPort": ("containerPort", "protocol"),
    "port": ("port", "protocol"),
    "topologyKey": ("topologyKey", "whenUnsatisfiable"),
}
_KEY_DEFAULTS = {"protocol": "TCP"}
# Objects of built-in kinds with `x-kubernetes-map-type: atomic`.
_ATOMIC_OBJECTS = frozenset(
    {"configMapKeyRef", "fieldRef", "labelSelector", "namespaceSelector", "nodeSelector", "objectSelector"}
    | {"podSelector", "resourceFieldRef", "roleRef", "scaleTargetRef", "secretKeyRef", "selector", "targetRef"}
)


@dataclass(frozen=True)
class FieldRules:
    """The rules of one kind at one version."""

    kind: KindInfo

    @cached_property
    def _schema(self) -> Mapping[str, Any]:
        return custom.schema_of(self.kind) or {}

    def list_keys(self, names: Names) -> Names | None:
        """By which fields the elements of the list at `names` are told apart.

        () for a set of plain values, None for a list that is owned as a whole.
        """
        if self.kind.is_custom and names[:1] != ("metadata",):
            schema = self._below(names)
            match schema.get("x-kubernetes-list-type"):
                case "map":
                    return tuple(sorted(schema.get("x-kubernetes-list-map-keys") or ())) or None
                case "set":
                    return ()
            return None
        # Every kind's metadata is the same.
        how, key = schemas.patch_strategy(CONFIG_MAP if self.kind.is_custom else self.kind, names)
        if how != "merge":
            return None
        return _SEVERAL_KEYS.get(key, (key,)) if key else ()

    def is_atomic(self, names: Names) -> bool:
        """Whether the object at `names` is owned as a whole."""
        if self.kind.is_custom:
            return self._below(names).get("x-kubernetes-map-type") == "atomic"
        return bool(names) and names[-1] in _ATOMIC_OBJECTS and names[:2] != ("metadata", "labels")

    def identity(self, names: Names, keys: Names, item: Any) -> dict[str, Any] | None:
        """What tells `item` apart in the list at `names`; None if it lacks a key that has no default."""
        if not isinstance(item, dict):
            return None
        found: dict[str, Any] = {}
        for key in keys:
            value = item.get(key, self._key_default(names, key))
            if value is None:
                return None
            found[key] = value
        return found

    def _key_default(self, names: Names, key: str) -> Any:
        if not self.kind.is_custom:
            return _KEY_DEFAULTS.get(key)
        items = self._below(names).get("items") or {}
        return ((items.get("properties") or {}).get(key) or {}).get("default")

    def _below(self, names: Names) -> Mapping[str, Any]:
        schema: Mapping[str, Any] = self._schema
        for name in names:
            while isinstance(schema.get("items"), dict):
                schema = schema["items"]
            inner = (schema.get("properties") or {}).get(name, schema.get("additionalProperties"))
            if not isinstance(inner, dict):
                return {}
            schema = inner
        return schema

"""Objects between the version that is stored and the version that was asked for."""

from __future__ import annotations

from typing import Any

from localcluster.apiserver.kinds import EVENT, EVENTS_EVENT, KindInfo

# core/v1 Event -> events.k8s.io/v1 Event (kubernetes/pkg/apis/events/v1/conversion.go).
_EVENT_FIELDS = {
    "involvedObject": "regarding",
    "message": "note",
    "reportingComponent": "reportingController",
    "source": "deprecatedSource",
    "firstTimestamp": "deprecatedFirstTimestamp",
    "lastTimestamp": "deprecatedLastTimestamp",
    "count": "deprecatedCount",
}
_CORE_FIELDS = {new: old for old, new in _EVENT_FIELDS.items()}


def to_stored(kind: KindInfo, object: dict[str, Any]) -> dict[str, Any]:
    """The object as the store keeps it. Custom kinds convert by `None`: only apiVersion differs between versions."""
    if kind.stored_as == EVENTS_EVENT.stored_as and kind.group == EVENTS_EVENT.group:
        return _renamed(object, _CORE_FIELDS, EVENT.api_version)
    return object


def from_stored(kind: KindInfo, object: dict[str, Any]) -> dict[str, Any]:
    """A stored object as `kind`, at its version; the given object may be changed and returned."""
    if kind.stored_as == EVENTS_EVENT.stored_as and kind.group == EVENTS_EVENT.group:
        return _renamed(object, _EVENT_FIELDS, kind.api_version)
    if object.get("apiVersion") != kind.api_version:
        return {**object, "apiVersion": kind.api_version}
    return object


def is_stored_form(kind: KindInfo) -> bool:
    """Whether every stored object already is of this kind and version, so that its bytes can be sent as they are."""
    return kind.definition is None and kind.stored_as == (kind.group, kind.plural)


def _renamed(object: dict[str, Any], names: dict[str, str], api_version: str) -> dict[str, Any]:
    return {names.get(name, name): value for name, value in object.items()} | {"apiVersion": api_version}

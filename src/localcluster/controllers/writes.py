"""What a reconciliation wants done, as values: the runner does it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from localcluster.apiserver.kinds import KindInfo

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Create:
    """Create the object. One that exists already is as good."""

    kind: KindInfo
    object: Object


@dataclass(frozen=True, slots=True)
class Update:
    """Replace the object (or one subresource: "status", "finalize"), whatever its present resource version is."""

    kind: KindInfo
    object: Object
    subresource: str | None = None


@dataclass(frozen=True, slots=True)
class Patch:
    """Change some fields by a JSON merge patch (RFC 7386). An object that is gone is left alone."""

    kind: KindInfo
    namespace: str
    name: str
    body: Object
    subresource: str | None = None


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete this very object (by its uid). `unless_exists`: owners to ask the API for first; if one lives, don't."""

    kind: KindInfo
    object: Object
    propagation: str = "Background"
    unless_exists: tuple[tuple[KindInfo, str, str, str], ...] = ()  # kind, namespace, name, uid


@dataclass(frozen=True, slots=True)
class Bind:
    """Give a pod its node."""

    pod: Object
    node: str


@dataclass(frozen=True, slots=True)
class Record:
    """Write an Event about an object, when there is time for it; the same text again raises its count."""

    kind: KindInfo
    object: Object = field(repr=False)
    reason: str
    message: str
    component: str
    type: str = "Normal"


@dataclass(frozen=True, slots=True)
class Again:
    """Reconcile the same key once more after so many seconds, for rules that depend on time."""

    seconds: float


Write = Create | Update | Patch | Delete | Bind | Record | Again

"""What all objects share: metadata, selectors, durations; and the two base structs."""

import re
from typing import Annotated, Final

import msgspec

_DURATION_TERM: Final = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(h|ms|us|µs|ns|m|s)")
_SECONDS: Final = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
DURATION_PATTERN: Final = r"^([0-9]+(\.[0-9]*)?(h|ms|us|ns|m|s))+$"

# As Istio's CRDs take it: Go's form ("1h30m"), which includes protobuf's own ("1.5s").
Duration = Annotated[str, msgspec.Meta(pattern=DURATION_PATTERN)]
PortNumber = Annotated[int, msgspec.Meta(ge=1, le=65535)]
UnsignedInteger = Annotated[int, msgspec.Meta(ge=0, le=4294967295)]
Percentage = Annotated[float, msgspec.Meta(ge=0, le=100)]
NonEmptyText = Annotated[str, msgspec.Meta(min_length=1)]


class Lenient(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """A part of an object that others define: we read what we know and ignore the rest."""


class Strict(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, forbid_unknown_fields=True):
    """A part of an object whose every field we answer for: an unknown field is a mistake."""


class OwnerReference(Lenient, frozen=True):
    """Who made the object, and takes it along."""

    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool = False


class ObjectMeta(Lenient, frozen=True):
    """`metadata` of any object. `creation_timestamp` is RFC 3339 in UTC: text order is time order."""

    name: str = ""
    namespace: str = ""
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    annotations: dict[str, str] = msgspec.field(default_factory=dict)
    creation_timestamp: str = ""
    deletion_timestamp: str = ""
    uid: str = ""
    generation: int = 0
    owner_references: tuple[OwnerReference, ...] = ()


class LabelSelector(Strict, frozen=True):
    """Which workloads: those that have all these labels; none given means all. Source: WorkloadSelector."""

    match_labels: dict[str, Annotated[str, msgspec.Meta(max_length=63)]] = msgspec.field(default_factory=dict)


class TargetReference(Strict, frozen=True):
    """A gateway, waypoint or Service that a policy is attached to. Source: PolicyTargetReference."""

    kind: Annotated[str, msgspec.Meta(max_length=63)] = ""
    name: Annotated[str, msgspec.Meta(max_length=253)] = ""
    group: Annotated[str, msgspec.Meta(max_length=253)] = ""
    namespace: str = ""


class KubernetesObject(Lenient, frozen=True):
    """The head of an object that others define."""

    api_version: str = ""
    kind: str = ""
    metadata: ObjectMeta = ObjectMeta()


class IstioObject(Strict, frozen=True):
    """The head of an object of ours. Its `status` is not read at all: who may write that may not change the mesh."""

    api_version: str = ""
    kind: str = ""
    metadata: ObjectMeta = ObjectMeta()


def duration_seconds(text: str) -> float:
    """Seconds of a duration as `1h30m` or `0.5s`. Raises ValueError for anything else."""
    terms = _DURATION_TERM.findall(text)
    if not terms or "".join(number + unit for number, unit in terms) != text:
        raise ValueError(f"{text!r} is not a duration; write for example 10s, 500ms or 1h30m")
    return sum(float(number) * _SECONDS[unit] for number, unit in terms)


def age_order(metadata: ObjectMeta) -> tuple[str, str, str]:
    """Sorts objects from the oldest to the newest; equal times by name, so that every replica decides the same."""
    return (metadata.creation_timestamp, metadata.name, metadata.namespace)

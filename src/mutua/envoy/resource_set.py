"""Envoy resources as values: named, versioned by their content, ready to be joined into an answer."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from typing import Final, Protocol

from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf import any_pb2

from mutua.envoy.memo import remembered
from mutua.errors import InternalError

CLUSTER: Final = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
ENDPOINT: Final = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
LISTENER: Final = "type.googleapis.com/envoy.config.listener.v3.Listener"
ROUTE: Final = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"

TYPES: Final = (CLUSTER, ENDPOINT, LISTENER, ROUTE)
"""What a proxy subscribes to, in the order in which nothing ever refers to what is not there yet."""

SHORT_NAMES: Final = {CLUSTER: "CDS", ENDPOINT: "EDS", LISTENER: "LDS", ROUTE: "RDS"}
"""The names that operators know."""


class DanglingReferenceError(InternalError):
    """A resource names another that is not in the set: a fault of the translator, caught before Envoy sees it."""

    def __init__(self, missing: Iterable[tuple[str, str]]) -> None:
        """`missing` are (type URL, name) pairs."""
        self.missing = tuple(sorted(missing))
        named = ", ".join(f"{SHORT_NAMES.get(type_url, type_url)} {name!r}" for type_url, name in self.missing[:5])
        super().__init__(f"the configuration refers to {len(self.missing)} resources that it does not hold: {named}")


class Message(Protocol):
    """The one thing asked of a protobuf message here."""

    def SerializeToString(self, *, deterministic: bool = False) -> bytes:  # noqa: N802 (protobuf's name)
        """The bytes on the wire."""


@dataclass(frozen=True, slots=False, eq=False)
class Resource:
    """One resource. `version` is the hash of `body`, so equal content has equal versions everywhere and always."""

    name: str
    version: str
    body: bytes  # a serialised google.protobuf.Any

    @cached_property
    def entry(self) -> bytes:
        """The resource as one entry of a delta answer: such entries are joined, never parsed again."""
        value = any_pb2.Any.FromString(self.body)
        entry = discovery_pb2.Resource(name=self.name, version=self.version, resource=value)
        return bytes(discovery_pb2.DeltaDiscoveryResponse(resources=[entry]).SerializeToString(deterministic=True))

    @cached_property
    def plain_entry(self) -> bytes:
        """The resource as one entry of a state-of-the-world answer."""
        value = any_pb2.Any.FromString(self.body)
        return bytes(discovery_pb2.DiscoveryResponse(resources=[value]).SerializeToString(deterministic=True))

    def __eq__(self, other: object) -> bool:
        """Equal name and content."""
        return isinstance(other, Resource) and (self.name, self.version) == (other.name, other.version)

    def __hash__(self) -> int:
        """By name and content."""
        return hash((self.name, self.version))


def resource(name: str, type_url: str, message: Message) -> Resource:
    """`message` as a resource, serialised so that equal messages give equal bytes."""
    body = any_pb2.Any(type_url=type_url, value=message.SerializeToString(deterministic=True)).SerializeToString()
    return Resource(name=name, version=blake2b(body, digest_size=12).hexdigest(), body=body)


@dataclass(frozen=True, eq=False)
class Section:
    """All resources of one type, by name. `digest` is equal exactly where names and versions are."""

    resources: Mapping[str, Resource]
    digest: str

    @cached_property
    def versions(self) -> Mapping[str, str]:
        """Name to version."""
        return {name: each.version for name, each in self.resources.items()}

    def __eq__(self, other: object) -> bool:
        """Equal names and versions."""
        return isinstance(other, Section) and self.digest == other.digest

    def __hash__(self) -> int:
        """By digest."""
        return hash(self.digest)


def section(resources: Iterable[Resource]) -> Section:
    """The section that holds `resources`; the first of a name wins."""
    by_name: dict[str, Resource] = {}
    for each in resources:
        by_name.setdefault(each.name, each)
    digest = blake2b(digest_size=12)
    for name in sorted(by_name):
        digest.update(f"{name}\0{by_name[name].version}\0".encode())
    return Section(resources=by_name, digest=digest.hexdigest())


EMPTY: Final = section(())


@dataclass(frozen=True, eq=False)
class Fragment:
    """What one translator makes of its one value: sections by type, and what they refer to elsewhere."""

    sections: Mapping[str, Section]
    references: frozenset[tuple[str, str]] = field(default_factory=frozenset)  # (type URL, name)


@dataclass(frozen=True)
class ResourceSet:
    """All that one proxy is told, by type URL."""

    sections: Mapping[str, Section]

    def of(self, type_url: str) -> Section:
        """The resources of one type; empty for a type that is not served."""
        return self.sections.get(type_url, EMPTY)


NOTHING: Final = ResourceSet(sections={})


@remembered(limit=4096)
def merged(*parts: Section) -> Section:
    """One section of several; where equal parts were merged before, the very same object."""
    filled = [part for part in parts if part.resources]
    if len(filled) == 1:
        return filled[0]
    return section(each for part in filled for each in part.resources.values())


@remembered(limit=4096)
def combined(*fragments: Fragment) -> ResourceSet:
    """The fragments of one proxy as one set. Raises DanglingReferenceError if one refers to what none holds."""
    sections = {
        type_url: merged(*(part.sections[type_url] for part in fragments if type_url in part.sections))
        for type_url in TYPES
    }
    missing = {
        (type_url, name)
        for part in fragments
        for type_url, name in part.references
        if name not in sections[type_url].resources
    }
    if missing:
        raise DanglingReferenceError(missing)
    return ResourceSet(sections=sections)

"""The values of the dashboard's graph: workloads, the edges between them, namespaces; frozen, and sent as JSON."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from mutua.analysis.message import Message
from mutua.mesh.snapshot import MeshSnapshot
from mutua.reports.proxy_status import PlaintextSeen, ProxyState
from mutua.reports.traffic_window import End, Flow, Lock, Way


class Overview(msgspec.Struct, frozen=True, eq=False):
    """What a graph is made from. `certificates` are the agents' reports as `mutua certs -o json` prints them."""

    snapshot: MeshSnapshot
    messages: Sequence[Message] = ()
    flows: Mapping[Way, Flow] = msgspec.field(default_factory=dict)
    plaintext: Sequence[PlaintextSeen] = ()
    certificates: Sequence[Mapping[str, Any]] = ()
    proxies: Sequence[ProxyState] = ()
    control_plane_namespace: str = "istio-system"


class Ref(msgspec.Struct, frozen=True, order=True):
    """An object by name, with a few words about it."""

    kind: str
    namespace: str
    name: str
    about: str = ""


class Issue(msgspec.Struct, frozen=True):
    """A finding of the analysis."""

    code: str
    severity: str  # Error, Warning, Info
    subject: Ref | None
    text: str
    hint: str


class Accepts(msgspec.Struct, frozen=True):
    """What ports take, and who decided it; None is nobody, so Istio's default. `port` 0: those not named apart."""

    mode: str
    port: int = 0
    decided_by: Ref | None = None


class Certificate(msgspec.Struct, frozen=True):
    """What a pod's sidecar presents, as its agent told it."""

    serial: str
    issuer: str
    not_after: datetime
    next_rotation: datetime | None
    error: str


class PodLine(msgspec.Struct, frozen=True):
    """One pod. `identity` is what its sidecar proves to be, or "" without one; `certificate` None: not told yet."""

    name: str
    ready: bool
    sidecar: bool
    identity: str
    certificate: Certificate | None
    configuration: str  # of its sidecar: "current", or what is the matter; "" without one


class Node(msgspec.Struct, frozen=True):
    """One workload, or with namespace "" all that is no workload of the cluster."""

    id: str
    namespace: str
    name: str
    kind: str  # Deployment, Pod, ...; "outside"; "gone": traffic was seen, and there are no pods any more
    pods: tuple[PodLine, ...] = ()
    accepts: tuple[Accepts, ...] = ()
    services: tuple[str, ...] = ()
    policies: tuple[Ref, ...] = ()
    issues: tuple[int, ...] = ()  # places in `Graph.issues`

    @property
    def with_sidecar(self) -> int:
        """How many pods have one."""
        return sum(pod.sidecar for pod in self.pods)


class Rates(msgspec.Struct, frozen=True):
    """Per second, over the window; None while no rate is known. `milliseconds` is the mean, None without requests."""

    count: float | None
    mutual_tls: float | None
    plaintext: float | None
    errors: float | None
    denied: float | None
    refused: float | None
    milliseconds: float | None


class WayLine(msgspec.Struct, frozen=True):
    """One client's way to one port: the part of an edge that a row of its details shows."""

    client: str  # an address where the client is no workload, else ""
    service: str
    port: int
    protocol: str
    unit: str
    lock: Lock
    mutual_tls_percent: int | None
    rates: Rates
    total: dict[str, float]  # of `Counts`, since the sidecars started
    plaintext_age: float | None  # seconds since plaintext was last seen to grow
    accepts: Accepts | None
    rule: Ref | None  # the client's DestinationRule
    sends: str  # what the client's sidecar is told to send


class Edge(msgspec.Struct, frozen=True):
    """All ways from one node to another. `tls` is what is known of the version; `reasons` say why plaintext is."""

    id: str
    source: str
    destination: str
    unit: str  # "requests" if any way carries requests
    lock: Lock
    mutual_tls_percent: int | None
    rates: Rates
    ways: tuple[WayLine, ...]
    more_ways: int
    total: dict[str, float]  # of all ways, those that are not shown too
    plaintext_age: float | None
    tls: str
    reasons: tuple[str, ...]
    clients: tuple[str, ...]  # identities
    servers: tuple[str, ...]


class NamespaceLine(msgspec.Struct, frozen=True):
    """One namespace. `accepts` is what holds where no workload says otherwise; `other_modes` what those say."""

    name: str
    is_system: bool
    injection: str
    accepts: Accepts
    other_modes: tuple[str, ...]
    workloads: int
    pods: int
    pods_with_sidecar: int
    edges: int
    open_edges: int  # with any plaintext in the window
    issues: tuple[int, ...]


class Graph(msgspec.Struct, frozen=True):
    """Everything that the page shows of the mesh at one moment."""

    nodes: tuple[Node, ...] = ()
    edges: tuple[Edge, ...] = ()
    namespaces: tuple[NamespaceLine, ...] = ()
    issues: tuple[Issue, ...] = ()


def node_id(end: End) -> str:
    """`namespace/workload`; all that is no workload is one node."""
    return f"{end.namespace}/{end.name}" if end.namespace else "/"

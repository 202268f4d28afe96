"""What the dashboard shows: from objects, counters, certificates and findings to workloads, edges and namespaces."""

from collections.abc import Iterable, Mapping, Sequence

from mutua.analysis.message import Message, Subject
from mutua.api import kinds
from mutua.injection.decide import SYSTEM_NAMESPACES
from mutua.mesh.peer_authentication import PeerPolicies, effective
from mutua.mesh.selectors import NO_LABELS
from mutua.reports import graph_edges, graph_nodes
from mutua.reports.graph_edges import Addresses
from mutua.reports.graph_model import Accepts, Edge, Graph, Issue, NamespaceLine, Node, Overview, Ref, node_id
from mutua.reports.graph_nodes import Knowledge, Owned
from mutua.reports.traffic_window import NO_NAMESPACE, End, Lock

OUTSIDE = "outside"


def build(overview: Overview) -> Graph:
    """The graph of one moment. Equal inputs give equal graphs; everything is sorted."""
    snapshot = overview.snapshot
    workloads = graph_nodes.owned(snapshot)
    edges = _of_interest(graph_edges.edges(overview, Addresses(snapshot, workloads)), workloads)
    issues = tuple(_issue(message) for message in overview.messages)
    about = _places(overview.messages)
    knowledge = Knowledge(overview)
    nodes = {
        node.id: node for item in workloads.values() for node in (graph_nodes.node(item, snapshot, knowledge, about),)
    }
    for edge in edges:
        for end in (edge.source, edge.destination):
            nodes.setdefault(end, _stranger(end))
    namespaces = _namespaces(overview, workloads, nodes, edges)
    return Graph(tuple(nodes[key] for key in sorted(nodes)), edges, namespaces, issues)


def _of_interest(edges: Iterable[Edge], workloads: Mapping[End, Owned]) -> tuple[Edge, ...]:
    """All but those that are quiet and lead to or from a workload that is gone."""
    here = {*(f"{end.namespace}/{end.name}" for end in workloads), node_id(End(NO_NAMESPACE, ""))}
    return tuple(edge for edge in edges if edge.lock is not Lock.QUIET or {edge.source, edge.destination} <= here)


def _stranger(end: str) -> Node:
    """Who is no workload: an address, or one that had pods when its traffic was counted."""
    namespace, _, name = end.partition("/")
    return Node(end, namespace, name if namespace else OUTSIDE, "gone" if namespace else "outside")


def _issue(message: Message) -> Issue:
    about = message.subject
    subject = Ref(about.kind, about.namespace, about.name) if about else None
    return Issue(message.code, message.severity.value, subject, message.text, message.hint)


def _places(messages: Sequence[Message]) -> Mapping[Ref, list[int]]:
    """Where the findings about each object stand."""
    found: dict[Ref, list[int]] = {}
    for place, message in enumerate(messages):
        if message.subject is not None:
            found.setdefault(Ref(message.subject.kind, message.subject.namespace, message.subject.name), []).append(
                place
            )
    return found


def _namespaces(
    overview: Overview, workloads: Mapping[End, Owned], nodes: Mapping[str, Node], edges: Iterable[Edge]
) -> tuple[NamespaceLine, ...]:
    snapshot = overview.snapshot
    system = SYSTEM_NAMESPACES | {overview.control_plane_namespace}
    names = snapshot.namespaces | {node.namespace for node in nodes.values() if node.namespace}
    places: dict[str, list[int]] = {}
    for place, message in enumerate(overview.messages):
        places.setdefault(_home(message.subject), []).append(place)
    touching: dict[str, list[Edge]] = {}
    for edge in edges:
        for name in {nodes[edge.source].namespace, nodes[edge.destination].namespace}:
            touching.setdefault(name, []).append(edge)
    lines = []
    for name in sorted(names):
        here = [item for end, item in workloads.items() if end.namespace == name]
        pods = [pod for item in here for pod in item.workloads]
        policies = snapshot.inbound(name).peer_policies
        general = effective(PeerPolicies(policies.mesh, policies.namespace), NO_LABELS)
        modes = {
            each.mode
            for item in here
            for each in nodes[f"{name}/{item.end.name}"].accepts
            if each.mode != general.default.value
        }
        lines.append(
            NamespaceLine(
                name,
                name in system,
                _injection(overview, name),
                Accepts(general.default.value, 0, graph_nodes.reference(general.decided_by)),
                tuple(sorted(modes)),
                len(here),
                len(pods),
                sum(pod.has_sidecar for pod in pods),
                len(touching.get(name, ())),
                sum(graph_edges.is_open(edge.lock) for edge in touching.get(name, ())),
                tuple(places.get(name, ())),
            )
        )
    return tuple(lines)


def _home(about: Subject | None) -> str:
    """The namespace that a finding is listed with; "" for those about the whole mesh."""
    if about is None:
        return ""
    return about.name if about.kind == kinds.NAMESPACE.name else about.namespace


def _injection(overview: Overview, name: str) -> str:
    """What the namespace's labels ask for: enabled, disabled, the revision, or "" for nothing."""
    namespace = overview.snapshot.objects.get(kinds.NAMESPACE, "", name)
    labels = namespace.metadata.labels if namespace else {}
    return labels.get("istio-injection") or labels.get("istio.io/rev", "")

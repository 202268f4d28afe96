"""The dashboard's graph says of workloads, edges and namespaces what objects, counters and agents say, and no more."""

from collections.abc import Mapping
from typing import Any

from fakes.dashboard_mesh import edge, endpoints, namespace, objects, peer_authentication, pod, service
from mutua.analysis.message import Message, Subject
from mutua.api.findings import Severity
from mutua.api.meshconfig import MeshConfig
from mutua.mesh import build
from mutua.mesh.objects import ObjectSet
from mutua.reports import graph, traffic_window
from mutua.reports.graph_edges import WAYS_AT_MOST
from mutua.reports.graph_model import Edge, Graph, Node, Overview, Ref
from mutua.reports.proxy_status import PlaintextSeen, ProxyState, Rejected, TypeState
from mutua.reports.traffic import EdgeTraffic, Unit
from mutua.reports.traffic_window import Lock, Window
from mutua.xds.sync_state import SyncState

SHOP = (
    namespace("shop"),
    pod("shop", "web", "10.0.0.1"),
    pod("shop", "web", "10.0.0.2", number=2),
    pod("shop", "bare", "10.0.0.3", sidecar=False),
    pod("shop", "store", "10.0.0.4"),
    service("shop", "store"),
    endpoints("shop", "store", "10.0.0.4"),
)
ALLOW = {
    "apiVersion": "security.istio.io/v1",
    "kind": "AuthorizationPolicy",
    "metadata": {"namespace": "shop", "name": "store-access", "annotations": {"istio.io/dry-run": "true"}},
    "spec": {"selector": {"matchLabels": {"app": "store"}}, "rules": [{}]},
}


def built(*documents: Mapping[str, Any], edges: tuple[EdgeTraffic, ...] = (), **more: Any) -> Graph:
    """The graph after the counters went from 0 to `edges` within ten seconds."""
    snapshot = build.snapshot(ObjectSet.of(objects(*SHOP, *documents)), MeshConfig())
    window = traffic_window.observe(Window(60), 0, ())
    window = traffic_window.observe(window, 10, edges)
    return graph.build(Overview(snapshot, flows=traffic_window.flows(window), **more))


def node(found: Graph, name: str) -> Node:
    (one,) = (each for each in found.nodes if each.id == name)
    return one


def only_edge(found: Graph) -> Edge:
    (one,) = found.edges
    return one


def test_pods_are_shown_as_the_workload_that_owns_them() -> None:
    found = built()

    assert [each.id for each in found.nodes] == ["shop/bare", "shop/store", "shop/web"]
    web = node(found, "shop/web")
    assert (web.kind, len(web.pods), web.with_sidecar) == ("Deployment", 2, 2)
    assert web.pods[0].identity == "spiffe://cluster.local/ns/shop/sa/web"


def test_who_decided_the_mode_is_named_and_nobody_is_the_default() -> None:
    assert [(each.mode, each.decided_by) for each in node(built(), "shop/web").accepts] == [("PERMISSIVE", None)]

    strict = node(built(peer_authentication("shop", "all", "STRICT")), "shop/web").accepts

    assert [(each.mode, each.decided_by) for each in strict] == [("STRICT", Ref("PeerAuthentication", "shop", "all"))]


def test_a_workload_without_sidecar_accepts_nothing_that_could_be_said() -> None:
    bare = node(built(peer_authentication("shop", "all", "STRICT"), ALLOW), "shop/bare")

    assert (bare.accepts, bare.policies, bare.pods[0].identity) == ((), (), "")


def test_policies_that_have_a_say_are_listed_with_what_they_do() -> None:
    store = node(built(peer_authentication("shop", "all", "STRICT"), ALLOW), "shop/store")

    assert store.policies == (
        Ref("PeerAuthentication", "shop", "all", "STRICT"),
        Ref("AuthorizationPolicy", "shop", "store-access", "ALLOW, dry run: refuses nobody"),
    )
    assert store.services == ("store",)


def test_an_edge_has_rates_and_a_lock_and_who_decides_on_its_port() -> None:
    found = only_edge(
        built(
            peer_authentication("shop", "all", "STRICT"),
            edges=(edge("shop/web", "shop/store", 50, errors=5, duration_sum_milliseconds=500.0),),
        )
    )

    assert (found.source, found.destination, found.lock, found.mutual_tls_percent) == (
        "shop/web",
        "shop/store",
        Lock.CLOSED,
        100,
    )
    assert (found.rates.count, found.rates.errors, found.rates.milliseconds) == (5, 0.5, 10)
    (way,) = found.ways
    assert way.accepts is not None
    assert (way.accepts.mode, way.accepts.decided_by) == ("STRICT", Ref("PeerAuthentication", "shop", "all"))
    assert way.sends == "mutual TLS to every pod that takes it"
    assert found.clients == ("spiffe://cluster.local/ns/shop/sa/web",)
    assert "not measured" in found.tls


def test_one_port_in_plaintext_opens_the_whole_edge() -> None:
    counters = (
        edge("shop/web", "shop/store", 1_000_000),
        edge("shop/web", "shop/store", 0, 1, destination_port=9090, unit=Unit.CONNECTIONS, protocol="tcp"),
    )
    found = only_edge(built(edges=counters))

    assert (found.lock, found.mutual_tls_percent) == (Lock.PART, 99)
    assert (found.unit, found.rates.count) == ("requests", 100_000)
    assert [(way.port, way.lock) for way in found.ways] == [(9090, Lock.OPEN), (80, Lock.CLOSED)]


def test_clients_count_by_the_workload_that_owns_the_pod_they_reach() -> None:
    """Else what a client's and a server's sidecar count of one call would be two edges."""
    snapshot = build.snapshot(ObjectSet.of(objects(*SHOP)), MeshConfig())

    (load,) = snapshot.load("shop", "store.shop.svc.cluster.local")

    assert [each.workload for each in load.endpoints] == ["store"]


def test_the_clients_rule_is_named() -> None:
    rule = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "DestinationRule",
        "metadata": {"namespace": "shop", "name": "plain"},
        "spec": {"host": "store", "trafficPolicy": {"tls": {"mode": "DISABLE"}}},
    }
    found = only_edge(built(rule, edges=(edge("shop/web", "shop/store", 0, 9),)))

    assert (found.ways[0].rule, found.ways[0].sends) == (
        Ref("DestinationRule", "shop", "plain"),
        "as mode DISABLE says",
    )


def test_why_it_is_plaintext_is_told_by_the_workload_of_the_pod_that_was_seen() -> None:
    seen = PlaintextSeen("shop/bare-5d4f-1", "shop/store-5d4f-1", 80, False, 3, "the client has no sidecar")
    found = only_edge(built(edges=(edge("shop/bare", "shop/store", 0, 3),), plaintext=(seen,)))

    assert (found.lock, found.reasons, found.clients, found.tls) == (
        Lock.OPEN,
        ("the client has no sidecar",),
        (),
        "",
    )


def test_a_thousand_addresses_outside_are_one_node_whose_busiest_are_named() -> None:
    counters = tuple(edge(f"203.0.{number // 250}.{number % 250}", "shop/web", 0, number) for number in range(1, 1001))
    found = built(edges=counters)

    assert node(found, "/").kind == "outside"
    one = only_edge(found)
    assert (len(one.ways), one.more_ways, one.ways[0].client) == (WAYS_AT_MOST, 1000 - WAYS_AT_MOST, "203.0.4.0")
    assert one.total["plaintext"] == sum(range(1, 1001)), "those that are not named are counted all the same"


def test_what_leaves_the_mesh_is_neither_called_plaintext_nor_protected() -> None:
    leaving = edge("shop/web", "/", 0, 9, destination_workload="", destination_service="api.example.com")
    found = only_edge(built(edges=(leaving,)))

    assert (found.destination, found.lock, found.ways[0].service) == ("/", Lock.LEAVES, "api.example.com")


def test_a_service_without_pods_is_not_outside() -> None:
    lost = edge("shop/web", "shop/", count=3, errors=3, destination_service="empty.shop.svc.cluster.local")
    found = built(edges=(lost,))

    assert (only_edge(found).destination, only_edge(found).lock) == ("shop/empty", Lock.FAILED)
    assert node(found, "shop/empty").kind == "gone"


def test_who_vanished_is_shown_as_gone_while_its_traffic_is_in_the_window() -> None:
    snapshot = build.snapshot(ObjectSet.of(objects(*SHOP)), MeshConfig())
    window = traffic_window.observe(Window(60), 0, ())
    for at in range(10, 140, 10):
        window = traffic_window.observe(window, at, (edge("shop/old", "shop/web", 5),))
        found = graph.build(Overview(snapshot, flows=traffic_window.flows(window)))
        gone = [each.id for each in found.nodes if each.kind == "gone"]
        # Added at 10, so it leaves the window at 70.
        assert gone == (["shop/old"] if at < 70 else [])


def test_certificates_and_configuration_are_told_pod_by_pod() -> None:
    told = {
        "namespace": "shop",
        "pod": "web-5d4f-1",
        "serial": "0a",
        "issuer": "0b",
        "not_after": "2026-01-02T10:00:00Z",
        "next_rotation": None,
        "error": "refused",
        "failures": 2,
    }
    refused = ProxyState(
        "web-5d4f-1",
        "shop",
        "",
        "istiod",
        "1",
        "Kubernetes",
        (TypeState("LDS", SyncState.ERROR, (Rejected("0.0.0.0_80", "no"),)),),
    )
    found = node(built(certificates=(told,), proxies=(refused,)), "shop/web")

    first, second = found.pods
    assert first.certificate is not None
    assert (first.certificate.serial, first.certificate.error) == ("0a", "refused")
    assert first.configuration == "refused: LDS 0.0.0.0_80: no"
    assert (second.certificate, second.configuration) == (None, "not connected to the control plane")


def test_findings_are_told_where_their_object_is() -> None:
    messages = (
        Message("A", Severity.ERROR, Subject("Pod", "shop", "web-5d4f-2"), "about a pod"),
        Message("B", Severity.WARNING, Subject("Service", "shop", "store"), "about a service"),
        Message("C", Severity.INFO, Subject("Namespace", "", "shop"), "about a namespace"),
        Message("D", Severity.INFO, None, "about the mesh"),
    )
    found = built(messages=messages)

    assert [node(found, name).issues for name in ("shop/web", "shop/store", "shop/bare")] == [(0,), (1,), ()]
    (line,) = found.namespaces
    assert line.issues == (0, 1, 2)
    assert [issue.code for issue in found.issues] == ["A", "B", "C", "D"]


def test_namespaces_say_their_mode_and_how_many_edges_are_open() -> None:
    workload = peer_authentication("shop", "store-only", "DISABLE")
    workload["spec"]["selector"] = {"matchLabels": {"app": "store"}}
    found = built(
        peer_authentication("shop", "all", "STRICT"),
        workload,
        namespace("kube-system", injected=False),
        edges=(edge("shop/web", "shop/store", 5), edge("shop/bare", "shop/store", 0, 5)),
    )

    system, shop = found.namespaces
    assert (system.name, system.is_system, system.injection) == ("kube-system", True, "")
    assert (shop.injection, shop.accepts.mode, shop.other_modes) == ("enabled", "STRICT", ("DISABLE",))
    assert (shop.workloads, shop.pods, shop.pods_with_sidecar) == (3, 4, 3)
    assert (shop.edges, shop.open_edges) == (2, 1)

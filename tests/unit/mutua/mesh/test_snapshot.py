"""Objects to snapshot to view: what it says, and what a change leaves untouched."""

from typing import Any

import pytest
from mesh_objects import (
    after,
    authorization_policy,
    change,
    destination_rule,
    endpoints,
    peer_authentication,
    pod,
    service,
    snapshot,
)

from mutua.api.core import Pod
from mutua.api.kinds import AnyObject
from mutua.api.meshconfig import MeshConfig
from mutua.mesh import build, view
from mutua.mesh.objects import ObjectSet
from mutua.mesh.proxy_view import (
    AuthorizationAction,
    ClientTlsMode,
    InboundPort,
    LoadAssignment,
    MtlsMode,
    ObjectRef,
    OutboundService,
    Protocol,
    ProxyView,
)
from mutua.mesh.snapshot import MeshSnapshot
from mutua.mesh.view import Proxy

HTTP = {"name": "http", "port": 80, "targetPort": 8080}
BACKEND = "backend.apps.svc.cluster.local"


def two_applications() -> list[AnyObject]:
    """frontend (2 pods) and backend (1 pod) with sidecars and legacy without, in `apps`; one client in `other`."""
    return [
        pod("apps", "frontend-1", "10.0.0.1", {"app": "frontend"}, account="frontend"),
        pod("apps", "frontend-2", "10.0.0.2", {"app": "frontend"}, account="frontend"),
        pod("apps", "backend-1", "10.0.0.3", {"app": "backend"}, account="backend"),
        pod("apps", "legacy-1", "10.0.0.4", {"app": "legacy"}, sidecar=False),
        pod("other", "client-1", "10.0.1.1", {"app": "client"}),
        service("apps", "frontend", "10.96.0.1", {"app": "frontend"}, HTTP),
        service("apps", "backend", "10.96.0.2", {"app": "backend"}, HTTP),
        service("apps", "legacy", "10.96.0.3", {"app": "legacy"}, HTTP),
        service("other", "client", "10.96.0.4", {"app": "client"}, HTTP),
        endpoints("apps", "frontend", {"10.0.0.1": True, "10.0.0.2": None}, http=8080),
        endpoints("apps", "backend", {"10.0.0.3": True}, http=8080),
        endpoints("apps", "legacy", {"10.0.0.4": True}, http=8080),
        endpoints("other", "client", {"10.0.1.1": True}, http=8080),
    ]


def of(current: MeshSnapshot, namespace: str, name: str) -> ProxyView:
    return view.for_proxy(current, Proxy(namespace, name))


def outbound(seen: ProxyView, host: str = BACKEND) -> OutboundService:
    return next(item for item in seen.outbound.services if item.host == host)


def load(seen: ProxyView, host: str = BACKEND) -> LoadAssignment:
    return next(item for item in seen.endpoints if item.host == host)


def test_replicas_share_one_view() -> None:
    current = snapshot(*two_applications())
    assert of(current, "apps", "frontend-1") is of(current, "apps", "frontend-2")
    assert of(current, "apps", "frontend-1") is not of(current, "apps", "backend-1")
    assert of(current, "apps", "frontend-1").endpoints is of(current, "other", "client-1").endpoints


def test_clients_see_every_service_with_its_identities_and_endpoints() -> None:
    seen = of(snapshot(*two_applications(), trustDomainAliases=["old.example"]), "other", "client-1")
    hosts = [item.host for item in seen.outbound.services]
    assert hosts == sorted(hosts) and len(hosts) == 4
    backend = outbound(seen)
    assert backend.addresses == ("10.96.0.2",)
    assert backend.ports[0].identities == (
        "spiffe://cluster.local/ns/apps/sa/backend",
        "spiffe://old.example/ns/apps/sa/backend",
    )
    endpoint = load(seen).endpoints[0]
    assert (endpoint.address, endpoint.port, endpoint.mtls) == ("10.0.0.3", 8080, True)
    assert (endpoint.service_account, endpoint.namespace, endpoint.workload) == ("backend", "apps", "backend-1")
    assert load(seen, "legacy.apps.svc.cluster.local").endpoints[0].mtls is False
    assert [(item.host, item.port) for item in seen.endpoints] == [(host, 80) for host in hosts]


def test_strict_reaches_its_namespace_and_nothing_else() -> None:
    before = snapshot(*two_applications())
    views = {name: of(before, *name) for name in (("apps", "backend-1"), ("other", "client-1"))}
    now = after(before, change(peer_authentication("apps", "strict", {"mtls": {"mode": "STRICT"}})))
    backend = of(now, "apps", "backend-1")
    assert backend.inbound.ports == (InboundPort(8080, Protocol.HTTP, MtlsMode.STRICT, BACKEND),)
    assert backend.outbound is views["apps", "backend-1"].outbound
    assert backend.endpoints is views["apps", "backend-1"].endpoints
    assert of(now, "other", "client-1") is views["other", "client-1"]
    assert now.parts.reachable is before.parts.reachable and now.parts.outbound is before.parts.outbound
    assert now.parts.inbound["other"] is before.parts.inbound["other"]


def test_disable_reaches_the_clients_as_endpoints_without_tls() -> None:
    before = snapshot(*two_applications())
    seen = of(before, "other", "client-1")
    spec = {"selector": {"matchLabels": {"app": "backend"}}, "portLevelMtls": {"8080": {"mode": "DISABLE"}}}
    now = after(before, change(peer_authentication("apps", "open", spec)))
    assert load(of(now, "other", "client-1")).endpoints[0].mtls is False
    assert of(now, "other", "client-1").outbound is seen.outbound
    assert of(now, "other", "client-1").inbound is seen.inbound
    assert of(now, "apps", "backend-1").inbound.ports[0].mode is MtlsMode.DISABLE
    back = after(now, change(peer_authentication("apps", "open", spec), gone=True))
    assert load(of(back, "other", "client-1")).endpoints[0].mtls is True


def test_port_modes_of_ports_without_service_are_kept() -> None:
    spec = {
        "selector": {"matchLabels": {"app": "backend"}},
        "mtls": {"mode": "STRICT"},
        "portLevelMtls": {"9090": {"mode": "DISABLE"}, "8080": {"mode": "PERMISSIVE"}},
    }
    inbound = of(snapshot(*two_applications(), peer_authentication("apps", "p", spec)), "apps", "backend-1").inbound
    assert inbound.default_mode is MtlsMode.STRICT
    assert inbound.port_modes == ((9090, MtlsMode.DISABLE),)
    assert inbound.ports[0].mode is MtlsMode.PERMISSIVE


def test_readiness_moves_endpoints_only() -> None:
    before = snapshot(*two_applications())
    seen = of(before, "apps", "frontend-1")
    now = after(before, change(endpoints("apps", "backend", {"10.0.0.3": False}, http=8080)))
    view_now = of(now, "apps", "frontend-1")
    assert load(view_now).endpoints == ()
    assert view_now.outbound is seen.outbound and view_now.inbound is seen.inbound
    kept = [item for item in view_now.endpoints if item.host != BACKEND]
    assert all(any(item is other for other in seen.endpoints) for item in kept)


def test_a_pod_that_only_a_slice_leads_to_is_followed() -> None:
    without = [item for item in two_applications() if not (isinstance(item, Pod) and item.metadata.name == "backend-1")]
    before = snapshot(*without)

    current = after(before, change(pod("apps", "backend-1", "10.0.0.3", {"app": "another"}, account="backend")))

    (endpoint,) = load(of(current, "apps", "frontend-1")).endpoints
    assert (endpoint.workload, endpoint.mtls) == ("backend-1", True)


def test_an_unrelated_change_keeps_every_view() -> None:
    before = snapshot(*two_applications())
    views = [of(before, "apps", "frontend-1"), of(before, "other", "client-1")]
    restarted = pod("apps", "backend-1", "10.0.0.3", {"app": "backend"}, account="backend")
    now = after(before, change(restarted), change(pod("apps", "job", "", {"app": "job"}, sidecar=False)))
    assert [of(now, "apps", "frontend-1"), of(now, "other", "client-1")] == views
    assert of(now, "apps", "frontend-1") is views[0]
    assert after(now) is now


def test_named_target_ports_are_resolved_per_pod_and_the_oldest_service_wins() -> None:
    labels = {"app": "web"}
    current = snapshot(
        pod("apps", "web-1", "10.0.0.1", labels, ports={"web": 8080}),
        pod("apps", "web-2", "10.0.0.2", labels, ports={"web": 9090}),
        service(
            "apps",
            "newer",
            "10.96.0.1",
            labels,
            {"name": "tcp", "port": 1, "targetPort": 8080},
            created="2024-01-02T00:00:00Z",
        ),
        service("apps", "older", "10.96.0.2", labels, {"name": "http", "port": 2, "targetPort": "web"}),
        service("apps", "nowhere", "10.96.0.3", labels, {"name": "http", "port": 3, "targetPort": "absent"}),
        service("apps", "datagrams", "10.96.0.5", labels, {"name": "udp", "port": 53, "protocol": "UDP"}),
        service("elsewhere", "stranger", "10.96.0.4", labels, {"name": "http", "port": 4, "targetPort": 7070}),
    )
    ports = {name: of(current, "apps", name).inbound.ports for name in ("web-1", "web-2")}
    assert [(port.number, port.protocol, port.host.split(".")[0]) for port in ports["web-1"]] == [
        (8080, Protocol.HTTP, "older")
    ]
    assert [(port.number, port.protocol) for port in ports["web-2"]] == [(8080, Protocol.TCP), (9090, Protocol.HTTP)]


def test_headless_services_list_their_pods() -> None:
    current = snapshot(
        pod("apps", "db-0", "10.0.0.2", {"app": "db"}, account="db"),
        service("apps", "db", "None", {"app": "db"}, {"name": "tcp", "port": 5432}),
        endpoints("apps", "db", {"10.0.0.2": True, "10.0.0.3": True, "10.0.0.9": False}, tcp=5432),
    )
    database = outbound(of(current, "apps", "db-0"), "db.apps.svc.cluster.local")
    assert database.addresses == ()
    assert database.headless_addresses == (("10.0.0.2", 5432), ("10.0.0.3", 5432))


@pytest.mark.parametrize(
    ("export_to", "seen"), [("", True), ("*", True), (".", False), ("other", True), ("~", False), (".,x", False)]
)
def test_services_are_visible_where_they_are_exported(export_to: str, seen: bool) -> None:
    hidden = service(
        "apps", "hidden", "10.96.9.9", {"app": "backend"}, HTTP, annotations={"networking.istio.io/exportTo": export_to}
    )
    current = snapshot(*two_applications(), hidden)
    hosts = {
        name: [item.name for item in of(current, *name).outbound.services]
        for name in (("other", "client-1"), ("apps", "backend-1"))
    }
    assert ("hidden" in hosts["other", "client-1"]) is seen
    assert ("hidden" in hosts["apps", "backend-1"]) is (export_to in ("", "*", ".", ".,x"))


def test_destination_rules_decide_how_to_dial() -> None:
    before = snapshot(*two_applications())
    seen = of(before, "other", "client-1")
    assert outbound(seen).ports[0].tls.mode is ClientTlsMode.AUTO
    rule = destination_rule("apps", "mtls", {"host": "backend", "trafficPolicy": {"tls": {"mode": "ISTIO_MUTUAL"}}})
    now = after(before, change(rule))
    port = outbound(of(now, "other", "client-1")).ports[0]
    assert port.tls.mode is ClientTlsMode.ISTIO_MUTUAL
    assert port.destination_rule == ObjectRef("DestinationRule", "apps", "mtls")
    assert of(now, "other", "client-1").endpoints == seen.endpoints
    untouched = outbound(of(now, "other", "client-1"), "frontend.apps.svc.cluster.local")
    assert untouched is outbound(seen, "frontend.apps.svc.cluster.local")
    private = destination_rule(
        "other", "own", {"host": BACKEND, "exportTo": ["."], "trafficPolicy": {"tls": {"mode": "DISABLE"}}}
    )
    frontend = of(now, "apps", "frontend-1")
    last = after(now, change(private))
    assert outbound(of(last, "other", "client-1")).ports[0].tls.mode is ClientTlsMode.DISABLE
    assert of(last, "apps", "frontend-1").outbound is frontend.outbound


def test_without_auto_mtls_only_a_rule_brings_tls() -> None:
    seen = of(snapshot(*two_applications(), enableAutoMtls=False), "other", "client-1")
    assert outbound(seen).ports[0].tls.mode is ClientTlsMode.DISABLE


def test_policies_of_root_and_own_namespace_apply() -> None:
    rules: dict[str, Any] = {"rules": [{"from": [{"source": {"namespaces": ["apps"]}}]}]}
    current = snapshot(
        *two_applications(),
        authorization_policy("apps", "z-all", {}),
        authorization_policy(
            "apps", "backend", {**rules, "selector": {"matchLabels": {"app": "backend"}}, "action": "DENY"}
        ),
        authorization_policy("istio-system", "root", rules, annotations={"istio.io/dry-run": "true"}),
        authorization_policy(
            "apps", "gateway", {"targetRef": {"kind": "Gateway", "name": "g", "group": "gateway.networking.k8s.io"}}
        ),
        authorization_policy("other", "elsewhere", {}),
    )
    policies = of(current, "apps", "backend-1").inbound.policies
    assert [(policy.namespace, policy.name) for policy in policies] == [
        ("istio-system", "root"),
        ("apps", "backend"),
        ("apps", "z-all"),
    ]
    assert policies[0].dry_run
    assert policies[1].action is AuthorizationAction.DENY
    assert policies[1].rules[0].sources[0].namespaces == ("apps",)
    assert [policy.name for policy in of(current, "apps", "frontend-1").inbound.policies] == ["root", "z-all"]


def test_look_ups() -> None:
    current = snapshot(*two_applications(), pod("apps", "done", "10.0.0.7", {}, phase="Succeeded"))
    found = current.workload_by_address("10.0.0.3")
    assert found is not None and found is current.workload("apps", "backend-1")
    assert current.workload_by_address("10.0.0.7") is None
    assert current.namespaces == {"apps", "other"}
    moved = after(current, change(pod("apps", "backend-1", "10.0.0.8", {"app": "backend"})))
    assert moved.workload_by_address("10.0.0.3") is None
    assert current.workload_by_address("10.0.0.3") is found


def test_an_unknown_pod_is_taken_at_its_word_within_its_namespace() -> None:
    strict = peer_authentication("apps", "strict", {"mtls": {"mode": "STRICT"}})
    current = snapshot(*two_applications(), strict)
    new = view.for_proxy(current, Proxy("apps", "backend-2", "10.0.0.9", "backend", {"app": "backend"}))
    assert new.inbound == of(current, "apps", "backend-1").inbound
    stranger = view.for_proxy(current, Proxy("nowhere", "x", "10.0.0.3"))
    assert stranger.inbound.default_mode is MtlsMode.PERMISSIVE
    assert stranger.inbound.ports == ()


def test_a_trust_domain_that_cannot_be_one_is_not_believed() -> None:
    current = build.snapshot(ObjectSet(), MeshConfig(trust_domain="a b", trust_domain_aliases=("x@y", "cluster.local")))
    assert current.trust.domains == ("cluster.local", "x.y")

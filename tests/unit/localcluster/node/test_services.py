"""Services and endpoints in, rules and steps out."""

from typing import Any

from localcluster.node.services import (
    DISPATCH,
    REFUSE,
    Backend,
    Change,
    Clients,
    Frontend,
    Goto,
    MarkForMasquerade,
    Refuse,
    Return,
    Rule,
    ServicePort,
    Translate,
    chains,
    changes,
    service_ports,
)
from localcluster.node.services_index import ServiceIndex

WEB = Frontend("10.96.0.7", "TCP", 80)
ONE, TWO = Backend("10.244.0.2", 8080), Backend("10.244.0.3", 8080)


def service(**spec: Any) -> dict[str, Any]:
    ports = [{"name": "http", "port": 80, "targetPort": 8080}]
    return {
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"clusterIP": "10.96.0.7", "ports": ports, **spec},
    }


def endpoints(*found: tuple[str, dict[str, bool]]) -> dict[str, Any]:
    return {
        "metadata": {"name": "web-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}, {"name": "other", "port": 9}],
        "endpoints": [{"addresses": [address], "conditions": conditions} for address, conditions in found],
    }


def test_only_ready_endpoints_of_the_same_port_are_backends() -> None:
    slices = [endpoints(("10.244.0.2", {"ready": True}), ("10.244.0.3", {"ready": False}))]
    assert service_ports(service(), slices) == (ServicePort(WEB, (ONE,)),)


def test_leaving_endpoints_serve_when_nobody_else_does() -> None:
    leaving = {"ready": False, "serving": True, "terminating": True}
    assert service_ports(service(), [endpoints(("10.244.0.3", leaving))]) == (ServicePort(WEB, (TWO,)),)


def test_headless_and_external_services_have_no_ports() -> None:
    assert service_ports(service(clusterIP="None"), []) == ()
    assert service_ports(service(type="ExternalName", clusterIP=""), []) == ()


def test_connections_are_spread_evenly() -> None:
    rules = chains([ServicePort(WEB, (ONE, TWO))], [])
    assert rules[DISPATCH] == (Rule(Goto("svc-10.96.0.7-TCP-80"), frontend=WEB),)
    assert rules["svc-10.96.0.7-TCP-80"] == (
        Rule(Goto("ep-10.244.0.2-TCP-8080"), one_in=2),
        Rule(Goto("ep-10.244.0.3-TCP-8080")),
    )
    assert rules["ep-10.244.0.2-TCP-8080"] == (
        Rule(MarkForMasquerade(), source="10.244.0.2"),
        Rule(Translate(ONE), protocol="TCP"),
    )


def test_sticky_services_know_their_clients_until_their_time_is_up() -> None:
    (port,) = service_ports(service(sessionAffinity="ClientIP"), [])
    assert port.sticky_seconds == 10800
    rules = chains([ServicePort(WEB, (ONE, TWO), sticky_seconds=5)], [])
    first, second = (f"svc-10.96.0.7-TCP-80-to-{backend.address}-8080" for backend in (ONE, TWO))
    assert rules["svc-10.96.0.7-TCP-80"] == (
        Rule(Goto(first), known=Clients(f"{first}-5", 5)),
        Rule(Goto(second), known=Clients(f"{second}-5", 5)),
        Rule(Goto(first), one_in=2),
        Rule(Goto(second)),
    )
    assert rules[first] == (Rule(Goto("ep-10.244.0.2-TCP-8080"), remembered=Clients(f"{first}-5", 5)),)


def test_clients_are_known_before_rules_ask_and_forgotten_after() -> None:
    old = chains([ServicePort(WEB, (ONE, TWO), sticky_seconds=5)], [])
    new = chains([ServicePort(WEB, (TWO,), sticky_seconds=5)], [])
    assert [step.action for step in changes({}, old)][:2] == ["add clients", "add clients"]
    steps = changes(old, new)
    assert [step.clients.name for step in steps if step.clients] == ["svc-10.96.0.7-TCP-80-to-10.244.0.2-8080-5"]
    assert steps[-1].action == "delete clients"


def test_who_has_nobody_behind_is_refused_and_the_nodes_own_servers_are_left_alone() -> None:
    rules = chains([ServicePort(WEB, ()), ServicePort(Frontend("10.96.0.1", "TCP", 443), (ONE,))], ["10.96.0.1"])
    assert rules[DISPATCH] == ()
    assert rules[REFUSE] == (
        Rule(Return(), destination="10.96.0.1"),
        Rule(Refuse(reset=True), protocol="TCP"),
        Rule(Refuse(reset=False)),
    )


def test_an_update_touches_only_what_changes_and_deletes_last() -> None:
    other = ServicePort(Frontend("10.96.0.8", "TCP", 80), (TWO,))
    old = chains([ServicePort(WEB, (ONE,)), other], [])
    new = chains([ServicePort(WEB, (TWO,)), other], [])
    steps = changes(old, new)
    assert [(step.action, step.chain) for step in steps] == [
        ("flush chain", "svc-10.96.0.7-TCP-80"),
        ("flush chain", "ep-10.244.0.2-TCP-8080"),
        ("add rule", "svc-10.96.0.7-TCP-80"),
        ("delete chain", "ep-10.244.0.2-TCP-8080"),
    ]
    assert changes(new, new) == []
    assert Change("add chain", DISPATCH) in changes({}, new)


def test_the_index_brings_services_and_slices_together_in_any_order() -> None:
    told: list[tuple[ServicePort, ...]] = []
    index = ServiceIndex(lambda _namespace, _name, ports: told.append(ports))
    index.slice_changed(None, endpoints(("10.244.0.2", {"ready": True})))
    index.service_changed(None, service())
    assert told[-1] == (ServicePort(WEB, (ONE,)),)
    assert index.names.values("web.shop.svc.cluster.local.") == {"A": ["10.96.0.7"]}
    index.slice_changed(endpoints(("10.244.0.2", {})), None)
    assert told[-1] == (ServicePort(WEB, ()),)
    index.service_changed(service(), None)
    assert told[-1] == ()
    assert index.names.values("web.shop.svc.cluster.local.") is None

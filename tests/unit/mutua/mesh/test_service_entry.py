"""What ServiceEntries and WorkloadEntries mean: who dials what, where it leads, and what nobody can take away."""

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from mesh_objects import (
    after,
    change,
    destination_rule,
    endpoints,
    peer_authentication,
    pod,
    service,
    service_entry,
    snapshot,
    workload_entry,
)

from mutua.mesh import view
from mutua.mesh.proxy_view import ClientTlsMode, Discovery, OutboundService, OutboundView, Protocol
from mutua.mesh.snapshot import MeshSnapshot
from mutua.mesh.view import Proxy

HTTP = {"number": 80, "name": "http", "protocol": "HTTP"}
TCP = {"number": 3306, "name": "db", "protocol": "TCP"}
EXTERNAL = {"hosts": ["api.example.com"], "ports": [HTTP], "resolution": "DNS"}
INTERNAL = {"hosts": ["vm.test"], "ports": [HTTP], "resolution": "STATIC", "location": "MESH_INTERNAL"}
CLIENT = pod("apps", "client", "10.0.0.1", {"app": "client"})


def outbound(made: MeshSnapshot, namespace: str = "apps") -> OutboundView:
    return view.for_proxy(made, Proxy(namespace, "client", labels={"app": "client"})).outbound


def seen(made: MeshSnapshot, host: str, namespace: str = "apps") -> OutboundService:
    found = outbound(made, namespace).find(host)
    assert found is not None and found.host == host
    return found


def addresses(made: MeshSnapshot, namespace: str, host: str) -> dict[int, list[tuple[str, int, bool]]]:
    return {
        load.port: [(endpoint.address, endpoint.port, endpoint.mtls) for endpoint in load.endpoints]
        for load in made.load(namespace, host)
    }


def test_a_host_found_by_dns_is_looked_up_under_its_own_name() -> None:
    ports = [{**HTTP, "targetPort": 8443}, {"number": 443, "name": "tls", "protocol": "https"}]
    made = snapshot(CLIENT, service_entry("apps", "api", EXTERNAL | {"ports": ports}))
    found = seen(made, "api.example.com")
    assert (found.discovery, found.addresses, found.takes_any_address) == (Discovery.DNS, (), True)
    assert [(port.number, port.protocol) for port in found.ports] == [(80, Protocol.HTTP), (443, Protocol.TLS)]
    named = [[(end.address, end.port) for end in port.named_endpoints] for port in found.ports]
    assert named == [[("api.example.com", 8443)], [("api.example.com", 443)]]
    assert view.for_proxy(made, Proxy("apps", "client")).endpoints == ()  # the sidecar asks, nobody tells it


def test_what_is_outside_is_never_sent_mutual_tls_by_itself() -> None:
    inside = {"endpoints": [{"address": "10.9.0.1", "serviceAccount": "vm"}]}
    made = snapshot(
        CLIENT,
        service_entry("apps", "out", EXTERNAL | {"resolution": "STATIC"} | inside),
        service_entry("apps", "in", INTERNAL | inside),
        service_entry("apps", "anywhere", {"hosts": ["any.test"], "ports": [HTTP], "location": "MESH_INTERNAL"}),
    )
    modes = {host: seen(made, host).ports[0].tls.mode for host in ("api.example.com", "vm.test", "any.test")}
    assert modes == {
        "api.example.com": ClientTlsMode.DISABLE,
        "vm.test": ClientTlsMode.AUTO,
        "any.test": ClientTlsMode.DISABLE,  # nobody knows which workload answers
    }


def test_endpoints_bring_their_own_ports_accounts_and_weights() -> None:
    spec = INTERNAL | {
        "subjectAltNames": ["spiffe://old.example.com/vm"],
        "endpoints": [
            {"address": "10.9.0.1", "ports": {"http": 8080}, "serviceAccount": "vm", "weight": 3},
            {"address": "10.9.0.2", "labels": {"security.istio.io/tlsMode": "istio"}},
            {"address": "10.9.0.3", "serviceAccount": "vm", "labels": {"security.istio.io/tlsMode": "disabled"}},
            {"address": "unix:///socket"},
        ],
    }
    made = snapshot(CLIENT, service_entry("apps", "vm", spec))
    (load,) = made.load("apps", "vm.test")
    assert [(end.address, end.port, end.mtls, end.weight) for end in load.endpoints] == [
        ("10.9.0.1", 8080, True, 3),
        ("10.9.0.2", 80, True, 1),
        ("10.9.0.3", 80, False, 1),
    ]
    assert seen(made, "vm.test").ports[0].identities == (
        "spiffe://cluster.local/ns/apps/sa/vm",
        "spiffe://old.example.com/vm",
    )


def test_a_selector_finds_workload_entries_and_ready_pods_of_its_namespace() -> None:
    spec = INTERNAL | {"ports": [{**HTTP, "targetPort": 9080}], "workloadSelector": {"labels": {"app": "vm"}}}
    made = snapshot(
        CLIENT,
        service_entry("apps", "vm", spec),
        workload_entry("apps", "one", {"address": "10.9.0.1", "labels": {"app": "vm"}, "ports": {"http": 7070}}),
        workload_entry("apps", "two", {"address": "10.9.0.2", "serviceAccount": "vm"}, labels={"app": "vm"}),
        workload_entry("apps", "three", {"address": "10.9.0.3", "labels": {"app": "other"}}),
        workload_entry("apps", "four", {"address": "vm.example.com", "labels": {"app": "vm"}}),
        workload_entry("elsewhere", "five", {"address": "10.9.0.5", "labels": {"app": "vm"}}),
        pod("apps", "pod", "10.0.0.9", {"app": "vm"}),
    )
    assert addresses(made, "apps", "vm.test") == {80: [("10.9.0.1", 7070, False), ("10.9.0.2", 9080, True)]}
    ready = {"conditions": [{"type": "Ready", "status": "True"}], "podIP": "10.0.0.9", "phase": "Running"}
    item = made.objects.get(change(pod("apps", "pod", "10.0.0.9", {"app": "vm"})).kind, "apps", "pod")
    assert item is not None
    now = after(made, change(_with_status(item, ready)))
    assert (("10.0.0.9", 9080, True)) in addresses(now, "apps", "vm.test")[80]


def _with_status(item: Any, status: dict[str, Any]) -> Any:
    return msgspec.structs.replace(item, status=msgspec.convert(status, type(item.status)))


def test_services_select_workload_entries_too() -> None:
    made = snapshot(
        CLIENT,
        service("apps", "web", "10.96.0.1", {"app": "web"}, {"name": "http", "port": 80, "targetPort": "http-web"}),
        endpoints("apps", "web", {"10.0.0.2": True}, http=8080),
        pod("apps", "web-1", "10.0.0.2", {"app": "web"}, account="web"),
        workload_entry(
            "apps",
            "vm",
            {"address": "10.9.0.1", "labels": {"app": "web"}, "serviceAccount": "vm", "ports": {"http": 80}},
        ),
    )
    host = "web.apps.svc.cluster.local"
    assert addresses(made, "apps", host) == {80: [("10.0.0.2", 8080, True), ("10.9.0.1", 80, True)]}
    assert seen(made, host).ports[0].identities == tuple(
        f"spiffe://cluster.local/ns/apps/sa/{name}" for name in ("vm", "web")
    )


def test_a_workload_entry_that_may_not_take_mutual_tls_is_dialled_without() -> None:
    machine = workload_entry("apps", "vm", {"address": "10.9.0.1", "labels": {"app": "vm"}, "serviceAccount": "vm"})
    entry = service_entry("apps", "vm", INTERNAL | {"workloadSelector": {"labels": {"app": "vm"}}})
    off = {"selector": {"matchLabels": {"app": "vm"}}, "mtls": {"mode": "DISABLE"}}
    made = snapshot(CLIENT, machine, entry)
    assert addresses(made, "apps", "vm.test") == {80: [("10.9.0.1", 80, True)]}
    now = after(made, change(peer_authentication("apps", "off", off)))
    assert addresses(now, "apps", "vm.test") == {80: [("10.9.0.1", 80, False)]}


def test_entries_for_one_host_of_one_namespace_are_one() -> None:
    old, new = "2024-01-01T00:00:00Z", "2024-02-01T00:00:00Z"
    other = {**HTTP, "number": 8080, "name": "other"}
    made = snapshot(
        CLIENT,
        service_entry("apps", "b", INTERNAL | {"endpoints": [{"address": "10.9.0.1"}]}, old),
        service_entry("apps", "a", INTERNAL | {"ports": [HTTP, other], "endpoints": [{"address": "10.9.0.2"}]}, new),
        service_entry(
            "apps", "c", INTERNAL | {"location": "MESH_EXTERNAL", "endpoints": [{"address": "1.1.1.1"}]}, new
        ),
    )
    assert addresses(made, "apps", "vm.test") == {
        80: [("10.9.0.1", 80, False), ("10.9.0.2", 80, False)],
        8080: [("10.9.0.2", 8080, False)],
    }
    assert seen(made, "vm.test").name == "b"


def test_a_service_s_host_is_taken_by_no_other_namespace() -> None:
    host = "db.apps.svc.cluster.local"
    squatter = {"hosts": [host], "ports": [TCP], "resolution": "STATIC", "endpoints": [{"address": "6.6.6.6"}]}
    squatter |= {"addresses": ["10.96.0.1", "10.96.0.0/16", "240.0.0.9"]}
    made = snapshot(
        CLIENT,
        service_entry("evil", "early", squatter, "2020-01-01T00:00:00Z"),
        service("apps", "db", "10.96.0.1", {"app": "db"}, {"name": "tcp-db", "port": 3306}),
        endpoints("apps", "db", {"10.0.0.2": True}, **{"tcp-db": 3306}),
    )
    for namespace in ("apps", "third"):
        assert seen(made, host, namespace).namespace == "apps"
    own = seen(made, host, "evil")  # for its own clients it may say what it likes
    assert (own.namespace, own.addresses, own.blocks) == ("evil", ("10.96.0.1", "240.0.0.9"), ("10.96.0.0/16",))


def test_a_service_s_addresses_are_taken_by_no_other_namespace() -> None:
    squatter = {"hosts": ["mine.test"], "ports": [TCP], "addresses": ["10.96.0.1", "10.96.0.0/16", "240.0.0.0/8"]}
    made = snapshot(
        CLIENT,
        service_entry("evil", "mine", squatter),
        service("apps", "db", "10.96.0.1", {"app": "db"}, {"name": "tcp-db", "port": 3306}),
    )
    taken = seen(made, "mine.test")
    assert (taken.addresses, taken.blocks, taken.takes_any_address) == ((), ("240.0.0.0/8",), False)
    nothing_left = snapshot(
        CLIENT,
        service_entry("evil", "mine", squatter | {"addresses": ["10.96.0.1"]}),
        service("apps", "db", "10.96.0.1", {"app": "db"}, {"name": "tcp-db", "port": 3306}),
    )
    assert seen(nothing_left, "mine.test").takes_any_address is False


def test_the_own_namespace_s_entry_counts_then_the_oldest() -> None:
    made = snapshot(
        CLIENT,
        service_entry("old", "api", EXTERNAL, "2020-01-01T00:00:00Z"),
        service_entry("young", "api", EXTERNAL, "2021-01-01T00:00:00Z"),
        service_entry("hidden", "api", EXTERNAL | {"exportTo": ["."]}, "2019-01-01T00:00:00Z"),
    )
    owners = {name: seen(made, "api.example.com", name).namespace for name in ("apps", "old", "young", "hidden")}
    assert owners == {"apps": "old", "old": "old", "young": "young", "hidden": "hidden"}
    gone = after(made, change(service_entry("old", "api", EXTERNAL), gone=True))
    assert seen(gone, "api.example.com").namespace == "young"


def test_a_rule_for_an_entry_demands_the_names_that_the_entry_gives() -> None:
    rule = destination_rule("apps", "tls", {"host": "*.example.com", "trafficPolicy": {"tls": {"mode": "SIMPLE"}}})
    made = snapshot(CLIENT, rule, service_entry("apps", "api", EXTERNAL | {"subjectAltNames": ["api.internal"]}))
    tls = seen(made, "api.example.com").ports[0].tls
    assert (tls.mode, tls.subject_alt_names) == (ClientTlsMode.SIMPLE, ("api.internal",))
    plain = snapshot(CLIENT, rule, service_entry("apps", "api", EXTERNAL))
    assert seen(plain, "api.example.com").ports[0].tls.subject_alt_names == ()


def test_subsets_are_some_of_the_endpoints_with_a_policy_of_their_own() -> None:
    spec = INTERNAL | {
        "endpoints": [
            {"address": "10.9.0.1", "labels": {"version": "v1"}},
            {"address": "10.9.0.2", "labels": {"version": "v2"}},
        ]
    }
    rule = {
        "host": "vm.test",
        "trafficPolicy": {"tls": {"mode": "DISABLE"}},
        "subsets": [
            {"name": "v1", "labels": {"version": "v1"}},
            {"name": "v2", "labels": {"version": "v2"}, "trafficPolicy": {"tls": {"mode": "ISTIO_MUTUAL"}}},
            {"name": "none", "labels": {"version": "v3"}},
        ],
    }
    made = snapshot(CLIENT, service_entry("apps", "vm", spec), destination_rule("apps", "vm", rule))
    (port,) = seen(made, "vm.test").ports
    assert {subset.name: subset.tls.mode for subset in port.subsets} == {
        "v1": ClientTlsMode.DISABLE,
        "v2": ClientTlsMode.ISTIO_MUTUAL,
        "none": ClientTlsMode.DISABLE,
    }
    told = view.for_proxy(made, Proxy("apps", "client")).endpoints
    assert {load.subset: [endpoint.address for endpoint in load.endpoints] for load in told} == {
        "": ["10.9.0.1", "10.9.0.2"],
        "v1": ["10.9.0.1"],
        "v2": ["10.9.0.2"],
        "none": [],
    }


def test_secrets_are_for_the_clients_that_a_rule_singles_out() -> None:
    tls = {"mode": "MUTUAL", "credentialName": "own"}
    by_port = {"port": {"number": 443}, "tls": {"mode": "SIMPLE", "credentialName": "port"}}
    chosen = {
        "host": "api.example.com",
        "workloadSelector": {"matchLabels": {"app": "client"}},
        "trafficPolicy": {"tls": tls, "portLevelSettings": [by_port]},
        "subsets": [{"name": "v1", "trafficPolicy": {"tls": tls | {"credentialName": "subset"}}}],
    }
    everybody = {"host": "b.example.com", "trafficPolicy": {"tls": tls | {"credentialName": "public"}}}
    made = snapshot(CLIENT, destination_rule("apps", "chosen", chosen), destination_rule("apps", "all", everybody))
    rules = made.parts.rules
    client = frozenset({("app", "client")})
    assert rules.credentials("apps", client) == {"own", "port", "subset"}
    assert rules.credentials("apps", frozenset()) == rules.credentials("other", client) == frozenset()


LABEL = st.text("abc", min_size=1, max_size=2)
NAME = st.lists(LABEL, min_size=1, max_size=4).map(".".join)
PATTERN = st.one_of(NAME, NAME.map("*.{}".format))


@given(st.sets(PATTERN, max_size=8), NAME)
def test_a_name_is_found_under_the_longest_pattern_that_covers_it(patterns: set[str], name: str) -> None:
    services = tuple(OutboundService(pattern, pattern, "apps", (), ()) for pattern in sorted(patterns))
    found = OutboundView("apps", "cluster.local", services).find(name)
    covering = [each for each in patterns if each == name or (each.startswith("*") and name.endswith(each[1:]))]
    if not covering:
        assert found is None
    elif name in covering:
        assert found is not None and found.host == name
    else:
        assert found is not None and found.host in covering and len(found.host) == max(map(len, covering))

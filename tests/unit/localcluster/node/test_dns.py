"""The resolver's answers, as questions and values."""

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import pytest

from localcluster.node.dns import ClusterNames, answer, answer_wire, service_records


def service(name: str, namespace: str = "shop", **spec: object) -> dict[str, object]:
    return {"metadata": {"name": name, "namespace": namespace}, "spec": spec}


def endpoint_slice(
    *endpoints: dict[str, object], ports: tuple[tuple[str, int], ...] = (("http", 8080),)
) -> dict[str, object]:
    return {
        "addressType": "IPv4",
        "endpoints": list(endpoints),
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    }


@pytest.fixture
def names() -> ClusterNames:
    names = ClusterNames()
    web = service("web", clusterIP="10.96.3.4", ports=[{"name": "http", "port": 80}])
    names.update("shop", "web", service_records(web, []))
    headless = service("db", clusterIP="None")
    slices = [
        endpoint_slice(
            {"addresses": ["10.244.0.7"], "hostname": "db-0"},
            {"addresses": ["10.244.0.8"]},
            {"addresses": ["10.244.0.9"], "conditions": {"ready": False}},
        )
    ]
    names.update("shop", "db", service_records(headless, slices))
    names.update(
        "shop",
        "away",
        service_records(service("away", type="ExternalName", externalName="web.shop.svc.cluster.local"), []),
    )
    return names


def ask(names: ClusterNames, name: str, kind: str = "A") -> tuple[str, list[str]]:
    response = answer(dns.message.make_query(name, kind), names)
    values = [record.to_text() for rrset in response.answer for record in rrset]
    return dns.rcode.to_text(response.rcode()), values


@pytest.mark.parametrize(
    ("name", "kind", "code", "values"),
    [
        ("web.shop.svc.cluster.local", "A", "NOERROR", ["10.96.3.4"]),
        ("WEB.Shop.svc.cluster.LOCAL", "A", "NOERROR", ["10.96.3.4"]),
        ("web.shop.svc.cluster.local", "AAAA", "NOERROR", []),
        ("_http._tcp.web.shop.svc.cluster.local", "SRV", "NOERROR", ["0 100 80 web.shop.svc.cluster.local."]),
        ("4.3.96.10.in-addr.arpa", "PTR", "NOERROR", ["web.shop.svc.cluster.local."]),
        ("db.shop.svc.cluster.local", "A", "NOERROR", ["10.244.0.7", "10.244.0.8"]),
        ("db-0.db.shop.svc.cluster.local", "A", "NOERROR", ["10.244.0.7"]),
        ("10-244-0-8.db.shop.svc.cluster.local", "A", "NOERROR", ["10.244.0.8"]),
        ("10-244-0-9.db.shop.svc.cluster.local", "A", "NXDOMAIN", []),
        ("7.0.244.10.in-addr.arpa", "PTR", "NOERROR", ["db-0.db.shop.svc.cluster.local."]),
        ("away.shop.svc.cluster.local", "A", "NOERROR", ["web.shop.svc.cluster.local.", "10.96.3.4"]),
        ("web.shop.svc.cluster.local.shop.svc.cluster.local", "A", "NXDOMAIN", []),
        ("shop.svc.cluster.local", "A", "NOERROR", []),
        ("nowhere.svc.cluster.local", "A", "NXDOMAIN", []),
        ("1-2-3-4.shop.pod.cluster.local", "A", "NOERROR", ["1.2.3.4"]),
        ("example.com", "A", "NXDOMAIN", []),
        ("1.1.1.1.in-addr.arpa", "PTR", "NXDOMAIN", []),
        ("dns-version.cluster.local", "TXT", "NOERROR", ['"1.1.0"']),
    ],
)
def test_answers(names: ClusterNames, name: str, kind: str, code: str, values: list[str]) -> None:
    assert ask(names, name, kind) == (code, values)


def test_srv_of_a_headless_service_brings_the_addresses_along(names: ClusterNames) -> None:
    response = answer(dns.message.make_query("_http._tcp.db.shop.svc.cluster.local", "SRV"), names)
    assert {record.to_text() for record in response.answer[0]} == {
        "0 100 8080 db-0.db.shop.svc.cluster.local.",
        "0 100 8080 10-244-0-8.db.shop.svc.cluster.local.",
    }
    assert {rrset.name.to_text() for rrset in response.additional} == {
        "db-0.db.shop.svc.cluster.local.",
        "10-244-0-8.db.shop.svc.cluster.local.",
    }


def test_a_negative_answer_carries_the_zone(names: ClusterNames) -> None:
    response = answer(dns.message.make_query("x.shop.svc.cluster.local", "A"), names)
    assert response.flags & dns.flags.AA
    assert response.authority[0].rdtype == dns.rdatatype.SOA


def test_a_removed_service_leaves_nothing(names: ClusterNames) -> None:
    for name in ("web", "db", "away"):
        names.update("shop", name, None)
    assert ask(names, "web.shop.svc.cluster.local") == ("NXDOMAIN", [])
    assert ask(names, "shop.svc.cluster.local") == ("NXDOMAIN", [])


def test_unready_endpoints_are_published_on_request() -> None:
    names = ClusterNames()
    every = service("db", clusterIP="None", publishNotReadyAddresses=True)
    slices = [endpoint_slice({"addresses": ["10.244.0.9"], "conditions": {"ready": False}})]
    names.update("shop", "db", service_records(every, slices))
    assert ask(names, "db.shop.svc.cluster.local") == ("NOERROR", ["10.244.0.9"])


def test_a_large_answer_is_truncated_over_udp_and_whole_over_tcp() -> None:
    names = ClusterNames()
    pods = [{"addresses": [f"10.244.1.{number}"]} for number in range(200)]
    names.update("shop", "many", service_records(service("many", clusterIP="None"), [endpoint_slice(*pods)]))
    query = dns.message.make_query("many.shop.svc.cluster.local", "A").to_wire()
    over_udp = answer_wire(query, names, over_udp=True)
    over_tcp = answer_wire(query, names, over_udp=False)
    assert over_udp is not None
    assert len(over_udp) <= 512
    assert dns.message.from_wire(over_udp).flags & dns.flags.TC
    assert over_tcp is not None
    assert len(dns.message.from_wire(over_tcp).answer[0]) == 200


def test_garbage_and_answers_are_not_answered_as_queries(names: ClusterNames) -> None:
    assert answer_wire(b"\x00\x01", names, over_udp=True) is None
    malformed = answer_wire(b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\xff", names, over_udp=True)
    assert malformed is not None
    assert dns.message.from_wire(malformed).rcode() == dns.rcode.FORMERR
    reply = dns.message.make_response(dns.message.make_query("a.b", "A")).to_wire()
    assert answer_wire(reply, names, over_udp=True) is None

"""The edges of a mesh, from what its sidecars counted."""

import msgspec

from mutua.reports import traffic
from mutua.reports.exposition import Sample
from mutua.reports.proxy_status import PlaintextSeen
from mutua.reports.traffic import EdgeTraffic, Name, SeenBy, Sidecar, Unit
from mutua.spiffe import SpiffeId

FRONTEND, BACKEND = Name("shop", "frontend"), Name("shop", "backend")
PRINCIPAL = "spiffe://cluster.local/ns/shop/sa/frontend"
HOST = "backend.shop.svc.cluster.local"


class Who:
    """A mesh of a frontend and a backend with sidecars, and a stranger without."""

    def at(self, address: str) -> Name | None:
        return {"10.0.0.9": Name("lab", "stranger")}.get(address)

    def pod(self, name: str) -> Name | None:
        return {"shop/backend-1": BACKEND, "lab/stranger-1": Name("lab", "stranger")}.get(name)

    def only_one_as(self, identity: SpiffeId) -> str:
        return "frontend" if str(identity) == PRINCIPAL else ""

    def counts(self, name: Name) -> bool:
        return name in (FRONTEND, BACKEND)


def edges(*sidecars: Sidecar, ledger: tuple[PlaintextSeen, ...] = ()) -> tuple[EdgeTraffic, ...]:
    return traffic.edges(sidecars, ledger, Who())


def edge(**differences: object) -> EdgeTraffic:
    same: dict[str, object] = {
        "source_namespace": "shop",
        "source_workload": "frontend",
        "source_principal": PRINCIPAL,
        "source_address": "",
        "destination_namespace": "shop",
        "destination_workload": "backend",
        "destination_service": HOST,
        "destination_port": 8080,
        "protocol": "http",
        "unit": Unit.REQUESTS,
        "seen_by": SeenBy.SERVER,
    }
    return EdgeTraffic(**(same | differences))  # type: ignore[arg-type]


STRANGER = {
    "source_namespace": "lab",
    "source_workload": "stranger",
    "source_principal": "",
    "source_address": "10.0.0.9",
}
SERVED = {"destination_service": HOST, "destination_port": "8080", "request_protocol": "http"}
CAME = SERVED | {"reporter": "destination", "source_workload": "frontend", "response_flags": "-"}
SECURE = CAME | {"connection_security_policy": "mutual_tls", "source_principal": PRINCIPAL, "response_code": "200"}
PLAIN = CAME | {"connection_security_policy": "none", "source_principal": "unknown", "source_workload": "unknown"}
PLAIN |= {"response_code": "200"}
SENT = {
    "reporter": "source",
    "source_principal": PRINCIPAL,
    "destination_workload_namespace": "shop",
    "destination_workload": "backend",
    "destination_principal": "spiffe://cluster.local/ns/shop/sa/backend",
    "destination_service": HOST,
    "destination_port": "80",
    "request_protocol": "http",
    "response_code": "200",
    "response_flags": "-",
}


def test_the_server_tells_and_the_client_s_copy_is_left_out() -> None:
    server = Sidecar(
        BACKEND,
        [
            Sample("istio_requests_total", SECURE, 7),
            Sample("istio_requests_total", SECURE | {"response_code": "503"}, 2),
            Sample("istio_requests_total", SECURE | {"response_code": "403"}, 1),
            Sample("mutua_denied_total", SECURE, 1),
            Sample("mutua_request_microseconds_total", SECURE, 25_500),
        ],
    )
    client = Sidecar(FRONTEND, [Sample("istio_requests_total", SENT, 10)])

    assert edges(server, client) == (edge(count=10, mutual_tls=10, errors=2, denied=1, duration_sum_milliseconds=25.5),)


def test_replicas_are_one_edge() -> None:
    one = Sidecar(BACKEND, [Sample("istio_requests_total", SECURE, 7)])
    assert edges(one, one) == (edge(count=14, mutual_tls=14),)


def test_each_plaintext_client_is_a_node_and_what_cannot_be_told_apart_is_one_more() -> None:
    client = SERVED | {"source_address": "10.0.0.9", "response_code": "200"}
    server = Sidecar(
        BACKEND,
        [
            Sample("istio_requests_total", PLAIN, 10),
            Sample("istio_requests_total", PLAIN | {"response_code": "500"}, 1),
            Sample("mutua_plaintext_requests_total", client, 6),
            Sample("mutua_plaintext_requests_total", client | {"source_address": "192.0.2.1"}, 1),
            Sample("mutua_plaintext_requests_total", client | {"response_code": "500"}, 1),
            Sample("mutua_plaintext_request_microseconds_total", client, 7000),
        ],
    )
    nobody = {"source_namespace": "", "source_workload": "", "source_principal": ""}

    assert edges(server) == (
        edge(**nobody, count=3, plaintext=3),
        edge(**nobody, source_address="192.0.2.1", count=1, plaintext=1),
        edge(**STRANGER, count=7, plaintext=7, errors=1, duration_sum_milliseconds=7),
    )


def test_where_the_server_has_no_sidecar_the_client_tells() -> None:
    bare = SENT | {"destination_workload": "bare", "destination_principal": "unknown"}
    assert edges(Sidecar(FRONTEND, [Sample("istio_requests_total", bare, 4)])) == (
        edge(destination_workload="bare", destination_port=80, seen_by=SeenBy.CLIENT, count=4, plaintext=4),
    )


def test_what_reached_no_server_is_told_by_the_client_and_was_neither_plaintext_nor_mutual_tls() -> None:
    lost = SENT | {"response_code": "503", "response_flags": "UF,URX", "destination_principal": "unknown"}
    nowhere = lost | {"destination_workload": "unknown", "destination_workload_namespace": "unknown"}
    nowhere |= {"response_flags": "UH", "destination_service_namespace": "shop"}
    found = edges(
        Sidecar(FRONTEND, [Sample("istio_requests_total", lost, 3), Sample("istio_requests_total", nowhere, 2)])
    )
    assert found == (
        edge(destination_workload="", destination_port=80, seen_by=SeenBy.CLIENT, count=2, errors=2),
        edge(destination_port=80, seen_by=SeenBy.CLIENT, count=3, errors=3),
    )


def test_connections_count_while_they_are_open_and_after() -> None:
    tcp = SECURE | {"request_protocol": "tcp", "source_workload": "unknown", "destination_port": "9000"}
    opened, closed = "istio_tcp_connections_opened_total", "istio_tcp_connections_closed_total"
    server = Sidecar(
        BACKEND,
        [Sample(opened, tcp, 5), Sample(closed, tcp, 2), Sample(closed, tcp | {"response_flags": "UF"}, 1)],
    )
    expected = edge(destination_port=9000, protocol="tcp", unit=Unit.CONNECTIONS)
    assert edges(server) == (msgspec.structs.replace(expected, count=5, mutual_tls=5, errors=1),), (
        "its account names the client: nobody else runs as it"
    )


def test_a_connection_that_a_policy_denied_is_its_client_s() -> None:
    tcp = PLAIN | {"request_protocol": "tcp", "destination_port": "9000"}
    denied = {"source_address": "10.0.0.9", "destination_service": HOST, "destination_port": "9000"}
    server = Sidecar(
        BACKEND,
        [
            Sample("istio_tcp_connections_closed_total", tcp, 2),
            Sample("mutua_denied_total", denied | {"request_protocol": "tcp"}, 2),
        ],
    )
    connections = {"destination_port": 9000, "protocol": "tcp", "unit": Unit.CONNECTIONS}
    assert edges(server) == (edge(**STRANGER, **connections, count=2, plaintext=2, denied=2),)


def test_who_is_refused_is_an_edge_from_the_ledger() -> None:
    refused = PlaintextSeen("lab/stranger-1", "shop/backend-1", 8080, True, 4, "the client has no sidecar")
    outside = PlaintextSeen("192.0.2.1", "shop/backend-1", 8080, True, 1, "the client is no pod")
    gone = PlaintextSeen("lab/gone-1", "shop/backend-1", 8080, True, 1, "the client has no sidecar")
    accepted = PlaintextSeen("lab/stranger-1", "shop/backend-1", 8080, False, 9, "the client has no sidecar")
    same = {"destination_service": "", "protocol": "tcp", "unit": Unit.CONNECTIONS, "source_principal": ""}

    assert edges(ledger=(refused, outside, gone, accepted)) == (
        edge(**same, source_namespace="", source_workload="", source_address="192.0.2.1", refused=1),
        edge(**same, source_namespace="lab", source_workload="gone-1", refused=1),
        edge(**same, source_namespace="lab", source_workload="stranger", refused=4),
    )


def test_a_sidecar_cannot_count_for_another() -> None:
    lie = SECURE | {"destination_workload": "payments", "source_principal": "not an identity"}
    liar = Sidecar(Name("lab", "liar"), [Sample("istio_requests_total", lie | {"destination_port": "99999999"}, 1)])
    (found,) = edges(liar)
    assert (found.destination_namespace, found.destination_workload) == ("lab", "liar")
    assert (found.source_namespace, found.source_workload, found.destination_port) == ("", "", 0)

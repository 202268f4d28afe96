"""What real Envoys count of requests and connections, and under which labels."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import envoy_views as views
import msgspec
import pytest
import pytest_asyncio
from envoy_pods import Mesh, Pod, can_make_networks, mesh

from mutua.mesh.proxy_view import AuthorizationAction, EffectivePolicy, MtlsMode, Operation, Rule
from mutua.reports.exposition import Sample, samples

pytestmark = [
    pytest.mark.envoy,
    pytest.mark.linux,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(not can_make_networks(), reason="network namespaces need root"),
]

REQUESTS, DURATION = "istio_requests_total", "istio_request_duration_milliseconds"
STRANGER_ADDRESS = "10.9.0.3"
VIA_NAMED = ("--connect-to", f"named:80:{views.NAMED}:80")
NO_ADMIN = EffectivePolicy(
    namespace="shop",
    name="no-admin",
    action=AuthorizationAction.DENY,
    rules=(
        Rule(operations=(Operation(ports=("8080",), paths=("/admin",)),)),
        Rule(operations=(Operation(ports=("9001",)),)),
    ),
)
PEER_NAMES = ("workload", "workload_namespace", "app", "canonical_service", "principal")
BYTES = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), 5) as client:
    client.sendall(b"these are not http\\r\\n")
    print(client.recv(100))
"""
GRPC = """
import grpc, sys
with grpc.insecure_channel(sys.argv[1]) as channel:
    print(channel.unary_unary("/any.Service/Method")(b"hello", timeout=5))
"""


class Shop:
    """A backend that takes both kinds of connection, a client with a sidecar, and a stranger without."""

    def __init__(self, mesh: Mesh, backend: Pod, frontend: Pod, stranger: Pod) -> None:
        self.mesh, self.backend, self.frontend, self.stranger = mesh, backend, frontend, stranger


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def shop(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shop]:
    directory: Path = tmp_path_factory.mktemp("shop")
    async with mesh(directory) as made:
        accepts = views.server(MtlsMode.PERMISSIVE, (NO_ADMIN,))
        backend = await made.pod("backend", views.BACKEND_ADDRESS, accepts, account="backend")
        frontend = await made.pod("frontend", views.FRONTEND_ADDRESS, views.client(), account="frontend")
        stranger = await made.pod("stranger", STRANGER_ADDRESS, None)
        yield Shop(made, backend, frontend, stranger)


async def read(pod: Pod, page: str = "/stats/traffic") -> list[Sample]:
    """What the sidecar has counted."""
    answer = await pod.curl(f"http://127.0.0.1:15090{page}")
    assert answer.status == 200, answer
    return list(samples(answer.body.encode("utf-8", "surrogateescape"), pod.names))


async def counted(pod: Pod, name: str, /, **labels: str) -> float:
    """The sum of a metric's series that have these labels."""
    found = await read(pod, "/stats/prometheus" if name.startswith(DURATION) else "/stats/traffic")
    return sum(each.value for each in found if each.name == name and labels.items() <= each.labels.items())


async def until_counted(pod: Pod, name: str, /, **labels: str) -> float:
    """The same, once there is one: Envoy counts after it has answered."""
    async with asyncio.timeout(10):
        while True:
            if found := await counted(pod, name, **labels):
                return found
            await asyncio.sleep(0.05)


async def test_both_sides_count_each_request_under_the_names_of_both(shop: Shop) -> None:
    for _ in range(7):
        answer = await shop.frontend.curl("http://named/x", *VIA_NAMED, "-H", "x-mutua-peer: liar")
        assert answer.status == 200
        assert "x-mutua" not in answer.text, "the application sees what sidecars tell each other"

    names = {
        **{f"source_{name}": "frontend" for name in PEER_NAMES},
        **{f"destination_{name}": "backend" for name in PEER_NAMES},
        "source_workload_namespace": "shop",
        "destination_workload_namespace": "shop",
        "source_principal": views.FRONTEND,
        "destination_principal": views.BACKEND,
        "destination_service": views.host("named"),
        "destination_service_name": "named",
        "destination_service_namespace": "shop",
        "request_protocol": "http",
        "response_code": "200",
        "response_flags": "-",
        "grpc_response_status": "",
    }
    server = names | {"reporter": "destination", "destination_port": "8080", "connection_security_policy": "mutual_tls"}
    # The endpoints of these views have no labels: no app, and the workload's name for the canonical service.
    client = names | {"reporter": "source", "destination_port": "80", "connection_security_policy": "unknown"}
    client["destination_app"] = "unknown"
    for pod, labels in ((shop.backend, server), (shop.frontend, client)):
        assert await counted(pod, REQUESTS, **labels) == 7
        # Histograms are brought up to date when somebody asks, for the next who does.
        assert await until_counted(pod, f"{DURATION}_count", **labels) == 7
    assert await counted(shop.backend, "mutua_request_microseconds_total", source_workload="frontend") > 7


async def test_who_speaks_plaintext_has_no_name_but_an_address(shop: Shop) -> None:
    for _ in range(3):
        answer = await shop.stranger.curl(f"http://{views.BACKEND_ADDRESS}:8080/plain", "-H", "x-mutua-peer: frontend")
        assert answer.status == 200
        assert "x-mutua" not in answer.text

    unknown = {f"source_{name}": "unknown" for name in PEER_NAMES}
    assert await counted(shop.backend, REQUESTS, connection_security_policy="none", **unknown) == 3
    assert await counted(shop.backend, REQUESTS, connection_security_policy="none", source_workload="frontend") == 0
    named = {"source_address": STRANGER_ADDRESS, "destination_port": "8080", "response_code": "200"}
    assert await counted(shop.backend, "mutua_plaintext_requests_total", **named) == 3


async def test_what_a_policy_denied_is_told_from_what_the_application_refused(shop: Shop) -> None:
    assert (await shop.frontend.curl("http://named/admin", *VIA_NAMED)).status == 403
    assert await counted(shop.backend, REQUESTS, response_code="403") == 1
    assert await counted(shop.backend, "mutua_denied_total", source_principal=views.FRONTEND) == 1

    await shop.stranger.python(BYTES, views.BACKEND_ADDRESS, "9001")
    denied = {"source_address": STRANGER_ADDRESS, "destination_port": "9001", "request_protocol": "tcp"}
    assert await until_counted(shop.backend, "mutua_denied_total", **denied) == 1


async def test_connections_are_counted_when_they_open_and_when_they_close(shop: Shop) -> None:
    raw = await shop.frontend.python(BYTES, views.NAMED, "90")
    assert raw.text == "b'echo these are not http\\r\\n'\n", raw.error

    both = {"source_principal": views.FRONTEND, "destination_principal": views.BACKEND, "request_protocol": "tcp"}
    for pod, own in (
        (shop.backend, {"reporter": "destination", "source_workload_namespace": "shop", "destination_port": "9000"}),
        (shop.frontend, {"reporter": "source", "source_workload": "frontend", "destination_port": "90"}),
    ):
        labels = both | own
        assert await until_counted(pod, "istio_tcp_connections_closed_total", **labels) == 1
        assert await counted(pod, "istio_tcp_connections_opened_total", **labels) == 1
        assert await counted(pod, "istio_tcp_received_bytes_total", **labels) == len("these are not http\r\n")
        assert await counted(pod, "istio_tcp_sent_bytes_total", **labels) == len("echo these are not http\r\n")
    lines = [line for line in shop.backend.log.splitlines() if "inbound|9000||" in line]
    assert len(lines) == 1, "a connection is one line of the access log"


async def test_grpc_is_told_from_http(shop: Shop) -> None:
    answer = await shop.frontend.python(GRPC, f"{views.NAMED}:9090")
    assert answer.text == "b'hello'\n", answer.error
    labels = {"request_protocol": "grpc", "grpc_response_status": "0", "destination_port": "9090"}
    assert await counted(shop.backend, REQUESTS, **labels) == 1


async def test_names_that_a_request_asks_for_make_no_series(shop: Shop) -> None:
    for number in range(20):
        await shop.frontend.curl(f"http://elsewhere-{number}.example/", "--connect-to", f"::{views.NAMED}:80")
    found = [each for each in await read(shop.frontend) if each.labels.get("destination_service") == "unknown"]
    assert [each.labels["destination_service_name"] for each in found if each.name == REQUESTS] == [
        "PassthroughCluster"
    ]


async def test_a_peer_s_words_cannot_break_the_page(shop: Shop) -> None:
    """Who has a certificate can speak to the server without a sidecar's help, and call itself what it likes."""
    hostile = b'a"b\\c\xff{}<script>' + b"x" * 100 + b";payments;"
    (shop.mesh.directory / "chain.pem").write_bytes(shop.frontend.certificate.chain)
    (shop.mesh.directory / "key.pem").write_bytes(shop.frontend.certificate.key)
    program = f"""
import socket, ssl
context = ssl._create_unverified_context()
context.load_cert_chain("{shop.mesh.directory}/chain.pem", "{shop.mesh.directory}/key.pem")
context.set_alpn_protocols(["istio-http/1.1"])
with context.wrap_socket(socket.create_connection(("{views.BACKEND_ADDRESS}", 8080)), server_hostname="x") as client:
    client.sendall(b"GET /hostile HTTP/1.1\\r\\nhost: x\\r\\nx-mutua-peer: " + {hostile!r} + b"\\r\\n\\r\\n")
    print(client.recv(1000).split()[1].decode())
"""
    answer = await shop.stranger.python(program)
    assert answer.text == "200\n", answer.error

    found = [each.labels["source_workload"] for each in await read(shop.backend) if each.name == REQUESTS]
    assert [name for name in found if name.startswith('a"b\\c')] == [hostile[:63].decode("utf-8", "replace")]


async def test_what_is_turned_off_counts_nothing(shop: Shop) -> None:
    off = msgspec.structs.replace(views.MESH, telemetry=False)
    quiet = views.server(MtlsMode.PERMISSIVE, (), mesh=off)
    await shop.mesh.update(shop.backend, quiet)
    before = await counted(shop.backend, REQUESTS)
    answer = await shop.stranger.curl(f"http://{views.BACKEND_ADDRESS}:8080/quiet")
    assert answer.status == 200
    assert await counted(shop.backend, REQUESTS) <= before

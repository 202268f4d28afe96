"""What real Envoys do with what they are told: every protocol, every mode, from both ends."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import envoy_views as views
import msgspec
import pytest
import pytest_asyncio
from envoy_pods import Mesh, Pod, can_make_networks, mesh

from mutua.api.networking import (
    ConnectionPool,
    ConsistentHash,
    HttpCookie,
    HttpSettings,
    Maglev,
    OutlierDetection,
    TcpKeepalive,
    TcpSettings,
)
from mutua.mesh.proxy_view import (
    AuthorizationAction,
    ClientTls,
    ClientTlsMode,
    EffectivePolicy,
    MeshView,
    MtlsMode,
    Operation,
    Rule,
    Source,
    TrafficSettings,
)
from mutua.xds.sync_state import SyncState

pytestmark = [
    pytest.mark.envoy,
    pytest.mark.linux,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(not can_make_networks(), reason="network namespaces need root"),
]

GRPC = """
import grpc, sys
with grpc.insecure_channel(sys.argv[1]) as channel:
    print(channel.unary_unary("/any.Service/Method")(b"hello", timeout=5))
"""
BYTES = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), 5) as client:
    client.sendall(b"these are not http\\r\\n")
    print(client.recv(100))
"""


LISTENING = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), 5) as client:
    print(client.recv(100))
"""


ONE_CONNECTION = """
import http.client, sys, time
client = http.client.HTTPConnection(sys.argv[1], 8080, timeout=5)
client.connect()
client.auto_open = 0  # a second connection would be an error
seen = []
while seen[-2:] != [403, 200] and len(seen) < 5:
    client.request("GET", "/")
    answer = client.getresponse()
    answer.read()
    if seen[-1:] != [answer.status]:
        seen.append(answer.status)
        print(answer.status, flush=True)
    time.sleep(0.005)
"""


class Shop:
    """A backend, a frontend with a sidecar, and a stranger without."""

    def __init__(self, mesh: Mesh, backend: Pod, frontend: Pod, stranger: Pod) -> None:
        self.mesh, self.backend, self.frontend, self.stranger = mesh, backend, frontend, stranger

    async def backend_accepts(self, mode: MtlsMode, *policies: EffectivePolicy) -> None:
        """Give the backend a mode and policies, and tell its clients."""
        await self.mesh.update(self.backend, views.server(mode, policies))
        await self.mesh.update(self.frontend, views.client(mtls=mode is not MtlsMode.DISABLE))
        await self.settled()

    async def settled(self) -> None:
        """Use up the connection that is still open to the backend: it lives on until its next answer."""
        await self.frontend.curl("http://named/settle", *_via(views.NAMED))


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def shop(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shop]:
    directory: Path = tmp_path_factory.mktemp("shop")
    async with mesh(directory) as made:
        backend = await made.pod("backend", views.BACKEND_ADDRESS, views.server(MtlsMode.STRICT), account="backend")
        frontend = await made.pod("frontend", views.FRONTEND_ADDRESS, views.client(), account="frontend")
        stranger = await made.pod("stranger", "10.9.0.3", None)
        yield Shop(made, backend, frontend, stranger)


@pytest.mark.parametrize("mode", [MtlsMode.STRICT, MtlsMode.PERMISSIVE, MtlsMode.DISABLE])
@pytest.mark.parametrize("address", [views.NAMED, views.UNNAMED])
async def test_every_protocol_arrives_in_every_mode(shop: Shop, mode: MtlsMode, address: str) -> None:
    await shop.backend_accepts(mode)

    http = await shop.frontend.curl("http://named/x" if address == views.NAMED else "http://unnamed/x", *_via(address))
    grpc = await shop.frontend.python(GRPC, f"{address}:9090")
    raw = await shop.frontend.python(BYTES, address, "90")

    assert http.status == 200, http
    assert ("URI=" + views.FRONTEND in http.text) == (mode is not MtlsMode.DISABLE)
    assert grpc.text == "b'hello'\n", grpc.error
    assert raw.text == "b'echo these are not http\\r\\n'\n", raw.error


@pytest.mark.parametrize("port", [8080, 8081, 9000, 9090, 1234])
async def test_plaintext_to_a_strict_port_is_closed_without_an_answer(shop: Shop, port: int) -> None:
    await shop.backend_accepts(MtlsMode.STRICT)

    answer = await shop.stranger.curl(f"http://{views.BACKEND_ADDRESS}:{port}/")

    assert answer.exit_code in (52, 56), answer  # empty reply, or reset
    assert answer.text == ""


async def test_plaintext_to_a_permissive_port_is_served_and_has_no_identity(shop: Shop) -> None:
    await shop.backend_accepts(MtlsMode.PERMISSIVE)

    forged = ("-H", f"x-forwarded-client-cert: By=x;URI={views.FRONTEND}", "-H", "x-envoy-original-path: /public")
    answer = await shop.stranger.curl(f"http://{views.BACKEND_ADDRESS}:8080/x", *forged)

    assert answer.status == 200
    assert "x-forwarded-client-cert" not in answer.body
    assert "x-envoy-original-path" not in answer.body


@pytest.mark.parametrize("mtls", [True, False])
async def test_an_endpoint_s_mode_moves_endpoints_and_no_cluster(shop: Shop, mtls: bool) -> None:
    await shop.backend_accepts(MtlsMode.PERMISSIVE)
    before = await shop.frontend.admin("/config_dump?resource=dynamic_active_clusters")

    await shop.mesh.update(shop.frontend, views.client(mtls=mtls))
    seen = shop.backend.log.count("chain=0.0.0.0_9000")
    answer = await shop.frontend.python(BYTES, views.NAMED, "90")

    assert answer.text.startswith("b'echo"), answer.error
    line = await shop.backend.logged("chain=0.0.0.0_9000", more_than=seen)
    assert (f"peer={views.FRONTEND}" in line) == mtls
    assert before == await shop.frontend.admin("/config_dump?resource=dynamic_active_clusters")


async def test_a_destination_rule_decides_over_what_the_endpoint_can(shop: Shop) -> None:
    await shop.backend_accepts(MtlsMode.PERMISSIVE)
    await shop.mesh.update(shop.frontend, views.client(ClientTls(mode=ClientTlsMode.DISABLE)))
    plain = await shop.frontend.curl("http://named/x", *_via(views.NAMED))
    await shop.mesh.update(shop.frontend, views.client(ClientTls(mode=ClientTlsMode.ISTIO_MUTUAL), mtls=False))
    mutual = await shop.frontend.curl("http://named/x", *_via(views.NAMED))

    assert (plain.status, views.FRONTEND in plain.body) == (200, False)
    assert (mutual.status, views.FRONTEND in mutual.body) == (200, True)


async def test_a_server_with_another_identity_is_not_believed(shop: Shop) -> None:
    await shop.backend_accepts(MtlsMode.STRICT)
    view = views.client()
    impostor = views.outbound(identities=("spiffe://cluster.local/ns/shop/sa/somebody-else",))
    await shop.mesh.update(shop.frontend, type(view)(view.mesh, view.inbound, impostor, view.endpoints))

    answer = await shop.frontend.curl("http://named/x", *_via(views.NAMED))

    assert answer.status == 503
    assert "somebody-else" not in answer.text
    assert "outbound|80||named" in await shop.frontend.logged("CERTIFICATE_VERIFY_FAILED")


async def test_a_missing_certificate_refuses_traffic_instead_of_sending_it_in_plaintext(shop: Shop) -> None:
    await shop.backend_accepts(MtlsMode.PERMISSIVE)
    await shop.mesh.update(shop.frontend, views.client(ClientTls(mode=ClientTlsMode.MUTUAL)))

    answer = await shop.frontend.curl("http://named/x", *_via(views.NAMED))

    assert answer.status == 503


async def test_one_pod_of_a_headless_service_is_reached_by_its_address(shop: Shop) -> None:
    await shop.backend_accepts(MtlsMode.STRICT)

    http = await shop.frontend.curl("http://backend-0.headless:8080/x", *_via(views.BACKEND_ADDRESS, 8080))
    raw = await shop.frontend.python(BYTES, views.BACKEND_ADDRESS, "9000")

    assert http.status == 200
    assert views.FRONTEND in http.body
    assert raw.text.startswith("b'echo")


async def test_unknown_destinations_pass_or_not_as_the_mesh_says(shop: Shop) -> None:
    url = "http://10.9.0.3:8080/x"
    await shop.mesh.update(shop.frontend, views.client())
    allowed = await shop.frontend.curl(url)
    closed = MeshView(access_log_file="/dev/stdout", upstream_mark=1337, outbound_allow_any=False)
    await shop.mesh.update(shop.frontend, views.client(mesh=closed))
    refused = await shop.frontend.curl(url)

    assert allowed.status == 200
    assert refused.status == 0 or refused.status == 502


async def test_a_policy_allows_and_refuses_and_the_log_names_it(shop: Shop) -> None:
    policy = EffectivePolicy(
        namespace="shop",
        name="backend-access",
        action=AuthorizationAction.ALLOW,
        rules=(
            Rule(
                sources=(Source(principals=("cluster.local/ns/shop/sa/frontend",)),),
                operations=(Operation(methods=("GET", "POST"), paths=("/api/*",)),),
            ),
        ),
    )
    await shop.backend_accepts(MtlsMode.STRICT, policy)

    async def ask(path: str, method: str) -> int:
        return (await shop.frontend.curl(f"http://named{path}", "-X", method, *_via(views.NAMED))).status

    assert [await ask("/api/x", "GET"), await ask("/api/x", "DELETE"), await ask("/other", "GET")] == [200, 403, 403]
    raw = await shop.frontend.python(BYTES, views.NAMED, "90")
    assert "echo" not in raw.text  # what only requests can have, a connection has not
    await shop.backend.logged("rbac_access_denied_matched_policy[none]")


async def test_the_log_says_what_policies_found_that_decide_nothing(shop: Shop) -> None:
    tried = (Rule(operations=(Operation(paths=("/tried",)),)),)
    policies = (
        EffectivePolicy("shop", "deny", AuthorizationAction.DENY, tried, dry_run=True),
        EffectivePolicy("shop", "allow", AuthorizationAction.ALLOW, tried, dry_run=True),
        EffectivePolicy("shop", "watch", AuthorizationAction.AUDIT, tried),
    )
    await shop.backend_accepts(MtlsMode.STRICT, *policies)

    answers = [await shop.frontend.curl(f"http://named/{path}", *_via(views.NAMED)) for path in ("tried", "others")]
    found, nothing = [await shop.backend.logged(f'"GET /{path} ') for path in ("tried", "others")]

    assert [each.status for each in answers] == [200, 200]
    assert "dry_run_deny_policy=ns[shop]-policy[deny]-rule[0]" in found
    assert "dry_run_allow_result=allowed audited=true" in found
    assert "dry_run_deny_policy=- dry_run_allow_result=denied audited=false" in nothing


async def test_a_policy_holds_for_the_next_request_on_an_open_connection(shop: Shop) -> None:
    deny = EffectivePolicy("shop", "nobody", AuthorizationAction.DENY, (Rule(),))
    await shop.backend_accepts(MtlsMode.PERMISSIVE)
    asking = asyncio.create_task(shop.stranger.python(ONE_CONNECTION, views.BACKEND_ADDRESS))
    await shop.mesh.update(shop.backend, views.server(MtlsMode.PERMISSIVE, (deny,)))
    await shop.backend.logged("rbac_access_denied_matched_policy[ns[shop]-policy[nobody]-rule[0]]")
    await shop.mesh.update(shop.backend, views.server(MtlsMode.PERMISSIVE))

    answer = await asking

    assert answer.text.split()[-2:] == ["403", "200"], answer.error


async def test_limits_and_choice_of_endpoints_are_what_envoy_takes(shop: Shop) -> None:
    await shop.backend_accepts(MtlsMode.STRICT)
    cookie = HttpCookie("session", "/", "0s")
    tcp = TcpSettings(7, "2s", TcpKeepalive(3, "10s", "5s"), "60s")
    http = HttpSettings(5, 6, 9, 2, "30s", max_concurrent_streams=11)
    outliers = OutlierDetection(consecutive_5xx_errors=3, interval="1s", max_ejection_percent=100)
    for hashing in (None, ConsistentHash(http_cookie=cookie), ConsistentHash(use_source_ip=True, maglev=Maglev(101))):
        settings = TrafficSettings(None, hashing, ConnectionPool(tcp, http), outliers)
        view = views.client()
        services = tuple(
            msgspec.structs.replace(
                service, ports=tuple(msgspec.structs.replace(port, traffic=settings) for port in service.ports)
            )
            for service in view.outbound.services
        )
        outbound = msgspec.structs.replace(view.outbound, services=services)
        status = await shop.mesh.update(shop.frontend, msgspec.structs.replace(view, outbound=outbound))

        assert status.synced, status
        answer = await shop.frontend.curl("http://named/x", *_via(views.NAMED))
        raw = await shop.frontend.python(BYTES, views.NAMED, "90")
        assert (answer.status, "echo" in raw.text) == (200, True)
        assert ("set-cookie: session=" in answer.text) == (hashing is not None and hashing.http_cookie is not None)
    await shop.mesh.update(shop.frontend, views.client())


async def test_the_server_s_log_tells_who_called_and_how(shop: Shop) -> None:
    await shop.backend_accepts(MtlsMode.STRICT)

    await shop.frontend.curl("http://named/who", *_via(views.NAMED))

    line = await shop.backend.logged("/who")
    assert f"peer={views.FRONTEND} tls=TLSv1.3 cipher=TLS_AES_" in line
    assert "group=X25519MLKEM768" in line
    serial = f"{shop.frontend.certificate.serial:x}"
    assert f"serial={serial.zfill(len(serial) + len(serial) % 2)}" in line
    assert "chain=0.0.0.0_8080" in line


async def test_the_server_s_log_tells_why_a_connection_was_refused(shop: Shop) -> None:
    await shop.backend_accepts(MtlsMode.STRICT)
    await shop.stranger.curl(f"http://{views.BACKEND_ADDRESS}:8080/")
    await shop.stranger.curl(f"https://{views.BACKEND_ADDRESS}:8080/", "-k")

    assert "10.9.0.3" in await shop.backend.logged("filter_chain_not_found")
    assert "10.9.0.3" in await shop.backend.logged("PEER_DID_NOT_RETURN_A_CERTIFICATE")


async def test_a_served_plaintext_connection_is_not_logged_as_refused(shop: Shop) -> None:
    await shop.backend_accepts(MtlsMode.PERMISSIVE)

    answer = await shop.stranger.curl(f"http://{views.BACKEND_ADDRESS}:8080/served")
    raw = await shop.stranger.python(BYTES, views.BACKEND_ADDRESS, "9000")
    await shop.stranger.curl(f"https://{views.BACKEND_ADDRESS}:8080/", "-k")  # whose refusal is logged behind them

    assert (answer.status, "echo" in raw.text) == (200, True)
    served = (await shop.backend.logged("/served")).split(" 10.9.0.2:8080 10.9.0.3:")[1].split(" ")[0]
    await shop.backend.logged("filter_chain_not_found")
    assert len([line for line in shop.backend.log.splitlines() if f"10.9.0.3:{served} " in line]) == 1


@pytest.mark.parametrize("mode", [MtlsMode.PERMISSIVE, MtlsMode.DISABLE])
async def test_a_server_that_speaks_first_is_heard_by_a_client_without_sidecar(shop: Shop, mode: MtlsMode) -> None:
    hasty = MeshView(access_log_file="/dev/stdout", upstream_mark=1337, protocol_detection_timeout_ms=100)
    await shop.mesh.update(shop.backend, views.server(mode, mesh=hasty))

    declared = await shop.stranger.python(LISTENING, views.BACKEND_ADDRESS, "9001")
    detected = await shop.stranger.python(LISTENING, views.BACKEND_ADDRESS, "9002")

    assert (declared.text, detected.text) == ("b'welcome'\n", "b'welcome'\n")


async def test_a_refused_resource_leaves_the_others_in_place_and_says_why(shop: Shop) -> None:
    await shop.backend_accepts(MtlsMode.STRICT)
    broken = MeshView(access_log_file="/dev/stdout", upstream_mark=1337, ecdh_curves=("no-such-curve",))
    status = await shop.mesh.update(shop.backend, views.server(MtlsMode.PERMISSIVE, mesh=broken))

    listeners = next(each for each in status.types if each.type == "LDS")
    assert listeners.state is SyncState.ERROR
    assert [name for name, words in listeners.rejected] == ["virtualInbound"]
    assert "no-such-curve" in listeners.rejected[0][1]
    refused = await shop.stranger.curl(f"http://{views.BACKEND_ADDRESS}:8080/")
    assert refused.status == 0  # still STRICT

    await shop.backend_accepts(MtlsMode.STRICT)
    healed = shop.mesh.status(shop.backend)
    assert healed is not None and healed.synced


async def test_traffic_outlives_the_control_plane_and_a_new_one_repeats_nothing(shop: Shop) -> None:
    await shop.backend_accepts(MtlsMode.STRICT)
    before = (await shop.frontend.admin("/stats?filter=update_success&format=json"))["stats"]

    await shop.mesh.restart_discovery()
    answer = await shop.frontend.curl("http://named/x", *_via(views.NAMED))
    await shop.mesh.until(
        lambda: all(each.synced for each in shop.mesh.xds.status()) and len(shop.mesh.xds.status()) == 2
    )

    assert answer.status == 200
    assert (await shop.frontend.admin("/stats?filter=update_success&format=json"))["stats"] == before


def _via(address: str, port: int = 80) -> tuple[str, ...]:
    """Options that make curl dial `address`, as if it had asked a DNS server."""
    return ("--connect-to", f"::{address}:{port}")

"""Hosts outside the mesh and workloads outside of pods, dialled by a real Envoy: by host, by address, by handshake."""

import asyncio
from collections.abc import AsyncIterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_asyncio
from cryptography import x509
from envoy_pods import Mesh, Pod, can_make_networks, mesh
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fakes.issuing_authority import Authority, Issued
from mutua.api import decode
from mutua.api.kinds import AnyObject
from mutua.mesh import build, view
from mutua.mesh.objects import ObjectSet
from mutua.mesh.proxy_view import ProxyView
from mutua.secret import Secret
from mutua.servers.named_secrets import NamedSecretService
from mutua.sources.credentials import Credentials, Followed
from mutua.spiffe import SpiffeId
from mutua.system.kube import KubeClient
from mutua.xds.node import Node

pytestmark = [
    pytest.mark.envoy,
    pytest.mark.linux,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(not can_make_networks(), reason="network namespaces need root"),
]

CLIENT, MACHINE, OUTSIDE = "10.9.0.1", "10.9.0.2", "10.9.0.3"
SECURE_PORT, MUTUAL_PORT = 8443, 9443

TLS_SERVER = """
import http.server, ssl, sys, threading
class Mirror(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        peer = self.connection.getpeercert() or {}
        names = " ".join(value for _, value in peer.get("subjectAltName", ()))
        body = f"sni={self.connection.asked} host={self.headers['host']} client={names}".encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
def serve(port, demand):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain("server.pem")
    if demand:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations("root.pem")
    def asked(connection, name, _):
        connection.asked = name
    context.sni_callback = asked
    server = http.server.ThreadingHTTPServer(("0.0.0.0", port), Mirror)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever).start()
import os
os.chdir(sys.argv[1])
serve(8443, False)
serve(9443, True)
"""

BYTES = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), 5) as client:
    client.sendall(b"bytes\\r\\n")
    print(client.recv(100))
"""
LISTENING = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), 5) as client:
    print(client.recv(100))
"""


class Held(Credentials):
    """Secrets of the test's own in the place of a cluster's."""

    def __init__(self) -> None:
        self.secrets: dict[str, dict[str, Secret]] = {}
        self.changed = asyncio.Event()
        super().__init__(cast(KubeClient, None), "")

    def put(self, name: str, **data: bytes) -> None:
        """The secret from now on."""
        self.secrets[name] = {key: Secret(value) for key, value in data.items()}
        self.changed.set()

    async def _keep(self, followed: Followed) -> None:
        while True:
            found = self.secrets.get(followed.name)
            followed.take(found, "" if found else "there is no such secret")
            await self.changed.wait()
            await asyncio.sleep(0.01)
            self.changed.clear()


class World:
    """A client with a sidecar, a machine with one that no pod stands for, and a server outside that speaks TLS."""

    def __init__(
        self, mesh: Mesh, client: Pod, outside: Pod, held: Held, authority: Authority, server_serial: int
    ) -> None:
        self.mesh, self.client, self.outside, self.held, self.authority = mesh, client, outside, held, authority
        self.server_serial = server_serial

    async def are(self, *objects: AnyObject, **mesh_config: Any) -> None:
        """From now on these objects are all that there is."""
        status = await self.mesh.update(self.client, told(*objects, **mesh_config))
        assert status.synced, status

    @property
    def refused(self) -> int:
        """How often the client did not believe a server until now."""
        return sum("CERTIFICATE_VERIFY_FAILED" in line for line in self.client.log.splitlines())

    async def ask(self, url: str, address: str, port: int = 80, *options: str) -> tuple[int, str]:
        """Status and body of a request to `url`, for whose host a resolver answered `address`."""
        answer = await self.client.curl(url, "--connect-to", f"::{address}:{port}", *options)
        return answer.status, answer.body if answer.status else answer.error


def kube_service(name: str, number: int) -> AnyObject:
    spec = {"clusterIP": "10.96.0.1", "selector": {"app": name}, "ports": [{"name": "http", "port": number}]}
    made = {"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "shop", "name": name}, "spec": spec}
    decoded = decode.any_from_mapping(made)
    assert decoded.value is not None
    return decoded.value


def read(kind: str, name: str, spec: dict[str, Any]) -> AnyObject:
    group = "security.istio.io" if kind == "PeerAuthentication" else "networking.istio.io"
    metadata = {"namespace": "shop", "name": name}
    decoded = decode.any_from_mapping({"apiVersion": f"{group}/v1", "kind": kind, "metadata": metadata, "spec": spec})
    assert decoded.value is not None and not decoded.findings, decoded.findings
    return decoded.value


SOME_SERVICE = kube_service("some", 7777)
"""So that every sidecar asks for every type of resource."""


def entry(hosts: str, *ports: tuple[int, str] | tuple[int, str, int], **spec: Any) -> AnyObject:
    listed = [
        {"number": number, "name": f"p{number}", "protocol": protocol} | ({"targetPort": target[0]} if target else {})
        for number, protocol, *target in ports
    ]
    return read("ServiceEntry", hosts.strip("*."), {"hosts": [hosts], "ports": listed, **spec})


def rule(host: str, **tls: Any) -> AnyObject:
    return read("DestinationRule", host.strip("*."), {"host": host, "trafficPolicy": {"tls": tls}})


def told(*objects: AnyObject, **mesh_config: Any) -> ProxyView:
    config, findings = decode.mesh_config({"accessLogFile": "/dev/stdout", **mesh_config})
    assert not findings
    made = build.snapshot(ObjectSet.of((SOME_SERVICE, *objects)), config, upstream_mark=1337)
    return view.for_proxy(made, view.Proxy("shop", "client", CLIENT, labels={"app": "client"}))


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    directory: Path = tmp_path_factory.mktemp("outside")
    authority = Authority("authority of the outside")
    held = Held()

    async def may_read(_: SpiffeId, name: str) -> bool:
        return name != "forbidden"

    def uses(_node: Node, _identity: SpiffeId) -> frozenset[str]:
        return frozenset({"api", "other", "forbidden", "revoked", "current"})

    async with mesh(directory, NamedSecretService(uses, may_read, held)) as made:
        strict = told(
            read("PeerAuthentication", "default", {"mtls": {"mode": "STRICT"}}),
        )
        await made.pod("machine", MACHINE, strict, account="machine")
        outside = await made.pod("outside", OUTSIDE, None)
        server = authority.issue(x509.DNSName("api.example.com"), x509.IPAddress(ip_address(OUTSIDE)))
        keep(outside.directory, server, authority)
        outside.start("python3", "-c", TLS_SERVER, str(outside.directory))
        client = await made.pod("client", CLIENT, told())
        keep(client.directory, authority.issue(x509.DNSName("the-client")), authority)
        yield World(made, client, outside, held, authority, server.serial)


def keep(directory: Path, issued: Issued, authority: Authority) -> None:
    (directory / "server.pem").write_bytes(issued.chain + issued.key)
    (directory / "chain.pem").write_bytes(issued.chain)
    (directory / "key.pem").write_bytes(issued.key)
    (directory / "root.pem").write_bytes(authority.root)


def static(address: str, **more: Any) -> dict[str, Any]:
    return {"resolution": "STATIC", "endpoints": [{"address": address, **more}]}


async def test_requests_go_where_the_entry_says_whatever_address_they_were_sent_to(world: World) -> None:
    await world.are(entry("api.example.com", (80, "HTTP", 8080), **static(OUTSIDE)))
    assert (await world.ask("http://api.example.com/x", "240.0.0.7"))[0] == 200
    assert (await world.ask("http://api.example.com:80/x", "240.0.0.7"))[0] == 200
    status, _ = await world.ask("http://other.example.com/x", "240.0.0.7")  # an address that nobody has
    assert status in (0, 503)


async def test_plain_requests_become_tls_that_is_verified(world: World) -> None:
    files = world.client.directory
    api = entry("api.example.com", (80, "HTTP", SECURE_PORT), **static(OUTSIDE))
    trusted = rule("api.example.com", mode="SIMPLE", caCertificates=str(files / "root.pem"))
    await world.are(api, trusted)
    assert await world.ask("http://api.example.com/", "240.0.0.7") == (
        200,
        "sni=api.example.com host=api.example.com client=",
    )
    # The system knows nothing of this authority.
    refused = world.refused
    await world.are(api, rule("api.example.com", mode="SIMPLE"))
    status, body = await world.ask("http://api.example.com/", "240.0.0.7")
    assert status == 503, body
    await world.client.logged("CERTIFICATE_VERIFY_FAILED", more_than=refused)
    await world.are(api, rule("api.example.com", mode="SIMPLE", insecureSkipVerify=True))
    assert (await world.ask("http://api.example.com/", "240.0.0.7"))[0] == 200


async def test_a_server_with_another_name_is_refused(world: World) -> None:
    root, refused = str(world.client.directory / "root.pem"), world.refused
    other = entry("other.example.com", (80, "HTTP", SECURE_PORT), **static(OUTSIDE))
    await world.are(other, rule("other.example.com", mode="SIMPLE", caCertificates=root))
    status, body = await world.ask("http://other.example.com/", "240.0.0.7")
    assert status == 503, body
    await world.client.logged("CERTIFICATE_VERIFY_FAILED", more_than=refused)
    named = entry(
        "other.example.com", (80, "HTTP", SECURE_PORT), subjectAltNames=["api.example.com"], **static(OUTSIDE)
    )
    await world.are(named, rule("other.example.com", mode="SIMPLE", caCertificates=root))
    assert (await world.ask("http://other.example.com/", "240.0.0.7"))[0] == 200
    await world.are(
        named, rule("other.example.com", mode="SIMPLE", caCertificates=root, subjectAltNames=["wrong.example.com"])
    )
    assert (await world.ask("http://other.example.com/", "240.0.0.7"))[0] == 503


async def test_the_client_shows_its_own_certificate_and_its_own_server_name(world: World) -> None:
    files = world.client.directory
    mutual = rule(
        "api.example.com",
        mode="MUTUAL",
        sni="secret.example.com",
        subjectAltNames=["api.example.com"],
        clientCertificate=str(files / "chain.pem"),
        privateKey=str(files / "key.pem"),
        caCertificates=str(files / "root.pem"),
    )
    await world.are(entry("api.example.com", (80, "HTTP", MUTUAL_PORT), **static(OUTSIDE)), mutual)
    assert await world.ask("http://api.example.com/", "240.0.0.7") == (
        200,
        "sni=secret.example.com host=api.example.com client=the-client",
    )


async def test_handshakes_are_told_apart_by_their_server_name(world: World) -> None:
    root = str(world.client.directory / "root.pem")
    api = entry("api.example.com", (443, "TLS", SECURE_PORT), **static(OUTSIDE))
    await world.are(api, outboundTrafficPolicy={"mode": "REGISTRY_ONLY"})
    status, body = await world.ask("https://api.example.com/", "240.0.0.7", 443, "--cacert", root)
    assert (status, body) == (200, "sni=api.example.com host=api.example.com client=")
    status, body = await world.ask("https://other.example.com/", "240.0.0.7", 443, "-k")
    assert status == 0
    wild = entry("*.example.com", (443, "HTTPS", SECURE_PORT))
    await world.are(wild, outboundTrafficPolicy={"mode": "REGISTRY_ONLY"})
    # Resolution NONE: where the client resolved, at the entry's own port.
    status, body = await world.ask("https://api.example.com/", OUTSIDE, 443, "--cacert", root)
    assert (status, body) == (200, "sni=api.example.com host=api.example.com client=")
    assert (await world.ask("https://example.org/", OUTSIDE, 443, "-k"))[0] == 0


async def test_connections_without_a_name_are_told_apart_by_address(world: World) -> None:
    await world.are(
        entry("one.test", (3306, "TCP", 9000), addresses=["240.1.0.1"], **static(OUTSIDE)),
        entry("two.test", (3306, "TCP", 9000), addresses=["240.2.0.0/16"], **static(OUTSIDE)),
        entry("first.test", (3307, "TCP", 9001), **static(OUTSIDE)),
        outboundTrafficPolicy={"mode": "REGISTRY_ONLY"},
    )
    for address in ("240.1.0.1", "240.2.9.9"):
        assert (await world.client.python(BYTES, address, "3306")).text == "b'echo bytes\\r\\n'\n"
    assert (await world.client.python(BYTES, "240.3.0.1", "3306")).text in ("", "b''\n")
    # A server that speaks first is heard, since nothing of the client's is waited for.
    assert (await world.client.python(LISTENING, "240.9.9.9", "3307")).text == "b'welcome'\n"


async def test_a_port_without_protocol_takes_requests_and_bytes(world: World) -> None:
    await world.are(
        entry("any.test", (8080, ""), **static(OUTSIDE)),
        entry("block.test", (8080, "TCP", 9000), addresses=["240.2.0.0/16"], **static(OUTSIDE)),
        entry("web.test", (8080, "HTTP"), **static(OUTSIDE)),
    )
    assert (await world.ask("http://any.test/", "240.0.0.7", 8080))[0] == 200
    assert (await world.ask("http://web.test/", "240.2.0.7", 8080))[0] == 200
    assert (await world.client.python(BYTES, "240.2.0.7", "8080")).text == "b'echo bytes\\r\\n'\n"


async def test_names_are_looked_up_by_the_sidecar(world: World) -> None:
    for resolution in ("DNS", "DNS_ROUND_ROBIN"):
        # The hosts file is a resolver, too: localhost is the client's own application.
        named = {"resolution": resolution, "endpoints": [{"address": "localhost"}]}
        await world.are(entry("here.test", (80, "HTTP", 8080), **named))
        assert (await world.ask("http://here.test/", "240.0.0.7"))[0] == 200


async def test_a_workload_that_is_no_pod_proves_who_it_is(world: World) -> None:
    def machine(account: str) -> tuple[AnyObject, AnyObject]:
        found = {"resolution": "STATIC", "workloadSelector": {"labels": {"app": "machine"}}}
        return (
            entry("machine.test", (80, "HTTP", 8080), location="MESH_INTERNAL", **found),
            read(
                "WorkloadEntry",
                "machine",
                {"address": MACHINE, "labels": {"app": "machine"}, "serviceAccount": account},
            ),
        )

    await world.are(*machine("machine"))
    status, body = await world.ask("http://machine.test/", "240.0.0.7")
    assert (status, "URI=spiffe://cluster.local/ns/shop/sa/default" in body) == (200, True)
    refused = world.refused
    await world.are(*machine("somebody-else"))
    status, body = await world.ask("http://machine.test/", "240.0.0.7")
    assert status == 503, body
    await world.client.logged("CERTIFICATE_VERIFY_FAILED", more_than=refused)


async def test_subsets_are_clusters_with_their_own_endpoints_and_tls(world: World) -> None:
    subsets = [
        {"name": "outside", "labels": {"version": "v1"}},
        {"name": "none", "labels": {"version": "v2"}, "trafficPolicy": {"tls": {"mode": "ISTIO_MUTUAL"}}},
    ]
    await world.are(
        entry("api.example.com", (80, "HTTP", 8080), **static(OUTSIDE, labels={"version": "v1"})),
        read("DestinationRule", "api", {"host": "api.example.com", "subsets": subsets}),
    )
    clusters = (await world.client.admin("/clusters?format=json"))["cluster_statuses"]
    held = {each["name"]: len(each.get("host_statuses", ())) for each in clusters if "example" in each["name"]}
    assert held == {
        "outbound|80||api.example.com": 1,
        "outbound|80|outside|api.example.com": 1,
        "outbound|80|none|api.example.com": 0,
    }


def by_secret(name: str, *, for_chosen: bool = True) -> tuple[AnyObject, AnyObject]:
    """A host that wants a client certificate, which is in a secret."""
    tls = {"mode": "MUTUAL", "credentialName": name, "sni": "api.example.com"}
    # A connection that is open keeps the certificate that it began with.
    policy = {"tls": tls, "connectionPool": {"http": {"maxRequestsPerConnection": 1}}}
    spec = {"host": "api.example.com", "trafficPolicy": policy}
    chosen = {"workloadSelector": {"matchLabels": {"app": "client"}}} if for_chosen else {}
    host = entry("api.example.com", (80, "HTTP", MUTUAL_PORT), **static(OUTSIDE))
    return host, read("DestinationRule", "api", spec | chosen)


def key_pair(world: World, name: str) -> dict[str, bytes]:
    issued = world.authority.issue(x509.DNSName(name))
    return {"tls.crt": issued.chain, "tls.key": issued.key}


async def test_a_secret_is_used_as_soon_as_it_is_there_and_replaced_while_in_use(world: World) -> None:
    await world.are(*by_secret("api"))
    assert (await world.ask("http://api.example.com/", "240.0.0.7"))[0] == 503
    await world.client.logged("TLS_error:_Secret_is_not_supplied_by_SDS")

    async def until_seen(name: str) -> None:
        async with asyncio.timeout(20):
            while True:
                status, body = await world.ask("http://api.example.com/", "240.0.0.7")
                if body == f"sni=api.example.com host=api.example.com client={name}":
                    return
                assert status == 503 or "client=first" in body, body  # never without a certificate
                await asyncio.sleep(0.1)

    world.held.put("api", **key_pair(world, "first"), **{"ca.crt": world.authority.root})
    await until_seen("first")
    world.held.put("api", **key_pair(world, "second"), **{"ca.crt": world.authority.root})
    await until_seen("second")
    dump = str(await world.client.admin("/config_dump"))
    assert "kubernetes://api" in dump and "PRIVATE KEY" not in dump


async def test_an_unknown_authority_in_the_secret_believes_no_server(world: World) -> None:
    world.held.put("other", **key_pair(world, "first"), **{"ca.crt": Authority("another").root})
    refused = world.refused
    await world.are(*by_secret("other"))
    assert (await world.ask("http://api.example.com/", "240.0.0.7"))[0] == 503
    await world.client.logged("CERTIFICATE_VERIFY_FAILED", more_than=refused)


async def test_a_server_that_was_revoked_is_not_believed(world: World) -> None:
    authority, pair = world.authority, key_pair(world, "first")
    lists = {"revoked": authority.revocations(world.server_serial), "current": authority.revocations(12345)}
    for name, listed in lists.items():
        world.held.put(name, **pair, **{"ca.crt": authority.root, "ca.crl": listed})
    refused = world.refused
    await world.are(*by_secret("revoked"))
    assert (await world.ask("http://api.example.com/", "240.0.0.7"))[0] == 503
    await world.client.logged("CERTIFICATE_VERIFY_FAILED", more_than=refused)
    await world.are(*by_secret("current"))
    assert (await world.ask("http://api.example.com/", "240.0.0.7"))[0] == 200

    files = world.client.directory
    for name, listed in lists.items():
        (files / f"{name}.crl").write_bytes(listed)
    api = entry("api.example.com", (80, "HTTP", SECURE_PORT), **static(OUTSIDE))
    for name, status in (("revoked", 503), ("current", 200)):
        paths = {"caCertificates": str(files / "root.pem"), "caCrl": str(files / f"{name}.crl")}
        await world.are(api, rule("api.example.com", mode="SIMPLE", **paths))
        assert (await world.ask("http://api.example.com/", "240.0.0.7"))[0] == status


@pytest.mark.parametrize(("name", "for_chosen"), [("forbidden", True), ("api", False)])
async def test_who_may_not_have_the_secret_dials_nobody(world: World, name: str, for_chosen: bool) -> None:
    world.held.put(name, **key_pair(world, "first"), **{"ca.crt": world.authority.root})
    await world.are(*by_secret(name, for_chosen=for_chosen))
    assert (await world.ask("http://api.example.com/", "240.0.0.7"))[0] == 503


HOSTS = ("a.test", "b.test", "*.test", "*.b.test", "*b.test", "some.shop.svc.cluster.local", "some.shop", "some")
ADDRESSES = ("240.1.0.1", "240.1.0.0/16", "240.0.0.0/8", "10.96.0.1", "10.96.0.0/16", "2001:db8::1", "2001:db8::/32")
PROTOCOLS = ("HTTP", "HTTP2", "GRPC", "TCP", "TLS", "HTTPS", "MYSQL", "", "UDP")


@st.composite
def entries(draw: st.DrawFn) -> AnyObject:
    numbers = draw(st.lists(st.sampled_from([80, 443, 7777, 15001, 15021]), min_size=1, max_size=3, unique=True))
    ports = [
        {"number": number, "name": f"p{number}", "protocol": draw(st.sampled_from(PROTOCOLS))} for number in numbers
    ]
    spec: dict[str, Any] = {
        "hosts": draw(st.lists(st.sampled_from(HOSTS), min_size=1, max_size=3, unique=True)),
        "ports": ports,
        "addresses": draw(st.lists(st.sampled_from(ADDRESSES), max_size=3, unique=True)),
        "resolution": draw(st.sampled_from(["NONE", "STATIC", "DNS", "DNS_ROUND_ROBIN", "DYNAMIC_DNS"])),
        "location": draw(st.sampled_from(["MESH_INTERNAL", "MESH_EXTERNAL"])),
    }
    if spec["resolution"] != "NONE":
        addresses = st.sampled_from(["10.9.0.3", "2001:db8::7", "localhost"])
        labels = st.sampled_from([{}, {"version": "v1"}])
        # Where there is none, names are looked up; this network has no resolver that would answer.
        least = 0 if spec["resolution"] == "STATIC" else 1
        found = draw(st.lists(st.tuples(addresses, labels, st.integers(0, 2**32 - 1)), min_size=least, max_size=3))
        spec["endpoints"] = [{"address": one, "labels": label, "weight": weight} for one, label, weight in found]
    namespace = draw(st.sampled_from(["shop", "other"]))
    metadata = {"namespace": namespace, "name": f"e{draw(st.integers(0, 9))}"}
    made = {"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry", "metadata": metadata, "spec": spec}
    decoded = decode.any_from_mapping(made)
    assert decoded.value is not None, decoded.findings
    return decoded.value


@st.composite
def client_rules(draw: st.DrawFn) -> AnyObject:
    tls = draw(st.sampled_from([{}, {"mode": "SIMPLE"}, {"mode": "ISTIO_MUTUAL"}]))
    balancing = draw(st.sampled_from([{}, {"simple": "RANDOM"}, {"consistentHash": {"useSourceIp": True}}]))
    policy = {"tls": tls} if tls else {}
    policy |= {"loadBalancer": balancing} if balancing else {}
    subsets = [{"name": "v1", "labels": {"version": "v1"}}, {"name": "all", "labels": {}}]
    spec = {"host": draw(st.sampled_from(HOSTS)), "trafficPolicy": policy, "subsets": subsets}
    return read("DestinationRule", f"r{draw(st.integers(0, 3))}", spec)


async def test_envoy_takes_whatever_entries_and_rules_there_are(world: World) -> None:
    """Among them those that admission would refuse: they may have been there before."""
    worlds: list[list[AnyObject]] = []

    @settings(max_examples=40, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(entries(), min_size=1, max_size=5), st.lists(client_rules(), max_size=2))
    def collect(some: list[AnyObject], rules: list[AnyObject]) -> None:
        worlds.append([*some, *rules])

    collect()
    for objects in worlds:
        status = await world.mesh.update(world.client, told(*objects))
        refused = [each.rejected for each in status.types if each.rejected]
        assert not refused, (refused, objects)
        # What the Service has stays the Service's, whoever says otherwise in another namespace.
        routes = await world.client.admin("/config_dump?resource=dynamic_route_configs")
        own = [
            host["name"]
            for each in routes["configs"]
            for host in each["route_config"].get("virtual_hosts", ())
            if "some.shop.svc.cluster.local:7777" in host["domains"]
        ]
        assert own == ["some.shop.svc.cluster.local:7777"], own

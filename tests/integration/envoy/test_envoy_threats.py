"""Past vulnerabilities of meshes, tried on ours: what a caller can write to look like somebody or something else."""

import base64
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import envoy_views as views
import msgspec
import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier
from envoy_pods import Mesh, Pod, can_make_networks, mesh

from mutua.mesh.proxy_view import (
    AuthorizationAction,
    Condition,
    EffectivePolicy,
    MtlsMode,
    Operation,
    Rule,
    Source,
)

pytestmark = [
    pytest.mark.envoy,
    pytest.mark.linux,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(not can_make_networks(), reason="network namespaces need root"),
]

ALLOW, DENY = AuthorizationAction.ALLOW, AuthorizationAction.DENY
EVERYBODY = EffectivePolicy("shop", "everybody", ALLOW, (Rule(),))
REFUSED = (0, 400, 403)

ASK = """
import base64, json, socket, ssl, sys
from concurrent.futures import ThreadPoolExecutor

def complete(answer):
    # Envoy keeps a connection for a second after it said that it closes it: nobody needs to wait for that.
    head, end, body = answer.lower().partition(b"\\r\\n\\r\\n")
    length = [line.split(b":")[1] for line in head.split(b"\\r\\n") if line.startswith(b"content-length:")]
    return bool(end) and bool(length) and len(body) >= int(length[0])

def ask(request):
    with socket.create_connection((sys.argv[1], 8080), 3) as connection:
        if len(sys.argv) > 2:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            context.set_alpn_protocols(["istio"])
            context.load_cert_chain(sys.argv[2])
            connection = context.wrap_socket(connection)
        connection.sendall(request)
        answer = b""
        while not complete(answer) and (piece := connection.recv(65536)):
            answer += piece
        return answer

def answered(request):
    try:
        return base64.b64encode(ask(base64.b64decode(request))).decode()
    except OSError:
        return ""

with ThreadPoolExecutor(16) as pool:
    answers = list(pool.map(answered, json.load(sys.stdin)))
print(json.dumps(answers))
"""


PIECEMEAL = """
import socket, ssl, sys, time
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
context.minimum_version = ssl.TLSVersion.TLSv1_3
context.set_alpn_protocols(["istio"])
context.load_cert_chain(sys.argv[2])
incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
secured = context.wrap_bio(incoming, outgoing)
with socket.create_connection((sys.argv[1], 8080), 5) as connection:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    def send(size):
        data = outgoing.read()
        for start in range(0, len(data), size):
            connection.sendall(data[start : start + size])
            time.sleep(0.001)
    def until(step):
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                send(int(sys.argv[3]))
                incoming.write(connection.recv(65536))
    until(secured.do_handshake)
    secured.write(b"GET /x HTTP/1.1\\r\\nhost: shop\\r\\n\\r\\n")
    print(until(lambda: secured.read(15)).decode())
"""


class Seen(NamedTuple):
    """What came back: the status, 0 for a closed connection; and what the application saw, if it was reached."""

    status: int
    path: str = ""
    headers: tuple[tuple[str, str], ...] = ()


class Target:
    """A backend with policies, and a stranger who writes requests byte by byte."""

    def __init__(self, mesh: Mesh, backend: Pod, stranger: Pod) -> None:
        self.mesh, self.backend, self.stranger = mesh, backend, stranger

    async def enforces(self, *policies: EffectivePolicy, normalization: str = "BASE") -> None:
        """Give the backend these policies; Envoy must take them."""
        settings = msgspec.structs.replace(views.MESH, path_normalization=normalization)
        view = views.server(MtlsMode.PERMISSIVE, policies, mesh=settings)
        status = await self.mesh.update(self.backend, view)
        assert status.synced, status

    async def ask(self, *requests: bytes, certificate: Path | None = None) -> list[Seen]:
        """What each request gets, each on a connection of its own; with a client certificate, if one is given."""
        lines = json.dumps([base64.b64encode(request).decode() for request in requests])
        more = [str(certificate)] if certificate else []
        answer = await self.stranger.python(ASK, views.BACKEND_ADDRESS, *more, given=lines)
        assert answer.text, answer.error
        return [_seen(base64.b64decode(each)) for each in json.loads(answer.text)]

    def certificate(self, *names: x509.GeneralName, **more: Any) -> Path:
        """The file of a certificate, signed by the mesh's authority, that says these names."""
        issued = self.mesh.authority.issue(*names, **more)
        path = self.stranger.directory / "client.pem"
        path.write_bytes(issued.key + issued.chain)
        return path


def _seen(answer: bytes) -> Seen:
    if not answer:
        return Seen(0)
    head, _, body = answer.partition(b"\r\n\r\n")
    status = int(head.split(b" ")[1])
    if status != 200:
        return Seen(status)
    mirrored = json.loads(body)
    return Seen(status, mirrored["path"], tuple((name, value) for name, value in mirrored["headers"]))


def request(path: bytes = b"/x", *headers: bytes, host: bytes = b"shop") -> bytes:
    """A request as bytes."""
    return b"\r\n".join([b"GET " + path + b" HTTP/1.1", b"host: " + host, b"connection: close", *headers, b"", b""])


def deny(**operation: tuple[str, ...]) -> EffectivePolicy:
    """A policy that denies an operation."""
    return EffectivePolicy("shop", "secret", DENY, (Rule(operations=(Operation(**operation),)),))


def allow(**source: tuple[str, ...]) -> EffectivePolicy:
    """A policy that allows a source, and so nobody else."""
    return EffectivePolicy("shop", "friends", ALLOW, (Rule(sources=(Source(**source),)),))


def when(action: AuthorizationAction, **condition: Any) -> EffectivePolicy:
    """A policy about one header."""
    rule = Rule(conditions=(Condition("request.headers[x-role]", **condition),))
    return EffectivePolicy("shop", "role", action, (rule,))


def statuses(seen: Sequence[Seen]) -> list[int]:
    """The statuses alone."""
    return [each.status for each in seen]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def target(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Target]:
    directory: Path = tmp_path_factory.mktemp("threats")
    async with mesh(directory) as made:
        backend = await made.pod("backend", views.BACKEND_ADDRESS, views.server(MtlsMode.PERMISSIVE), account="backend")
        stranger = await made.pod("stranger", "10.9.0.3", None)
        yield Target(made, backend, stranger)


async def test_each_line_of_a_repeated_header_is_looked_at(target: Target) -> None:
    admin, user, both = b"x-role: admin", b"x-role: user", b"x-role: admin,user"
    asked = [request(b"/x", *lines) for lines in ((), (user,), (admin,), (user, admin), (admin, user), (both,))]

    await target.enforces(when(DENY, values=("admin",)))
    denied = statuses(await target.ask(*asked))
    await target.enforces(when(ALLOW, values=("admin",)))
    allowed = statuses(await target.ask(*asked))

    assert denied == [200, 200, 403, 403, 403, 200]
    assert allowed == [403, 403, 200, 200, 200, 403]


async def test_blanks_around_a_header_s_value_hide_nothing(target: Target) -> None:
    await target.enforces(when(DENY, values=("admin",)))

    seen = await target.ask(*(request(b"/x", b"x-role:" + value) for value in (b"admin", b" admin ", b"\tadmin\t ")))

    assert statuses(seen) == [403, 403, 403]


@pytest.mark.parametrize("byte", [b"\x80", b"\xbf", b"\xc3", b"\xff", b"\xed\xa0\x80"])
async def test_bytes_that_are_no_text_open_nothing(target: Target, byte: bytes) -> None:
    only_good = when(DENY, not_values=("good", "good*", "*good"))
    only_public = deny(not_paths=("/public", "/public/*", "/open/{**}"))
    only_shop = deny(not_hosts=("shop", "*.shop"))
    await target.enforces(only_good)
    by_header = await target.ask(request(b"/x", b"x-role: " + byte), request(b"/x", b"x-role: b" + byte + b"ad"))
    await target.enforces(only_public)
    by_path = await target.ask(request(b"/" + byte), request(b"/private/" + byte + b"/x"))
    await target.enforces(only_shop)
    by_host = await target.ask(request(host=b"evil" + byte))

    assert {each.status for each in (*by_header, *by_path, *by_host)} <= set(REFUSED)


@pytest.mark.parametrize(
    ("normalization", "paths"),
    [
        ("BASE", (b"/admin", b"/admin?x", b"/x/../admin", b"/./admin", b"/%61dmin", b"/x/%2e%2e/admin")),
        ("BASE", (b"/x/..;/admin", b"/.;/admin", b"/admin/..;/admin", b"/x\\..\\admin")),
        ("MERGE_SLASHES", (b"//admin", b"/x/..//admin", b"///admin//", b"/x/..;//admin")),
        ("DECODE_AND_MERGE_SLASHES", (b"/%2fadmin", b"/x%2F..%2fadmin", b"/%5cadmin", b"/admin%2f")),
    ],
)
async def test_another_spelling_of_a_path_is_the_same_path(
    target: Target, normalization: str, paths: tuple[bytes, ...]
) -> None:
    await target.enforces(deny(paths=("/admin", "/admin/*")), EVERYBODY, normalization=normalization)

    seen = dict(zip(paths, statuses(await target.ask(*map(request, paths))), strict=True))

    assert {path: status for path, status in seen.items() if status not in REFUSED} == {}


@pytest.mark.parametrize(
    "path", [b"/admin;a=b", b"/admin;/x", b"/x/%2e%2e;a=b/admin", b"/%2fadmin", b"/admin%23b", b"/admin%00"]
)
async def test_what_is_let_through_reaches_the_application_as_it_was_judged(target: Target, path: bytes) -> None:
    await target.enforces(deny(paths=("/admin", "/admin/*")), EVERYBODY)

    (seen,) = await target.ask(request(path))

    assert seen.status in REFUSED or seen.path not in ("/admin", "/admin/")


async def test_a_fragment_is_no_part_of_a_request(target: Target) -> None:
    await target.enforces(deny(paths=("/admin",)), EVERYBODY)

    assert statuses(await target.ask(request(b"/admin#b"), request(b"/x#/admin"))) == [400, 400]


async def test_hosts_are_compared_whatever_their_case_and_with_their_port(target: Target) -> None:
    hosts = (b"secret.com", b"SeCreT.com", b"secret.com:80", b"secret.com:0080", b"SECRET.com:8080", b"public.com")

    await target.enforces(deny(hosts=("secret.com", "secret.com:*")), EVERYBODY)

    assert statuses(await target.ask(*(request(host=host) for host in hosts))) == [403, 403, 403, 403, 403, 200]


async def test_hosts_of_any_length_end_nothing(target: Target) -> None:
    await target.enforces(deny(hosts=("secret.com",)), EVERYBODY)

    seen = await target.ask(*(request(host=b"h" * length) for length in (0, 255, 256, 50_000)), request())

    assert seen[-1].status == 200


@pytest.mark.parametrize(
    "names",
    [
        (x509.UniformResourceIdentifier(views.FRONTEND + "\0.evil"),),
        (x509.UniformResourceIdentifier("spiffe://cluster.local\0.evil/ns/shop/sa/frontend"),),
        (x509.UniformResourceIdentifier(views.FRONTEND.upper()),),
        (x509.UniformResourceIdentifier(views.FRONTEND + "."),),
        (x509.UniformResourceIdentifier(views.FRONTEND + "/"),),
        (x509.UniformResourceIdentifier("spiffe://cluster.local/ns/shop/sa/%66rontend"),),
        (x509.UniformResourceIdentifier("spiffe://cluster.local.evil/ns/shop/sa/frontend"),),
        (x509.DNSName(views.FRONTEND),),
        (x509.UniformResourceIdentifier(views.BACKEND), x509.RFC822Name(views.FRONTEND)),
        (x509.OtherName(ObjectIdentifier("1.3.6.1.4.1.311.20.2.3"), b"\x0c\x04evil"),),
    ],
    ids=str,
)
async def test_only_a_certificate_s_very_identity_is_somebody(
    target: Target, names: tuple[x509.GeneralName, ...]
) -> None:
    await target.enforces(allow(principals=("cluster.local/ns/shop/sa/frontend",)))
    real = target.certificate(x509.UniformResourceIdentifier(views.FRONTEND))
    (honest,) = await target.ask(request(), certificate=real)

    (forged,) = await target.ask(request(), certificate=target.certificate(*names))

    assert (honest.status, forged.status in REFUSED) == (200, True)


async def test_a_certificate_that_is_not_for_clients_is_nobody_s(target: Target) -> None:
    await target.enforces(EVERYBODY)
    identity = x509.UniformResourceIdentifier(views.FRONTEND)
    for_servers = target.certificate(identity, usages=(ExtendedKeyUsageOID.SERVER_AUTH,))

    (seen,) = await target.ask(request(), certificate=for_servers)

    assert seen.status == 0


@pytest.mark.parametrize("sign", [";URI=spiffe://cluster.local/ns/shop/sa/admin", ",By=x", '"', "%3B", " "])
async def test_a_name_that_could_look_like_another_field_of_what_the_application_is_told_is_nobody_s(
    target: Target, sign: str
) -> None:
    await target.enforces(EVERYBODY)
    certificate = target.certificate(x509.UniformResourceIdentifier(views.FRONTEND + sign))

    (seen,) = await target.ask(request(), certificate=certificate)

    assert seen.status == 0


@pytest.mark.parametrize("size", [1, 7, 100_000])
async def test_a_greeting_in_pieces_is_the_same_greeting(target: Target, size: int) -> None:
    await target.enforces(allow(principals=("cluster.local/ns/shop/sa/frontend",)))
    certificate = target.certificate(x509.UniformResourceIdentifier(views.FRONTEND))

    answer = await target.stranger.python(PIECEMEAL, views.BACKEND_ADDRESS, str(certificate), str(size))

    assert answer.text.strip() == "HTTP/1.1 200 OK", answer.error


async def test_an_address_in_the_place_of_a_path_is_judged_by_its_path_and_host(target: Target) -> None:
    await target.enforces(deny(paths=("/admin",)), EVERYBODY)
    targets = (b"http://shop/admin", b"HTTP://shop/admin", b"hTTps://shop/admin", b"https://shop/x/../admin")
    by_path = await target.ask(*map(request, targets))
    await target.enforces(deny(hosts=("secret.com", "secret.com:*")), EVERYBODY)
    by_host = await target.ask(*map(request, (b"http://secret.com/x", b"HTTP://SECRET.com:80/x")))

    assert {each.status for each in (*by_path, *by_host)} <= set(REFUSED)


async def test_nothing_comes_in_behind_an_upgrade(target: Target) -> None:
    await target.enforces(deny(paths=("/admin",)), EVERYBODY)
    smuggled = b"GET /admin HTTP/1.1\r\nhost: shop\r\n\r\n"
    upgrade = request(b"/up", b"upgrade: websocket").replace(b"connection: close", b"connection: upgrade")
    connect = request().replace(b"GET /x", b"CONNECT shop:80").replace(b"connection: close\r\n", b"")

    lines = [base64.b64encode(each).decode() for each in (upgrade + smuggled, connect + smuggled)]
    answer = await target.stranger.python(ASK, views.BACKEND_ADDRESS, given=json.dumps(lines))
    print([base64.b64decode(each) for each in json.loads(answer.text)])
    await target.ask(request(b"/last"))
    await target.backend.logged('"GET /last ')

    assert '"GET /admin HTTP/1.1" 200' not in target.backend.log


@pytest.mark.parametrize(
    "source",
    [
        {"principals": ("*",)},
        {"principals": ("cluster.local/*",)},
        {"namespaces": ("*",)},
        {"service_accounts": ("shop/frontend",)},
        {"trust_domains": ("*",)},
        {"request_principals": ("*",)},
        {"principals": ("*",), "not_namespaces": ("other",)},
    ],
    ids=str,
)
async def test_plaintext_is_nobody(target: Target, source: dict[str, tuple[str, ...]]) -> None:
    await target.enforces(allow(**source))

    assert statuses(await target.ask(request())) == [403]


@pytest.mark.parametrize(
    "source",
    [
        {"service_accounts": ("shop/fr.ntend",)},
        {"service_accounts": ("shop/frontend|x",)},
        {"service_accounts": ("sh.p/frontend",)},
        {"service_accounts": ("shop/(frontend)",)},
        {"service_accounts": ("shop/[a-z]+",)},
        {"service_accounts": ("shop/frontend$", "shop/^frontend", "shop/front\\end")},
        {"namespaces": ("sh.p", "sho[p]", "(shop)", "shop|x", "sho+p", "shop$")},
        {"principals": ("cluster.local/ns/shop/sa/.*", "*/sa/f.ontend", "cluster.local/ns/shop/sa/(frontend)")},
        {"trust_domains": ("cluster.loca.", "cluster[.]local", "(cluster.local)")},
    ],
    ids=str,
)
async def test_signs_of_patterns_are_only_signs(target: Target, source: dict[str, tuple[str, ...]]) -> None:
    await target.enforces(allow(**source))
    certificate = target.certificate(x509.UniformResourceIdentifier(views.FRONTEND))

    assert statuses(await target.ask(request(), certificate=certificate)) == [403]


async def test_signs_of_patterns_are_only_signs_in_requests_too(target: Target) -> None:
    odd = ("/a.c", "/a[b]c", "/(abc)", "/ab+c", "/abc|x", "/.*", "/abc$", "/\\x61bc", "*b.")
    rules = (
        Rule(operations=(Operation(paths=odd),)),
        Rule(operations=(Operation(hosts=("sh.p", "(shop)", "sho[p]", "*o.")),)),
        Rule(operations=(Operation(methods=("G.T", "GET|PUT", ".*T")),)),
        Rule(conditions=(Condition("request.headers[x-role]", ("a.c", "a[b]c", "(abc)", "ab+c", ".*b.", "abc|x")),)),
    )
    await target.enforces(EffectivePolicy("shop", "odd", ALLOW, rules))

    seen = await target.ask(request(b"/abc", b"x-role: abc"), request(b"/a.c"), request(b"/x", b"x-role: (abc)"))

    assert statuses(seen) == [403, 200, 200]


@pytest.mark.parametrize("forwarded", [(), (b"x-forwarded-for: 10.9.0.77",), (b"x-forwarded-for: ::1",)], ids=str)
async def test_what_only_a_sidecar_may_say_is_not_taken_from_a_caller(
    target: Target, forwarded: tuple[bytes, ...]
) -> None:
    forged = b"URI=" + views.FRONTEND.encode() + b";By=" + views.BACKEND.encode()
    lines = (
        b"x-forwarded-client-cert: " + forged,
        b"X-Forwarded-Client-Cert: Hash=aa;" + forged,
        b"x-envoy-original-path: /forged",
        b"x-envoy-original-host: forged",
        b"x-envoy-decorator-operation: forged",
        b"x-envoy-downstream-service-cluster: forged",
        b"x-envoy-downstream-service-node: forged",
        b"x-envoy-internal: true",
        b"x-envoy-upstream-rq-timeout-ms: 1",
        b"x-envoy-max-retries: 77",
        b"x-envoy-retry-on: 5xx",
        b"x-envoy-external-address: 10.9.0.77",
        *forwarded,  # a single private address would make an Envoy of other settings believe the caller
    )
    await target.enforces(allow(principals=("cluster.local/ns/shop/sa/frontend",)))
    refused = await target.ask(request(b"/x", *lines))
    await target.enforces(EVERYBODY)
    (seen,) = await target.ask(request(b"/x", *lines))

    assert (statuses(refused), seen.status) == ([403], 200)
    arrived = {name for name, _ in seen.headers if name.startswith("x-envoy-") or name.endswith("-cert")}
    assert arrived <= {"x-envoy-attempt-count"}
    assert not any("forged" in value or "spiffe" in value for _, value in seen.headers)

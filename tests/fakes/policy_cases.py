"""Made-up policies, and calls that are likely to meet them, from a source of randomness."""

from random import Random
from typing import Any, NamedTuple

from mutua.mesh.proxy_view import (
    AuthorizationAction,
    Condition,
    EffectivePolicy,
    Operation,
    Rule,
    Source,
    Trust,
)
from mutua.verdict.request import Connection, HttpRequest, Peer

TRUST = Trust(("td1", "td2", "cluster.local"))
IDENTITIES = (
    "spiffe://td1/ns/foo/sa/a",
    "spiffe://td2/ns/foo/sa/a",
    "spiffe://cluster.local/ns/bar/sa/b",
    "spiffe://td1/ns/foo.x/sa/a.b",
    "spiffe://other/ns/foo/sa/a",
    "spiffe://td1/x",
)
ADDRESSES = ("10.1.2.3", "10.1.2.4", "172.16.0.1", "192.168.0.1")
PORTS = (8080, 9000)
METHODS = ("GET", "POST", "DELETE", "PATCH")
HOSTS = ("a.b", "A.B", "a.b:80", "www.a.b", "b")
TARGETS = (
    "/",
    "/a",
    "/a/",
    "/a/b",
    "/a/b?c=d",
    "/a//b",
    "//a",
    "/a/../b",
    "/a/%2e%2e/b",
    "/a/..;x/b",
    "/a%2fb",
    "/a%5cb",
    "/a\\b",
    "/A",
    "/a;b",
    "/a/[x]",
    "/a/{x}",
    "/a.b",
    "/%61",
    "/a/b/c",
    "/a/x/c",
    "/a?/../b",
    "/a*b",
)
PIECES = (
    *("/", "/", "/", "a", "b", "A", "c", "x", "..", ".", ";x", ";", "\\", "?", "*", "["),
    *("%2e", "%2F", "%5c", "%61", "%", "%2"),
)
"""What other targets are made of."""

HEADER_NAMES = (
    "x-a",
    "X-B",
    "x-a",
    "X-B",
    "authorization",
    "cookie",
    "Accept",
    "user-agent",
    "origin",
    "te",
    "x-envoy-retry-on",
    "x-request-id",
    "x-forwarded-client-cert",
)
HEADER_VALUES = ("", "a", "ab", "abc", "a,b", "b", "a b", "A", "a\xff", "\xffb")
SERVER_NAMES = ("", "a.b", "www.a.b")
NORMALIZATIONS = ("BASE", "BASE", "NONE", "MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES")
CLAIMS: tuple[dict[str, Any], ...] = (
    {"iss": "i", "sub": "s"},
    {"iss": "i/j", "sub": "s", "aud": ["x", "y"], "azp": "p"},
    {"iss": "i", "aud": "x", "groups": ["admin", "dev"], "n": 1},
    {"iss": "i", "sub": "", "nested": {"key": "value", "list": ["a"]}, "groups": "admin"},
    {"sub": "s", "scope": ["read", "write"], "groups": []},
)

SOURCES = {
    "principals": (
        "td1/ns/foo/sa/a",
        "td2/*",
        "*/sa/a",
        "*",
        "td1/ns/foo.x/sa/a.b",
        "*1/ns/foo/sa/a",
        "td*/ns/foo/sa/a",
    ),
    "namespaces": ("foo", "f*", "*o", "*", "foo.x", "b*r"),
    "service_accounts": ("foo/a", "a", "foo.x/a.b", "bar/b"),
    "trust_domains": ("td1", "td*", "*", "cluster.local", "*.local"),
    "ip_blocks": ("10.1.2.3", "10.0.0.0/8", "172.16.0.0/12", "10.1.2.3/24"),
    "remote_ip_blocks": ("10.1.2.3", "192.168.0.0/16", "172.16.0.1"),
    "request_principals": ("i/s", "*", "i/*", "*/s", "i", "i/j/s", "i*", "*s"),
}
OPERATIONS = {
    "hosts": ("a.b", "*.b", "a.*", "*", "A.b", "a.b:80"),
    "ports": ("8080", "9000"),
    "methods": ("GET", "P*", "*T", "*", "get"),
    "paths": (
        "/a",
        "/a/*",
        "*/b",
        "*",
        "/a/b",
        "/b",
        "/a/{*}",
        "/a/{**}",
        "/{*}/b",
        "/a/{*}/c",
        "/{**}",
        "/a.b",
        "/a*",
        "//*",
    ),
}
_CONDITIONS = {
    "source.ip": SOURCES["ip_blocks"],
    "remote.ip": SOURCES["remote_ip_blocks"],
    "source.namespace": SOURCES["namespaces"],
    "source.principal": SOURCES["principals"],
    "source.serviceAccount": SOURCES["service_accounts"],
    "source.trustDomain": SOURCES["trust_domains"],
    "destination.ip": ("10.9.0.2", "10.9.0.0/16", "10.8.0.0/16"),
    "destination.port": OPERATIONS["ports"],
    "connection.sni": ("a.b", "*.b", "a*", "*"),
    "request.auth.principal": SOURCES["request_principals"],
    "request.auth.audiences": ("x", "y*", "*"),
    "request.auth.presenter": ("p", "*"),
    "request.auth.claims[groups]": ("admin", "d*", "*"),
    "request.auth.claims[nested][key]": ("value", "v*"),
    "request.auth.claims[scope]": ("read", "*e"),
    "request.headers[X-A]": ("a", "a*", "*b", "*", "a,b"),
    "request.headers[x-b]": ("a", "a*", "*b", "*"),
    "request.headers[authorization]": ("a", "ab", "*"),
    "request.headers[cookie]": ("a", "a*", "*b"),
    "request.headers[accept]": ("a", "a,b", "*b"),
    "request.headers[user-agent]": ("a", "a*"),
    "request.headers[origin]": ("a", "*b"),
    "request.headers[te]": ("a", "*", "trailers"),
    "request.headers[x-envoy-retry-on]": ("a", "*"),
    "request.headers[x-request-id]": ("a", "*"),
    "request.headers[X-Forwarded-Proto]": ("http", "https", "*"),
    "request.headers[:scheme]": ("http", "*s"),
    "request.headers[x-forwarded-client-cert]": ("a", "a*"),
    "request.headers[:path]": ("/a", "*d", "/a*"),
    "request.headers[:method]": ("GET", "P*"),
}


class Case(NamedTuple):
    """Policies of one workload, and one call. `request` None: a connection without one."""

    policies: tuple[EffectivePolicy, ...]
    connection: Connection
    request: HttpRequest | None
    claims: dict[str, Any] | None
    normalization: str = "BASE"


def case(random: Random) -> Case:
    """One case; every choice is `random`'s."""
    return call(random)._replace(policies=policies(random), normalization=random.choice(NORMALIZATIONS))


def policies(random: Random) -> tuple[EffectivePolicy, ...]:
    """The policies of one workload."""
    actions = list(AuthorizationAction)
    return tuple(policy(random, random.choice(actions), f"p{index}") for index in range(random.randint(0, 4)))


def call(random: Random) -> Case:
    """One call, and no policies yet."""
    is_request = random.random() < 0.8
    with_token = is_request and random.random() < 0.5
    return Case(
        (),
        connection(random),
        http_request(random) if is_request else None,
        random.choice(CLAIMS) if with_token else None,
    )


def policy(random: Random, action: AuthorizationAction, name: str) -> EffectivePolicy:
    """One policy of up to three rules."""
    rules = tuple(rule(random) for _ in range(random.randint(0, 3)))
    return EffectivePolicy("foo", name, action, rules, dry_run=random.random() < 0.1)


def rule(random: Random) -> Rule:
    """One rule; most fields are left out, so that many calls meet it."""
    return Rule(
        sources=tuple(Source(**_fields(random, SOURCES)) for _ in range(random.choice((0, 0, 1, 1, 2)))),
        operations=tuple(Operation(**_fields(random, OPERATIONS)) for _ in range(random.choice((0, 0, 1, 1, 2)))),
        conditions=tuple(_condition(random) for _ in range(random.choice((0, 0, 0, 1, 2)))),
    )


def connection(random: Random) -> Connection:
    """Who connects, and to what."""
    peer = Peer((random.choice(IDENTITIES),)) if random.random() < 0.8 else None
    return Connection(
        source_ip=random.choice(ADDRESSES),
        destination_ip="10.9.0.2",
        destination_port=random.choice(PORTS),
        peer=peer,
        # Only a client that speaks TLS can name a server.
        server_name=random.choice(SERVER_NAMES) if peer else "",
    )


def http_request(random: Random) -> HttpRequest:
    """What is asked, with some headers, some of them repeated."""
    headers = [(random.choice(HEADER_NAMES), random.choice(HEADER_VALUES)) for _ in range(random.randint(0, 4))]
    if random.random() < 0.3:
        headers.append(("x-forwarded-for", ", ".join(random.choices((*ADDRESSES, "unknown"), k=random.randint(1, 2)))))
    return HttpRequest(
        method=random.choice(METHODS),
        target=target(random),
        authority=random.choice(HOSTS),
        headers=tuple(headers),
    )


def target(random: Random) -> str:
    """One of the targets that policies name, or one that nobody thought of."""
    if random.random() < 0.7:
        return random.choice(TARGETS)
    return "/" + "".join(random.choices(PIECES, k=random.randint(1, 8)))


def _fields(random: Random, pools: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for name in random.sample(sorted(pools), random.randint(1, 2)):
        values = tuple(random.sample(pools[name], random.randint(1, 2)))
        found[name if random.random() < 0.7 else f"not_{name}"] = values
    return found


def _condition(random: Random) -> Condition:
    key = random.choice(sorted(_CONDITIONS))
    values = tuple(random.sample(_CONDITIONS[key], 1))
    return Condition(key, values) if random.random() < 0.7 else Condition(key, (), values)

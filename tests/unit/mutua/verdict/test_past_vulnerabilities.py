"""Ways past policies that meshes once had, each as a request that must be judged rightly."""

import pytest

from mutua.mesh.proxy_view import AuthorizationAction, Condition, EffectivePolicy, Operation, Rule, Source, Trust
from mutua.verdict.authorization import Authorization
from mutua.verdict.request import Connection, HttpRequest, Peer

ALLOW, DENY = AuthorizationAction.ALLOW, AuthorizationAction.DENY
NAME = "spiffe://cluster.local/ns/web/sa/client"


def allowed(
    action: AuthorizationAction,
    rule: Rule,
    *,
    names: tuple[str, ...] | None = (NAME,),
    normalization: str = "BASE",
    tcp: bool = False,
    **request: object,
) -> bool:
    """Whether one policy lets a call through; `names` None: plaintext."""
    connection = Connection(
        source_ip="10.0.0.1",
        destination_ip="10.0.0.2",
        destination_port=80,
        peer=None if names is None else Peer(names),
    )
    policy = EffectivePolicy("apps", "policy", action, (rule,))
    authorization = Authorization((policy,), Trust(), normalization)
    sent = HttpRequest(**({"authority": "server"} | request))  # type: ignore[arg-type]
    return authorization.decide(connection, None if tcp else sent).allowed


def to(**fields: tuple[str, ...]) -> Rule:
    return Rule(operations=(Operation(**fields),))


def from_(**fields: tuple[str, ...]) -> Rule:
    return Rule(sources=(Source(**fields),))


def when(key: str, *values: str, but: tuple[str, ...] = ()) -> Rule:
    return Rule(conditions=(Condition(key, values, but),))


@pytest.mark.parametrize("lines", [("internal", "public"), ("public", "internal"), ("x", "internal", "y")])
def test_a_repeated_header_hides_no_line(lines: tuple[str, ...]) -> None:
    """CVE-2026-26308, CVE-2021-32777, CVE-2020-25017: lines joined into one, or only the first or last one seen."""
    headers = tuple(("x-audience", line) for line in lines)
    assert not allowed(DENY, when("request.headers[x-audience]", "internal"), headers=headers)
    # What must not be there is not there once it stands beside something else.
    assert not allowed(ALLOW, when("request.headers[x-audience]", but=("internal",)), headers=headers)


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_a_list_in_one_line_is_one_value(count: int) -> None:
    value = ",".join(["internal"] * count)
    headers = (("x-audience", value),) if count else ()
    assert allowed(DENY, when("request.headers[x-audience]", "internal"), headers=headers) is (count != 1)


@pytest.mark.parametrize("byte", range(0x80, 0x100, 0x0F))
def test_bytes_that_are_no_text_open_nothing(byte: int) -> None:
    """CVE-2026-73552: patterns that fail open on bytes outside of UTF-8, in negative matches above all."""
    text = bytes([byte]).decode("utf-8", "surrogateescape")
    headers = (("x-a", f"a{text}"),)
    assert not allowed(ALLOW, when("request.headers[x-a]", but=("a*",)), headers=headers)
    assert not allowed(ALLOW, to(not_paths=("/admin*",)), target=f"/admin{text}")
    assert not allowed(DENY, to(not_paths=("/public*",)), target=f"/admin{text}")


@pytest.mark.parametrize("path", ["/admin;a=b", "/x/..;/admin", "/x/..;a=b/admin", "/x/.;/../admin", "/x/%2e%2e/admin"])
def test_parameters_hide_no_dots(path: str) -> None:
    """CVE-2026-73551, CVE-2026-73511, CVE-2026-73553."""
    assert not allowed(DENY, to(paths=("/admin*",)), target=path)


@pytest.mark.parametrize("mode", ["NONE", "BASE", "MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES"])
@pytest.mark.parametrize("path", ["//admin", "/%2Fadmin", "/x/..%2fadmin", "/x%5c..%5cadmin", "/x\\..\\admin"])
def test_slashes_are_what_the_mode_says(mode: str, path: str) -> None:
    """CVE-2021-31920: only DECODE_AND_MERGE_SLASHES knows them all; an ALLOW by name is safe in every mode."""
    if mode == "DECODE_AND_MERGE_SLASHES":
        assert not allowed(DENY, to(paths=("/admin",)), normalization=mode, target=path)
    assert not allowed(ALLOW, to(paths=("/public",)), normalization=mode, target=path)


@pytest.mark.parametrize("path", ["/admin#", "/public#/../admin", "/a#b?c"])
def test_a_fragment_is_refused(path: str) -> None:
    """CVE-2021-39156, CVE-2020-8595."""
    assert not allowed(ALLOW, Rule(), target=path)
    assert not allowed(DENY, to(paths=("/nothing",)), target=path)


@pytest.mark.parametrize("path", ["/admin", "/admin?", "/admin?a=b", "/admin?/../x"])
def test_a_query_is_no_part_of_the_path(path: str) -> None:
    """CVE-2020-8595: `?` after an exact path."""
    assert not allowed(DENY, to(paths=("/admin",)), target=path)


@pytest.mark.parametrize("host", ["secret.com", "SeCreT.com", "SECRET.COM"])
def test_hosts_have_no_case(host: str) -> None:
    """CVE-2021-39155."""
    assert not allowed(DENY, to(hosts=("secret.com",)), authority=host)


@pytest.mark.parametrize("host", ["secret.com:80", "secret.com:0080", "secret.com."])
def test_a_host_is_compared_with_its_port(host: str) -> None:
    """Istio strips neither port nor dot: who denies a host denies `host` and `host:*`, or allows others by name."""
    assert allowed(DENY, to(hosts=("secret.com",)), authority=host)
    assert not allowed(DENY, to(hosts=("secret.com*",)), authority=host)
    assert not allowed(ALLOW, to(hosts=("public.com", "public.com:*")), authority=host)


@pytest.mark.parametrize(
    "name",
    [
        f"{NAME}\0.evil",
        f"{NAME}/../admin",
        NAME.upper(),
        f" {NAME}",
        f"{NAME}.",
        "spiffe://cluster.local/ns/web/sa/clien%74",
        "https://cluster.local/ns/web/sa/client",
    ],
)
def test_a_name_is_compared_whole(name: str) -> None:
    """CVE-2025-66220, CVE-2026-47778: NUL bytes, case, dots and escapes in a certificate's names."""
    assert not allowed(ALLOW, from_(principals=("cluster.local/ns/web/sa/client",)), names=(name,))


IDENTITIES = {
    "principals": "cluster.local/ns/web/sa/client",
    "namespaces": "web",
    "service_accounts": "web/client",
    "trust_domains": "cluster.local",
}


@pytest.mark.parametrize(("field", "value"), IDENTITIES.items())
@pytest.mark.parametrize("tcp", [False, True])
def test_plaintext_has_no_name(field: str, value: str, tcp: bool) -> None:
    """BULL-2021-004: fields that only mutual TLS fills match nothing in plaintext; what excludes them matches."""
    assert not allowed(ALLOW, from_(**{field: (value,)}), names=None, tcp=tcp)
    assert not allowed(ALLOW, from_(**{field: ("*",)}), names=None, tcp=tcp)
    assert allowed(DENY, from_(**{field: (value,)}), names=None, tcp=tcp)
    assert not allowed(DENY, from_(**{f"not_{field}": (value,)}), names=None, tcp=tcp)


@pytest.mark.parametrize("value", ["*/sa/client", "cluster.local/ns/web/*", "*"])
def test_patterns_of_names_hold_for_connections_too(value: str) -> None:
    """CVE-2020-16844: suffixes never matched on TCP."""
    assert not allowed(DENY, from_(principals=(value,)), tcp=True)
    assert allowed(ALLOW, from_(principals=(value,)), tcp=True)


@pytest.mark.parametrize("character", ".+*[(|$^?\\")
def test_an_account_is_no_pattern(character: str) -> None:
    """CVE-2026-39350: a dot in a service account stood for any character."""
    rule = from_(service_accounts=(f"web/a{character}b",))
    assert allowed(ALLOW, rule, names=(f"spiffe://cluster.local/ns/web/sa/a{character}b",))
    for other in ("axb", "ab", "aab", "a", "b", "a.b" if character != "." else "a-b"):
        assert not allowed(ALLOW, rule, names=(f"spiffe://cluster.local/ns/web/sa/{other}",))


@pytest.mark.parametrize(
    "name", ["x-envoy-original-path", "X-Envoy-Internal", "x-envoy-decorator-operation", "X-Forwarded-Client-Cert"]
)
def test_a_client_cannot_speak_for_a_proxy(name: str) -> None:
    """CVE-2023-27487, CVE-2024-45806."""
    assert not allowed(ALLOW, when(f"request.headers[{name}]", "*"), headers=((name, "true"),))
    by = (("x-forwarded-client-cert", f"URI={NAME}"),)
    assert not allowed(ALLOW, from_(principals=("*",)), names=None, headers=by)

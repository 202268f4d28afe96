"""Fields and keys of a policy's rule, each as a test of one value against the facts."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from mutua.envoy.filters import trust_domains
from mutua.errors import InvalidInputError
from mutua.mesh.proxy_view import Condition, Operation, Source, Trust
from mutua.verdict import matchers, paths
from mutua.verdict.request import Facts

Predicate = Callable[[Facts], bool]
Make = Callable[[str], Predicate]
"""One value of a policy to its test. Raises InvalidInputError for a value that means nothing."""

_FILTERS: Final = "experimental.envoy.filters."
_FILTER_PREFIX: Final = "envoy.filters."


class Term(msgspec.Struct, frozen=True):
    """One field of a rule as written: any of the values, and none of the others."""

    field: str  # as users spell it
    make: Make
    values: Sequence[str]
    not_values: Sequence[str]
    needs_request: bool = False
    shown: Callable[[Facts], str] = lambda _: ""  # what the facts say about it, for people


def of_operation(operation: Operation) -> list[Term]:
    """The terms of one `to`."""
    return [
        Term("hosts", _host, operation.hosts, operation.not_hosts, True, lambda facts: facts.authority),
        Term("methods", _method, operation.methods, operation.not_methods, True, lambda facts: facts.method),
        Term("paths", _path, operation.paths, operation.not_paths, True, lambda facts: facts.path),
        Term("ports", _destination_port, operation.ports, operation.not_ports, shown=_shown_port),
    ]


def of_source(source: Source, namespace: str, trust: Trust) -> list[Term]:
    """The terms of one `from`. `namespace` is the policy's own."""
    in_mesh, domains = trust_domains.principals, trust_domains.domains
    given = source
    return [
        Term(
            "principals",
            _named(matchers.identity),
            in_mesh(given.principals, trust),
            in_mesh(given.not_principals, trust),
            shown=_shown_names,
        ),
        Term("namespaces", _named(matchers.namespace), given.namespaces, given.not_namespaces, shown=_shown_names),
        Term(
            "serviceAccounts",
            _service_account(namespace),
            given.service_accounts,
            given.not_service_accounts,
            shown=_shown_names,
        ),
        Term(
            "trustDomains",
            _named(matchers.trust_domain),
            domains(given.trust_domains, trust),
            domains(given.not_trust_domains, trust),
            shown=_shown_names,
        ),
        Term("ipBlocks", _source_ip, given.ip_blocks, given.not_ip_blocks, shown=_shown_source),
        Term("remoteIpBlocks", _remote_ip, given.remote_ip_blocks, given.not_remote_ip_blocks, shown=_shown_remote),
        Term(
            "requestPrincipals",
            _request_principal,
            given.request_principals,
            given.not_request_principals,
            True,
            _shown_token,
        ),
    ]


def of_condition(condition: Condition, namespace: str, trust: Trust) -> Term:
    """The term of one `when`. A key that nobody knows makes every value of it invalid."""
    values: Sequence[str] = condition.values
    not_values: Sequence[str] = condition.not_values
    key = condition.key
    if key == "source.principal":
        values, not_values = (trust_domains.principals(each, trust) for each in (values, not_values))
    if key == "source.trustDomain":
        values, not_values = (trust_domains.domains(each, trust) for each in (values, not_values))
    make, shown = _of_key(key, namespace)
    return Term(key, make, values, not_values, key.startswith("request."), shown)


def _of_key(key: str, namespace: str) -> tuple[Make, Callable[[Facts], str]]:
    known = _BY_KEY.get(key)
    if known is not None:
        return known
    if key == "source.serviceAccount":
        return _service_account(namespace), _shown_names
    if key.startswith("request.headers["):
        return _of_header(key)
    if key.startswith("request.auth.claims["):
        return _claim(_bracketed(key, "request.auth.claims"), matchers.string_or_element), _shown_token
    if key.startswith(_FILTERS):
        return _of_filter(key), lambda _: ""
    return _unknown(key), lambda _: ""


def _named(matcher: Callable[[str], matchers.Test]) -> Make:
    def make(value: str) -> Predicate:
        test = matcher(value)
        return lambda facts: any(test(name) for name in facts.names)

    return make


def _service_account(namespace: str) -> Make:
    return _named(lambda value: matchers.service_account(value, namespace))


def _source_ip(value: str) -> Predicate:
    test = matchers.address_range(value)
    return lambda facts: test(facts.source)


def _remote_ip(value: str) -> Predicate:
    test = matchers.address_range(value)
    return lambda facts: test(facts.remote)


def _destination_ip(value: str) -> Predicate:
    test = matchers.address_range(value)
    return lambda facts: test(facts.destination)


def _destination_port(value: str) -> Predicate:
    number = matchers.port(value)
    return lambda facts: facts.connection.destination_port == number


def _server_name(value: str) -> Predicate:
    test = matchers.text(value)
    return lambda facts: test(facts.server_name)


def _host(value: str) -> Predicate:
    if value == "*":
        return lambda facts: facts.is_request
    test = matchers.text(value, ignore_case=True)
    return lambda facts: test(facts.authority)


def _method(value: str) -> Predicate:
    test = matchers.text(value)
    return lambda facts: test(facts.method)


def _path(value: str) -> Predicate:
    test = paths.template(value) if paths.is_template(value) else matchers.text(value)
    return lambda facts: test(facts.path)


def _of_header(key: str) -> tuple[Make, Callable[[Facts], str]]:
    (name, *_) = _bracketed(key, "request.headers") or ("",)
    lower = name.lower()

    def make(value: str) -> Predicate:
        if not lower:
            raise InvalidInputError(f"condition key {key!r} must have the form request.headers[name]")
        if value == "*":
            return lambda facts: lower in facts.headers
        test = matchers.text(value)
        return lambda facts: any(test(line) for line in facts.headers.get(lower, ()))

    return make, lambda facts: ", ".join(facts.headers.get(lower, ()))


def _of_filter(key: str) -> Make:
    name, _, _ = key.removeprefix(_FILTERS).partition("[")
    path = (_FILTER_PREFIX + name, *_bracketed(key, _FILTERS + name)[:1])

    def make(value: str) -> Predicate:
        if len(path) == 1:
            raise InvalidInputError(f"condition key {key!r} must have the form {_FILTERS}{name}[key]")
        wants_element = value.startswith("[") and value.endswith("]")
        test = matchers.element(matchers.text(value[1:-1])) if wants_element else matchers.string(matchers.text(value))
        return lambda facts: test(matchers.at(path, facts.connection.metadata))

    return make


def _claim(path: tuple[str, ...], kind: Callable[[matchers.Test], Callable[[Any], bool]]) -> Make:
    def make(value: str) -> Predicate:
        if not path:
            raise InvalidInputError("a condition on claims must have the form request.auth.claims[name]")
        test = kind(matchers.text(value))
        return lambda facts: test(matchers.at(path, facts.claims))

    return make


def _request_principal(value: str) -> Predicate:
    """Issuer and subject of the token, split at the last slash. Without one, a wildcard leaves the other half open."""
    issuer, slash, subject = value.rpartition("/")
    if not slash:
        issuer, subject = (value, "*" if value.endswith("*") else "")
        if value.startswith("*"):
            issuer, subject = "*", value
    tests = (
        _claim(("iss",), matchers.string)(issuer),
        _claim(("sub",), matchers.string)(subject),
    )
    return lambda facts: all(test(facts) for test in tests)


def _unknown(key: str) -> Make:
    def make(_: str) -> Predicate:
        raise InvalidInputError(f"condition key {key!r} is not known")

    return make


def _bracketed(key: str, prefix: str) -> tuple[str, ...]:
    """The parts in brackets of `prefix[a][b]`; () if the key has another form."""
    rest = key.removeprefix(prefix)
    if not (rest.startswith("[") and rest.endswith("]")) or rest == "[]":
        return ()
    return tuple(rest[1:-1].split("]["))


def _shown_names(facts: Facts) -> str:
    return ", ".join(name.removeprefix(matchers.SCHEME) for name in facts.names if name) or "unknown: no certificate"


def _shown_source(facts: Facts) -> str:
    return facts.connection.source_ip


def _shown_remote(facts: Facts) -> str:
    forwarded = facts.headers.get("x-forwarded-for", ())
    return facts.connection.client_ip or (forwarded[-1] if forwarded else facts.connection.source_ip)


def _shown_port(facts: Facts) -> str:
    return str(facts.connection.destination_port)


def _shown_token(facts: Facts) -> str:
    if facts.claims is None:
        return "no token"
    return f"{facts.claims.get('iss', '')}/{facts.claims.get('sub', '')}"


_BY_KEY: Final[dict[str, tuple[Make, Callable[[Facts], str]]]] = {
    "source.ip": (_source_ip, _shown_source),
    "remote.ip": (_remote_ip, _shown_remote),
    "source.namespace": (_named(matchers.namespace), _shown_names),
    "source.principal": (_named(matchers.identity), _shown_names),
    "source.trustDomain": (_named(matchers.trust_domain), _shown_names),
    "destination.ip": (_destination_ip, lambda facts: facts.connection.destination_ip),
    "destination.port": (_destination_port, _shown_port),
    "connection.sni": (_server_name, lambda facts: facts.server_name),
    "request.auth.principal": (_request_principal, _shown_token),
    "request.auth.audiences": (_claim(("aud",), matchers.string_or_element), _shown_token),
    "request.auth.presenter": (_claim(("azp",), matchers.string_or_element), _shown_token),
}

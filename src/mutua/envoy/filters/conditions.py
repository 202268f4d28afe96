"""What each field and key of a policy means, as one Envoy permission or principal per value."""

from collections.abc import Callable
from typing import Any, Final

from envoy.config.core.v3 import extension_pb2
from envoy.config.rbac.v3 import rbac_pb2
from envoy.extensions.path.match.uri_template.v3 import uri_template_match_pb2
from envoy.type.matcher.v3 import path_pb2

from mutua.envoy.filters import matchers
from mutua.envoy.pack import packed
from mutua.errors import InvalidInputError

Make = Callable[[str], Any]
"""One value of a policy to one permission or principal. Raises InvalidInputError for a value that means nothing."""

JWT_FILTER: Final = "envoy.filters.http.jwt_authn"
JWT_PAYLOAD: Final = "payload"

_Permission: Final = rbac_pb2.Permission
_Principal: Final = rbac_pb2.Principal


def principal(value: str) -> Any:
    """`principals`, `source.principal`."""
    return _authenticated(matchers.identity(value))


def namespace(value: str) -> Any:
    """`namespaces`, `source.namespace`."""
    return _authenticated(matchers.namespace(value))


def service_account(policy_namespace: str) -> Make:
    """`serviceAccounts`, `source.serviceAccount`."""
    return lambda value: _authenticated(matchers.service_account(value, policy_namespace))


def trust_domain(value: str) -> Any:
    """`trustDomains`, `source.trustDomain`."""
    return _authenticated(matchers.trust_domain(value))


def source_ip(value: str) -> Any:
    """`ipBlocks`, `source.ip`: the peer of the connection."""
    return _Principal(direct_remote_ip=matchers.address_range(value))


def remote_ip(value: str) -> Any:
    """`remoteIpBlocks`, `remote.ip`: the client as the last X-Forwarded-For entry names it."""
    return _Principal(remote_ip=matchers.address_range(value))


def request_principal(value: str) -> Any:
    """`requestPrincipals`, `request.auth.principal`: issuer and subject of the token, split at the last slash."""
    issuer, slash, subject = value.rpartition("/")
    if not slash:
        # A wildcard without a slash leaves the other half open; a plain value names an issuer and an empty subject.
        issuer, subject = (value, "*" if value.endswith("*") else "")
        if value.startswith("*"):
            issuer, subject = "*", value
    return _all_of_principals(
        [
            _claim(("iss",), matchers.string_value(matchers.text(issuer))),
            _claim(("sub",), matchers.string_value(matchers.text(subject))),
        ]
    )


def audience(value: str) -> Any:
    """`request.auth.audiences`."""
    return _claim(("aud",), matchers.string_or_list_value(matchers.text(value)))


def presenter(value: str) -> Any:
    """`request.auth.presenter`."""
    return _claim(("azp",), matchers.string_or_list_value(matchers.text(value)))


def claim(path: tuple[str, ...]) -> Make:
    """`request.auth.claims[a][b]`."""
    return lambda value: _claim(path, matchers.string_or_list_value(matchers.text(value)))


def request_header(name: str) -> Make:
    """`request.headers[name]`."""
    return lambda value: _Principal(header=matchers.header(name, value))


def host(value: str) -> Any:
    """`hosts`: the whole authority with its port, whatever the case."""
    return _Permission(header=matchers.header(":authority", value, ignore_case=True))


def method(value: str) -> Any:
    """`methods`."""
    return _Permission(header=matchers.header(":method", value))


def path(value: str) -> Any:
    """`paths`: the normalised path without its query, or a template with `{*}` and `{**}`."""
    if "{*}" in value or "{**}" in value:
        template = value.replace("{**}", "**").replace("{*}", "*")
        config = packed(uri_template_match_pb2.UriTemplateMatchConfig(path_template=template))
        return _Permission(uri_template=extension_pb2.TypedExtensionConfig(name="uri-template", typed_config=config))
    return _Permission(url_path=path_pb2.PathMatcher(path=matchers.text(value)))


def destination_port(value: str) -> Any:
    """`ports`, `destination.port`: the workload's port."""
    return _Permission(destination_port=matchers.port(value))


def destination_ip(value: str) -> Any:
    """`destination.ip`."""
    return _Permission(destination_ip=matchers.address_range(value))


def server_name(value: str) -> Any:
    """`connection.sni`."""
    return _Permission(requested_server_name=matchers.text(value))


def filter_metadata(filter_name: str, key: str) -> Make:
    """`experimental.envoy.filters.<name>[<key>]`; a value in brackets asks for an element of a list."""

    def make(value: str) -> Any:
        if value.startswith("[") and value.endswith("]"):
            wanted = matchers.list_value(matchers.text(value[1:-1]))
        else:
            wanted = matchers.string_value(matchers.text(value))
        return _Permission(sourced_metadata=_left(matchers.metadata(filter_name, (key,), wanted)))

    return make


def bracketed(key: str, prefix: str) -> tuple[str, ...]:
    """The parts in brackets of `prefix[a][b]`. Raises InvalidInputError if the key has another form."""
    rest = key.removeprefix(prefix)
    if not (rest.startswith("[") and rest.endswith("]")) or rest == "[]":
        raise InvalidInputError(f"condition key {key!r} must have the form {prefix}[name]")
    return tuple(rest[1:-1].split("]["))


def _authenticated(name: Any) -> Any:
    return _Principal(authenticated=_Principal.Authenticated(principal_name=name))


def _claim(path_: tuple[str, ...], value: Any) -> Any:
    return _Principal(sourced_metadata=_left(matchers.metadata(JWT_FILTER, (JWT_PAYLOAD, *path_), value)))


def _left(wanted: Any) -> Any:
    """What an earlier filter left for this very request or connection."""
    return rbac_pb2.SourcedMetadata(metadata_matcher=wanted, metadata_source=rbac_pb2.DYNAMIC)


def _all_of_principals(principals: list[Any]) -> Any:
    return _Principal(and_ids=_Principal.Set(ids=principals))

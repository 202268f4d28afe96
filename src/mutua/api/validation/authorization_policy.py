"""Rules about one AuthorizationPolicy. Source: Istio's ValidateAuthorizationPolicy."""

from collections.abc import Iterator
from typing import Final

from mutua.api import dry_run
from mutua.api.findings import Violation, error, warning
from mutua.api.security import Action, AuthorizationPolicy, Condition, Operation, Rule, Source
from mutua.api.validation import common

_ADDRESS_FIELDS: Final = frozenset({"ip_blocks", "not_ip_blocks", "remote_ip_blocks", "not_remote_ip_blocks"})
_PORT_FIELDS: Final = frozenset({"ports", "not_ports"})

# Fields that only a request has, not a connection: on TCP ports they match nothing (ALLOW) or fall away (DENY).
_REQUEST_SOURCES: Final = ("request_principals", "not_request_principals")
_REQUEST_OPERATIONS: Final = ("hosts", "not_hosts", "methods", "not_methods", "paths", "not_paths")

# A CUSTOM rule decides whom to ask before anybody is known, so that it cannot depend on who asks.
_NOT_WITH_CUSTOM: Final = (
    "namespaces",
    "not_namespaces",
    "principals",
    "not_principals",
    "request_principals",
    "not_request_principals",
)
_KEYS_NOT_WITH_CUSTOM: Final = ("source.namespace", "source.principal", "request.auth.")

_ATTRIBUTES: Final = frozenset(
    {
        "source.ip",
        "remote.ip",
        "source.namespace",
        "source.serviceAccount",
        "source.trustDomain",
        "source.principal",
        "request.auth.principal",
        "request.auth.audiences",
        "request.auth.presenter",
        "destination.ip",
        "destination.port",
        "connection.sni",
    }
)
_KEYED_ATTRIBUTES: Final = ("request.headers", "request.auth.claims", "experimental.envoy.filters.")


def violations(item: AuthorizationPolicy) -> Iterator[Violation]:
    """Everything that the policy alone tells."""
    spec = item.spec
    yield from common.selector(spec.selector)
    yield from common.targets(spec.selector, spec.target_ref, spec.target_refs)
    yield from _action(item)
    for index, rule in enumerate(spec.rules):
        yield from _rule(rule, index, spec.action)
    if spec.action is Action.DENY and any(_only_requests(rule) for rule in spec.rules):
        yield warning(
            "spec.rules",
            "configured AuthorizationPolicy will deny all traffic to TCP ports under its scope due to the use of only "
            "HTTP attributes in a DENY rule; it is recommended to explicitly specify the port",
        )


def _action(item: AuthorizationPolicy) -> Iterator[Violation]:
    spec = item.spec
    if spec.action is Action.CUSTOM:
        if spec.provider is None or not spec.provider.name:
            message = "`provider.name` must not be empty with CUSTOM action"
            yield error("spec.provider.name", message, "name an extension provider of the mesh config")
    elif spec.provider is not None:
        yield error("spec.provider", f"`provider` must not be set with {spec.action.value} action")
    if spec.action in (Action.DENY, Action.CUSTOM) and not spec.rules:
        yield error(
            "spec.rules", f"{spec.action.value} action without `rules` is meaningless as it will never be triggered"
        )
    yield from common.dry_run(item.metadata)
    if dry_run.ANNOTATION in item.metadata.annotations and spec.action not in (Action.ALLOW, Action.DENY):
        name = dry_run.ANNOTATION
        only = f"the annotation {name} currently only supports action ALLOW/DENY, found action {spec.action.value}"
        yield error(f"metadata.annotations[{name}]", only)


def _rule(rule: Rule, index: int, action: Action) -> Iterator[Violation]:
    field, at = f"spec.rules[{index}]", f"found at rule {index}"
    if rule.from_ is not None and not rule.from_:
        yield error(f"{field}.from", f"`from` must not be empty, {at}")
    if rule.to is not None and not rule.to:
        yield error(f"{field}.to", f"`to` must not be empty, {at}")
    for number, origin in enumerate(rule.from_ or ()):
        path = f"{field}.from[{number}].source"
        if origin.source is None:
            yield error(path, f"`from.source` must not be nil, {at}")
        elif origin.source == Source():
            yield error(path, f"`from.source` must not be empty, {at}")
        else:
            yield from _source(origin.source, path, at, action)
    for number, destination in enumerate(rule.to or ()):
        path = f"{field}.to[{number}].operation"
        if destination.operation is None:
            yield error(path, f"`to.operation` must not be nil, {at}")
        elif destination.operation == Operation():
            yield error(path, f"`to.operation` must not be empty, {at}")
        else:
            yield from _fields(destination.operation, path)
    for number, condition in enumerate(rule.when or ()):
        yield from _condition(condition, f"{field}.when[{number}]", at, action)


def _source(source: Source, path: str, at: str, action: Action) -> Iterator[Violation]:
    yield from _fields(source, path)
    accounts = source.service_accounts or source.not_service_accounts
    if accounts and (source.namespaces or source.not_namespaces or source.principals or source.not_principals):
        yield error(path, f"cannot set serviceAccounts with namespaces or principals, {at}")
    for name in ("service_accounts", "not_service_accounts"):
        for account in getattr(source, name):
            if account.count("/") > 1 or "*" in account:
                message = f"serviceAccounts must be <namespace>/<name> or <name> without wildcards: {account!r}"
                yield error(f"{path}.{_json_name(name)}", message)
    if action is Action.CUSTOM:
        for name in _NOT_WITH_CUSTOM:
            if getattr(source, name):
                message = f"From.{_go_name(name)} is currently not supported with CUSTOM action"
                yield error(f"{path}.{_json_name(name)}", message)


def _fields(part: Source | Operation, path: str) -> Iterator[Violation]:
    for name in part.__struct_fields__:
        field = f"{path}.{_json_name(name)}"
        for index, value in enumerate(getattr(part, name)):
            if name in _ADDRESS_FIELDS:
                yield from common.address_block(value, f"{field}[{index}]")
            if name in _PORT_FIELDS:
                yield from common.port(value, f"{field}[{index}]")
            if not value:
                yield error(f"{field}[{index}]", f"empty value not allowed, found in {_go_name(name)}")
            if name in ("paths", "not_paths"):
                yield from _path(value, f"{field}[{index}]")


def _path(value: str, field: str) -> Iterator[Violation]:
    """A template holds `{*}` and `{**}` as whole segments, and no other braces or stars."""
    if "{*}" not in value and "{**}" not in value:
        return
    segments = value.removeprefix("/").split("/")
    if any(
        ("{" in segment or "}" in segment or "*" in segment) and segment not in ("{*}", "{**}") for segment in segments
    ):
        yield error(
            field, f"invalid or unsupported path {value}: in a template, only whole segments {{*}} and {{**}} vary"
        )
    if "{**}" in segments and "{*}" in segments[segments.index("{**}") + 1 :]:
        yield error(field, f"invalid or unsupported path {value}: {{**}} is not last operator")
    if segments.count("{**}") > 1:
        yield error(field, f"invalid or unsupported path {value}: {{**}} can be used once")


def _condition(condition: Condition, path: str, at: str, action: Action) -> Iterator[Violation]:
    key = condition.key
    if not key:
        yield error(f"{path}.key", f"`key` must not be empty, {at}")
        return
    if not condition.values and not condition.not_values:
        yield error(path, f"at least one of `values` or `notValues` must be set for key {key}, {at}")
    if not _is_attribute(key):
        for word in ("value", "notValue"):
            yield error(f"{path}.key", f"invalid `{word}` for `key` {key}: unknown attribute: {key}")
        return
    for word, name, values in (("value", "values", condition.values), ("notValue", "notValues", condition.not_values)):
        for index, value in enumerate(values):
            field = f"{path}.{name}[{index}]"
            for violation in _condition_value(key, value, field):
                message = f"invalid `{word}` for `key` {key}: {violation.message}"
                yield error(field, message, violation.hint)
    if action is Action.CUSTOM and key.startswith(_KEYS_NOT_WITH_CUSTOM):
        yield error(f"{path}.key", f"{key} is currently not supported with CUSTOM action")


def _condition_value(key: str, value: str, field: str) -> Iterator[Violation]:
    if not value:
        yield error(field, f"empty value not allowed, found in {key}")
    elif key in ("source.ip", "remote.ip", "destination.ip"):
        yield from common.address_block(value, field)
    elif key == "destination.port":
        yield from common.port(value, field)


def _is_attribute(key: str) -> bool:
    return key in _ATTRIBUTES or (key.startswith(_KEYED_ATTRIBUTES) and ("[" not in key or key.endswith("]")))


def _only_requests(rule: Rule) -> bool:
    """Whether a DENY rule would deny every TCP connection: all that it says is about requests."""
    says_something = False
    for origin in rule.from_ or ():
        given = _given(origin.source or Source())
        if any(name not in _REQUEST_SOURCES for name in given):
            return False
        says_something = says_something or bool(given)
    for destination in rule.to or ():
        given = _given(destination.operation or Operation())
        if any(name not in _REQUEST_OPERATIONS for name in given):
            return False
        says_something = says_something or bool(given)
    for condition in rule.when or ():
        if not condition.key.startswith("request."):
            return False
        says_something = True
    return says_something


def _given(part: Source | Operation) -> list[str]:
    return [name for name in part.__struct_fields__ if getattr(part, name)]


def _json_name(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.title() for word in rest)


def _go_name(name: str) -> str:
    """The name as it stands in Istio's messages."""
    return "".join(word.title() for word in name.split("_"))

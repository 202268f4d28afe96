"""AuthorizationPolicy as Envoy's RBAC: one filter per action, with all policies of that action in its route's part."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec
from envoy.config.rbac.v3 import rbac_pb2
from envoy.extensions.filters.http.rbac.v3 import rbac_pb2 as http_rbac_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2

from mutua.envoy import names
from mutua.envoy.filters import conditions, trust_domains
from mutua.envoy.memo import remembered
from mutua.envoy.pack import packed
from mutua.errors import InvalidInputError
from mutua.mesh.proxy_view import (
    AuthorizationAction,
    AuthorizationProvider,
    Condition,
    EffectivePolicy,
    InboundView,
    Operation,
    Rule,
    Source,
    Trust,
)

NO_PROVIDER_SUFFIX: Final = "-deny-due-to-bad-CUSTOM-action"
"""Ends the name of a CUSTOM rule that denies because nobody is there to be asked."""

CUSTOM_SHADOW_PREFIX: Final = "istio_ext_authz_"
"""Begins the keys under which the rules of CUSTOM leave what they matched, for the filters that ask."""

_ENVOY_ACTIONS: Final = {
    AuthorizationAction.ALLOW: rbac_pb2.RBAC.ALLOW,
    AuthorizationAction.DENY: rbac_pb2.RBAC.DENY,
    AuthorizationAction.AUDIT: rbac_pb2.RBAC.LOG,
    AuthorizationAction.CUSTOM: rbac_pb2.RBAC.DENY,
}

Providers = tuple[AuthorizationProvider, ...]
"""Those that the proxy can reach."""

ENVOY_FILTERS: Final = "experimental.envoy.filters."
_FILTER_PREFIX: Final = "envoy.filters."


class Policies(msgspec.Struct, frozen=True):
    """What one filter enforces and what it only notes. None: there is nothing of the kind."""

    enforced: Any = None
    shadow: Any = None
    shadow_prefix: str = "istio_dry_run_allow_"  # of the keys of what is noted. Source: Istio's logs and statistics


class _Term(msgspec.Struct, frozen=True):
    """One field of a rule: any of the values, and none of the others."""

    make: conditions.Make
    values: Sequence[str]
    not_values: Sequence[str]
    needs_http: bool = False


def filter_name(action: AuthorizationAction) -> str:
    """The name by which routes find the filter of an action."""
    return f"authorization.{action.value.lower()}"


def http_filter(action: AuthorizationAction) -> Any:
    """The filter for requests. By itself it lets everything pass: what it enforces is said by the route.

    A route is replaced without touching the listener, and read anew for each request: so a change of policies holds
    for the next request on every open connection, for all actions at once, and closes none of them.
    """
    return http_connection_manager_pb2.HttpFilter(name=filter_name(action), typed_config=packed(http_rbac_pb2.RBAC()))


def for_route(view: InboundView, action: AuthorizationAction, providers: Providers) -> Any | None:
    """What the filter of an action enforces on a route; None if no policy has this action."""
    compiled = of_action(view, action, providers, requests=True)
    if compiled is None:
        return None
    config = http_rbac_pb2.RBAC(
        rules=compiled.enforced, shadow_rules=compiled.shadow, shadow_rules_stat_prefix=compiled.shadow_prefix
    )
    return packed(http_rbac_pb2.RBACPerRoute(rbac=config))


def of_action(
    view: InboundView, action: AuthorizationAction, providers: Providers, *, requests: bool
) -> Policies | None:
    """All policies of one action. `requests`: what is judged are requests, not connections.

    An ALLOW policy that applies closes the workload for everyone whom no rule names, even if it has no rule at all.
    """
    mine = [policy for policy in view.policies if policy.action is action]
    if not mine:
        return None
    if action is AuthorizationAction.CUSTOM:
        return _custom(mine, view.trust, providers, requests=requests)
    tried = [policy for policy in mine if policy.dry_run]
    enforced = [policy for policy in mine if not policy.dry_run]
    allows = action is AuthorizationAction.ALLOW
    return Policies(
        enforced=_compiled(enforced, action, view.trust, requests) if enforced else None,
        shadow=_compiled(tried, action, view.trust, requests) if tried else None,
        shadow_prefix="istio_dry_run_allow_" if allows or not tried else "istio_dry_run_deny_",
    )


def _custom(policies: list[EffectivePolicy], trust: Trust, providers: Providers, *, requests: bool) -> Policies | None:
    """Rules whose provider is asked are noted, for its filter to see. All others deny what they match.

    Nobody is asked for a provider that is not there, for several of them, or for trial: what an unasked authorizer
    would have said is not known. A provider over HTTP is asked about requests only.
    """
    known = {provider.name: provider for provider in providers}
    alone = len({policy.provider for policy in policies}) == 1
    asking = [policy for policy in policies if alone and policy.provider in known and not policy.dry_run]
    refusing = [policy for policy in policies if policy not in asking]
    noted = [policy for policy in asking if requests or not known[policy.provider].http]
    if not noted and not refusing:
        return None
    action = AuthorizationAction.CUSTOM
    return Policies(
        enforced=_compiled(refusing, action, trust, requests, NO_PROVIDER_SUFFIX) if refusing else None,
        shadow=_compiled(noted, action, trust, requests) if noted else None,
        shadow_prefix=CUSTOM_SHADOW_PREFIX,
    )


def _compiled(
    policies: list[EffectivePolicy], action: AuthorizationAction, trust: Trust, requests: bool, suffix: str = ""
) -> Any:
    compiled = rbac_pb2.RBAC(action=_ENVOY_ACTIONS[action])
    for policy in policies:
        for index, rule in enumerate(policy.rules):
            try:
                made = _rule(rule, policy.namespace, trust, requests, action is AuthorizationAction.ALLOW)
            except InvalidInputError:
                # What an ALLOW rule asks cannot be asked here, so it allows nobody.
                continue
            name = names.policy(policy.namespace, policy.name, index)
            if action is AuthorizationAction.CUSTOM:
                name = names.custom_policy(policy.provider, name)
            compiled.policies[name + suffix].CopyFrom(made)
    return compiled


@remembered(limit=16384)
def _rule(rule: Rule, namespace: str, trust: Trust, requests: bool, narrow: bool) -> Any:
    """One rule, to be copied and not to be changed.

    Raises InvalidInputError if a part of it cannot be asked and `narrow` says that this voids it all.

    Without `narrow` only that part is left out: a rule that denies then denies more, never less.
    """
    of_destination, of_source = _conditions(rule.conditions, namespace, trust)

    def everything(terms: Iterable[_Term], kind: Any) -> Any:
        return _all(terms, kind, requests=requests, narrow=narrow)

    operations = rule.operations or (Operation(),)
    sources = rule.sources or (Source(),)
    permissions = [everything([*_operation(each), *of_destination], rbac_pb2.Permission) for each in operations]
    principals = [everything([*_source(each, namespace, trust), *of_source], rbac_pb2.Principal) for each in sources]
    return rbac_pb2.Policy(permissions=permissions, principals=principals)


def _operation(operation: Operation) -> list[_Term]:
    return [
        _Term(conditions.host, operation.hosts, operation.not_hosts, needs_http=True),
        _Term(conditions.method, operation.methods, operation.not_methods, needs_http=True),
        _Term(conditions.path, operation.paths, operation.not_paths, needs_http=True),
        _Term(conditions.destination_port, operation.ports, operation.not_ports),
    ]


def _source(source: Source, namespace: str, trust: Trust) -> list[_Term]:
    in_mesh = trust_domains.principals
    return [
        _Term(conditions.principal, in_mesh(source.principals, trust), in_mesh(source.not_principals, trust)),
        _Term(conditions.namespace, source.namespaces, source.not_namespaces),
        _Term(conditions.service_account(namespace), source.service_accounts, source.not_service_accounts),
        _Term(
            conditions.trust_domain,
            trust_domains.domains(source.trust_domains, trust),
            trust_domains.domains(source.not_trust_domains, trust),
        ),
        _Term(conditions.source_ip, source.ip_blocks, source.not_ip_blocks),
        _Term(conditions.remote_ip, source.remote_ip_blocks, source.not_remote_ip_blocks),
        _Term(conditions.request_principal, source.request_principals, source.not_request_principals, needs_http=True),
    ]


def _conditions(given: Iterable[Condition], namespace: str, trust: Trust) -> tuple[list[_Term], list[_Term]]:
    """The terms of `when`: those about the destination, and those about the source."""
    of_destination: list[_Term] = []
    of_source: list[_Term] = []
    for condition in given:
        values: Sequence[str] = condition.values
        not_values: Sequence[str] = condition.not_values
        make: conditions.Make
        about_destination, needs_http = False, False
        match condition.key:
            case "source.ip":
                make = conditions.source_ip
            case "remote.ip":
                make = conditions.remote_ip
            case "source.namespace":
                make = conditions.namespace
            case "source.serviceAccount":
                make = conditions.service_account(namespace)
            case "source.principal":
                make = conditions.principal
                values, not_values = (
                    trust_domains.principals(values, trust),
                    trust_domains.principals(not_values, trust),
                )
            case "source.trustDomain":
                make = conditions.trust_domain
                values, not_values = trust_domains.domains(values, trust), trust_domains.domains(not_values, trust)
            case "destination.ip":
                make, about_destination = conditions.destination_ip, True
            case "destination.port":
                make, about_destination = conditions.destination_port, True
            case "connection.sni":
                make, about_destination = conditions.server_name, True
            case "request.auth.principal":
                make, needs_http = conditions.request_principal, True
            case "request.auth.audiences":
                make, needs_http = conditions.audience, True
            case "request.auth.presenter":
                make, needs_http = conditions.presenter, True
            case key if key.startswith("request.headers["):
                make, needs_http = _of_header(key), True
            case key if key.startswith("request.auth.claims["):
                make, needs_http = _of_claim(key), True
            case key if key.startswith(ENVOY_FILTERS):
                make, about_destination = _of_filter(key), True
            case key:
                make = _unknown(key)
        term = _Term(make, values, not_values, needs_http)
        (of_destination if about_destination else of_source).append(term)
    return of_destination, of_source


def _of_header(key: str) -> conditions.Make:
    def make(value: str) -> Any:
        (name,) = conditions.bracketed(key, "request.headers")[:1]
        return conditions.request_header(name)(value)

    return make


def _of_claim(key: str) -> conditions.Make:
    def make(value: str) -> Any:
        return conditions.claim(conditions.bracketed(key, "request.auth.claims"))(value)

    return make


def _of_filter(key: str) -> conditions.Make:
    name, _, _ = key.removeprefix(ENVOY_FILTERS).partition("[")

    def make(value: str) -> Any:
        (wanted,) = conditions.bracketed(key, ENVOY_FILTERS + name)[:1]
        return conditions.filter_metadata(_FILTER_PREFIX + name, wanted)(value)

    return make


def _unknown(key: str) -> conditions.Make:
    def make(_: str) -> Any:
        raise InvalidInputError(f"condition key {key!r} is not known")

    return make


def _all(terms: Iterable[_Term], kind: Any, *, requests: bool, narrow: bool) -> Any:
    """All terms together, as one permission or principal (`kind`)."""
    parts: list[Any] = []
    for term in terms:
        wanted = _each(term, term.values, requests=requests, narrow=narrow)
        unwanted = _each(term, term.not_values, requests=requests, narrow=narrow)
        if wanted:
            parts.append(_any_of(wanted, kind))
        if unwanted:
            parts.append(_not(_any_of(unwanted, kind), kind))
    if not parts:
        return kind(any=True)
    if len(parts) == 1:
        return parts[0]
    return kind(and_rules=kind.Set(rules=parts)) if kind is rbac_pb2.Permission else kind(and_ids=kind.Set(ids=parts))


def _each(term: _Term, values: Sequence[str], *, requests: bool, narrow: bool) -> list[Any]:
    made: list[Any] = []
    for value in values:
        try:
            if term.needs_http and not requests:
                raise InvalidInputError("a connection without requests has no such property")
            made.append(term.make(value))
        except InvalidInputError:
            if narrow:
                raise
    return made


def _any_of(parts: list[Any], kind: Any) -> Any:
    if len(parts) == 1:
        return parts[0]
    return kind(or_rules=kind.Set(rules=parts)) if kind is rbac_pb2.Permission else kind(or_ids=kind.Set(ids=parts))


def _not(part: Any, kind: Any) -> Any:
    return kind(not_rule=part) if kind is rbac_pb2.Permission else kind(not_id=part)

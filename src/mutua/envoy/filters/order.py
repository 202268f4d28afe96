"""Which filters a connection and a request pass, in order: the one list to look at and to extend."""

from typing import Any

from mutua.envoy import telemetry
from mutua.envoy.filters import alpn, ext_authz, jwt_authn, network_rbac, rbac, router
from mutua.envoy.filters.rbac import Providers
from mutua.mesh.proxy_view import AuthorizationAction, InboundView

ACTIONS = (
    AuthorizationAction.CUSTOM,
    AuthorizationAction.AUDIT,
    AuthorizationAction.DENY,
    AuthorizationAction.ALLOW,
)
"""The order in which policies are asked. Source: Istio AuthorizationPolicy, "evaluation order"."""


def inbound_http(view: InboundView, providers: Providers = (), *, named: bool = False) -> list[Any]:
    """What each request to the application passes. `named`: callers' sidecars say which workload calls, for metrics.

    Every provider that could be asked has its filter, whether or not a policy names it: so a policy that does holds
    for the next request. Tokens are read after that, so a provider's rules cannot be about them.
    """
    custom, *others = ACTIONS
    tokens = jwt_authn.http_filter(view.token_rules)
    return [
        *([telemetry.remember_peer()] if named else []),
        rbac.http_filter(custom),
        *map(ext_authz.http_filter, providers),
        *([tokens] if tokens is not None else []),
        *map(rbac.http_filter, others),
        router.http_filter(),
    ]


def inbound_route(view: InboundView, providers: Providers = ()) -> dict[str, Any]:
    """What the filters are told by the route that a request to the application takes, by filter name."""
    told = {rbac.filter_name(action): rbac.for_route(view, action, providers) for action in ACTIONS}
    return {name: config for name, config in told.items() if config is not None}


def inbound_tcp(view: InboundView, providers: Providers = ()) -> list[Any]:
    """What each connection to the application passes before its bytes are carried."""
    return [made for action in ACTIONS for made in network_rbac.network_filters(view, action, providers)]


def outbound_http(*, sniffed: bool = False) -> list[Any]:
    """What each request of the application passes. `sniffed`: its destination may as well get plain bytes."""
    return [alpn.http_filter(), router.http_filter()] if sniffed else [router.http_filter()]

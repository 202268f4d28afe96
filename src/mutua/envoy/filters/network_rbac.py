"""AuthorizationPolicy for connections whose bytes are not read as requests."""

from typing import Any, Final

from envoy.config.listener.v3 import listener_components_pb2
from envoy.extensions.filters.network.rbac.v3 import rbac_pb2

from mutua.envoy.filters import ext_authz, rbac
from mutua.envoy.filters.rbac import Providers
from mutua.envoy.pack import packed
from mutua.mesh.proxy_view import AuthorizationAction, InboundView

STAT_PREFIX: Final = "tcp."


def network_filters(view: InboundView, action: AuthorizationAction, providers: Providers) -> list[Any]:
    """The filters for connections; none if no policy has this action."""
    compiled = rbac.of_action(view, action, providers, requests=False)
    if compiled is None:
        return []
    config = rbac_pb2.RBAC(
        stat_prefix=STAT_PREFIX,
        rules=compiled.enforced,
        shadow_rules=compiled.shadow,
        shadow_rules_stat_prefix=compiled.shadow_prefix,
    )
    judging = listener_components_pb2.Filter(name="envoy.filters.network.rbac", typed_config=packed(config))
    if action is not AuthorizationAction.CUSTOM or compiled.shadow is None:
        return [judging]
    asked = {policy.provider for policy in view.policies if policy.action is action}
    return [judging, *(ext_authz.network_filter(each) for each in providers if each.name in asked)]

"""AuthorizationPolicy for connections whose bytes are not read as requests."""

from typing import Any, Final

from envoy.config.listener.v3 import listener_components_pb2
from envoy.extensions.filters.network.rbac.v3 import rbac_pb2

from mutua.envoy.filters import rbac
from mutua.envoy.pack import packed
from mutua.mesh.proxy_view import AuthorizationAction, EffectivePolicy, Trust

STAT_PREFIX: Final = "tcp."


def network_filter(policies: tuple[EffectivePolicy, ...], action: AuthorizationAction, trust: Trust) -> Any | None:
    """The filter for connections; None if no policy has this action."""
    compiled = rbac.of_action(policies, action, trust, requests=False)
    if compiled is None:
        return None
    config = rbac_pb2.RBAC(
        stat_prefix=STAT_PREFIX,
        rules=compiled.enforced,
        shadow_rules=compiled.shadow,
        shadow_rules_stat_prefix=compiled.shadow_prefix,
    )
    return listener_components_pb2.Filter(name="envoy.filters.network.rbac", typed_config=packed(config))

"""Whether what the objects say is in force in every Envoy of a namespace."""

from collections.abc import Iterable, Mapping

from mutua.mesh import peer_authentication
from mutua.mesh.peer_authentication import PeerPolicies
from mutua.mesh.workloads import Workload
from mutua.reports.proxy_status import ProxyState


def lagging(
    policies: PeerPolicies, workloads: Iterable[Workload], proxies: Mapping[tuple[str, str], ProxyState]
) -> tuple[str, ...]:
    """The pods whose Envoy has not acknowledged the mode that the policies give it, by name.

    A pod that is not ready and not connected counts for nothing: its Envoy begins with what is in force then.
    """
    return tuple(
        sorted(
            item.name
            for item in workloads
            if item.has_sidecar and not _is_live(policies, item, proxies.get((item.namespace, item.name)))
        )
    )


def _is_live(policies: PeerPolicies, workload: Workload, proxy: ProxyState | None) -> bool:
    if proxy is None:
        return not workload.ready
    expected = peer_authentication.effective(policies, workload.labels)
    ports = {number for number, _ in (*expected.ports, *proxy.port_modes)}
    return (
        proxy.has_its_listeners
        and proxy.mode is expected.default
        and all(proxy.accepts(port) is expected.on_port(port) for port in ports)
    )

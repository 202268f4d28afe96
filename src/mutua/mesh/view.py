"""All that one proxy's configuration may depend on, from the snapshot."""

import msgspec

from mutua.mesh.proxy_view import ProxyView
from mutua.mesh.selectors import labels_of
from mutua.mesh.snapshot import MeshSnapshot
from mutua.mesh.workloads import Workload


class Proxy(msgspec.Struct, frozen=True):
    """Who connected. Namespace and service account are proven by its certificate; the rest is what it says."""

    namespace: str
    pod_name: str = ""
    address: str = ""
    service_account: str = ""
    labels: dict[str, str] = msgspec.field(default_factory=dict)


def for_proxy(snapshot: MeshSnapshot, proxy: Proxy) -> ProxyView:
    """The proxy's view: what its workload accepts, and what its namespace can dial.

    Proxies that are alike get the very same object, also from a later snapshot in which nothing changed for them.
    A proxy whose pod is not known (yet) is taken at its word, within the namespace of its certificate.
    """
    workload = workload_of(snapshot, proxy)
    outbound = snapshot.parts.outbound.view(workload.namespace, workload.labels)
    return snapshot.view_of(snapshot.inbound(workload.namespace).view(workload), outbound)


def workload_of(snapshot: MeshSnapshot, proxy: Proxy) -> Workload:
    """The workload that the proxy stands beside: by pod name, else by address within its namespace, else as it says."""
    known = snapshot.workload(proxy.namespace, proxy.pod_name)
    if known is None and proxy.address:
        known = snapshot.workload_by_address(proxy.address)
    if known is not None and known.namespace == proxy.namespace:
        return known
    return Workload(
        namespace=proxy.namespace,
        name=proxy.pod_name,
        labels=labels_of(proxy.labels),
        service_account=proxy.service_account,
        addresses=(proxy.address,) if proxy.address else (),
        has_sidecar=True,
        ready=False,
        named_ports=(),
    )

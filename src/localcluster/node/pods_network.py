"""A pod's network: one of its own, or the node's for a pod with `hostNetwork`."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from localcluster.node.pods_container import NodeServices
from localcluster.node.runtime import PodNetwork


@dataclass(frozen=True, slots=True)
class _NodeNetwork:
    """The node's own network, as a pod's."""

    address: str
    namespace_fd: int


async def make(node: NodeServices, pod: Mapping[str, Any]) -> PodNetwork:
    """The pod's network. Raises OSError."""
    if pod["spec"].get("hostNetwork"):
        descriptor = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        return _NodeNetwork(node.host_ip, descriptor)
    return await node.network.create(pod["metadata"]["uid"])


async def remove(node: NodeServices, pod: Mapping[str, Any], network: PodNetwork | None) -> None:
    """Take it away, also one that was only half made (`network` is None then). Raises OSError."""
    if isinstance(network, _NodeNetwork):
        os.close(network.namespace_fd)
    elif not pod["spec"].get("hostNetwork"):
        await node.network.delete(pod["metadata"]["uid"])

"""What the node agent is given, and PID 1's own duty: keeping the API server alive."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from localcluster.images import Image
from localcluster.node.runtime import Network, Runtime
from localcluster.paths import ClusterPaths


@dataclass(frozen=True)
class NodeContext:
    """What `localcluster.node.agent.run(context)` works with.

    The agent calls `report_ready` once its Node object is Ready. It runs until `stopping` is set, then ends its pods
    within `grace_seconds` and returns. `images` are the built-in ones with those of images.json on top. The node's
    network (bridge, 10.96.0.1 and 10.96.0.10 on `lo`) is set up before the agent starts.
    """

    paths: ClusterPaths
    runtime: Runtime
    network: Network
    images: Mapping[str, Image]
    report_ready: Callable[[], None]
    stopping: asyncio.Event
    grace_seconds: float = 2.0

"""A look inside a running cluster from the host: its nodes, its pods, the memory of its processes."""

from __future__ import annotations

import json
import ssl
import urllib.request
from dataclasses import dataclass
from typing import Any

from localcluster.lifecycle import Cluster
from localcluster.node.usage import own_memory, tree
from localcluster.paths import ClusterPaths

_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Inside:
    """Ready nodes and pods of all there are; `memory_bytes` is what the processes do not share with others.

    `requests_per_second` is what the API answered in the last ten seconds.
    """

    ready_nodes: int
    nodes: int
    ready_pods: int
    pods: int
    memory_bytes: int
    requests_per_second: float


def look(cluster: Cluster) -> Inside | None:
    """What is in the cluster; None if its API does not answer."""
    paths = ClusterPaths(cluster.directory)
    try:
        context = ssl.create_default_context(cafile=str(paths.ca_certificate))
        headers = {"Authorization": f"Bearer {paths.admin_token.read_text()}"}

        def content(path: str) -> bytes:
            request = urllib.request.Request(f"https://127.0.0.1:{cluster.api_port}{path}", headers=headers)
            with urllib.request.urlopen(request, timeout=_SECONDS, context=context) as answer:  # noqa: S310
                return bytes(answer.read())

        # Before this look adds to it.
        measured = content("/metrics").decode()
        lists = [json.loads(content(f"/api/v1/{resource}"))["items"] for resource in ("nodes", "pods")]
        rate = float(measured.split("\nlocalcluster_requests_per_second ")[1].split()[0])
    except (OSError, ValueError, KeyError, IndexError):
        return None
    nodes, pods = lists
    ready = [sum(map(_is_ready, items)) for items in lists]
    return Inside(ready[0], len(nodes), ready[1], len(pods), own_memory(tree(cluster.pid)), rate)


def _is_ready(item: dict[str, Any]) -> bool:
    conditions = (item.get("status") or {}).get("conditions") or ()
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)

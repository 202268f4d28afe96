"""metrics.k8s.io: what `kubectl top` shows, as the node measures it when asked."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from localcluster.apiserver import kinds
from localcluster.apiserver.errors import InternalServerError, MethodNotAllowedError, NotFoundError
from localcluster.apiserver.http import negotiation
from localcluster.apiserver.http.targets import Target
from localcluster.apiserver.metadata import timestamp
from localcluster.apiserver.resources import Resources, selection

Object = dict[str, Any]

GROUP = "metrics.k8s.io"
_LONGEST_SECONDS = 10.0


class Metrics:
    """Answers reads of NodeMetrics and PodMetrics."""

    def __init__(self, resources: Resources, node_socket: Path) -> None:
        """Labels come from `resources`, numbers from the node behind its unix socket."""
        self._resources = resources
        self._socket = str(node_socket)

    async def answer(self, request: Request, target: Target) -> Response:
        """One object, or the list of a namespace or of all."""
        if request.method != "GET":
            raise MethodNotAllowedError("the server does not allow this method on the requested resource")
        stats = await self._stats()
        of_nodes = target.kind.plural == "nodes"
        described = kinds.NODE if of_nodes else kinds.POD
        objects, version = await self._resources.list(described, target.namespace)
        query = request.query_params
        wanted = selection(described, query.get("labelSelector"), query.get("fieldSelector"))
        shown = [
            measured
            for item in objects
            if (wanted is None or wanted(item)) and target.name in ("", item["metadata"]["name"])
            if (measured := (node_metrics if of_nodes else pod_metrics)(item, stats)) is not None
        ]
        if not target.name:
            head = {"kind": target.kind.list_kind, "apiVersion": target.kind.api_version}
            return negotiation.answer({**head, "metadata": {"resourceVersion": version}, "items": shown})
        if not shown:
            raise NotFoundError(f'{target.kind.plural}.{GROUP} "{target.name}" not found')
        return negotiation.answer(shown[0])

    async def _stats(self) -> Object:
        import httpx2

        transport = httpx2.AsyncHTTPTransport(uds=self._socket)
        try:
            async with httpx2.AsyncClient(transport=transport, timeout=_LONGEST_SECONDS) as client:
                found: Object = (await client.get("http://node/stats")).json()
                return found
        except httpx2.TransportError as error:
            raise InternalServerError(f"the node does not answer ({error!r})") from error


def node_metrics(node: Object, stats: Object) -> Object | None:
    """The NodeMetrics of a node: everything that runs in the cluster."""
    return {**_head("NodeMetrics", node, stats), "usage": _usage(stats["node"])}


def pod_metrics(pod: Object, stats: Object) -> Object | None:
    """The PodMetrics of a pod; None if none of its containers runs."""
    containers = stats["pods"].get(pod["metadata"]["uid"])
    if not containers:
        return None
    shown = [{"name": name, "usage": _usage(used)} for name, used in sorted(containers.items())]
    return {**_head("PodMetrics", pod, stats), "containers": shown}


def _head(kind: str, item: Object, stats: Object) -> Object:
    about = {name: item["metadata"][name] for name in ("name", "namespace", "labels") if name in item["metadata"]}
    about["creationTimestamp"] = timestamp()
    window = f"{stats['windowSeconds']:.3f}s"
    return {
        "kind": kind,
        "apiVersion": f"{GROUP}/v1beta1",
        "metadata": about,
        "timestamp": timestamp(datetime.now(UTC)),
        "window": window,
    }


def _usage(used: Object) -> Object:
    return {"cpu": f"{int(used['cores'] * 1e9)}n", "memory": f"{used['memory'] // 1024}Ki"}

"""What every cluster has from its first start: the system's namespaces, the service `kubernetes`, the roles."""

from __future__ import annotations

from typing import Any

from localcluster import storage
from localcluster.apiserver import kinds
from localcluster.apiserver.authorization import roles
from localcluster.apiserver.errors import AlreadyExistsError
from localcluster.apiserver.resources import Resources
from localcluster.apiserver.settings import Settings

NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")
_API_PORT = 443


async def populate(resources: Resources, settings: Settings) -> None:
    """Create what is missing."""
    wanted = [(kinds.NAMESPACE, _object(kinds.NAMESPACE, {"name": name})) for name in NAMESPACES]
    wanted += _api_service(settings.api_address)
    wanted += roles.objects()
    wanted.append((kinds.STORAGE_CLASS, storage.default_class()))
    for kind, object in wanted:
        metadata = object["metadata"]
        if resources.store.get(kind.storage_key, metadata.get("namespace", ""), metadata["name"]) is None:
            try:
                await resources.create(kind, object)
            except AlreadyExistsError:
                continue


def _object(kind: kinds.KindInfo, metadata: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata}


def _api_service(address: str) -> list[tuple[kinds.KindInfo, dict[str, Any]]]:
    port = {"name": "https", "port": _API_PORT, "protocol": "TCP"}

    def named(kind: kinds.KindInfo, labels: dict[str, str]) -> dict[str, Any]:
        return _object(kind, {"name": "kubernetes", "namespace": "default", "labels": labels})

    service = named(kinds.SERVICE, {"component": "apiserver", "provider": "kubernetes"})
    service["spec"] = {"type": "ClusterIP", "clusterIP": address, "ports": [{**port, "targetPort": _API_PORT}]}
    # Without selector: nobody else keeps these endpoints.
    endpoints = named(kinds.ENDPOINTS, {"endpointslice.kubernetes.io/skip-mirror": "true"})
    endpoints["subsets"] = [{"addresses": [{"ip": address}], "ports": [port]}]
    slice_ = named(kinds.ENDPOINT_SLICE, {"kubernetes.io/service-name": "kubernetes"})
    slice_ |= {
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
        "ports": [port],
    }
    return [(kinds.SERVICE, service), (kinds.ENDPOINTS, endpoints), (kinds.ENDPOINT_SLICE, slice_)]

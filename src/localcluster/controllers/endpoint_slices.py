"""EndpointSlices: the addresses behind each Service, from its pods or (without selector) from its Endpoints."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from localcluster.apiserver import kinds
from localcluster.controllers import backends
from localcluster.controllers.backends import Backend
from localcluster.controllers.state import Name, State, is_terminating, owner_reference
from localcluster.controllers.writes import Create, Delete, Update, Write

Object = dict[str, Any]

keys = backends.keys
_SERVICE_NAME = "kubernetes.io/service-name"
_MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
_FROM_PODS = "endpointslice-controller.k8s.io"
_FROM_ENDPOINTS = "endpointslicemirroring-controller.k8s.io"
_SKIP_MIRROR = "endpointslice.kubernetes.io/skip-mirror"
_HEADLESS = "service.kubernetes.io/headless"
_MOST_ENDPOINTS = 100  # in one slice; Kubernetes' default


def reconcile(state: State, key: Name, now: datetime) -> list[Write]:
    """Bring the slices of the Service called `key` up to date; delete ours when the Service is gone."""
    service = state.get(kinds.SERVICE, *key)
    found = [
        item
        for item in state.all_of(kinds.ENDPOINT_SLICE, key[0])
        if (item["metadata"].get("labels") or {}).get(_SERVICE_NAME) == key[1]
        and item["metadata"]["labels"].get(_MANAGED_BY) in (_FROM_PODS, _FROM_ENDPOINTS)
        and not is_terminating(item)
    ]
    if service is None or is_terminating(service):
        wanted: list[Object] = []
    elif backends.selects(service):
        wanted = list(_from_pods(state, service))
    else:
        wanted = list(_from_endpoints(service, state.get(kinds.ENDPOINTS, *key)))
    return _difference(found, wanted)


def _difference(found: list[Object], wanted: list[Object]) -> list[Write]:
    """The fewest writes: slices that say the right thing stay, others are filled anew, the rest made or deleted."""
    left = list(found)
    changed: list[Object] = []
    for item in wanted:
        same = next((old for old in left if _says_the_same(old, item)), None)
        if same is None:
            changed.append(item)
        else:
            left.remove(same)
    writes: list[Write] = []
    for item in changed:
        old = next((old for old in left if old["addressType"] == item["addressType"]), None)
        if old is None:
            writes.append(Create(kinds.ENDPOINT_SLICE, item))
            continue
        left.remove(old)
        metadata = {**old["metadata"], "labels": item["metadata"]["labels"]}
        writes.append(Update(kinds.ENDPOINT_SLICE, {**item, "metadata": metadata}))
    writes += [Delete(kinds.ENDPOINT_SLICE, old) for old in left]
    return writes


def _says_the_same(old: Object, item: Object) -> bool:
    return (
        all((old.get(name) or []) == (item.get(name) or []) for name in ("addressType", "endpoints", "ports"))
        and (old["metadata"].get("labels") or {}) == item["metadata"]["labels"]
    )


def _slice(service: Object, manager: str, address_type: str, endpoints: list[Object], ports: list[Object]) -> Object:
    about = service["metadata"]
    labels = {**(about.get("labels") or {}), _SERVICE_NAME: about["name"], _MANAGED_BY: manager}
    if backends.is_headless(service):
        labels[_HEADLESS] = ""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "generateName": f"{about['name']}-",
            "namespace": about["namespace"],
            "labels": labels,
            "ownerReferences": [owner_reference(kinds.SERVICE, service)],
        },
        "addressType": address_type,
        "endpoints": endpoints,
        "ports": ports,
    }


def _from_pods(state: State, service: Object) -> Iterable[Object]:
    # A service that nothing serves yet has its slice too, without endpoints and ports.
    groups = backends.by_ports(state, service) or {(): []}
    for ports, found in groups.items():
        shown = [port.as_json() for port in ports]
        for start in range(0, max(len(found), 1), _MOST_ENDPOINTS):
            part = found[start : start + _MOST_ENDPOINTS]
            yield _slice(service, _FROM_PODS, "IPv4", [_endpoint(backend) for backend in part], shown)


def _endpoint(backend: Backend) -> Object:
    endpoint: Object = {
        "addresses": [backend.address],
        "conditions": {"ready": backend.ready, "serving": backend.serving, "terminating": backend.terminating},
        "targetRef": backend.reference(),
    }
    if backend.node:
        endpoint["nodeName"] = backend.node
    if backend.hostname:
        endpoint["hostname"] = backend.hostname
    return endpoint


def _from_endpoints(service: Object, endpoints: Object | None) -> Iterable[Object]:
    if endpoints is None or is_terminating(endpoints):
        return
    labels = endpoints["metadata"].get("labels") or {}
    if labels.get(_SKIP_MIRROR) == "true":
        return
    for subset in endpoints.get("subsets") or ():
        ports = [{"name": "", "protocol": "TCP", **port} for port in subset.get("ports") or ()]
        for address_type in ("IPv4", "IPv6"):
            entries = [
                _mirrored(address, ready=ready)
                for name, ready in (("addresses", True), ("notReadyAddresses", False))
                for address in subset.get(name) or ()
                if (":" in address["ip"]) == (address_type == "IPv6")
            ]
            for start in range(0, len(entries), _MOST_ENDPOINTS):
                part = entries[start : start + _MOST_ENDPOINTS]
                yield _slice(service, _FROM_ENDPOINTS, address_type, part, ports)


def _mirrored(address: Object, *, ready: bool) -> Object:
    endpoint: Object = {"addresses": [address["ip"]], "conditions": {"ready": ready}}
    return endpoint | {name: address[name] for name in ("hostname", "nodeName", "targetRef") if address.get(name)}

"""Endpoints objects: the addresses behind each Service with a selector, in the older form."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from localcluster.apiserver import kinds
from localcluster.controllers import backends
from localcluster.controllers.backends import Backend, Port
from localcluster.controllers.state import Name, State, is_terminating
from localcluster.controllers.writes import Create, Delete, Update, Write

Object = dict[str, Any]

keys = backends.keys
_MANAGED_BY = "endpoints.kubernetes.io/managed-by"
_OURS = "endpoint-controller"
_HEADLESS = "service.kubernetes.io/headless"


def reconcile(state: State, key: Name, now: datetime) -> list[Write]:
    """Bring the Endpoints of the Service called `key` up to date; delete ours when the Service is gone."""
    service, found = state.get(kinds.SERVICE, *key), state.get(kinds.ENDPOINTS, *key)
    if service is None or is_terminating(service):
        ours = found is not None and (found["metadata"].get("labels") or {}).get(_MANAGED_BY) == _OURS
        return [Delete(kinds.ENDPOINTS, found)] if found is not None and ours and not is_terminating(found) else []
    if not backends.selects(service):
        return []
    wanted = _endpoints(state, service)
    if found is None:
        return [Create(kinds.ENDPOINTS, wanted)]
    if (found.get("subsets") or []) == wanted.get("subsets", []) and (found["metadata"].get("labels") or {}) == wanted[
        "metadata"
    ]["labels"]:
        return []
    return [Update(kinds.ENDPOINTS, {**wanted, "metadata": {**found["metadata"], **wanted["metadata"]}})]


def _endpoints(state: State, service: Object) -> Object:
    about = service["metadata"]
    labels = {**(about.get("labels") or {}), _MANAGED_BY: _OURS}
    if backends.is_headless(service):
        labels[_HEADLESS] = ""
    item: Object = {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {"name": about["name"], "namespace": about["namespace"], "labels": labels},
    }
    groups = backends.by_ports(state, service)
    subsets = [subset for ports, found in groups.items() if (subset := _subset(service, ports, found))]
    if subsets:
        item["subsets"] = subsets
    return item


def _subset(service: Object, ports: tuple[Port, ...], found: list[Backend]) -> Object | None:
    publishes_all = bool(service["spec"].get("publishNotReadyAddresses"))
    # This form has no word for a pod that ends, so it is left out.
    shown = [backend for backend in found if publishes_all or not backend.terminating]
    subset: Object = {}
    for name, chosen in (
        ("addresses", [backend for backend in shown if backend.ready]),
        ("notReadyAddresses", [backend for backend in shown if not backend.ready]),
    ):
        if chosen:
            subset[name] = [_address(backend) for backend in chosen]
    if not subset:
        return None
    if ports:
        subset["ports"] = [{k: v for k, v in port.as_json().items() if v != ""} for port in ports]
    return subset


def _address(backend: Backend) -> Object:
    address: Object = {"ip": backend.address, "targetRef": backend.reference()}
    if backend.node:
        address["nodeName"] = backend.node
    if backend.hostname:
        address["hostname"] = backend.hostname
    return address

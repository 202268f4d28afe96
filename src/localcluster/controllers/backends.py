"""Which pods stand behind a Service, on which ports: what Endpoints and EndpointSlices both tell."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from localcluster.apiserver import kinds
from localcluster.apiserver.kinds import KindInfo
from localcluster.controllers import pods
from localcluster.controllers.state import Name, State, is_terminating, name_of

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Port:
    """One port of a Service as one pod serves it."""

    name: str
    number: int
    protocol: str
    app_protocol: str = ""

    def as_json(self) -> Object:
        """As EndpointPort of either kind."""
        shown: Object = {"name": self.name, "port": self.number, "protocol": self.protocol}
        if self.app_protocol:
            shown["appProtocol"] = self.app_protocol
        return shown


@dataclass(frozen=True, slots=True)
class Backend:
    """One pod behind a Service. `ready`: gets traffic; `serving`: is ready, also while it ends."""

    address: str
    ready: bool
    serving: bool
    terminating: bool
    node: str
    hostname: str
    pod: Object

    def reference(self) -> Object:
        """The pod as `targetRef`."""
        about = self.pod["metadata"]
        return {"kind": "Pod", "name": about["name"], "namespace": about["namespace"], "uid": about["uid"]}


def keys(state: State, kind: KindInfo, old: Object | None, new: Object | None) -> Iterable[Name]:
    """The Services whose endpoints a change concerns, by namespace and name."""
    if kind is kinds.SERVICE or kind is kinds.ENDPOINTS:
        yield name_of(new or old or {})
    elif kind is kinds.ENDPOINT_SLICE:
        item = new or old or {}
        service = (item["metadata"].get("labels") or {}).get("kubernetes.io/service-name")
        if service:
            yield item["metadata"]["namespace"], service
    elif kind is kinds.POD:
        item = new or old or {}
        labels = [pod["metadata"].get("labels") or {} for pod in (old, new) if pod is not None]
        for service in state.all_of(kinds.SERVICE, item["metadata"]["namespace"]):
            selector = (service.get("spec") or {}).get("selector")
            if selector and any(selector.items() <= found.items() for found in labels):
                yield name_of(service)


def selects(service: Object) -> bool:
    """Whether its endpoints are ours to find: it has a selector and an address (or none, on purpose)."""
    spec = service.get("spec") or {}
    return bool(spec.get("selector")) and spec.get("type") != "ExternalName"


def is_headless(service: Object) -> bool:
    """Whether it has no address of its own."""
    return (service.get("spec") or {}).get("clusterIP") == "None"


def by_ports(state: State, service: Object) -> dict[tuple[Port, ...], list[Backend]]:
    """The pods behind a Service by the ports they serve it on, each list ordered by address.

    Pods of one Service can differ where `targetPort` is a name. Finished pods, and those without address, are left out.
    """
    spec, namespace = service["spec"], service["metadata"]["namespace"]
    publishes_all = bool(spec.get("publishNotReadyAddresses"))
    groups: dict[tuple[Port, ...], list[Backend]] = defaultdict(list)
    for pod in state.all_of(kinds.POD, namespace):
        status = pod.get("status") or {}
        labels = pod["metadata"].get("labels") or {}
        if not spec["selector"].items() <= labels.items() or pods.is_finished(pod) or not status.get("podIP"):
            continue
        ports = _ports(service, pod)
        if not ports and spec.get("ports"):
            continue
        serving, terminating = pods.is_ready(pod), is_terminating(pod)
        pod_spec = pod.get("spec") or {}
        named = pod_spec.get("subdomain") == service["metadata"]["name"]
        groups[ports].append(
            Backend(
                address=status["podIP"],
                ready=publishes_all or (serving and not terminating),
                serving=serving,
                terminating=terminating,
                node=pod_spec.get("nodeName") or "",
                hostname=(pod_spec.get("hostname") or "") if named else "",
                pod=pod,
            )
        )
    return {ports: sorted(groups[ports], key=lambda backend: backend.address) for ports in sorted(groups, key=repr)}


def _ports(service: Object, pod: Object) -> tuple[Port, ...]:
    """The Service's ports as this pod serves them; a port whose name the pod does not have is left out."""
    found: list[Port] = []
    for port in service["spec"].get("ports") or ():
        protocol = port.get("protocol", "TCP")
        number = _target(port, protocol, pod)
        if number:
            found.append(Port(port.get("name") or "", number, protocol, port.get("appProtocol") or ""))
    return tuple(found)


def _target(port: Object, protocol: str, pod: Object) -> int | None:
    target = port.get("targetPort") or port["port"]
    if isinstance(target, int):
        return target
    spec = pod.get("spec") or {}
    sidecars = [c for c in spec.get("initContainers") or () if c.get("restartPolicy") == "Always"]
    for container in [*(spec.get("containers") or ()), *sidecars]:
        for candidate in container.get("ports") or ():
            if candidate.get("name") == target and candidate.get("protocol", "TCP") == protocol:
                return int(candidate["containerPort"])
    return None

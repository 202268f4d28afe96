"""Workloads: what a pod is to the mesh."""

from collections.abc import Iterable
from typing import Final

from mutua.api.core import SIDECAR_CONTAINER, Pod
from mutua.mesh import owners
from mutua.mesh.proxy_view import Frozen
from mutua.mesh.selectors import Labels, labels_of

TLS_MODE_LABEL: Final = "security.istio.io/tlsMode"
SIDECAR_STATUS_ANNOTATION: Final = "sidecar.istio.io/status"
DEFAULT_SERVICE_ACCOUNT: Final = "default"
_ENDED_PHASES: Final = frozenset({"Succeeded", "Failed"})


class Workload(Frozen, frozen=True):
    """One running pod, or (`is_pod` False) a workload that runs elsewhere."""

    namespace: str
    name: str
    labels: Labels
    service_account: str
    addresses: tuple[str, ...]  # () until it has one, and for pods in the node's network
    has_sidecar: bool
    ready: bool
    named_ports: tuple[tuple[str, int], ...]  # container ports with a name, TCP, for targetPort by name
    owner: str = ""  # the Deployment, StatefulSet, … that it belongs to; its own name if it belongs to none
    is_pod: bool = True

    def port_number(self, target: int | str) -> int | None:
        """The number that a Service's targetPort means here; None if no container names it."""
        if isinstance(target, int):
            return target
        return next((number for name, number in self.named_ports if name == target), None)


def from_pod(pod: Pod) -> Workload | None:
    """The workload of a pod; None for a pod whose containers have ended, since its address may be another's by now."""
    if pod.status.phase in _ENDED_PHASES:
        return None
    metadata, spec, status = pod.metadata, pod.spec, pod.status
    containers = (
        *spec.containers,
        *(container for container in spec.init_containers if container.restart_policy == "Always"),
    )
    return Workload(
        namespace=metadata.namespace,
        name=metadata.name,
        labels=labels_of(metadata.labels),
        service_account=spec.service_account_name or DEFAULT_SERVICE_ACCOUNT,
        addresses=() if spec.host_network else addresses(pod),
        has_sidecar=_has_sidecar(pod, {container.name for container in containers}),
        ready=any(condition.type == "Ready" and condition.status == "True" for condition in status.conditions),
        named_ports=tuple(
            (port.name, port.container_port)
            for container in containers
            for port in container.ports
            if port.name and port.protocol == "TCP"
        ),
        owner=_owner(pod),
    )


def _owner(pod: Pod) -> str:
    metadata = pod.metadata
    controller = next((reference for reference in metadata.owner_references if reference.controller), None)
    if controller is None:
        return metadata.name
    return owners.kind_and_name(controller.kind, controller.name, metadata.labels)[1]


def addresses(pod: Pod) -> tuple[str, ...]:
    """Where the pod's connections come from, the node's address for pods in its network; () until it has one."""
    status = pod.status
    return tuple(address.ip for address in status.pod_ips if address.ip) or ((status.pod_ip,) if status.pod_ip else ())


def accounts_with_sidecar(pods: Iterable[object]) -> dict[tuple[str, str], str]:
    """By (namespace, name): the service account of each pod that has an address and speaks mutual TLS."""
    found = (from_pod(pod) for pod in pods if isinstance(pod, Pod))
    return {
        (workload.namespace, workload.name): workload.service_account
        for workload in found
        if workload is not None and workload.has_sidecar and workload.addresses
    }


def _has_sidecar(pod: Pod, container_names: set[str]) -> bool:
    """Whether mutual TLS can be spoken to the pod. The label decides where it is given, as in Istio."""
    label = pod.metadata.labels.get(TLS_MODE_LABEL)
    if label is not None:
        return label == "istio"
    return SIDECAR_CONTAINER in container_names or SIDECAR_STATUS_ANNOTATION in pod.metadata.annotations

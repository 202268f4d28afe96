"""The pods and Services behind gateways, and the gateway that stands in where nothing is known of the cluster."""

from typing import Final

from mutua.analysis.inputs import Inputs
from mutua.api import core, kinds
from mutua.api.meta import ObjectMeta

_LABELS: Final = {"istio": "ingressgateway"}
_NAME: Final = "istio-ingressgateway"
# Ports of Istio's ingress gateway, in its own installation; manifests refer to it without bringing it along.
_PORTS: Final = {"http2": (80, 80), "https": (443, 443), "tcp": (31400, 31400), "tls": (15443, 443)}


def pods(inputs: Inputs, selector: dict[str, str]) -> list[core.Pod]:
    """The pods of a gateway, of any namespace."""
    known = list(inputs.all(kinds.POD, core.Pod).values())
    if not inputs.is_complete:
        known.append(_default_pod(inputs.istio_namespace))
    return [pod for pod in known if selector.items() <= pod.metadata.labels.items()]


def services(inputs: Inputs) -> list[core.Service]:
    """All Services that may lead to a gateway."""
    known = list(inputs.all(kinds.SERVICE, core.Service).values())
    if not inputs.is_complete:
        known.append(_default_service(inputs.istio_namespace))
    return known


def _default_pod(namespace: str) -> core.Pod:
    metadata = ObjectMeta(name=_NAME, namespace=namespace, labels=_LABELS)
    return core.Pod(metadata=metadata, spec=core.PodSpec((core.Container(core.SIDECAR_CONTAINER),)))


def _default_service(namespace: str) -> core.Service:
    ports = tuple(core.ServicePort(port, name, target_port=target) for name, (port, target) in _PORTS.items())
    metadata = ObjectMeta(name=_NAME, namespace=namespace)
    return core.Service(metadata=metadata, spec=core.ServiceSpec(selector=_LABELS, ports=ports))

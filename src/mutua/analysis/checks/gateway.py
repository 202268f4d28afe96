"""Gateways without pods, on ports that no Service leads to, or in each other's way."""

from collections.abc import Iterator
from typing import Final

from mutua.analysis import words
from mutua.analysis.check import Check
from mutua.analysis.checks import gateway_facts
from mutua.analysis.inputs import Inputs
from mutua.analysis.message import Message, istio, subject
from mutua.api import core, kinds
from mutua.api.traffic import Gateway, GatewayServer
from mutua.mesh import hosts

KIND: Final = kinds.GATEWAY


def ports(inputs: Inputs) -> Iterator[Message]:
    """Gateways whose selector matches no pod, and ports that no Service of the pods leads to."""
    services = gateway_facts.services(inputs)
    for item in inputs.subjects(KIND, Gateway):
        about, shown = subject(KIND, item), words.selector(item.spec.selector)
        pods = gateway_facts.pods(inputs, item.spec.selector)
        if not pods:
            yield istio("IST0101", about, "selector", shown, field="spec.selector")
            continue
        behind = [service for service in services for pod in pods if _leads_to(service, pod)]
        named = {one for service in behind for port in service.spec.ports for one in (port.port, port.target_port)}
        for index, server in enumerate(item.spec.servers):
            if server.port.number not in named:
                yield istio("IST0162", about, server.port.number, shown, field=f"spec.servers[{index}].port")


def conflicts(inputs: Inputs) -> Iterator[Message]:
    """Gateways of the same pods that open one port for the same hosts."""
    by_port: dict[int, list[tuple[Gateway, GatewayServer]]] = {}
    for item in inputs.all(KIND, Gateway).values():
        for server in item.spec.servers:
            by_port.setdefault(server.port.number, []).append((item, server))
    for item in inputs.subjects(KIND, Gateway):
        for server in item.spec.servers:
            others = [
                other
                for other, their in by_port[server.port.number]
                if other is not item and _same_pods(item, other) and _share_a_host(server, their)
            ]
            if others:
                names = ",".join(sorted(f"{one.metadata.namespace}/{one.metadata.name}" for one in others))
                selector, number = words.selector(item.spec.selector), server.port.number
                yield istio("IST0145", subject(KIND, item), names, selector, number, ",".join(server.hosts))


def _leads_to(service: core.Service, pod: core.Pod) -> bool:
    selector = service.spec.selector
    same_namespace = service.metadata.namespace == pod.metadata.namespace
    return bool(selector) and same_namespace and selector.items() <= pod.metadata.labels.items()


def _same_pods(first: Gateway, second: Gateway) -> bool:
    one, other = first.spec.selector.items(), second.spec.selector.items()
    return one <= other or other <= one


def _share_a_host(first: GatewayServer, second: GatewayServer) -> bool:
    if first.bind != second.bind:
        return False
    return any(
        hosts.matches(one.rpartition("/")[2], other.rpartition("/")[2]) for one in first.hosts for other in second.hosts
    )


CHECKS: Final = (
    Check(
        "gateway.IngressGatewayPortAnalyzer",
        "Gateways without pods, and ports that no Service leads to",
        ("IST0101", "IST0162"),
        (KIND, kinds.POD, kinds.SERVICE),
        ports,
    ),
    Check(
        "gateway.ConflictingGatewayAnalyzer",
        "Gateways of the same pods for the same port and hosts",
        ("IST0145",),
        (KIND,),
        conflicts,
    ),
)

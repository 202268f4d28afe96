"""Ports of Services: names that tell no protocol, protocols that cannot be detected, Services that contradict."""

from collections.abc import Iterator
from typing import Final

from mutua.analysis.check import Check
from mutua.analysis.inputs import SYSTEM_NAMESPACES, Inputs
from mutua.analysis.message import Message, istio, own, subject
from mutua.api import apps, core, kinds
from mutua.mesh import protocols
from mutua.mesh.proxy_view import Protocol

KIND: Final = kinds.SERVICE
# Of other programs than users': the mesh's own, and those that a controller makes.
_MANAGED_LABELS: Final = ("istio", "gateway.istio.io/managed")
_EXTERNAL_NAME: Final = "ExternalName"
_KNOWS_THE_HOST: Final = frozenset({Protocol.HTTP, Protocol.HTTP2, Protocol.GRPC, Protocol.TLS})
# Ports by convention of protocols whose server sends the first bytes. Source: IANA's registry and the protocols' RFCs.
_SERVER_FIRST: Final = {
    21: "FTP",
    22: "SSH",
    23: "Telnet",
    25: "SMTP",
    110: "POP3",
    143: "IMAP",
    587: "SMTP",
    2525: "SMTP",
    3306: "MySQL",
    3307: "MySQL",
    4190: "ManageSieve",
    5900: "VNC",
    6033: "MySQL",
    33060: "MySQL",
}


def port_names(inputs: Inputs) -> Iterator[Message]:
    """Ports whose protocol is found out from the bytes, or for aliases cannot be used as it is."""
    for item in inputs.subjects(KIND, core.Service):
        if _is_managed(item):
            continue
        about = subject(KIND, item)
        for index, port in enumerate(item.spec.ports):
            if port.protocol == "UDP":
                continue
            protocol = protocols.select(port.port, port.name, port.app_protocol)
            field = f"spec.ports[{index}]"
            if item.spec.type == _EXTERNAL_NAME:
                if protocol not in _KNOWS_THE_HOST:
                    yield istio("IST0150", about, field=field)
            elif protocol is Protocol.AUTO:
                yield istio("IST0118", about, port.name, port.port, port.target_port or port.port, field=field)


def server_first(inputs: Inputs) -> Iterator[Message]:
    """Ports where the sidecar waits for the client's first bytes, and the client for the server's."""
    for item in inputs.subjects(KIND, core.Service):
        if _is_managed(item) or item.spec.type == _EXTERNAL_NAME:
            continue
        for index, port in enumerate(item.spec.ports):
            if protocols.select(port.port, port.name, port.app_protocol) is not Protocol.AUTO:
                continue
            numbers = (port.port, port.target_port if isinstance(port.target_port, int) else 0)
            name = next((_SERVER_FIRST[number] for number in numbers if number in _SERVER_FIRST), "")
            if name and port.protocol != "UDP":
                text = (
                    f"port {port.port} is most likely {name}, where the server speaks first: detection would wait for"
                )
                hint = f"name it tcp-{port.name or name.lower()}, or set appProtocol: tcp"
                yield own(
                    "MUT0013", subject(KIND, item), f"{text} the client in vain", hint, field=f"spec.ports[{index}]"
                )


def deployments(inputs: Inputs) -> Iterator[Message]:
    """Deployments behind Services that say different things about one port."""
    by_namespace: dict[str, list[core.Service]] = {}
    for service in inputs.all(KIND, core.Service).values():
        if service.spec.selector:
            by_namespace.setdefault(service.metadata.namespace, []).append(service)
    for item in inputs.subjects(kinds.DEPLOYMENT, apps.Deployment):
        labels = item.spec.template.metadata.labels.items()
        behind = [one for one in by_namespace.get(item.metadata.namespace, ()) if one.spec.selector.items() <= labels]
        if len(behind) > 1:
            yield from _contradictions(item, behind)


def _contradictions(item: apps.Deployment, services: list[core.Service]) -> Iterator[Message]:
    about = subject(kinds.DEPLOYMENT, item)
    name = f"{item.metadata.name}.{item.metadata.namespace}" if item.metadata.namespace else item.metadata.name
    by_port: dict[int, dict[str, set[str]]] = {}
    by_target: dict[str, dict[int, set[str]]] = {}
    for service in services:
        for port in service.spec.ports:
            by_port.setdefault(port.port, {}).setdefault(port.protocol, set()).add(service.metadata.name)
            target = str(port.target_port or port.port)
            by_target.setdefault(target, {}).setdefault(port.port, set()).add(service.metadata.name)
    for number, by_protocol in sorted(by_port.items()):
        if len(by_protocol) > 1:
            yield istio("IST0116", about, name, number, sorted(set().union(*by_protocol.values())))
    for target, by_number in sorted(by_target.items()):
        names = sorted(set().union(*by_number.values()))
        if len(by_number) > 1 and len(names) > 1:
            yield istio("IST0137", about, name, names, target, sorted(by_number))


def _is_managed(item: core.Service) -> bool:
    labels = item.metadata.labels
    return (
        item.metadata.namespace in SYSTEM_NAMESPACES
        or labels.get("release") == "istio"
        or any(label in labels for label in _MANAGED_LABELS)
    )


CHECKS: Final = (
    Check(
        "service.PortNameAnalyzer",
        "Ports of Services whose name tells no protocol",
        ("IST0118", "IST0150"),
        (KIND,),
        port_names,
    ),
    Check(
        "service.ServerFirstAnalyzer",
        "Ports without a protocol on which the server speaks first",
        ("MUT0013",),
        (KIND,),
        server_first,
    ),
    Check(
        "deployment.MultiServiceAnalyzer",
        "Deployments behind Services that contradict each other about a port",
        ("IST0116", "IST0137"),
        (KIND, kinds.DEPLOYMENT),
        deployments,
    ),
)

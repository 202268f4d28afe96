"""Whom `mutua check` means: pods and Services by the names that people give them."""

from collections.abc import Iterable
from typing import NamedTuple

from mutua.analysis.projection import WORKLOAD_KINDS
from mutua.api import kinds
from mutua.errors import InvalidInputError, NotFoundError
from mutua.mesh import view
from mutua.mesh.proxy_view import OutboundService
from mutua.mesh.selectors import labels_of
from mutua.mesh.services import Service
from mutua.mesh.snapshot import MeshSnapshot
from mutua.mesh.workloads import Workload

MAX_PORT = 65535


class Destination(NamedTuple):
    """What is called: a Service's port, or a workload's own where `host` is "". `authority` is how clients name it."""

    host: str
    server: Workload | None
    port: int
    authority: str


def client(snapshot: MeshSnapshot, argument: str, namespace: str) -> Workload:
    """The workload that `[TYPE/]NAME[.NAMESPACE]` means. Raises NotFoundError, InvalidInputError."""
    kind, name, where = _parts(snapshot, argument, namespace)
    found = _workloads(snapshot, kind, name, where)
    if not found:
        raise NotFoundError(
            f"no pod is meant by {argument!r} in namespace {where}",
            "name a pod, deploy/NAME or svc/NAME, with .NAMESPACE behind it or -n NAMESPACE",
        )
    return found[0]


def destination(snapshot: MeshSnapshot, caller: Workload, argument: str, namespace: str) -> Destination:
    """What `[TYPE/]NAME[.NAMESPACE][:PORT]` means; a bare name is a Service's, or else a pod's.

    A host of a ServiceEntry is meant by its own name, if the caller's namespace sees it. A workload is called by the
    Service that leads to its port, if there is one, else by its own address.
    Raises NotFoundError, InvalidInputError.
    """
    text, colon, port_text = argument.rpartition(":")
    text, port = (text, _port(port_text, argument)) if colon else (argument, 0)
    kind, name, where = _parts(snapshot, text, namespace)
    service = snapshot.service(where, name) if kind in ("", kinds.SERVICE.name) else None
    if service is not None:
        number = port or _only([each.number for each in service.ports], argument)
        if number not in {each.number for each in service.ports}:
            known = ", ".join(str(each.number) for each in service.ports)
            raise NotFoundError(f"Service {where}/{name} has no port {number}", f"its ports are {known}")
        return Destination(service.host, None, number, f"{name}.{where}" if where != namespace else name)
    if kind == kinds.SERVICE.name:
        raise NotFoundError(f"there is no Service {where}/{name} with endpoints")
    entry = _entry(snapshot, caller, text) if not kind else None
    if entry is not None:
        number = port or _only([each.number for each in entry.ports], argument)
        if number not in {each.number for each in entry.ports}:
            known = ", ".join(str(each.number) for each in entry.ports)
            raise NotFoundError(f"ServiceEntry {entry.namespace}/{entry.name} has no port {number}", f"it has {known}")
        return Destination(text, None, number, text)
    servers = _workloads(snapshot, kind, name, where)
    if not servers:
        raise NotFoundError(
            f"neither a Service, nor a ServiceEntry's host, nor a pod is meant by {argument!r} in namespace {where}"
        )
    return _of_workload(snapshot, servers[0], port, argument)


def _entry(snapshot: MeshSnapshot, caller: Workload, host: str) -> OutboundService | None:
    found = view.for_proxy(snapshot, view.Proxy(caller.namespace, caller.name)).outbound.find(host)
    return found if found is not None and found.is_entry else None


def _of_workload(snapshot: MeshSnapshot, server: Workload, port: int, argument: str) -> Destination:
    leading = sorted(
        (service.host, service.namespace, item.number, number)
        for service in snapshot.inbound(server.namespace).services_of(server.labels)
        for item in service.ports
        if (number := server.port_number(item.target)) is not None and port in (0, number)
    )
    own = port or _only(sorted({number for *_, number in leading}), argument)
    for host, namespace, number, target in leading:
        if target == own and snapshot.load(namespace, host):
            return Destination(host, server, number, host)
    address = server.addresses[0] if server.addresses else server.name
    return Destination("", server, own, f"{address}:{own}")


def _parts(snapshot: MeshSnapshot, argument: str, namespace: str) -> tuple[str, str, str]:
    """Kind ("" = not said), name and namespace. A full host name of the cluster is a Service's."""
    word, slash, name = argument.rpartition("/")
    kind = kinds.find(word) if slash else None
    if slash and (kind is None or kind.name not in _KNOWN):
        raise InvalidInputError(f'"{argument}" does not refer to a pod', "for example deploy/web, svc/web or a pod")
    name = name.removesuffix(f".svc.{snapshot.settings.cluster_domain}").removesuffix(".svc")
    head, dot, tail = name.rpartition(".")
    if dot and head:
        name, namespace = head, tail
    if not name:
        raise InvalidInputError(f'"{argument}" names nothing', "for example deploy/web, svc/web or a pod")
    return kind.name if kind else "", name, namespace


_KNOWN = frozenset({kinds.POD.name, kinds.SERVICE.name, *(kind.name for kind, _ in WORKLOAD_KINDS)})


def _workloads(snapshot: MeshSnapshot, kind: str, name: str, namespace: str) -> list[Workload]:
    """The pods that are meant, ready ones first."""
    if kind in ("", kinds.POD.name):
        pod = snapshot.workload(namespace, name)
        return [pod] if pod else []
    here = [workload for workload in snapshot.workloads.values() if workload.namespace == namespace]
    if kind == kinds.SERVICE.name:
        service = snapshot.service(namespace, name)
        return _ordered(_behind(service, here)) if service else []
    for each, struct in WORKLOAD_KINDS:
        item = snapshot.objects.typed(each, struct).get((namespace, name)) if each.name == kind else None
        if item is not None:
            labels = item.spec.selector.match_labels or item.spec.template.metadata.labels
            return _ordered(workload for workload in here if labels_of(labels) <= workload.labels)
    return []


def _behind(service: Service, workloads: Iterable[Workload]) -> list[Workload]:
    return [each for each in workloads if service.selector and service.selector <= each.labels]


def _ordered(workloads: Iterable[Workload]) -> list[Workload]:
    return sorted(workloads, key=lambda each: (not each.ready, not each.addresses, each.name))


def _only(ports: list[int], argument: str) -> int:
    if len(ports) == 1:
        return ports[0]
    known = f"it has {', '.join(map(str, ports))}" if ports else "no Service names one"
    raise InvalidInputError(f"{argument!r} needs a port: {known}", f"write {argument}:PORT")


def _port(text: str, argument: str) -> int:
    if text.isascii() and text.isdigit() and 0 < int(text) <= MAX_PORT:
        return int(text)
    raise InvalidInputError(f"{argument!r} ends in {text!r}, which is no port", f"a port is from 1 to {MAX_PORT}")

"""Callers that can have no certificate of the mesh, and whom STRICT shuts out: API server, scrapers, kubelet."""

from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Final, NamedTuple

from mutua.api import booleans, core, kinds
from mutua.api.admission import Webhook
from mutua.injection.app_probes import STATUS_PORT
from mutua.injection.settings import UNCAPTURED_INBOUND_PORTS
from mutua.mesh.proxy_view import Frozen, MtlsMode, ObjectRef
from mutua.mesh.snapshot import MeshSnapshot
from mutua.mesh.workloads import Workload
from mutua.verdict import connection

EXCLUDED_PORTS: Final = "traffic.sidecar.istio.io/excludeInboundPorts"
_STATUS_PORT: Final = "status.sidecar.istio.io/port"
_REWRITE: Final = "sidecar.istio.io/rewriteAppHTTPProbers"
_SCRAPER: Final = "prometheus"


class Asks(StrEnum):
    """How the kubelet asks."""

    HTTP = "HTTP GET"
    TCP = "TCP connection"
    GRPC = "gRPC health check"


class Probe(Frozen, frozen=True):
    """A probe of the kubelet that reaches a captured port of a workload, as `readiness`."""

    name: str
    container: str
    asks: Asks
    port: int
    path: str = ""

    def __str__(self) -> str:
        what = f" {self.path}" if self.path else ""
        return f"{self.name} probe of container {self.container} ({self.asks.value}{what})"


class CutOff(NamedTuple):
    """A workload's port that takes mutual TLS only, where somebody without a certificate calls."""

    server: Workload
    port: int
    policy: ObjectRef | None
    reason: str  # the port's mode, and who decided it


def webhook(snapshot: MeshSnapshot, called: Webhook) -> CutOff | None:
    """Where the API server's call of a webhook is refused; None if it is not, or leads nowhere in the mesh."""
    target = called.client_config.service
    service = snapshot.service(target.namespace, target.name) if target else None
    if target is None or service is None:
        return None
    load = next((one for one in snapshot.load(service.namespace, service.host) if one.port == target.port), None)
    for endpoint in load.endpoints if load else ():
        server = snapshot.workload_by_address(endpoint.address)
        if server is None or not is_captured(_pod(snapshot, server), endpoint.port):
            continue
        verdict = connection.to_workload(snapshot, server, endpoint.port, connection.Protection.TLS)
        if not verdict.succeeds:
            return CutOff(server, endpoint.port, verdict.server_policy, verdict.reason)
    return None


def scrapers(snapshot: MeshSnapshot) -> tuple[Workload, ...] | None:
    """The scrapers without a sidecar, by namespace and name; None if none is known, with or without one."""
    known = [workload for workload in snapshot.workloads.values() if _is_scraper(workload)]
    bare = [workload for workload in known if not workload.has_sidecar]
    return tuple(sorted(bare, key=lambda item: (item.namespace, item.name))) if known else None


def scrapes(snapshot: MeshSnapshot) -> Iterator[CutOff]:
    """Ports where pods ask to be scraped, and that refuse a scraper without a certificate."""
    for key, pod in snapshot.objects.typed(kinds.POD, core.Pod).items():
        annotations = pod.metadata.annotations
        port = annotations.get("prometheus.io/port", "")
        server = snapshot.workloads.get(key)
        if server is None or annotations.get("prometheus.io/scrape") != "true" or not port.isdecimal():
            continue
        if cut := _refusal(snapshot, server, pod, int(port)):
            yield cut


def probes(snapshot: MeshSnapshot) -> Iterator[tuple[CutOff, Probe]]:
    """The kubelet's probes that a port refuses. One over TCP is none: the sidecar takes the connection itself."""
    for key, pod in snapshot.objects.typed(kinds.POD, core.Pod).items():
        server = snapshot.workloads.get(key)
        for probe in probes_of(pod, server) if server else ():
            cut = _refusal(snapshot, server, pod, probe.port) if server and probe.asks is not Asks.TCP else None
            if cut:
                yield cut, probe


def probes_of(pod: core.Pod, workload: Workload) -> Iterator[Probe]:
    """All probes that go to a captured port; of a pod that is yet to be injected, those that injection will leave."""
    is_injected = any(each.name == core.SIDECAR_CONTAINER for each in (*pod.spec.containers, *pod.spec.init_containers))
    if not is_injected and pod.metadata.annotations.get(_REWRITE, "") not in booleans.FALSE:
        return
    for container in pod.spec.containers:
        named = (
            ("startup", container.startup_probe),
            ("readiness", container.readiness_probe),
            ("liveness", container.liveness_probe),
        )
        for name, probe in named:
            for asks, target, path in _ways(probe) if probe else ():
                port = workload.port_number(target)
                if port and is_captured(pod, port):
                    yield Probe(name, container.name, asks, port, path)


def is_captured(pod: core.Pod | None, port: int) -> bool:
    """Whether connections to a port go through the sidecar, rather than past it or to the sidecar itself."""
    text = pod.metadata.annotations.get(EXCLUDED_PORTS, "") if pod else ""
    excluded = {int(part) for part in text.split(",") if part.strip().isdecimal()}
    status_port = pod.metadata.annotations.get(_STATUS_PORT, "") if pod else ""
    excluded.add(int(status_port) if status_port.isdecimal() else STATUS_PORT)
    return port not in excluded.union(UNCAPTURED_INBOUND_PORTS)


def _ways(probe: core.Probe) -> Iterable[tuple[Asks, int | str, str]]:
    if probe.http_get:
        yield Asks.HTTP, probe.http_get.port, probe.http_get.path or "/"
    if probe.tcp_socket:
        yield Asks.TCP, probe.tcp_socket.port, ""
    if probe.grpc:
        yield Asks.GRPC, probe.grpc.port, ""


def _refusal(snapshot: MeshSnapshot, server: Workload, pod: core.Pod, port: int) -> CutOff | None:
    if not server.has_sidecar or not is_captured(pod, port):
        return None
    effective = snapshot.mode_of(server)
    if effective.on_port(port) is not MtlsMode.STRICT:
        return None
    verdict = connection.to_workload(snapshot, server, port, connection.Protection.NONE)
    return CutOff(server, port, effective.decider(port), verdict.reason)


def _pod(snapshot: MeshSnapshot, workload: Workload) -> core.Pod | None:
    return snapshot.objects.typed(kinds.POD, core.Pod).get((workload.namespace, workload.name))


def _is_scraper(workload: Workload) -> bool:
    labels = dict(workload.labels)
    return _SCRAPER in (labels.get("app"), labels.get("app.kubernetes.io/name"))

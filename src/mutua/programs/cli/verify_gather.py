"""What `mutua verify-mtls` finds out: the edges of a namespace, one by one, and all that evidence needs beside them."""

import asyncio
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import urlsplit

import msgspec

from localcluster import lifecycle
from mutua.analysis.projection import WORKLOAD_KINDS
from mutua.api import kinds
from mutua.errors import NotFoundError
from mutua.mesh.objects import ObjectSet
from mutua.mesh.proxy_view import Protocol
from mutua.mesh.services import ServicePort
from mutua.mesh.snapshot import MeshSnapshot
from mutua.mesh.workloads import Workload
from mutua.migration import groups, words
from mutua.programs.cli import analyze_sources, check_targets, common, control_plane, live
from mutua.programs.cli.main import Options
from mutua.programs.cli.migrate_cluster import Cluster
from mutua.programs.cli.verify_edges import Target, Verifier
from mutua.programs.cli.version import client_version
from mutua.programs.wire import Wire
from mutua.reports import encryption
from mutua.reports.encryption import Edge, Evidence, Policy, Sample, State, Versions
from mutua.reports.proxy_status import PlaintextSeen
from mutua.sources import kubernetes
from mutua.system import clock
from mutua.system.kube import KubeClient, Object

EVERY_CLIENT_UP_TO: Final = 60
"""More edges than these, and each Service's port is tried from one client of the namespace only."""


async def evidence(kube: KubeClient, chosen: Options, client: str, server: str, window: timedelta) -> Evidence:
    """The document about one edge, or about every edge of the namespace that is chosen ("" and "").

    Raises NotFoundError if there is nothing to verify, InvalidInputError, KubeError.
    """

    namespace = chosen.namespace or kube.namespace
    cluster = Cluster(kube, chosen, namespace)
    await cluster.demand_namespace()
    world, states, seen = await asyncio.gather(
        live.world(kube, chosen), control_plane.proxies(kube, chosen), control_plane.plaintext(kube, chosen)
    )
    if client:
        # Only names that people give need the objects behind pods.
        makers, _ = await analyze_sources.from_cluster(kube, [kind for kind, _ in WORKLOAD_KINDS])
        named = ObjectSet.of([*(item for _, item in world.objects), *(item for _, item in makers)])
        world = msgspec.structs.replace(world, objects=named)
    snapshot = live.snapshot(world)
    if client:
        caller = check_targets.client(snapshot, client, namespace)
        called = check_targets.destination(snapshot, caller, server, namespace)
        name = f"{caller.namespace}/{caller.name}"
        is_http = _is_http(snapshot, called.host, called.port)
        targets = [Target(caller, name, called.host, called.port, called.server, is_http)]
    else:
        targets = _targets(snapshot, namespace)
        if not targets:
            raise NotFoundError(
                f"no Service of namespace {namespace} has an endpoint that somebody in the mesh could call",
                "name two workloads, as in `mutua verify-mtls deploy/web svc/db`",
            )
    common.say(f"connecting on {len(targets)} {'edge' if len(targets) == 1 else 'edges'}")
    wire, why_not = _wire(kube)
    verifier = Verifier(kube, snapshot, {(item.namespace, item.pod): item for item in states})
    made = await verifier.verify(targets, wire, why_not)
    now = clock.now()
    told = () if client else _plaintext(seen, namespace, now, window)
    edges = (*made, *told)
    envoys = {held.envoy for edge in made for held in (edge.client_certificate, *edge.server_certificates) if held}
    versions = Versions(
        client_version(),
        tuple(sorted({item.version for item in states})),
        tuple(sorted(envoys - {""})),
    )
    where = {namespace, world.mesh_config.root_namespace, *(target.client.namespace for target in targets)}
    in_force = await _policies(kube, where)
    return encryption.sealed(Evidence(now, await cluster.user(), namespace, versions, in_force, edges))


def _targets(snapshot: MeshSnapshot, namespace: str) -> list[Target]:
    """Every Service's port of the namespace, from every workload of it; of many, from one."""

    clients: list[tuple[str, Workload, set[str]]] = []
    for group in groups.of_namespace(snapshot, namespace):
        found = [snapshot.workload(namespace, pod) for pod in group.pods]
        ready = [workload for workload in found if workload is not None and workload.ready and workload.addresses]
        if ready:
            clients.append((f"{namespace}/{group.name}", ready[0], set(group.pods)))
    targets: list[list[Target]] = []
    for service in sorted(snapshot.services.values(), key=lambda item: item.name):
        if service.namespace != namespace:
            continue
        for port in service.ports:
            load = next((item for item in snapshot.load(namespace, service.host) if item.port == port.number), None)
            behind = {endpoint.workload for endpoint in load.endpoints} if load else set()
            callers = [item for item in clients if behind and not behind <= item[2]]
            targets.append(
                [Target(item[1], item[0], service.host, port.number, None, _is_read(port)) for item in callers]
            )
    everything = [target for each in targets for target in each]
    return everything if len(everything) <= EVERY_CLIENT_UP_TO else [each[0] for each in targets if each]


def _is_http(snapshot: MeshSnapshot, host: str, number: int) -> bool:
    service = next((item for item in snapshot.services.values() if item.host == host), None)
    return service is None or any(port.number == number and _is_read(port) for port in service.ports)


def _is_read(port: ServicePort) -> bool:
    """Whether a request may be sent to the port: it is read as one, or as whatever comes."""

    return port.protocol.is_http or port.protocol is Protocol.AUTO


def _plaintext(seen: Iterable[PlaintextSeen], namespace: str, now: datetime, window: timedelta) -> tuple[Edge, ...]:
    """Edges on which plaintext was accepted a moment ago."""

    return tuple(
        Edge(
            client=item.client,
            server=f"{item.server}:{item.port}",
            state=State.PLAINTEXT,
            reason=f"{item.connections} connections, the last {words.elapsed(now - item.last_seen)} ago: {item.reason}",
            sample=Sample(why="told by the server's Envoy"),
        )
        for item in seen
        if item.server.partition("/")[0] == namespace and not item.refused
        if item.last_seen is not None and now - item.last_seen <= window
    )


def _wire(kube: KubeClient) -> tuple[Wire | None, str]:
    """The bridge of the local cluster that the kubeconfig names, or why there is none."""

    address = urlsplit(kube.server)
    for status in lifecycle.clusters():
        if (
            status.cluster
            and address.hostname in ("127.0.0.1", "localhost")
            and address.port == status.cluster.api_port
        ):
            return Wire(status.cluster), ""
    return None, "packets can be captured in a local cluster of this machine only"


async def _policies(kube: KubeClient, namespaces: Iterable[str]) -> tuple[Policy, ...]:
    """The objects that decide about mutual TLS, as they are stored."""

    chosen = (kinds.PEER_AUTHENTICATION, kinds.DESTINATION_RULE)
    places = [(kind, namespace) for kind in chosen for namespace in sorted(namespaces)]
    listed = await asyncio.gather(*(kube.list(kubernetes.resource(kind), namespace) for kind, namespace in places))

    def policy(kind: str, item: Object) -> Policy:
        metadata = item["metadata"]
        return Policy(
            kind,
            metadata["namespace"],
            metadata["name"],
            metadata.get("uid", ""),
            metadata.get("resourceVersion", ""),
            int(metadata.get("generation") or 0),
            item.get("spec") or {},
        )

    return tuple(policy(kind.name, item) for (kind, _), items in zip(places, listed, strict=True) for item in items)

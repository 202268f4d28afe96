"""Whom STRICT would cut off: who was seen to come without mutual TLS, and who would come so by configuration."""

from collections.abc import Iterator
from datetime import datetime
from typing import Final, NamedTuple

import msgspec

from mutua.analysis import run
from mutua.analysis.checks import destination_rule
from mutua.analysis.inputs import SYSTEM_NAMESPACES
from mutua.analysis.message import Subject
from mutua.api import booleans, core, kinds
from mutua.api.admission import MutatingWebhookConfiguration, ValidatingWebhookConfiguration
from mutua.mesh.proxy_view import MtlsMode
from mutua.mesh.workloads import Workload
from mutua.migration.policies import KIND, namespace_policy
from mutua.migration.scene import Evidence, Obstacle, Scene
from mutua.reports.proxy_status import PlaintextSeen
from mutua.verdict import plaintext, uncertified

_INJECT: Final = "sidecar.istio.io/inject"
_INJECTION: Final = "istio-injection"
_REVISION: Final = "istio.io/rev"
_LEFT_OUT_PORTS: Final = "traffic.sidecar.istio.io/excludeOutboundPorts"
_LEFT_OUT_ADDRESSES: Final = "traffic.sidecar.istio.io/excludeOutboundIPRanges"
KUBELET: Final = "the kubelet"
API_SERVER: Final = "the API server"
_BROKEN_BY_RULE: Final = "MUT0005"


class _Place(NamedTuple):
    server: str
    port: int


def all_of(found: Scene, seen: tuple[PlaintextSeen, ...]) -> tuple[Obstacle, ...]:
    """Every obstacle: first those that block, each kind by client and server."""
    configured = [*_disabled(found), *_probes(found), *_scrapes(found), *_webhooks(found), *_rules(found)]
    merged, left = _merged(found, configured, seen)
    observed = [item for edge in left if (item := _observed(found, edge))]
    known = {item.client for item in (*merged, *observed)}
    every = [*merged, *_together(observed), *_possible(found, known)]
    rank = {Evidence.SEEN: 0, Evidence.CONFIGURED: 1, Evidence.POSSIBLE: 2}
    return tuple(
        sorted(every, key=lambda item: (not item.blocks, rank[item.evidence], item.client, item.server, item.port))
    )


def _disabled(found: Scene) -> Iterator[Obstacle]:
    for group in found.groups:
        workload = found.now.workload(found.namespace, group.pods[0])
        modes = [each.mode_of(workload).default for each in (found.now, found.then)] if workload else []
        if modes == [MtlsMode.DISABLE, MtlsMode.STRICT]:
            why = "its mode is DISABLE: every client sends plaintext now"
            cure = f"first `mutua migrate run -n {found.namespace} --to PERMISSIVE`"
            yield Obstacle("every client", group.name, 0, Evidence.CONFIGURED, True, why, cure)


def _probes(found: Scene) -> Iterator[Obstacle]:
    told: set[tuple[str, uncertified.Probe]] = set()
    for cut, probe in uncertified.probes(found.then):
        server = found.workload_of(cut.server.name)
        if cut.server.namespace == found.namespace and server and (server, probe) not in told:
            told.add((server, probe))
            why = f"the {probe} goes to the port itself, and the kubelet has no certificate"
            cure = "let the sidecar ask: take the annotation sidecar.istio.io/rewriteAppHTTPProbers away, and restart"
            yield Obstacle(KUBELET, server, cut.port, Evidence.CONFIGURED, True, why, cure)


def _scrapes(found: Scene) -> Iterator[Obstacle]:
    known = uncertified.scrapers(found.then)
    if known == ():
        return
    told: set[_Place] = set()
    for cut in uncertified.scrapes(found.then):
        place = _Place(found.workload_of(cut.server.name), cut.port)
        if cut.server.namespace != found.namespace or not place.server or place in told:
            continue
        told.add(place)
        cure = _port_cure(place, "or give the scraper a sidecar")
        why = f"the annotations prometheus.io/… ask to be scraped on port {cut.port}, and "
        if known is None:
            why += "no scraper with a sidecar is known"
            yield Obstacle("a scraper", *place, Evidence.CONFIGURED, False, why, cure)
        for scraper in known or ():
            client = _client_name(scraper)
            yield Obstacle(client, *place, Evidence.CONFIGURED, True, why + "the scraper has no sidecar", cure)


def _webhooks(found: Scene) -> Iterator[Obstacle]:
    objects = found.world.objects
    configurations: tuple[MutatingWebhookConfiguration | ValidatingWebhookConfiguration, ...] = (
        *objects.typed(kinds.MUTATING_WEBHOOK_CONFIGURATION, MutatingWebhookConfiguration).values(),
        *objects.typed(kinds.VALIDATING_WEBHOOK_CONFIGURATION, ValidatingWebhookConfiguration).values(),
    )
    for item in configurations:
        for called in item.webhooks:
            cut = uncertified.webhook(found.then, called)
            if cut and cut.server.namespace == found.namespace:
                place = _Place(found.workload_of(cut.server.name), cut.port)
                why = f"it calls webhook {called.name} of {item.metadata.name}, and has no certificate of the mesh"
                cure = _port_cure(place, "the webhook has TLS of its own")
                yield Obstacle(API_SERVER, *place, Evidence.CONFIGURED, True, why, cure)


def _rules(found: Scene) -> Iterator[Obstacle]:
    """DestinationRules that make clients send something else than mutual TLS."""
    policy = namespace_policy(found.then_world.objects, found.namespace)
    if policy is None:
        return
    decides = Subject(KIND.name, found.namespace, policy.metadata.name)
    for message in run.analyze(found.then_world, destination_rule.CHECKS):
        if message.code == _BROKEN_BY_RULE and decides in message.related and message.subject:
            rule = f"DestinationRule {message.subject.namespace}/{message.subject.name}"
            yield Obstacle(f"clients by {rule}", "", 0, Evidence.CONFIGURED, True, message.text, message.hint)


def _merged(
    found: Scene, configured: list[Obstacle], seen: tuple[PlaintextSeen, ...]
) -> tuple[list[Obstacle], list[PlaintextSeen]]:
    """The configured obstacles with what was seen of them, and what was seen besides."""
    by_place: dict[tuple[str, _Place], int] = {
        (item.client, _Place(item.server, item.port)): index for index, item in enumerate(configured)
    }
    merged, left = list(configured), []
    for edge in seen:
        if not _is_here(found, edge) or edge.refused:
            continue
        place = _Place(found.workload_of(edge.server.partition("/")[2]), edge.port)
        name = KUBELET if edge.client in found.node_addresses else _name_of(found, edge.client)
        index = by_place.get((name, place))
        if index is None:
            left.append(edge)
        else:
            merged[index] = _adding(merged[index], edge)
    return merged, left


def _adding(item: Obstacle, edge: PlaintextSeen) -> Obstacle:
    return msgspec.structs.replace(
        item,
        connections=item.connections + edge.connections,
        last_seen=_later(item.last_seen, edge.last_seen),
        dry_run=item.dry_run or edge.dry_run,
    )


def _observed(found: Scene, edge: PlaintextSeen) -> Obstacle | None:
    """The client of one edge; None if it would not be cut off, or has been mended."""
    namespace, _, pod_name = edge.server.partition("/")
    place = _Place(found.workload_of(pod_name), edge.port)
    group = next((item for item in found.groups if item.name == place.server), None)
    server = found.then.workload(namespace, group.pods[0]) if group else None
    if server is None or found.then.mode_of(server).on_port(edge.port) is not MtlsMode.STRICT:
        return None
    is_there = found.now.workload(namespace, pod_name) is not None
    made = Obstacle(
        edge.client, *place, Evidence.SEEN, True, edge.reason, "", edge.connections, edge.last_seen, edge.dry_run
    )
    recently = edge.last_seen is None or found.moment - edge.last_seen <= found.window
    client_namespace, slash, client_name = edge.client.partition("/")
    if not slash:
        return _from_address(found, made, place, is_there=is_there) if recently else None
    client = _still_there(found, client_namespace, client_name, edge.last_seen)
    if client is None:
        client = _successor(found, client_namespace, client_name)
        if client is None:
            cure = "look for what makes such pods, as a CronJob, and give it a sidecar"
            return (
                msgspec.structs.replace(made, why=f"{edge.reason} (the pod is gone)", cure=cure) if recently else None
            )
        if client.has_sidecar:
            return None
    if client.has_sidecar and edge.reason == plaintext.NO_SIDECAR:
        return None  # that was an earlier pod of the same name
    if not client.has_sidecar:
        return msgspec.structs.replace(made, client=_client_name(client), cure=_injection_cure(found, client))
    if not recently:
        return None
    cure = "leave `tls` out of the rule" if "DestinationRule" in edge.reason else "dial the Service by its name"
    return msgspec.structs.replace(made, client=_client_name(client), cure=cure)


def _from_address(found: Scene, made: Obstacle, place: _Place, *, is_there: bool) -> Obstacle | None:
    """Of what called a pod that is gone, nobody knows whether it calls those that came in its place."""
    made = msgspec.structs.replace(made, blocks=is_there)
    if made.client not in found.node_addresses:
        cure = _port_cure(place, "or let it come in by a gateway")
        return msgspec.structs.replace(made, cure=cure)
    pods = found.now.objects.typed(kinds.POD, core.Pod)
    for group in found.groups:
        for name in group.pods if group.name == place.server else ():
            workload, pod = found.now.workload(found.namespace, name), pods.get((found.namespace, name))
            probes = uncertified.probes_of(pod, workload) if pod and workload else ()
            if any(probe.port == place.port and probe.asks is uncertified.Asks.TCP for probe in probes):
                return None
    why = "a node itself: a probe, a node port, or a pod in the node's network"
    return msgspec.structs.replace(made, why=why, cure=_port_cure(place, "or let it come in by a gateway"))


def _possible(found: Scene, known: set[str]) -> Iterator[Obstacle]:
    """Pods that were not seen, and whose connections would not be mutual TLS if they made some."""
    passing_by: dict[str, str] = {}
    pods = found.now.objects.typed(kinds.POD, core.Pod)
    for key, workload in sorted(found.now.workloads.items()):
        name = _client_name(workload)
        if key[0] in (*SYSTEM_NAMESPACES, found.world.istio_namespace) or name in known or name in passing_by:
            continue
        annotations = pods[key].metadata.annotations if key in pods else {}
        left_out = next(
            (annotations[each] for each in (_LEFT_OUT_PORTS, _LEFT_OUT_ADDRESSES) if annotations.get(each)), ""
        )
        if not workload.has_sidecar:
            passing_by[name] = "has no sidecar; it was not seen to call"
            cure = _injection_cure(found, workload)
        elif left_out:
            passing_by[name] = f"its sidecar leaves out {left_out}; it was not seen to call"
            cure = "take the annotation away if it calls this namespace"
        else:
            continue
        yield Obstacle(name, "", 0, Evidence.POSSIBLE, False, passing_by[name], cure)


def _together(observed: list[Obstacle]) -> list[Obstacle]:
    """One obstacle per client, workload and port, whichever pods it was between."""
    found: dict[tuple[str, str, int], Obstacle] = {}
    for item in observed:
        key = (item.client, item.server, item.port)
        known = found.get(key)
        found[key] = (
            item
            if known is None
            else msgspec.structs.replace(
                known,
                connections=known.connections + item.connections,
                last_seen=_later(known.last_seen, item.last_seen),
                dry_run=known.dry_run or item.dry_run,
            )
        )
    return list(found.values())


def _is_here(found: Scene, edge: PlaintextSeen) -> bool:
    return edge.server.partition("/")[0] == found.namespace


def _later(one: datetime | None, other: datetime | None) -> datetime | None:
    return max(one, other) if one and other else one or other


def _name_of(found: Scene, client: str) -> str:
    namespace, _, name = client.partition("/")
    workload = found.now.workload(namespace, name)
    return _client_name(workload) if workload else client


def _client_name(client: Workload) -> str:
    return f"{client.namespace}/{client.owner or client.name}"


def _still_there(found: Scene, namespace: str, name: str, last_seen: datetime | None) -> Workload | None:
    """The pod itself, unless it is a younger one of the same name."""
    pod = found.now.objects.typed(kinds.POD, core.Pod).get((namespace, name))
    workload = found.now.workload(namespace, name)
    if pod is None or workload is None:
        return None
    created = pod.metadata.creation_timestamp
    return None if created and last_seen and datetime.fromisoformat(created) > last_seen else workload


def _successor(found: Scene, namespace: str, name: str) -> Workload | None:
    """A pod that came in the place of one that is gone: of the same name or maker. One without sidecar, if any."""
    after = [
        item
        for item in found.now.workloads.values()
        if item.namespace == namespace and (item.name == name or name.startswith(f"{item.owner or item.name}-"))
    ]
    return min(after, key=lambda item: (item.has_sidecar, item.name)) if after else None


def _injection_cure(found: Scene, client: Workload) -> str:
    pod = found.now.objects.typed(kinds.POD, core.Pod).get((client.namespace, client.name))
    namespace = found.now.objects.get(kinds.NAMESPACE, "", client.namespace)
    again = f"restart {_client_name(client)}"
    marks = (pod.metadata.annotations, pod.metadata.labels) if pod else ()
    if any(mark.get(_INJECT, "") in booleans.FALSE for mark in marks):
        return f'take {_INJECT}: "false" away, and {again}'
    labels = namespace.metadata.labels if namespace else {}
    if labels.get(_INJECTION) != "enabled" and _REVISION not in labels:
        return f"kubectl label namespace {client.namespace} {_INJECTION}=enabled --overwrite, and {again}"
    return f"{again}, so that it gets its sidecar"


def _port_cure(place: _Place, otherwise: str) -> str:
    return f"let port {place.port} of {place.server} be PERMISSIVE by portLevelMtls; {otherwise}"

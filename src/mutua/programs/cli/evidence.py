"""Gathering what a diagnosis looks at: pods, Envoys, sockets and policies of the live system."""

import asyncio
import datetime
from collections.abc import Mapping
from typing import Any

import msgspec

from mutua.api import kinds, networking
from mutua.errors import InvalidInputError, MutuaError, NotFoundError
from mutua.injection import decide, selectors
from mutua.installation.access import ROOT_CONFIG_MAP
from mutua.mesh.services import Service
from mutua.mesh.snapshot import MeshSnapshot
from mutua.mesh.workloads import Workload
from mutua.programs.cli import common, control_plane, envoy_difference, envoy_source, live
from mutua.programs.cli.common import PodName
from mutua.programs.cli.main import Options
from mutua.reports import held_certificates, proxy_status, sockets
from mutua.reports.diagnosis_facts import Evidence, Listening, Side
from mutua.reports.proxy_status import ProxyState
from mutua.spiffe import SpiffeId
from mutua.system.kube import KubeClient, Object
from mutua.system.kube_pod_http import PodHttp
from mutua.system.kube_resources import CONFIG_MAPS, MUTATING_WEBHOOKS, NAMESPACES, PODS
from mutua.system.kube_streams import execute
from mutua.verdict import call
from mutua.verdict.request import HttpRequest


class Gatherer:
    """One look at the cluster. Every method raises MutuaError where the question itself cannot be put."""

    def __init__(self, kube: KubeClient, chosen: Options) -> None:
        self._kube = kube
        self._chosen = chosen
        self._connected: list[ProxyState] | None = None

    async def of_pod(self, pod: str) -> Evidence:
        """One pod alone, with the first port that its application declares."""
        self._connected = await self._states()
        read = await live.world(self._kube, self._chosen)
        snapshot = live.snapshot(read)
        name = await common.find_pod(self._kube, pod, self._chosen)
        side, described = await self._side(name, snapshot)
        port = _declared_port(described)
        listening = await self._listening(side, port) if port else Listening.UNKNOWN
        return Evidence(now=_now(), client=side, server_port=port, listening=listening)

    async def of_call(self, client: str, server: str) -> Evidence:
        """One pod's way to another, which is named as a pod, a workload or a Service, with or without a port."""
        self._connected = await self._states()
        read = await live.world(self._kube, self._chosen)
        snapshot = live.snapshot(read)
        side, _ = await self._side(await common.find_pod(self._kube, client, self._chosen), snapshot)
        name, _, port_text = server.partition(":")
        if port_text and not port_text.isdecimal():
            raise InvalidInputError(f'"{port_text}" is no port', "for example svc/backend:80")
        host, port, trouble = await self._target(snapshot, side, name, int(port_text or 0))
        shown = f"{host}:{port}"
        workload = snapshot.workload(side.namespace, side.name)
        if trouble or workload is None:
            trouble = trouble or f"{side} is not running"
            return Evidence(now=_now(), client=side, target=shown, host=host, port=port, trouble=trouble)
        outcomes = call.judge(
            snapshot, call.Call(client=workload, port=port, host=host, request=HttpRequest(), now=_now().timestamp())
        )
        if not outcomes:
            return Evidence(
                now=_now(), client=side, target=shown, host=host, port=port, trouble=_why_empty(snapshot, host, port)
            )
        outcome = next((item for item in outcomes if not item.allowed), outcomes[0])
        behind = None
        namespace, slash, pod_name = outcome.server.partition("/")
        if slash:
            behind, _ = await self._side(PodName(namespace, pod_name), snapshot)
        listening = await self._listening(behind, outcome.port) if behind else Listening.UNKNOWN
        return Evidence(
            now=_now(),
            client=side,
            server=behind,
            target=shown,
            host=host,
            port=port,
            server_port=outcome.port,
            outcome=outcome,
            listening=listening,
            rule_mode_path=_mode_path(snapshot, outcome),
        )

    async def mesh_roots(self) -> frozenset[str]:
        """Fingerprints of the roots that the mesh tells its sidecars; none if that cannot be read."""
        try:
            found = await self._kube.find(CONFIG_MAPS, ROOT_CONFIG_MAP, self._chosen.istio_namespace)
        except MutuaError:
            return frozenset()
        return held_certificates.roots_of(((found or {}).get("data") or {}).get("root-cert.pem", ""))

    async def _target(self, snapshot: MeshSnapshot, client: Side, name: str, port: int) -> tuple[str, int, str]:
        """(host, port, why nothing can be behind it) of what is dialled. Raises NotFoundError."""
        kind, _, rest = name.rpartition("/")
        first, _, namespace = rest.partition(".")
        namespace = namespace.partition(".")[0] or self._chosen.namespace or client.namespace
        service = snapshot.service(namespace, first) if kind in ("", "svc", "service", "services") else None
        if service is None:
            if kind in ("svc", "service", "services"):
                raise NotFoundError(
                    f"there is no Service {namespace}/{first}", f"`kubectl get services -n {namespace}` lists them"
                )
            found = await common.find_pod(self._kube, name, self._chosen)
            service = _service_of(snapshot, snapshot.workload(*found))
            if service is None:
                raise NotFoundError(
                    f"no Service leads to {found.namespace}/{found.name}",
                    "name the Service that the client dials, as in svc/backend:80",
                )
        numbers = [item.number for item in service.ports]
        if port and port not in numbers:
            listed = ", ".join(map(str, numbers))
            return service.host, port, f"Service {namespace}/{service.name} has no port {port}, only {listed}"
        return service.host, port or numbers[0], ""

    async def _states(self) -> list[ProxyState] | None:
        try:
            return await control_plane.proxies(self._kube, self._chosen)
        except MutuaError:
            return None

    async def _side(self, pod: PodName, snapshot: MeshSnapshot) -> tuple[Side, Object]:
        described, namespace, webhooks = await asyncio.gather(
            self._kube.get(PODS, pod.name, pod.namespace),
            self._kube.get(NAMESPACES, pod.namespace),
            self._kube.list(MUTATING_WEBHOOKS, label_selector="app=sidecar-injector"),
        )
        metadata, spec, status = described["metadata"], described.get("spec") or {}, described.get("status") or {}
        has_sidecar = bool(common.proxy_image(described))
        would, reason = _injection(described, namespace, webhooks)
        account = str(spec.get("serviceAccountName") or "default")
        side = Side(
            namespace=pod.namespace,
            name=pod.name,
            labels=metadata.get("labels") or {},
            service_account=account,
            phase=str(status.get("phase", "Unknown")),
            waiting=_waiting(status),
            owner=_owner(metadata),
            has_sidecar=has_sidecar,
            injection="istio-proxy runs in it" if has_sidecar else reason,
            would_be_injected=would and not has_sidecar,
            proxy_ready=_proxy_ready(status),
            expected_identity=str(SpiffeId(snapshot.trust.domains[0], pod.namespace, account)),
        )
        return (await self._with_proxy(side) if has_sidecar and side.phase == "Running" else side), described

    async def _with_proxy(self, side: Side) -> Side:
        known = self._connected
        mine = [state for state in known or () if (state.namespace, state.pod) == (side.namespace, side.name)]
        mine = await envoy_difference.with_whole_words(self._kube, mine)
        try:
            dump, clock = await PodHttp(self._kube, side.namespace, side.name).get_dated_json(envoy_source.DUMP)
        except MutuaError:
            dump, clock = {}, None
        return msgspec.structs.replace(
            side,
            connected=None if known is None else bool(mine),
            refused=tuple(proxy_status.refusals(mine)),
            refused_objects=tuple(proxy_status.refused_objects(mine)),
            certificate=held_certificates.held(dump),
            clock_ahead=clock - _now() if clock else None,
        )

    async def _listening(self, side: Side, port: int) -> Listening:
        container = common.PROXY_CONTAINER if side.has_sidecar else ""
        if not container or side.phase != "Running":
            return Listening.UNKNOWN
        argv = ("cat", "/proc/net/tcp", "/proc/net/tcp6")
        try:
            done = await execute(self._kube, side.namespace, side.name, container, argv)
        except MutuaError:
            return Listening.UNKNOWN
        return sockets.listening(done.stdout.decode(errors="replace"), port)


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _injection(pod: Object, namespace: Object, webhooks: tuple[Object, ...]) -> tuple[bool, str]:
    """Whether a pod like this would get a sidecar today, and why it has none."""
    refusal = decide.refusal(pod)
    if refusal:
        return False, refusal
    namespace_labels = namespace["metadata"].get("labels") or {}
    pod_labels = pod["metadata"].get("labels") or {}
    explained = [
        selectors.explain(
            {
                "name": item["metadata"]["name"],
                "labels": item["metadata"].get("labels"),
                "webhooks": item.get("webhooks"),
            },
            namespace_labels,
            pod_labels,
        )
        for item in webhooks
    ]
    if not explained:
        return False, "no injection webhook is installed in the cluster"
    chosen = next((item for item in explained if item.injected), explained[0])
    if chosen.injected:
        return True, f"it was made before it was to be injected, or while the injector was away: {chosen.reason}"
    return False, chosen.reason


def _waiting(status: Mapping[str, Any]) -> tuple[str, ...]:
    found = []
    for item in [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]:
        waiting = (item.get("state") or {}).get("waiting")
        if waiting:
            found.append(f"{item['name']}: {waiting.get('reason', '')} {waiting.get('message', '')}".strip())
    return tuple(found)


def _owner(metadata: Mapping[str, Any]) -> str:
    """The Deployment behind a pod, told by its ReplicaSet's name."""
    digest = (metadata.get("labels") or {}).get("pod-template-hash", "")
    for owner in metadata.get("ownerReferences") or ():
        if owner.get("kind") == "ReplicaSet" and digest and str(owner["name"]).endswith(f"-{digest}"):
            return str(owner["name"]).removesuffix(f"-{digest}")
    return ""


def _proxy_ready(status: Mapping[str, Any]) -> bool:
    statuses = [*(status.get("containerStatuses") or ()), *(status.get("initContainerStatuses") or ())]
    return all(item.get("ready", False) for item in statuses if item.get("name") == common.PROXY_CONTAINER)


def _declared_port(pod: Object) -> int:
    for container in (pod.get("spec") or {}).get("containers") or ():
        for port in container.get("ports") or ():
            if container.get("name") != common.PROXY_CONTAINER and port.get("containerPort"):
                return int(port["containerPort"])
    return 0


def _service_of(snapshot: MeshSnapshot, workload: Workload | None) -> Service | None:
    if workload is None:
        return None
    own = [item for item in snapshot.services.values() if item.namespace == workload.namespace]
    return next((item for item in own if item.selector and item.selector <= workload.labels), None)


def _why_empty(snapshot: MeshSnapshot, host: str, port: int) -> str:
    service = next((item for item in snapshot.services.values() if item.host == host), None)
    if service is None:
        return "no Service has this name"
    selected = [
        item
        for item in snapshot.workloads.values()
        if item.namespace == service.namespace and service.selector and service.selector <= item.labels
    ]
    wanted = ",".join(f"{key}={value}" for key, value in sorted(service.selector))
    if not selected:
        return f"no running pod of namespace {service.namespace} has the labels {wanted}"
    ready = sum(1 for item in selected if item.ready)
    if not ready:
        return f"none of the {len(selected)} pods with the labels {wanted} is ready"
    return f"the targetPort of port {port} is one that no selected pod names"


def _mode_path(snapshot: MeshSnapshot, outcome: call.Outcome) -> str:
    """The field of the DestinationRule that says the client's mode; "" if it is not the rule's own top level."""
    decided = outcome.steps[0].decided_by
    if decided is None:
        return ""
    found = snapshot.objects.get(kinds.DESTINATION_RULE, decided.namespace, decided.name)
    if not isinstance(found, networking.DestinationRule):
        return ""
    policy = found.spec.traffic_policy
    return "spec.trafficPolicy.tls.mode" if policy and policy.tls and not policy.port_level_settings else ""

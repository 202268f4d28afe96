"""What a cluster would make of manifests: pods of workloads that have none yet, with sidecars, and endpoints."""

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from mutua.api import admission, apps, core, discovery, kinds
from mutua.api.kinds import Key, Kind
from mutua.api.meta import ObjectMeta
from mutua.injection import decide, selectors
from mutua.injection.settings import InjectorSettings
from mutua.installation import values as installation_values
from mutua.installation import webhooks as installation_webhooks
from mutua.mesh import services, workloads
from mutua.mesh.objects import Change, ObjectSet
from mutua.mesh.selectors import SelectorTable, labels_of
from mutua.mesh.workloads import TLS_MODE_LABEL

WORKLOAD_KINDS: Final[tuple[tuple[Kind, type[apps.Deployment | apps.StatefulSet | apps.DaemonSet]], ...]] = (
    (kinds.DEPLOYMENT, apps.Deployment),
    (kinds.STATEFUL_SET, apps.StatefulSet),
    (kinds.DAEMON_SET, apps.DaemonSet),
)
SNAPSHOT_INPUTS: Final = (
    *kinds.snapshot_inputs(),
    *(kind for kind, _ in WORKLOAD_KINDS),
    kinds.MUTATING_WEBHOOK_CONFIGURATION,
)

INJECTION_WEBHOOK_SUFFIX: Final = "sidecar-injector.istio.io"
# 240.0.0.0/4 is reserved (RFC 1112), so no real pod has such an address.
_FIRST_ADDRESS: Final = int(ipaddress.IPv4Address("240.0.0.1"))
_ENDED: Final = frozenset({"Succeeded", "Failed"})


def project(objects: ObjectSet, settings: InjectorSettings) -> ObjectSet:
    """The objects, with pods for workloads that have none yet and endpoints for Services that have no slices.

    Without such objects, the very same set: what a live cluster says is never touched.
    """
    pods = objects.typed(kinds.POD, core.Pod)
    made = [*_pods_of_workloads(objects, pods), *(pod for pod in pods.values() if _is_only_written(pod))]
    if not made:
        return objects
    injector = _Injector(objects, settings)
    placed = [injector.placed(pod, _FIRST_ADDRESS + number) for number, pod in enumerate(made)]
    changes = [Change(kinds.POD, kinds.POD.key(pod.metadata), pod) for pod in placed]
    with_pods = objects.replace(changes)
    return with_pods.replace(_slices(with_pods, placed))


def injection_configurations(objects: ObjectSet) -> tuple[dict[str, Any], ...]:
    """The injection webhooks that there are, as plain mappings; () if none is known."""
    found = objects.typed(kinds.MUTATING_WEBHOOK_CONFIGURATION, admission.MutatingWebhookConfiguration)
    return tuple(as_mapping(item) for item in found.values() if is_injector(item))


def is_injector(item: admission.MutatingWebhookConfiguration) -> bool:
    """Whether the webhooks inject sidecars."""
    return any(webhook.name.endswith(INJECTION_WEBHOOK_SUFFIX) for webhook in item.webhooks)


def as_mapping(item: admission.MutatingWebhookConfiguration) -> dict[str, Any]:
    """A webhook configuration as `injection.selectors` reads it."""
    webhooks = [webhook for webhook in item.webhooks if webhook.name.endswith(INJECTION_WEBHOOK_SUFFIX)]
    return {
        "name": item.metadata.name,
        "labels": item.metadata.labels,
        "webhooks": msgspec.to_builtins(webhooks),
    }


def default_configuration() -> dict[str, Any]:
    """The webhooks of a default installation, which stand in where none is known."""
    manifest = installation_webhooks.injector(installation_values.installation(installation_values.resolve(), "latest"))
    return {"name": manifest["metadata"]["name"], "labels": {}, "webhooks": manifest["webhooks"]}


def template_pod(item: apps.Deployment | apps.StatefulSet | apps.DaemonSet) -> core.Pod:
    """The pod that a workload's template describes, under the workload's name."""
    template = item.spec.template
    metadata = ObjectMeta(
        name=item.metadata.name,
        namespace=item.metadata.namespace,
        labels=template.metadata.labels,
        annotations=template.metadata.annotations,
    )
    return core.Pod(metadata=metadata, spec=template.spec)


def would_inject(
    pod: core.Pod,
    namespace_labels: Mapping[str, str],
    configurations: Iterable[dict[str, Any]],
    settings: InjectorSettings,
) -> tuple[bool, str]:
    """Whether such a pod gets a sidecar when it is made, and why: first the webhooks' selectors, then the injector."""
    reason = "no injection webhook is installed"
    for configuration in configurations:
        explained = selectors.explain(configuration, namespace_labels, pod.metadata.labels)
        if explained.injected:
            document = msgspec.to_builtins(msgspec.structs.replace(pod, status=core.PodStatus()))
            decision = decide.should_inject(document, pod.metadata.namespace, settings)
            return decision.inject, decision.reason
        reason = explained.reason
    return False, reason


def _pods_of_workloads(objects: ObjectSet, pods: Mapping[Key, core.Pod]) -> list[core.Pod]:
    there: dict[str, list[Mapping[str, str]]] = {}
    for pod in pods.values():
        there.setdefault(pod.metadata.namespace, []).append(pod.metadata.labels)
    made = []
    for kind, struct in WORKLOAD_KINDS:
        for item in objects.typed(kind, struct).values():
            wanted = item.spec.selector.match_labels.items() or item.spec.template.metadata.labels.items()
            has_pods = any(wanted <= labels.items() for labels in there.get(item.metadata.namespace, ()))
            if not has_pods and item.spec.replicas != 0:
                made.append(template_pod(item))
    return made


def _is_only_written(pod: core.Pod) -> bool:
    """Whether the pod comes from a manifest, and no cluster has done anything with it."""
    return not pod.metadata.uid and not pod.status.phase and not pod.status.pod_ip


class _Injector:
    """Gives pods their address, and the sidecar that they would get."""

    def __init__(self, objects: ObjectSet, settings: InjectorSettings) -> None:
        self._settings = settings
        self._configurations = injection_configurations(objects) or (default_configuration(),)
        self._namespaces = objects.typed(kinds.NAMESPACE, core.Namespace)

    def placed(self, pod: core.Pod, address: int) -> core.Pod:
        ip = str(ipaddress.IPv4Address(address))
        status = core.PodStatus(
            phase="Running",
            pod_ip=ip,
            pod_ips=(core.PodAddress(ip),),
            conditions=(core.PodCondition("Ready", "True"),),
        )
        metadata = pod.metadata
        if TLS_MODE_LABEL not in metadata.labels and self._is_injected(pod):
            metadata = msgspec.structs.replace(metadata, labels={**metadata.labels, TLS_MODE_LABEL: "istio"})
        return msgspec.structs.replace(pod, metadata=metadata, status=status)

    def _is_injected(self, pod: core.Pod) -> bool:
        namespace = self._namespaces.get(("", pod.metadata.namespace))
        # Of a namespace that is not among the manifests nothing is known; it is taken to be part of the mesh.
        labels = namespace.metadata.labels if namespace else {"istio-injection": "enabled"}
        injected, _ = would_inject(pod, labels, self._configurations, self._settings)
        return injected


def _slices(objects: ObjectSet, pods: Iterable[core.Pod]) -> list[Change]:
    """Endpoints for Services that select placed pods, and have none."""
    existing = objects.typed(kinds.ENDPOINT_SLICE, discovery.EndpointSlice)
    known = {(item.metadata.namespace, item.service_name) for item in existing.values()}
    by_namespace: dict[str, list[tuple[Key, core.Service]]] = {}
    for key, item in objects.typed(kinds.SERVICE, core.Service).items():
        if item.spec.selector and key not in known and item.spec.type != "ExternalName":
            by_namespace.setdefault(key[0], []).append((key, item))
    tables = {
        namespace: SelectorTable((labels_of(item.spec.selector), (key, item)) for key, item in found)
        for namespace, found in by_namespace.items()
    }
    behind: dict[Key, tuple[core.Service, list[core.Pod]]] = {}
    for pod in pods:
        table = tables.get(pod.metadata.namespace)
        for key, item in table.matching(labels_of(pod.metadata.labels)) if table else ():
            behind.setdefault(key, (item, []))[1].append(pod)
    return [
        Change(kinds.ENDPOINT_SLICE, (key[0], made.metadata.name), made)
        for key, (item, selected) in behind.items()
        for made in _slices_of(item, selected)
    ]


def _slices_of(item: core.Service, pods: list[core.Pod]) -> Iterable[discovery.EndpointSlice]:
    """A slice per pod, since a port's name may mean another number in each."""
    service = services.from_object(item, "", ())
    for number, pod in enumerate(pods):
        workload = workloads.from_pod(pod)
        if service is None or workload is None:
            continue
        ports = [(port.name, workload.port_number(port.target)) for port in service.ports]
        reference = discovery.ObjectReference("Pod", pod.metadata.name, pod.metadata.namespace)
        yield discovery.EndpointSlice(
            metadata=ObjectMeta(
                name=f"{item.metadata.name}-{number}",
                namespace=item.metadata.namespace,
                labels={discovery.SERVICE_NAME_LABEL: item.metadata.name},
            ),
            endpoints=(discovery.Endpoint(workload.addresses, target_ref=reference),),
            ports=tuple(discovery.EndpointPort(name, target) for name, target in ports if target),
        )

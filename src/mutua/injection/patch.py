"""A pod with its sidecar, and the JSON patch that leads there."""

import copy
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from mutua.errors import InvalidInputError
from mutua.injection import app_probes, containers, scrape, settings
from mutua.injection.containers import INIT_CONTAINER, PROXY_CONTAINER, Object, Owner
from mutua.injection.decide import STATUS
from mutua.injection.selectors import REVISION_LABEL
from mutua.injection.settings import InjectionError, InjectorSettings, SidecarSettings
from mutua.mesh import owners

_PLURALS = {
    "ReplicaSet": "replicasets",
    "Deployment": "deployments",
    "StatefulSet": "statefulsets",
    "DaemonSet": "daemonsets",
    "Job": "jobs",
    "CronJob": "cronjobs",
    "ReplicationController": "replicationcontrollers",
}


class Injection(NamedTuple):
    """What a webhook answers: JSON patch operations (RFC 6902), and warnings for the user."""

    operations: list[Object]
    warnings: tuple[str, ...]


def inject(pod: Mapping[str, Any], namespace: str, mesh: InjectorSettings) -> Injection:
    """The patch that gives `pod` its sidecar. Raises InjectionError if an annotation cannot be followed."""
    after = injected(pod, namespace, mesh)
    annotations = (pod.get("metadata") or {}).get("annotations") or {}
    sidecar = settings.for_pod(annotations, mesh)
    warnings = _warnings(after, sidecar.readiness.status_port)
    if sidecar.merge_metrics and (trouble := scrape.problem(annotations)):
        warnings += (trouble,)
    return Injection(_difference(pod, after), warnings)


def injected(pod: Mapping[str, Any], namespace: str, mesh: InjectorSettings) -> Object:
    """A copy of `pod` with the sidecar. `namespace` is the request's; a new pod may not name its own."""
    after: Object = copy.deepcopy(dict(pod))
    metadata, spec = after.setdefault("metadata", {}), after.setdefault("spec", {})
    annotations = metadata.get("annotations") or {}
    sidecar = settings.for_pod(annotations, mesh)
    owner = owner_of(pod, namespace)
    own = _without(spec.get("containers"), PROXY_CONTAINER)
    own_first = _without(spec.get("initContainers"), PROXY_CONTAINER, INIT_CONTAINER)
    proxy = containers.proxy_container(sidecar, after, owner)
    rewritten: dict[str, app_probes.AppProbe] = {}
    if sidecar.readiness.status_port and sidecar.readiness.rewrite_app_probes:
        port = sidecar.readiness.status_port
        rewritten = app_probes.rewrite(own, port)
        # What must pass before the next container starts cannot wait for an agent that starts later.
        rewritten |= app_probes.rewrite(own_first, port, but=() if sidecar.native else ("startupProbe", "postStart"))
    proxy["volumeMounts"] += sidecar.user_volume_mounts
    proxy = _with_app_probes(_as_user_wants(proxy, spec), rewritten)
    first = [containers.init_container(sidecar)]
    added = containers.volumes()
    added += [volume for volume in sidecar.user_volumes if volume["name"] not in containers.names(added)]
    # The pod's own init containers need the network: without a native sidecar, nobody serves what is captured yet.
    spec["initContainers"] = [*first, proxy, *own_first] if sidecar.native else [*own_first, *first]
    spec["containers"] = own if sidecar.native else [*own, proxy]
    spec["volumes"] = [*added, *_without(spec.get("volumes"), *containers.names(added))]
    if mesh.image_pull_secrets:
        own_secrets = _without(spec.get("imagePullSecrets"), *mesh.image_pull_secrets)
        spec["imagePullSecrets"] = [*own_secrets, *({"name": name} for name in mesh.image_pull_secrets)]
    metadata["labels"] = _labels(metadata.get("labels") or {}, owner, mesh)
    status = {
        "initContainers": [INIT_CONTAINER, PROXY_CONTAINER] if sidecar.native else [INIT_CONTAINER],
        "containers": None if sidecar.native else [PROXY_CONTAINER],
        "volumes": containers.names(added),
        "imagePullSecrets": list(mesh.image_pull_secrets) or None,
        "revision": mesh.revision,
    }
    metadata["annotations"] = _annotations(annotations, own, sidecar, msgspec.json.encode(status).decode())
    return after


def owner_of(pod: Mapping[str, Any], namespace: str) -> Owner:
    """The workload behind a pod: a Deployment rather than its ReplicaSet. A bare pod owns itself."""
    metadata = pod.get("metadata") or {}
    name = str(metadata.get("name") or str(metadata.get("generateName", "")).rstrip("-"))
    controllers = [reference for reference in metadata.get("ownerReferences") or () if reference.get("controller")]
    if not controllers:
        return Owner(name, namespace, "v1", "pods")
    controller = controllers[0]
    kind, name = owners.kind_and_name(controller["kind"], controller["name"], metadata.get("labels") or {})
    return Owner(name, namespace, controller["apiVersion"], _PLURALS.get(kind, kind.lower() + "s"))


def _labels(labels: Mapping[str, str], owner: Owner, mesh: InjectorSettings) -> dict[str, str]:
    """Existing labels win: they are the user's word. Source: Istio's canonical service."""
    revision = labels.get("app.kubernetes.io/version") or labels.get("version") or "latest"
    added = {
        "security.istio.io/tlsMode": "istio",
        owners.CANONICAL_NAME_LABEL: owners.canonical_service(labels, owner.name),
        "service.istio.io/canonical-revision": revision,
    }
    if mesh.network:
        added["topology.istio.io/network"] = mesh.network
    return added | dict(labels)


def _annotations(
    annotations: Mapping[str, str], own: list[Object], sidecar: SidecarSettings, status: str
) -> dict[str, str]:
    added = {REVISION_LABEL: sidecar.mesh.revision}
    if own:
        added["kubectl.kubernetes.io/default-container"] = own[0]["name"]
        added["kubectl.kubernetes.io/default-logs-container"] = own[0]["name"]
    port = sidecar.readiness.status_port
    if sidecar.merge_metrics and port:
        return added | dict(annotations) | scrape.annotations_of(port) | {STATUS: status}
    if sidecar.merge_metrics:
        added |= scrape.annotations_of(settings.METRICS_PORT)
    return added | dict(annotations) | {STATUS: status}


def _as_user_wants(proxy: Object, spec: Mapping[str, Any]) -> Object:
    """Fields of a container `istio-proxy` that the user's pod already has go on top of ours.

    Source: Istio's customised injection. The image `auto` stands for ours; lists of named things are merged by name.
    """
    candidates = [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]
    for wish in candidates:
        if wish.get("name") != PROXY_CONTAINER:
            continue
        for field, value in wish.items():
            if field == "image" and value == "auto":
                continue
            ours = proxy.get(field)
            if isinstance(value, dict) and isinstance(ours, dict):
                proxy[field] = ours | value
            elif field in ("env", "ports", "volumeMounts") and isinstance(ours, list):
                key = "mountPath" if field == "volumeMounts" else "name"
                chosen = {item.get(key) for item in value}
                proxy[field] = [item for item in ours if item.get(key) not in chosen] + list(value)
            else:
                proxy[field] = value
    return proxy


def _with_app_probes(proxy: Object, probes: Mapping[str, app_probes.AppProbe]) -> Object:
    """A pod that was injected before brings what its agent was told then; its own probes ask the agent already."""
    told = next((entry for entry in proxy["env"] if entry.get("name") == app_probes.VARIABLE), None)
    try:
        before = app_probes.decode(str(told.get("value") or "")) if told else {}
    except InvalidInputError as error:
        raise InjectionError(f"container {PROXY_CONTAINER}: {error.message}", error.hint) from error
    everything = {**before, **probes}
    others = [entry for entry in proxy["env"] if entry is not told]
    added = [{"name": app_probes.VARIABLE, "value": app_probes.encode(everything)}] if everything else []
    return proxy | {"env": [*others, *added]}


def _warnings(pod: Mapping[str, Any], status_port: int) -> tuple[str, ...]:
    """One warning for each probe that mutual TLS will stop: the kubelet has no certificate."""
    return tuple(
        f"container {container['name']}: {probe} reaches the application over the network without a "
        "certificate, and fails where the mTLS mode is STRICT; use an exec probe there"
        for container in (pod.get("spec") or {}).get("containers") or ()
        if container["name"] != PROXY_CONTAINER
        for probe in app_probes.unprotected(container, status_port)
    )


def _without(items: list[Object] | None, *excluded: str) -> list[Object]:
    return [item for item in items or () if item.get("name") not in excluded]


def _difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Object]:
    """The operations for the changed fields of metadata and spec; whole fields, so that order is exact."""
    operations: list[Object] = []
    for part in ("metadata", "spec"):
        if part not in before:
            operations.append({"op": "add", "path": f"/{part}", "value": after[part]})
            continue
        for field, value in after[part].items():
            if field not in before[part]:
                operations.append({"op": "add", "path": f"/{part}/{field}", "value": value})
            elif before[part][field] != value:
                operations.append({"op": "replace", "path": f"/{part}/{field}", "value": value})
    return operations

"""Objects for tests of the mesh, as short as they can be said."""

from typing import Any

from mutua.api import decode, kinds
from mutua.api.kinds import AnyObject, Kind
from mutua.api.meshconfig import MeshConfig
from mutua.mesh import build
from mutua.mesh.objects import Change, ObjectSet
from mutua.mesh.snapshot import MeshSnapshot

CREATED = "2024-01-01T00:00:00Z"


def read(kind: Kind, manifest: dict[str, Any]) -> AnyObject:
    decoded = decode.from_mapping(kind, manifest)
    assert decoded.value is not None and not decoded.findings, decoded.findings
    return decoded.value


def make(kind: Kind, namespace: str, name: str, created: str = CREATED, **fields: Any) -> AnyObject:
    metadata = {"namespace": namespace, "name": name, "creationTimestamp": created}
    metadata |= {field: fields.pop(field) for field in ("labels", "annotations") if field in fields}
    return read(kind, {"metadata": metadata, **fields})


def pod(
    namespace: str,
    name: str,
    address: str,
    labels: dict[str, str],
    *,
    account: str = "default",
    sidecar: bool = True,
    ports: dict[str, int] | None = None,
    phase: str = "Running",
) -> AnyObject:
    containers = [
        {"name": "app", "ports": [{"name": key, "containerPort": number} for key, number in (ports or {}).items()]}
    ]
    if sidecar:
        containers.append({"name": "istio-proxy", "ports": []})
    spec = {"containers": containers, "serviceAccountName": account}
    return make(kinds.POD, namespace, name, labels=labels, spec=spec, status={"podIP": address, "phase": phase})


def service(
    namespace: str,
    name: str,
    address: str,
    selector: dict[str, str],
    *ports: dict[str, Any],
    created: str = CREATED,
    **metadata: Any,
) -> AnyObject:
    spec = {"clusterIP": address, "selector": selector, "ports": list(ports)}
    return make(kinds.SERVICE, namespace, name, created, spec=spec, **metadata)


def endpoints(namespace: str, name: str, addresses: dict[str, bool | None], **ports: int) -> AnyObject:
    """A slice of the Service `name`: address → ready, and port name → number (`unnamed` is "")."""
    return make(
        kinds.ENDPOINT_SLICE,
        namespace,
        f"{name}-1",
        labels={"kubernetes.io/service-name": name},
        addressType="IPv4",
        endpoints=[{"addresses": [address], "conditions": {"ready": ready}} for address, ready in addresses.items()],
        ports=[{"name": "" if key == "unnamed" else key, "port": number} for key, number in ports.items()],
    )


def peer_authentication(namespace: str, name: str, spec: dict[str, Any], created: str = CREATED) -> AnyObject:
    return make(kinds.PEER_AUTHENTICATION, namespace, name, created, spec=spec)


def destination_rule(namespace: str, name: str, spec: dict[str, Any]) -> AnyObject:
    return make(kinds.DESTINATION_RULE, namespace, name, spec=spec)


def service_entry(namespace: str, name: str, spec: dict[str, Any], created: str = CREATED) -> AnyObject:
    return make(kinds.SERVICE_ENTRY, namespace, name, created, spec=spec)


def workload_entry(namespace: str, name: str, spec: dict[str, Any], **metadata: Any) -> AnyObject:
    return make(kinds.WORKLOAD_ENTRY, namespace, name, spec=spec, **metadata)


def authorization_policy(namespace: str, name: str, spec: dict[str, Any], **metadata: Any) -> AnyObject:
    return make(kinds.AUTHORIZATION_POLICY, namespace, name, spec=spec, **metadata)


def change(item: AnyObject, *, gone: bool = False) -> Change:
    kind = next(kind for kind in kinds.KINDS if kind.struct is type(item))
    return Change(kind, kind.key(item.metadata), None if gone else item)


def after(previous: MeshSnapshot, *changes: Change) -> MeshSnapshot:
    """The snapshot after changes, made from the previous one."""
    return build.snapshot(previous.objects.replace(changes), previous.settings.mesh_config, previous)


def snapshot(*objects: AnyObject, **mesh_config: Any) -> MeshSnapshot:
    config, findings = decode.mesh_config(mesh_config)
    assert not findings
    assert isinstance(config, MeshConfig)
    return build.snapshot(ObjectSet.of(objects), config)

"""The containers and volumes that a sidecar consists of, as Kubernetes objects."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from mutua.injection import scrape
from mutua.injection.app_probes import STATUS_PORT
from mutua.injection.settings import (
    CONTROL_PLANE_PORTS,
    METRICS_PORT,
    READINESS_PORT,
    UNCAPTURED_INBOUND_PORTS,
    SidecarSettings,
)

INIT_CONTAINER = "istio-init"
PROXY_CONTAINER = "istio-proxy"
PROXY_UID = 1337
OUTBOUND_PORT = 15001
INBOUND_PORT = 15006
TOKEN_AUDIENCE = "istio-ca"  # noqa: S105 - a name, not a secret
TOKEN_LIFETIME_SECONDS = 43200
ROOT_CONFIG_MAP = "istio-ca-root-cert"

Object = dict[str, Any]


def init_container(settings: SidecarSettings) -> Object:
    """Writes the capture rules, then ends. The only one with rights over the pod's network."""
    traffic, mesh = settings.traffic, settings.mesh
    uncaptured_outbound = [traffic.exclude_outbound_ports]
    exemption = ["-u", str(PROXY_UID)]
    if mesh.exempt_by_mark:
        exemption = ["--exempt-mark", str(mesh.upstream_mark)]
        uncaptured_outbound += [str(port) for port in CONTROL_PLANE_PORTS]
    arguments = [
        *("-p", str(OUTBOUND_PORT)),
        *("-z", str(INBOUND_PORT)),
        *exemption,
        *("-m", "REDIRECT"),
        *("-i", traffic.include_outbound_ip_ranges),
        *("-x", traffic.exclude_outbound_ip_ranges),
        *("-b", traffic.include_inbound_ports),
        *("-d", _join(*map(str, _uncaptured(settings)), traffic.exclude_inbound_ports)),
    ]
    if excluded := _join(*uncaptured_outbound):
        arguments += ["-o", excluded]
    if traffic.include_outbound_ports:
        arguments += ["-q", traffic.include_outbound_ports]
    return _with_pull_policy(
        settings,
        {
            "name": INIT_CONTAINER,
            "image": settings.image,
            "command": ["mutua-init"],
            "args": arguments,
            "resources": settings.resources.as_object(),
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "capabilities": {"add": ["NET_ADMIN", "NET_RAW"], "drop": ["ALL"]},
                "privileged": False,
                "readOnlyRootFilesystem": False,
                "runAsGroup": 0,
                "runAsNonRoot": False,
                "runAsUser": 0,
            },
        },
    )


def proxy_container(settings: SidecarSettings, pod: Mapping[str, Any], owner: "Owner") -> Object:
    """The agent and its Envoy. `owner` is what the pod belongs to."""
    mesh = settings.mesh
    container: Object = {
        "name": PROXY_CONTAINER,
        "image": settings.image,
        "args": [
            "proxy",
            "sidecar",
            "--domain",
            f"$(POD_NAMESPACE).svc.{mesh.cluster_domain}",
            f"--proxyLogLevel={settings.log_level}",
            f"--proxyComponentLogLevel={settings.component_log_level}",
        ],
        "ports": [{"containerPort": METRICS_PORT, "name": "http-envoy-prom", "protocol": "TCP"}],
        "env": _environment(settings, pod, owner),
        "resources": settings.resources.as_object(),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "privileged": False,
            "readOnlyRootFilesystem": True,
            "runAsGroup": PROXY_UID,
            "runAsNonRoot": True,
            "runAsUser": PROXY_UID,
        },
        "volumeMounts": [
            {"name": "workload-socket", "mountPath": "/var/run/secrets/workload-spiffe-uds"},
            {"name": "istiod-ca-cert", "mountPath": "/var/run/secrets/istio"},
            {"name": "istio-data", "mountPath": "/var/lib/istio/data"},
            {"name": "istio-envoy", "mountPath": "/etc/istio/proxy"},
            {"name": "istio-token", "mountPath": "/var/run/secrets/tokens"},
            {"name": "istio-podinfo", "mountPath": "/etc/istio/pod"},
        ],
    }
    if settings.readiness.status_port:
        container |= _probes(settings)
    if settings.native:
        container["restartPolicy"] = "Always"
    return _with_pull_policy(settings, container)


def _uncaptured(settings: SidecarSettings) -> tuple[int, ...]:
    port = settings.readiness.status_port
    return (*UNCAPTURED_INBOUND_PORTS, port) if port else UNCAPTURED_INBOUND_PORTS


def volumes() -> list[Object]:
    """What the containers mount. Keys and sockets live in memory only."""
    token = {"path": "istio-token", "audience": TOKEN_AUDIENCE, "expirationSeconds": TOKEN_LIFETIME_SECONDS}
    fields = [{"path": name, "fieldRef": {"fieldPath": f"metadata.{name}"}} for name in ("labels", "annotations")]
    return [
        {"name": "workload-socket", "emptyDir": {}},
        {"name": "istio-envoy", "emptyDir": {"medium": "Memory"}},
        {"name": "istio-data", "emptyDir": {}},
        {"name": "istio-podinfo", "downwardAPI": {"items": fields}},
        {"name": "istio-token", "projected": {"sources": [{"serviceAccountToken": token}]}},
        {"name": "istiod-ca-cert", "configMap": {"name": ROOT_CONFIG_MAP}},
    ]


class Owner(msgspec.Struct, frozen=True):
    """The workload that a pod belongs to, as users know it."""

    name: str
    namespace: str
    api_version: str
    kind_plural: str

    @property
    def uri(self) -> str:
        """As in `kubernetes://apis/apps/v1/namespaces/default/deployments/web`."""
        return f"kubernetes://apis/{self.api_version}/namespaces/{self.namespace}/{self.kind_plural}/{self.name}"


def _environment(settings: SidecarSettings, pod: Mapping[str, Any], owner: Owner) -> list[Object]:
    mesh, spec = settings.mesh, pod.get("spec") or {}
    containers = [container for container in spec.get("containers") or () if container.get("name") != PROXY_CONTAINER]
    ports = [port for container in containers for port in container.get("ports") or ()]
    environment = [
        _value("PILOT_CERT_PROVIDER", "istiod"),
        _value("CA_ADDR", mesh.ca_address),
        _field("POD_NAME", "metadata.name"),
        _field("POD_NAMESPACE", "metadata.namespace"),
        _field("INSTANCE_IP", "status.podIP"),
        _field("SERVICE_ACCOUNT", "spec.serviceAccountName"),
        _field("HOST_IP", "status.hostIP"),
        _value("PROXY_CONFIG", msgspec.json.encode(_proxy_config(settings)).decode()),
        _value("ISTIO_META_POD_PORTS", msgspec.json.encode(ports).decode()),
        _value("ISTIO_META_APP_CONTAINERS", ",".join(container["name"] for container in containers)),
        _value("ISTIO_META_CLUSTER_ID", mesh.cluster_id),
        _field("ISTIO_META_NODE_NAME", "spec.nodeName"),
        _value("ISTIO_META_INTERCEPTION_MODE", "REDIRECT"),
        _value("ISTIO_META_WORKLOAD_NAME", owner.name),
        _value("ISTIO_META_OWNER", owner.uri),
        _value("ISTIO_META_MESH_ID", mesh.mesh_id or mesh.trust_domain),
        _value("TRUST_DOMAIN", mesh.trust_domain),
    ]
    if settings.merge_metrics and settings.readiness.status_port:
        annotations = (pod.get("metadata") or {}).get("annotations") or {}
        environment += scrape.variable(annotations, settings.readiness.status_port)
    if mesh.exempt_by_mark:
        environment.append(_value("MUTUA_UPSTREAM_MARK", str(mesh.upstream_mark)))
    if mesh.network:
        environment.append(_value("ISTIO_META_NETWORK", mesh.network))
    known = {variable["name"] for variable in environment}
    extra = settings.proxy_config.get("proxyMetadata") or {}
    return environment + [_value(name, str(value)) for name, value in sorted(extra.items()) if name not in known]


def _proxy_config(settings: SidecarSettings) -> Object:
    config = {"discoveryAddress": settings.mesh.discovery_address} | settings.proxy_config
    port = settings.readiness.status_port
    return config if port == STATUS_PORT else config | {"statusPort": port}


def _probes(settings: SidecarSettings) -> Object:
    """Readiness as Envoy's own listener tells it; the start-up probe asks often, so that pods are ready soon."""
    ready = {"path": "/healthz/ready", "port": READINESS_PORT}
    readiness: Object = {
        "httpGet": ready,
        "periodSeconds": settings.readiness.period_seconds,
        "failureThreshold": settings.readiness.failure_threshold,
        "timeoutSeconds": 3,
    }
    if settings.readiness.initial_delay_seconds:
        readiness["initialDelaySeconds"] = settings.readiness.initial_delay_seconds
    startup = {"httpGet": dict(ready), "periodSeconds": 1, "failureThreshold": 600, "timeoutSeconds": 3}
    return {"readinessProbe": readiness, "startupProbe": startup}


def _with_pull_policy(settings: SidecarSettings, container: Object) -> Object:
    policy = settings.mesh.image_pull_policy
    return container | {"imagePullPolicy": policy} if policy else container


def _value(name: str, value: str) -> Object:
    return {"name": name, "value": value}


def _field(name: str, path: str) -> Object:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def _join(*parts: str) -> str:
    return ",".join(part for part in parts if part)


def names(containers: Sequence[Mapping[str, Any]]) -> list[str]:
    """The names of containers or volumes, in order."""
    return [container["name"] for container in containers]

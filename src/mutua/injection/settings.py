"""What the injector knows of the mesh, and what one pod asks for by its annotations."""

import ipaddress
import re
from collections.abc import Mapping
from typing import Any

import msgspec
import yaml

from mutua.errors import InvalidInputError
from mutua.injection import scrape
from mutua.injection.app_probes import STATUS_PORT

READINESS_PORT = 15021
METRICS_PORT = 15090
# Envoy answers on these itself; capturing them would loop or hide them.
UNCAPTURED_INBOUND_PORTS = (METRICS_PORT, READINESS_PORT)
_TAKEN_PORTS = (15000, 15001, 15006, READINESS_PORT, METRICS_PORT)
# The agent's own sockets carry no mark, so its way to the control plane must stay open.
CONTROL_PLANE_PORTS = (15012, 15013)
# Ends of tags that say how an image was built. Source: Istio's proxy image types.
_IMAGE_TYPES = ("distroless", "debug", "default")
_QUANTITY = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([numkMGTPE]|[KMGTPE]i|[eE][+-]?\d+)?")


class InjectionError(InvalidInputError):
    """An annotation of the pod cannot be followed."""


class Resources(msgspec.Struct, frozen=True):
    """Kubernetes quantities of one container; "" = not set."""

    cpu_request: str = "100m"
    memory_request: str = "128Mi"
    cpu_limit: str = "2000m"
    memory_limit: str = "1024Mi"

    def as_object(self) -> dict[str, dict[str, str]]:
        """The `resources` of a container."""
        requests = {"cpu": self.cpu_request, "memory": self.memory_request}
        limits = {"cpu": self.cpu_limit, "memory": self.memory_limit}
        both = {"requests": requests, "limits": limits}
        kept = {kind: {name: value for name, value in part.items() if value} for kind, part in both.items()}
        return {kind: part for kind, part in kept.items() if part}


class Traffic(msgspec.Struct, frozen=True):
    """What is captured; ports and IP ranges as comma-separated lists, `*` = all, "" = none."""

    include_inbound_ports: str = "*"
    exclude_inbound_ports: str = ""
    include_outbound_ports: str = ""
    exclude_outbound_ports: str = ""
    include_outbound_ip_ranges: str = "*"
    exclude_outbound_ip_ranges: str = ""


class Readiness(msgspec.Struct, frozen=True):
    """The sidecar's readiness probe, and the agent's own port; without that port (0) nothing is probed or rewritten."""

    status_port: int = STATUS_PORT
    rewrite_app_probes: bool = True
    initial_delay_seconds: int = 0
    period_seconds: int = 15
    failure_threshold: int = 4


class InjectorSettings(msgspec.Struct, frozen=True):
    """Equal for all pods. Source: Istio's installation values and mesh config, read by `installation`."""

    image: str = "mutua/proxyv2:latest"
    image_pull_policy: str = ""
    image_pull_secrets: tuple[str, ...] = ()
    """Secrets in the pod's own namespace, with which the sidecar's image is pulled."""
    inject_by_default: bool = True
    always_inject: tuple[dict[str, Any], ...] = ()
    never_inject: tuple[dict[str, Any], ...] = ()
    native_sidecar: bool = False
    hold_application: bool = False
    revision: str = "default"
    cluster_id: str = "Kubernetes"
    cluster_domain: str = "cluster.local"
    trust_domain: str = "cluster.local"
    mesh_id: str = ""
    network: str = ""
    discovery_address: str = "istiod.istio-system.svc:15012"
    ca_address: str = "istiod.istio-system.svc:15013"
    log_level: str = "warning"
    component_log_level: str = "misc:error"
    resources: Resources = Resources()
    traffic: Traffic = Traffic()
    readiness: Readiness = Readiness()
    exempt_by_mark: bool = False
    upstream_mark: int = 1337
    proxy_config: dict[str, Any] = msgspec.field(default_factory=dict)
    merge_metrics: bool = True


class SidecarSettings(msgspec.Struct, frozen=True):
    """What one pod's sidecar gets."""

    mesh: InjectorSettings
    image: str
    native: bool
    resources: Resources
    traffic: Traffic
    readiness: Readiness
    log_level: str
    component_log_level: str
    proxy_config: dict[str, Any]
    user_volumes: tuple[dict[str, Any], ...]
    user_volume_mounts: tuple[dict[str, Any], ...]
    merge_metrics: bool  # one page shows the application's metrics too, and the pod is annotated with it


def for_pod(annotations: Mapping[str, str], mesh: InjectorSettings) -> SidecarSettings:
    """The mesh's settings with what the pod's annotations change. Raises InjectionError naming the annotation."""
    reader = _Annotations(annotations)
    proxy_config = dict(mesh.proxy_config) | reader.mapping("proxy.istio.io/config")
    default = mesh.resources
    resources = Resources(
        cpu_request=reader.quantity("sidecar.istio.io/proxyCPU", default.cpu_request),
        memory_request=reader.quantity("sidecar.istio.io/proxyMemory", default.memory_request),
        cpu_limit=reader.quantity("sidecar.istio.io/proxyCPULimit", default.cpu_limit),
        memory_limit=reader.quantity("sidecar.istio.io/proxyMemoryLimit", default.memory_limit),
    )
    prefix = "traffic.sidecar.istio.io/"
    flow = mesh.traffic
    traffic = Traffic(
        include_inbound_ports=reader.ports(prefix + "includeInboundPorts", flow.include_inbound_ports, star=True),
        exclude_inbound_ports=reader.ports(prefix + "excludeInboundPorts", flow.exclude_inbound_ports),
        include_outbound_ports=reader.ports(prefix + "includeOutboundPorts", flow.include_outbound_ports),
        exclude_outbound_ports=reader.ports(prefix + "excludeOutboundPorts", flow.exclude_outbound_ports),
        include_outbound_ip_ranges=reader.ip_ranges(
            prefix + "includeOutboundIPRanges", flow.include_outbound_ip_ranges, star=True
        ),
        exclude_outbound_ip_ranges=reader.ip_ranges(
            prefix + "excludeOutboundIPRanges", flow.exclude_outbound_ip_ranges
        ),
    )
    probe, prefix = mesh.readiness, "readiness.status.sidecar.istio.io/"
    readiness = Readiness(
        status_port=reader.status_port("status.sidecar.istio.io/port", probe.status_port),
        rewrite_app_probes=reader.boolean("sidecar.istio.io/rewriteAppHTTPProbers", probe.rewrite_app_probes),
        initial_delay_seconds=reader.number(prefix + "initialDelaySeconds", probe.initial_delay_seconds),
        period_seconds=reader.number(prefix + "periodSeconds", probe.period_seconds),
        failure_threshold=reader.number(prefix + "failureThreshold", probe.failure_threshold),
    )
    native = reader.boolean("sidecar.istio.io/nativeSidecar", mesh.native_sidecar)
    hold = bool(proxy_config.get("holdApplicationUntilProxyStarts", mesh.hold_application))
    return SidecarSettings(
        mesh=mesh,
        image=reader.image(mesh.image, proxy_config),
        # Kubernetes itself starts what follows a native sidecar only once its start-up probe has passed.
        native=native or hold,
        resources=resources,
        traffic=traffic,
        readiness=readiness,
        log_level=annotations.get("sidecar.istio.io/logLevel", mesh.log_level),
        component_log_level=annotations.get("sidecar.istio.io/componentLogLevel", mesh.component_log_level),
        proxy_config=proxy_config,
        user_volumes=reader.named("sidecar.istio.io/userVolume"),
        user_volume_mounts=reader.named("sidecar.istio.io/userVolumeMount", needs="mountPath"),
        merge_metrics=scrape.wanted(annotations, mesh_wide=mesh.merge_metrics),
    )


def is_quantity(text: str) -> bool:
    """Whether Kubernetes reads this as an amount, as in 100m or 1Gi."""
    return _QUANTITY.fullmatch(text) is not None


class _Annotations:
    """Reads annotations; each method raises InjectionError with the annotation's name and value."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values

    def quantity(self, name: str, default: str) -> str:
        value = self._values.get(name, default)
        if value and not is_quantity(value):
            raise self._error(name, "is not a quantity", "write it as in 100m, 1, 128Mi or 1Gi")
        return value

    def number(self, name: str, default: int) -> int:
        value = self._values.get(name)
        if value is None:
            return default
        if not (value.isascii() and value.isdigit()):
            raise self._error(name, "is not a whole number", "write it as in 10")
        return int(value)

    def status_port(self, name: str, default: int) -> int:
        port = self.number(name, default)
        if port in _TAKEN_PORTS or port > 65535:
            raise self._error(name, "is no port that is free in a sidecar", f"leave it out to use {STATUS_PORT}")
        return port

    def boolean(self, name: str, default: bool) -> bool:
        value = self._values.get(name)
        if value is None:
            return default
        if value.lower() not in ("true", "false"):
            raise self._error(name, "is neither true nor false", 'write "true" or "false"')
        return value.lower() == "true"

    def ports(self, name: str, default: str, *, star: bool = False) -> str:
        value = self._values.get(name, default).strip()
        if star and value == "*":
            return value
        for part in filter(None, value.split(",")):
            text = part.strip()
            if not (text.isascii() and text.isdigit() and 0 <= int(text) <= 65535):
                raise self._error(name, f"holds {part!r}, which is not a port", "write ports as in 80,8080")
        return value

    def ip_ranges(self, name: str, default: str, *, star: bool = False) -> str:
        value = self._values.get(name, default).strip()
        if star and value == "*":
            return value
        for part in filter(None, value.split(",")):
            try:
                ipaddress.ip_network(part.strip(), strict=False)
            except ValueError:
                raise self._error(
                    name, f"holds {part!r}, which is not an IP range", "write ranges as in 10.0.0.0/8,192.168.1.0/24"
                ) from None
        return value

    def named(self, name: str, *, needs: str = "") -> tuple[dict[str, Any], ...]:
        """Volumes or mounts by volume's name, as in `{"cert": {"secret": {"secretName": "cert"}}}`. Source: Istio."""
        found = self.mapping(name)
        for key, value in found.items():
            if not isinstance(value, dict) or (needs and not str(value.get(needs, "")).startswith("/")):
                raise self._error(
                    name,
                    f"says about {key!r} {'no ' + needs if needs else 'nothing that is a volume'}",
                    'write it as in {"cert": {"mountPath": "/etc/cert", "readOnly": true}}'
                    if needs
                    else 'write it as in {"cert": {"secret": {"secretName": "cert"}}}',
                )
        return tuple({"name": key} | value for key, value in found.items())

    def mapping(self, name: str) -> dict[str, Any]:
        text = self._values.get(name, "")
        try:
            value = yaml.safe_load(text) or {}
        except yaml.YAMLError as error:
            raise self._error(name, f"is not YAML: {error}", "write a mapping of ProxyConfig fields") from error
        if not isinstance(value, dict):
            raise self._error(name, "is not a mapping", "write a mapping of ProxyConfig fields")
        return value

    def image(self, default: str, proxy_config: Mapping[str, Any]) -> str:
        if chosen := self._values.get("sidecar.istio.io/proxyImage"):
            return chosen
        configured = proxy_config.get("image")
        kind = configured.get("imageType", "") if isinstance(configured, dict) else ""
        kind = self._values.get("sidecar.istio.io/proxyImageType", kind)
        if not kind:
            return default
        for known in _IMAGE_TYPES:
            default = default.removesuffix(f"-{known}")
        return default if kind == "default" else f"{default}-{kind}"

    def _error(self, name: str, what: str, hint: str) -> InjectionError:
        return InjectionError(f"annotation {name}: {self._values.get(name)!r} {what}", hint=hint)

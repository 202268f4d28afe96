"""The injector's settings from what was installed: the values, and the mesh config."""

from collections.abc import Mapping
from typing import Any

from mutua.api.meshconfig import MeshConfig
from mutua.errors import InvalidInputError
from mutua.injection.app_probes import STATUS_PORT
from mutua.injection.settings import (
    CONTROL_PLANE_PORTS,
    InjectorSettings,
    Readiness,
    Resources,
    Traffic,
)


def injector_settings(
    values: Mapping[str, Any], mesh: MeshConfig, *, namespace: str, revision: str = "default", version: str = "latest"
) -> InjectorSettings:
    """`values` as in the config map `istio-sidecar-injector`; `namespace` and `revision` are the control plane's.

    `version` is the image's tag where the values have none. Raises InvalidInputError for a value of the wrong type.
    """
    everything = _Values(values, "values")
    shared = everything.part("global")
    proxy = shared.part("proxy")
    injector = everything.part("sidecarInjectorWebhook")
    requests, limits = (proxy.part("resources").part(kind) for kind in ("requests", "limits"))
    image = proxy.text("image", "proxyv2")
    if "/" not in image:
        image = f"{shared.text('hub', 'mutua')}/{image}:{shared.text('tag') or version}"
    host = f"istiod{'' if revision == 'default' else f'-{revision}'}.{namespace}.svc"
    xds_port, enrolment_port = CONTROL_PLANE_PORTS
    return InjectorSettings(
        image=image,
        image_pull_policy=shared.text("imagePullPolicy"),
        image_pull_secrets=shared.names("imagePullSecrets"),
        inject_by_default=injector.text("policy", "enabled") != "disabled",
        always_inject=injector.mappings("alwaysInjectSelector"),
        never_inject=injector.mappings("neverInjectSelector"),
        native_sidecar=proxy.boolean("nativeSidecar"),
        hold_application=proxy.boolean("holdApplicationUntilProxyStarts"),
        revision=revision,
        cluster_id=shared.part("multiCluster").text("clusterName", "Kubernetes"),
        cluster_domain=proxy.text("clusterDomain", "cluster.local"),
        trust_domain=mesh.trust_domain,
        mesh_id=shared.text("meshID"),
        network=shared.text("network"),
        discovery_address=f"{host}:{xds_port}",
        ca_address=f"{host}:{enrolment_port}",
        log_level=proxy.text("logLevel", "warning"),
        component_log_level=proxy.text("componentLogLevel", "misc:error"),
        resources=Resources(
            cpu_request=requests.text("cpu"),
            memory_request=requests.text("memory"),
            cpu_limit=limits.text("cpu"),
            memory_limit=limits.text("memory"),
        ),
        traffic=Traffic(
            include_inbound_ports=proxy.text("includeInboundPorts", "*"),
            exclude_inbound_ports=proxy.text("excludeInboundPorts"),
            include_outbound_ports=proxy.text("includeOutboundPorts"),
            exclude_outbound_ports=proxy.text("excludeOutboundPorts"),
            include_outbound_ip_ranges=proxy.text("includeIPRanges", "*"),
            exclude_outbound_ip_ranges=proxy.text("excludeIPRanges"),
        ),
        readiness=Readiness(
            status_port=proxy.number("statusPort", STATUS_PORT),
            rewrite_app_probes=injector.boolean("rewriteAppHTTPProbe", default=True),
            initial_delay_seconds=proxy.number("readinessInitialDelaySeconds", 0),
            period_seconds=proxy.number("readinessPeriodSeconds", 15),
            failure_threshold=proxy.number("readinessFailureThreshold", 4),
        ),
        exempt_by_mark=proxy.text("exemptBy", "uid") == "mark",
        upstream_mark=proxy.number("upstreamMark", InjectorSettings().upstream_mark),
        proxy_config=dict(mesh.default_config),
        merge_metrics=mesh.enable_prometheus_merge,
    )


class _Values:
    """Typed look-ups in the tree of values; errors name the path."""

    def __init__(self, tree: object, path: str) -> None:
        if tree is not None and not isinstance(tree, Mapping):
            raise InvalidInputError(f"{path}: expected a mapping, got {tree!r}")
        self._tree: Mapping[str, Any] = tree or {}
        self._path = path

    def part(self, name: str) -> "_Values":
        return _Values(self._tree.get(name), f"{self._path}.{name}")

    def text(self, name: str, default: str = "") -> str:
        value = self._tree.get(name)
        if isinstance(value, (Mapping, list)):
            raise InvalidInputError(f"{self._path}.{name}: expected text, got {value!r}")
        return default if value is None or value == "" else str(value)

    def number(self, name: str, default: int) -> int:
        text = self.text(name, str(default))
        if not (text.isascii() and text.isdigit()):
            raise InvalidInputError(f"{self._path}.{name}: expected a whole number, got {text!r}")
        return int(text)

    def boolean(self, name: str, *, default: bool = False) -> bool:
        value = self._tree.get(name)
        if value is not None and not isinstance(value, bool):
            raise InvalidInputError(f"{self._path}.{name}: expected true or false, got {value!r}")
        return default if value is None else value

    def names(self, name: str) -> tuple[str, ...]:
        value = self._tree.get(name) or ()
        if not isinstance(value, (list, tuple)) or not all(isinstance(entry, str) and entry for entry in value):
            raise InvalidInputError(f"{self._path}.{name}: expected a list of names, got {value!r}")
        return tuple(value)

    def mappings(self, name: str) -> tuple[dict[str, Any], ...]:
        value = self._tree.get(name) or ()
        if not isinstance(value, (list, tuple)) or not all(isinstance(entry, Mapping) for entry in value):
            raise InvalidInputError(f"{self._path}.{name}: expected a list of mappings, got {value!r}")
        return tuple(dict(entry) for entry in value)

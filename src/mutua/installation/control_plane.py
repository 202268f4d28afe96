"""The control plane as Kubernetes runs it: settings, service, deployment."""

import msgspec
import yaml

from mutua.installation.labels import CONTROL_PLANE, Object, labelled
from mutua.installation.values import Installation

READINESS_PORT = 8080
CONFIG_MAP = "istio"
INJECTOR_CONFIG_MAP = "istio-sidecar-injector"
STATE_CONFIG_MAP = "istio-installed-state"
_UID = 1337
# (name, port of the service, port of the pod)
_PORTS = (
    ("grpc-xds", 15012, 15012),
    ("grpc-ca", 15013, 15013),
    ("http-monitoring", 15014, 15014),
    ("https-webhook", 443, 15017),
)


def objects(installation: Installation) -> list[Object]:
    """In the order of their application."""
    namespace = installation.namespace
    suffix = installation.name_suffix
    mesh = {"mesh": yaml.safe_dump(installation.mesh_config, sort_keys=True), "meshNetworks": "networks: {}"}
    values = {
        "values": msgspec.json.format(msgspec.json.encode(installation.values, order="sorted"), indent=2).decode()
    }
    # What was asked for, so that it can be verified and removed by whoever did not install it.
    state = {
        "chosen": msgspec.json.encode(installation.chosen, order="sorted").decode(),
        "settings": msgspec.json.encode(installation.tree, order="sorted").decode(),
        "version": installation.tag,
    }
    return [
        labelled(installation, "v1", "ConfigMap", CONFIG_MAP + suffix, namespace=namespace, data=mesh),
        labelled(installation, "v1", "ConfigMap", INJECTOR_CONFIG_MAP + suffix, namespace=namespace, data=values),
        labelled(installation, "v1", "ConfigMap", STATE_CONFIG_MAP + suffix, namespace=namespace, data=state),
        _service(installation, CONTROL_PLANE + suffix),
        _deployment(installation, CONTROL_PLANE + suffix),
    ]


def _selector(installation: Installation) -> dict[str, str]:
    selector = {"app": CONTROL_PLANE}
    return (
        selector | {"istio": "pilot"}
        if installation.revision == "default"
        else selector | {"istio.io/rev": installation.revision}
    )


def _service(installation: Installation, name: str) -> Object:
    ports = [
        {"name": port_name, "port": port, "targetPort": target, "protocol": "TCP"} for port_name, port, target in _PORTS
    ]
    spec = {"selector": _selector(installation), "ports": ports}
    labels = {"istio": "pilot"}
    return labelled(installation, "v1", "Service", name, namespace=installation.namespace, labels=labels, spec=spec)


def _deployment(installation: Installation, name: str) -> Object:
    labels = {
        "app": CONTROL_PLANE,
        "istio": "pilot",
        "istio.io/rev": installation.revision,
        # The control plane never waits for itself to be injected.
        "sidecar.istio.io/inject": "false",
    }
    template = {
        "metadata": {
            "labels": labels,
            "annotations": {
                "sidecar.istio.io/inject": "false",
                "prometheus.io/scrape": "true",
                "prometheus.io/port": "15014",
                # A control plane serves one trust domain for its life: another one is another control plane.
                "mutua.io/trust-domain": str(installation.mesh_config["trustDomain"]),
            },
        },
        "spec": {"serviceAccountName": CONTROL_PLANE, "containers": [_container(installation)]},
    }
    spec = {
        "replicas": installation.replicas,
        "strategy": {"rollingUpdate": {"maxSurge": "100%", "maxUnavailable": "25%"}},
        "selector": {"matchLabels": _selector(installation)},
        "template": template,
    }
    head = {"istio": "pilot"}
    return labelled(
        installation, "apps/v1", "Deployment", name, namespace=installation.namespace, labels=head, spec=spec
    )


_MEMORY = {
    # The quarter of a megabyte that each TLS connection reads into comes from the kernel and goes back to it; in the
    # heap, what outlives a connection would soon lie between such holes, and the process grows with each million of
    # connections although it uses no more. Source: mallopt(3).
    "MALLOC_MMAP_THRESHOLD_": "65536",
    "MALLOC_TRIM_THRESHOLD_": "131072",
    # Its threads take turns, so more heaps give no speed, and each has its own holes.
    "MALLOC_ARENA_MAX": "2",
}
"""Settings of the C library's allocator, so that strangers who connect without end do not make the process grow."""


def _container(installation: Installation) -> Object:
    fields = {"POD_NAME": "metadata.name", "POD_NAMESPACE": "metadata.namespace", "POD_IP": "status.podIP"}
    values = {
        "REVISION": installation.revision,
        "CLUSTER_ID": installation.cluster_id,
        "PILOT_CERT_PROVIDER": "istiod",
        # Its C core writes a line for each failed handshake: whoever reaches a port could fill the disk.
        "GRPC_VERBOSITY": "NONE",
        **_MEMORY,
    } | installation.environment
    container: Object = {
        "name": "discovery",
        "image": installation.pilot,
        "args": ["discovery"],
        "ports": [
            {"name": "http-ready", "containerPort": READINESS_PORT, "protocol": "TCP"},
            *({"name": name, "containerPort": target, "protocol": "TCP"} for name, _, target in _PORTS),
        ],
        "env": [
            *({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}} for name, path in fields.items()),
            {"name": "SERVICE_ACCOUNT", "valueFrom": {"fieldRef": {"fieldPath": "spec.serviceAccountName"}}},
            *({"name": name, "value": value} for name, value in sorted(values.items())),
        ],
        "readinessProbe": {
            "httpGet": {"path": "/ready", "port": READINESS_PORT},
            "periodSeconds": 3,
            "timeoutSeconds": 5,
        },
        "resources": installation.resources,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
            "runAsGroup": _UID,
            "runAsNonRoot": True,
            "runAsUser": _UID,
        },
    }
    if installation.image_pull_policy:
        container["imagePullPolicy"] = installation.image_pull_policy
    return container

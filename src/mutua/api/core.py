"""Kinds of Kubernetes' core group, with only the fields that the mesh reads."""

import base64
from typing import Final

import msgspec

from mutua.api.meta import KubernetesObject, Lenient
from mutua.secret import Secret as SecretBytes

SIDECAR_CONTAINER: Final = "istio-proxy"


class ContainerPort(Lenient, frozen=True):
    """A port that a container says it listens on."""

    container_port: int = 0
    name: str = ""
    protocol: str = "TCP"


class SecurityContext(Lenient, frozen=True):
    """As which user a pod or container runs; None = as the image says."""

    run_as_user: int | None = None


class HttpGet(Lenient, frozen=True):
    """A request of the kubelet. `port`: a number, or a container port's name."""

    port: int | str = 0
    path: str = ""


class TcpSocket(Lenient, frozen=True):
    """A connection of the kubelet."""

    port: int | str = 0


class GrpcHealth(Lenient, frozen=True):
    """A gRPC health check of the kubelet."""

    port: int = 0


class Probe(Lenient, frozen=True):
    """How the kubelet asks a container; none of these: by a command inside of it."""

    http_get: HttpGet | None = None
    tcp_socket: TcpSocket | None = None
    grpc: GrpcHealth | None = None


class Container(Lenient, frozen=True):
    """One container. `restart_policy` "Always" on an init container makes it a native sidecar."""

    name: str = ""
    image: str = ""
    ports: tuple[ContainerPort, ...] = ()
    restart_policy: str = ""
    security_context: SecurityContext | None = None
    startup_probe: Probe | None = None
    readiness_probe: Probe | None = None
    liveness_probe: Probe | None = None


class PodSpec(Lenient, frozen=True):
    """What a pod runs."""

    containers: tuple[Container, ...] = ()
    init_containers: tuple[Container, ...] = ()
    service_account_name: str = ""
    node_name: str = ""
    host_network: bool = False
    security_context: SecurityContext | None = None


class PodCondition(Lenient, frozen=True):
    """One condition of a pod, as `Ready`."""

    type: str = ""
    status: str = ""


class PodAddress(Lenient, frozen=True):
    """One address of a pod."""

    ip: str = ""


class PodStatus(Lenient, frozen=True):
    """What became of a pod."""

    phase: str = ""
    pod_ip: str = msgspec.field(default="", name="podIP")
    pod_ips: tuple[PodAddress, ...] = msgspec.field(default=(), name="podIPs")
    host_ip: str = msgspec.field(default="", name="hostIP")
    conditions: tuple[PodCondition, ...] = ()


class Pod(KubernetesObject, frozen=True):
    """v1 Pod."""

    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()


class ServicePort(Lenient, frozen=True):
    """One port of a Service. `target_port`: a number, a container port's name, or 0 for the same number."""

    port: int = 0
    name: str = ""
    protocol: str = "TCP"
    app_protocol: str = ""
    target_port: int | str = 0
    node_port: int = 0


class ServiceSpec(Lenient, frozen=True):
    """Which pods answer under which address."""

    type: str = "ClusterIP"
    selector: dict[str, str] = msgspec.field(default_factory=dict)
    ports: tuple[ServicePort, ...] = ()
    cluster_ip: str = msgspec.field(default="", name="clusterIP")
    cluster_ips: tuple[str, ...] = msgspec.field(default=(), name="clusterIPs")
    external_name: str = ""
    publish_not_ready_addresses: bool = False


class Service(KubernetesObject, frozen=True):
    """v1 Service."""

    spec: ServiceSpec = ServiceSpec()


class Namespace(KubernetesObject, frozen=True):
    """v1 Namespace; its labels decide about injection."""


class Node(KubernetesObject, frozen=True):
    """v1 Node; its labels hold region and zone."""


class ServiceAccount(KubernetesObject, frozen=True):
    """v1 ServiceAccount: the name that becomes an identity."""


class ConfigMap(KubernetesObject, frozen=True):
    """v1 ConfigMap."""

    data: dict[str, str] = msgspec.field(default_factory=dict)


class Secret(KubernetesObject, frozen=True):
    """v1 Secret; its values print as `[redacted]`."""

    type: str = "Opaque"
    data: dict[str, SecretBytes] = msgspec.field(default_factory=dict)


def decode_extension(expected: type, value: object) -> object:
    """`dec_hook` for msgspec: base64 text becomes a Secret. Raises ValueError without showing the value."""
    if expected is SecretBytes and isinstance(value, str):
        try:
            return SecretBytes(base64.b64decode(value, validate=True))
        except ValueError:
            raise ValueError("illegal base64 data") from None
    raise ValueError(f"cannot read a value of type {type(value).__name__} here")

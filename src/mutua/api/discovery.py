"""Kinds of the group discovery.k8s.io: where a Service's connections may go."""

from mutua.api.meta import KubernetesObject, Lenient, ObjectMeta

SERVICE_NAME_LABEL = "kubernetes.io/service-name"


class EndpointConditions(Lenient, frozen=True):
    """State of one endpoint; None means unknown, which counts as ready."""

    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class ObjectReference(Lenient, frozen=True):
    """The object behind an endpoint."""

    kind: str = ""
    name: str = ""
    namespace: str = ""


class Endpoint(Lenient, frozen=True):
    """One endpoint; the addresses are the same pod's."""

    addresses: tuple[str, ...] = ()
    conditions: EndpointConditions = EndpointConditions()
    target_ref: ObjectReference | None = None
    node_name: str = ""
    zone: str = ""


class EndpointPort(Lenient, frozen=True):
    """One port of all endpoints of the slice; `name` is the Service port's."""

    name: str = ""
    port: int = 0
    protocol: str = "TCP"
    app_protocol: str = ""


class EndpointSlice(KubernetesObject, frozen=True):
    """discovery.k8s.io/v1 EndpointSlice."""

    address_type: str = "IPv4"
    endpoints: tuple[Endpoint, ...] = ()
    ports: tuple[EndpointPort, ...] = ()

    @property
    def service_name(self) -> str:
        """Name of the Service in the slice's namespace; "" if it belongs to none."""
        metadata: ObjectMeta = self.metadata
        return metadata.labels.get(SERVICE_NAME_LABEL, "")

"""The one table of kinds: names, versions, scope, struct and columns. A new kind is one entry here, and its struct."""

from collections.abc import Iterable
from typing import Final

import msgspec

from mutua.api import admission, apps, core, discovery, networking, security, service_entry, traffic
from mutua.api.meta import IstioObject, KubernetesObject, ObjectMeta

AnyObject = KubernetesObject | IstioObject
Key = tuple[str, str]
"""(namespace, name); namespace is "" for kinds of cluster scope."""


class Column(msgspec.Struct, frozen=True):
    """One column of `kubectl get`. `path` is a simple JSON path; `priority` above 0 shows it only with `-o wide`."""

    name: str
    path: str
    type: str = "string"
    priority: int = 0
    description: str = ""


class Kind(msgspec.Struct, frozen=True):
    """One kind of object. The first version is the one that we store, watch and print."""

    name: str
    group: str
    versions: tuple[str, ...]
    plural: str
    singular: str
    struct: type[AnyObject]
    short_names: tuple[str, ...] = ()
    namespaced: bool = True
    columns: tuple[Column, ...] = ()
    description: str = ""

    @property
    def is_ours(self) -> bool:
        """Whether the mesh defines the kind, so that its definition is installed and its fields are judged."""
        return issubclass(self.struct, IstioObject)

    @property
    def storage_version(self) -> str:
        """The version that is watched."""
        return self.versions[0]

    @property
    def api_version(self) -> str:
        """`apiVersion` of an object at the storage version."""
        return self.api_versions[0]

    @property
    def api_versions(self) -> tuple[str, ...]:
        """All values of `apiVersion` that name this kind."""
        return tuple(f"{self.group}/{version}" if self.group else version for version in self.versions)

    @property
    def list_kind(self) -> str:
        """`kind` of a list of such objects."""
        return f"{self.name}List"

    @property
    def categories(self) -> tuple[str, ...]:
        """Names under which several kinds are asked for together, as `kubectl get istio-io`."""
        return ("istio-io", self.group.replace(".", "-")) if self.is_ours else ()

    def key(self, metadata: ObjectMeta) -> Key:
        """Where an object of this kind is found in an ObjectSet."""
        return (metadata.namespace if self.namespaced else "", metadata.name)


_AGE: Final = Column(
    "Age",
    ".metadata.creationTimestamp",
    type="date",
    description="Time since the object was created.",
)

POD: Final = Kind("Pod", "", ("v1",), "pods", "pod", core.Pod, ("po",))
SERVICE: Final = Kind("Service", "", ("v1",), "services", "service", core.Service, ("svc",))
NAMESPACE: Final = Kind("Namespace", "", ("v1",), "namespaces", "namespace", core.Namespace, ("ns",), namespaced=False)
NODE: Final = Kind("Node", "", ("v1",), "nodes", "node", core.Node, ("no",), namespaced=False)
SERVICE_ACCOUNT: Final = Kind(
    "ServiceAccount", "", ("v1",), "serviceaccounts", "serviceaccount", core.ServiceAccount, ("sa",)
)
CONFIG_MAP: Final = Kind("ConfigMap", "", ("v1",), "configmaps", "configmap", core.ConfigMap, ("cm",))
SECRET: Final = Kind("Secret", "", ("v1",), "secrets", "secret", core.Secret)
ENDPOINT_SLICE: Final = Kind(
    "EndpointSlice", "discovery.k8s.io", ("v1",), "endpointslices", "endpointslice", discovery.EndpointSlice
)
_STATUS: Final = (
    Column("Proxies", ".status.proxies", priority=1, description="On how many of the concerned proxies it is live."),
    Column(
        "Effective",
        '.status.conditions[?(@.type=="Effective")].status',
        priority=1,
        description="Whether it decides anything, or others in its place.",
    ),
)
PEER_AUTHENTICATION: Final = Kind(
    "PeerAuthentication",
    "security.istio.io",
    ("v1", "v1beta1"),
    "peerauthentications",
    "peerauthentication",
    security.PeerAuthentication,
    ("pa",),
    columns=(Column("Mode", ".spec.mtls.mode", description="What the selected workloads accept."), _AGE, *_STATUS),
    description="Peer authentication configuration for workloads: which of mutual TLS and plaintext they accept.",
)
AUTHORIZATION_POLICY: Final = Kind(
    "AuthorizationPolicy",
    "security.istio.io",
    ("v1", "v1beta1"),
    "authorizationpolicies",
    "authorizationpolicy",
    security.AuthorizationPolicy,
    ("ap",),
    columns=(Column("Action", ".spec.action", description="What a matching rule does."), _AGE, *_STATUS),
    description="Access control for workloads.",
)
REQUEST_AUTHENTICATION: Final = Kind(
    "RequestAuthentication",
    "security.istio.io",
    ("v1", "v1beta1"),
    "requestauthentications",
    "requestauthentication",
    security.RequestAuthentication,
    ("ra",),
    columns=(_AGE, *_STATUS),
    description="Which end-user tokens workloads accept.",
)
DESTINATION_RULE: Final = Kind(
    "DestinationRule",
    "networking.istio.io",
    ("v1", "v1beta1", "v1alpha3"),
    "destinationrules",
    "destinationrule",
    networking.DestinationRule,
    ("dr",),
    columns=(Column("Host", ".spec.host", description="The host that the rule is about."), _AGE, *_STATUS),
    description="How clients dial a host: TLS, load balancing, limits.",
)

SERVICE_ENTRY: Final = Kind(
    "ServiceEntry",
    "networking.istio.io",
    ("v1", "v1beta1", "v1alpha3"),
    "serviceentries",
    "serviceentry",
    service_entry.ServiceEntry,
    ("se",),
    columns=(
        Column("Hosts", ".spec.hosts", description="The hosts that it is about."),
        Column("Location", ".spec.location", description="Whether what answers belongs to the mesh."),
        Column("Resolution", ".spec.resolution", description="How addresses are found."),
        _AGE,
    ),
    description="Hosts that no Service names: outside the mesh, or served by workloads outside of pods.",
)
WORKLOAD_ENTRY: Final = Kind(
    "WorkloadEntry",
    "networking.istio.io",
    ("v1", "v1beta1", "v1alpha3"),
    "workloadentries",
    "workloadentry",
    service_entry.WorkloadEntry,
    ("we",),
    columns=(_AGE, Column("Address", ".spec.address", description="Where the workload answers.")),
    description="A workload that is no pod, such as a virtual machine.",
)

# Read by the analysis alone: not served, so neither installed nor followed by the control plane.
_NETWORKING: Final = ("networking.istio.io", ("v1", "v1beta1", "v1alpha3"))
_APPS: Final = ("apps", ("v1",))
_ADMISSION: Final = ("admissionregistration.k8s.io", ("v1",))

VIRTUAL_SERVICE: Final = Kind(
    "VirtualService", *_NETWORKING, "virtualservices", "virtualservice", traffic.VirtualService, ("vs",)
)
GATEWAY: Final = Kind("Gateway", *_NETWORKING, "gateways", "gateway", traffic.Gateway, ("gw",))
SIDECAR: Final = Kind("Sidecar", *_NETWORKING, "sidecars", "sidecar", traffic.Sidecar)
ENVOY_FILTER: Final = Kind(
    "EnvoyFilter", _NETWORKING[0], ("v1alpha3",), "envoyfilters", "envoyfilter", traffic.EnvoyFilter
)
DEPLOYMENT: Final = Kind("Deployment", *_APPS, "deployments", "deployment", apps.Deployment, ("deploy",))
STATEFUL_SET: Final = Kind("StatefulSet", *_APPS, "statefulsets", "statefulset", apps.StatefulSet, ("sts",))
DAEMON_SET: Final = Kind("DaemonSet", *_APPS, "daemonsets", "daemonset", apps.DaemonSet, ("ds",))
MUTATING_WEBHOOK_CONFIGURATION: Final = Kind(
    "MutatingWebhookConfiguration",
    *_ADMISSION,
    "mutatingwebhookconfigurations",
    "mutatingwebhookconfiguration",
    admission.MutatingWebhookConfiguration,
    namespaced=False,
)
VALIDATING_WEBHOOK_CONFIGURATION: Final = Kind(
    "ValidatingWebhookConfiguration",
    *_ADMISSION,
    "validatingwebhookconfigurations",
    "validatingwebhookconfiguration",
    admission.ValidatingWebhookConfiguration,
    namespaced=False,
)

KINDS: Final[tuple[Kind, ...]] = (
    POD,
    SERVICE,
    NAMESPACE,
    NODE,
    SERVICE_ACCOUNT,
    CONFIG_MAP,
    SECRET,
    ENDPOINT_SLICE,
    PEER_AUTHENTICATION,
    AUTHORIZATION_POLICY,
    REQUEST_AUTHENTICATION,
    DESTINATION_RULE,
    SERVICE_ENTRY,
    WORKLOAD_ENTRY,
    VIRTUAL_SERVICE,
    GATEWAY,
    SIDECAR,
    ENVOY_FILTER,
    DEPLOYMENT,
    STATEFUL_SET,
    DAEMON_SET,
    MUTATING_WEBHOOK_CONFIGURATION,
    VALIDATING_WEBHOOK_CONFIGURATION,
)

_BY_NAME: Final = {kind.name: kind for kind in KINDS}
_BY_API_VERSION: Final = {(api_version, kind.name): kind for kind in KINDS for api_version in kind.api_versions}


def ours() -> tuple[Kind, ...]:
    """The kinds that the mesh defines, in table order."""
    return tuple(kind for kind in KINDS if kind.is_ours)


def policies() -> tuple[Kind, ...]:
    """The kinds whose status says what became of them."""
    return (PEER_AUTHENTICATION, AUTHORIZATION_POLICY, REQUEST_AUTHENTICATION, DESTINATION_RULE)


def snapshot_inputs() -> tuple[Kind, ...]:
    """The kinds that a MeshSnapshot is made of: what the control plane must list and watch."""
    return (POD, SERVICE, NAMESPACE, ENDPOINT_SLICE, *ours())


def by_name(name: str) -> Kind | None:
    """The kind of that name as in `kind: …`; None if it is not in the table."""
    return _BY_NAME.get(name)


def by_api_version(api_version: str, name: str) -> Kind | None:
    """The kind that an object's `apiVersion` and `kind` say; None if it is not in the table."""
    return _BY_API_VERSION.get((api_version, name))


def find(word: str, among: Iterable[Kind] = KINDS) -> Kind | None:
    """The kind that a person means: plural, singular, short name or kind, in any case."""
    wanted = word.casefold()
    for kind in among:
        if wanted in (kind.plural, kind.singular, kind.name.casefold(), *kind.short_names):
            return kind
    return None

"""The one table of kinds: what the API serves, under which names and with which verbs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

ALL_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
CREATE_ONLY = ("create",)


@dataclass(frozen=True)
class KindInfo:
    """One resource of the API.

    `version` is the preferred and stored one, `served_versions` has all of them, preferred first. `short_names` and
    `categories` are what kubectl accepts in place of `plural`. `unserved` says what does not happen in this cluster for
    objects that are only stored; whoever creates one is told. `definition` is the CustomResourceDefinition that
    declares the kind, None for the built-in ones. `stored_as` names the (group, plural) that keeps the objects where
    two groups serve the same ones (Event).
    """

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool = True
    singular: str = ""
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    subresources: frozenset[str] = frozenset()
    verbs: tuple[str, ...] = ALL_VERBS
    served_versions: tuple[str, ...] = ()
    list_kind: str = ""
    stored_as: tuple[str, str] = ("", "")
    unserved: str = ""
    definition: dict[str, Any] | None = field(default=None, hash=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Fill in what follows from the rest."""
        object.__setattr__(self, "singular", self.singular or self.kind.lower())
        object.__setattr__(self, "served_versions", self.served_versions or (self.version,))
        object.__setattr__(self, "list_kind", self.list_kind or f"{self.kind}List")
        if self.stored_as == ("", ""):
            object.__setattr__(self, "stored_as", (self.group, self.plural))

    @property
    def api_version(self) -> str:
        """`group/version`, or the version alone in the core group."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def resource(self) -> str:
        """`plural.group`, or the plural alone in the core group: how messages name a resource."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def storage_key(self) -> str:
        """Under which resource the store keeps the objects."""
        group, plural = self.stored_as
        return f"{plural}.{group}" if group else plural

    @property
    def is_custom(self) -> bool:
        """Whether a CustomResourceDefinition declares it."""
        return self.definition is not None

    def at(self, version: str) -> KindInfo:
        """The same kind seen at another served version."""
        return self if version == self.version else replace(self, version=version)


def _kind(group: str, version: str, kind: str, plural: str, *short_names: str, **rest: Any) -> KindInfo:
    subresources = frozenset(rest.pop("subresources", "").split())
    categories = tuple(rest.pop("categories", "").split())
    return KindInfo(
        group, version, kind, plural, short_names=short_names, subresources=subresources, categories=categories, **rest
    )


NAMESPACE = _kind("", "v1", "Namespace", "namespaces", "ns", namespaced=False, subresources="status finalize")
NODE = _kind("", "v1", "Node", "nodes", "no", namespaced=False, subresources="status")
POD = _kind(
    "",
    "v1",
    "Pod",
    "pods",
    "po",
    categories="all",
    subresources="status log exec attach portforward binding eviction ephemeralcontainers",
)
SERVICE = _kind("", "v1", "Service", "services", "svc", categories="all", subresources="status")
ENDPOINTS = _kind("", "v1", "Endpoints", "endpoints", "ep", singular="endpoints")
SERVICE_ACCOUNT = _kind("", "v1", "ServiceAccount", "serviceaccounts", "sa", subresources="token")
SECRET = _kind("", "v1", "Secret", "secrets")
CONFIG_MAP = _kind("", "v1", "ConfigMap", "configmaps", "cm")
EVENT = _kind("", "v1", "Event", "events", "ev")
PERSISTENT_VOLUME_CLAIM = _kind(
    "", "v1", "PersistentVolumeClaim", "persistentvolumeclaims", "pvc", subresources="status"
)
PERSISTENT_VOLUME = _kind(
    "", "v1", "PersistentVolume", "persistentvolumes", "pv", namespaced=False, subresources="status"
)
REPLICATION_CONTROLLER = _kind(
    "",
    "v1",
    "ReplicationController",
    "replicationcontrollers",
    "rc",
    categories="all",
    subresources="status",
    unserved="no pods are run for it; use a Deployment",
)
LIMIT_RANGE = _kind("", "v1", "LimitRange", "limitranges", "limits", unserved="no limit or default is applied")
RESOURCE_QUOTA = _kind(
    "",
    "v1",
    "ResourceQuota",
    "resourcequotas",
    "quota",
    subresources="status",
    unserved="nothing is counted or refused",
)
DEPLOYMENT = _kind("apps", "v1", "Deployment", "deployments", "deploy", categories="all", subresources="status scale")
REPLICA_SET = _kind("apps", "v1", "ReplicaSet", "replicasets", "rs", categories="all", subresources="status scale")
STATEFUL_SET = _kind("apps", "v1", "StatefulSet", "statefulsets", "sts", categories="all", subresources="status scale")
DAEMON_SET = _kind("apps", "v1", "DaemonSet", "daemonsets", "ds", categories="all", subresources="status")
CONTROLLER_REVISION = _kind("apps", "v1", "ControllerRevision", "controllerrevisions")
JOB = _kind("batch", "v1", "Job", "jobs", categories="all", subresources="status")
CRON_JOB = _kind("batch", "v1", "CronJob", "cronjobs", "cj", categories="all", subresources="status")
ENDPOINT_SLICE = _kind("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices")
LEASE = _kind("coordination.k8s.io", "v1", "Lease", "leases")
EVENTS_EVENT = _kind("events.k8s.io", "v1", "Event", "events", "ev", stored_as=("", "events"))
CLUSTER_ROLE = _kind("rbac.authorization.k8s.io", "v1", "ClusterRole", "clusterroles", namespaced=False)
CLUSTER_ROLE_BINDING = _kind(
    "rbac.authorization.k8s.io", "v1", "ClusterRoleBinding", "clusterrolebindings", namespaced=False
)
ROLE = _kind("rbac.authorization.k8s.io", "v1", "Role", "roles")
ROLE_BINDING = _kind("rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings")
MUTATING_WEBHOOK_CONFIGURATION = _kind(
    "admissionregistration.k8s.io",
    "v1",
    "MutatingWebhookConfiguration",
    "mutatingwebhookconfigurations",
    namespaced=False,
    categories="api-extensions",
)
VALIDATING_WEBHOOK_CONFIGURATION = _kind(
    "admissionregistration.k8s.io",
    "v1",
    "ValidatingWebhookConfiguration",
    "validatingwebhookconfigurations",
    namespaced=False,
    categories="api-extensions",
)
VALIDATING_ADMISSION_POLICY = _kind(
    "admissionregistration.k8s.io",
    "v1",
    "ValidatingAdmissionPolicy",
    "validatingadmissionpolicies",
    namespaced=False,
    categories="api-extensions",
    subresources="status",
)
VALIDATING_ADMISSION_POLICY_BINDING = _kind(
    "admissionregistration.k8s.io",
    "v1",
    "ValidatingAdmissionPolicyBinding",
    "validatingadmissionpolicybindings",
    namespaced=False,
    categories="api-extensions",
)
CUSTOM_RESOURCE_DEFINITION = _kind(
    "apiextensions.k8s.io",
    "v1",
    "CustomResourceDefinition",
    "customresourcedefinitions",
    "crd",
    "crds",
    namespaced=False,
    categories="api-extensions",
    subresources="status",
)
POD_DISRUPTION_BUDGET = _kind(
    "policy",
    "v1",
    "PodDisruptionBudget",
    "poddisruptionbudgets",
    "pdb",
    subresources="status",
    unserved="no eviction is refused",
)
HORIZONTAL_POD_AUTOSCALER = _kind(
    "autoscaling",
    "v2",
    "HorizontalPodAutoscaler",
    "horizontalpodautoscalers",
    "hpa",
    categories="all",
    subresources="status",
    unserved="nothing is scaled",
)
NETWORK_POLICY = _kind(
    "networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies", "netpol", unserved="it blocks no traffic"
)
INGRESS = _kind(
    "networking.k8s.io",
    "v1",
    "Ingress",
    "ingresses",
    "ing",
    subresources="status",
    unserved="no controller routes its traffic",
)
STORAGE_CLASS = _kind("storage.k8s.io", "v1", "StorageClass", "storageclasses", "sc", namespaced=False)
CERTIFICATE_SIGNING_REQUEST = _kind(
    "certificates.k8s.io",
    "v1",
    "CertificateSigningRequest",
    "certificatesigningrequests",
    "csr",
    namespaced=False,
    subresources="approval status",
)
TOKEN_REVIEW = _kind("authentication.k8s.io", "v1", "TokenReview", "tokenreviews", namespaced=False, verbs=CREATE_ONLY)
SELF_SUBJECT_REVIEW = _kind(
    "authentication.k8s.io", "v1", "SelfSubjectReview", "selfsubjectreviews", namespaced=False, verbs=CREATE_ONLY
)
SUBJECT_ACCESS_REVIEW = _kind(
    "authorization.k8s.io", "v1", "SubjectAccessReview", "subjectaccessreviews", namespaced=False, verbs=CREATE_ONLY
)
SELF_SUBJECT_ACCESS_REVIEW = _kind(
    "authorization.k8s.io",
    "v1",
    "SelfSubjectAccessReview",
    "selfsubjectaccessreviews",
    namespaced=False,
    verbs=CREATE_ONLY,
)
LOCAL_SUBJECT_ACCESS_REVIEW = _kind(
    "authorization.k8s.io", "v1", "LocalSubjectAccessReview", "localsubjectaccessreviews", verbs=CREATE_ONLY
)
SELF_SUBJECT_RULES_REVIEW = _kind(
    "authorization.k8s.io",
    "v1",
    "SelfSubjectRulesReview",
    "selfsubjectrulesreviews",
    namespaced=False,
    verbs=CREATE_ONLY,
)
NODE_METRICS = _kind(
    "metrics.k8s.io", "v1beta1", "NodeMetrics", "nodes", namespaced=False, singular="", verbs=("get", "list")
)
POD_METRICS = _kind("metrics.k8s.io", "v1beta1", "PodMetrics", "pods", singular="", verbs=("get", "list"))

BUILTIN: tuple[KindInfo, ...] = (
    NAMESPACE,
    NODE,
    POD,
    SERVICE,
    ENDPOINTS,
    SERVICE_ACCOUNT,
    SECRET,
    CONFIG_MAP,
    EVENT,
    PERSISTENT_VOLUME_CLAIM,
    PERSISTENT_VOLUME,
    REPLICATION_CONTROLLER,
    LIMIT_RANGE,
    RESOURCE_QUOTA,
    DEPLOYMENT,
    REPLICA_SET,
    STATEFUL_SET,
    DAEMON_SET,
    CONTROLLER_REVISION,
    JOB,
    CRON_JOB,
    ENDPOINT_SLICE,
    LEASE,
    EVENTS_EVENT,
    CLUSTER_ROLE,
    CLUSTER_ROLE_BINDING,
    ROLE,
    ROLE_BINDING,
    MUTATING_WEBHOOK_CONFIGURATION,
    VALIDATING_WEBHOOK_CONFIGURATION,
    VALIDATING_ADMISSION_POLICY,
    VALIDATING_ADMISSION_POLICY_BINDING,
    CUSTOM_RESOURCE_DEFINITION,
    POD_DISRUPTION_BUDGET,
    HORIZONTAL_POD_AUTOSCALER,
    NETWORK_POLICY,
    INGRESS,
    STORAGE_CLASS,
    CERTIFICATE_SIGNING_REQUEST,
    TOKEN_REVIEW,
    SELF_SUBJECT_REVIEW,
    SUBJECT_ACCESS_REVIEW,
    SELF_SUBJECT_ACCESS_REVIEW,
    LOCAL_SUBJECT_ACCESS_REVIEW,
    SELF_SUBJECT_RULES_REVIEW,
)

# What is measured when asked for, and never stored.
MEASURED = (NODE_METRICS, POD_METRICS)


def from_definition(definition: dict[str, Any]) -> KindInfo | None:
    """The kind that a CustomResourceDefinition declares, None if it serves no version.

    Versions are ordered as Kubernetes does: stable before beta before alpha, then the higher number first.
    """
    spec = definition["spec"]
    versions = [version for version in spec["versions"] if version.get("served")]
    if not versions:
        return None
    ordered = sorted((str(version["name"]) for version in versions), key=version_priority)
    storage = next((str(version["name"]) for version in spec["versions"] if version.get("storage")), ordered[0])
    names = spec["names"]
    subresources = {name for version in versions for name in (version.get("subresources") or {})}
    return KindInfo(
        group=spec["group"],
        version=storage,
        kind=names["kind"],
        plural=names["plural"],
        namespaced=spec.get("scope") != "Cluster",
        singular=names.get("singular") or names["kind"].lower(),
        short_names=tuple(names.get("shortNames") or ()),
        categories=tuple(names.get("categories") or ()),
        subresources=frozenset(subresources),
        served_versions=tuple(ordered),
        list_kind=names.get("listKind") or f"{names['kind']}List",
        definition=definition,
    )


def version_priority(version: str) -> tuple[int, int, int, str]:
    """Sort key that puts the version a client should prefer first: v2, v1, v2beta1, v1beta1, v1alpha1, others."""
    match = re.fullmatch(r"v([1-9][0-9]*)(?:(alpha|beta)([1-9][0-9]*))?", version)
    if match is None:
        return (3, 0, 0, version)
    major, stage, minor = int(match[1]), match[2], int(match[3] or 0)
    return ({None: 0, "beta": 1, "alpha": 2}[stage], -major, -minor, version)


class Kinds:
    """The kinds served right now: the built-in ones and those that CustomResourceDefinitions add and take away."""

    def __init__(self) -> None:
        """Begin with the built-in kinds."""
        self._custom: dict[str, KindInfo] = {}
        self._by_plural: dict[tuple[str, str], KindInfo] = {}
        self._by_kind: dict[tuple[str, str], KindInfo] = {}
        self._index()

    def _index(self) -> None:
        everything = list(self)
        self._by_plural = {(kind.group, kind.plural): kind for kind in everything}
        self._by_kind = {(kind.group, kind.kind): kind for kind in everything}

    def __iter__(self) -> Iterator[KindInfo]:
        yield from BUILTIN
        yield from MEASURED
        yield from self._custom.values()

    def define(self, definition: dict[str, Any]) -> None:
        """Serve what this CustomResourceDefinition declares, in place of what its earlier form did."""
        name = definition["metadata"]["name"]
        kind = from_definition(definition)
        if kind is None:
            self._custom.pop(name, None)
        else:
            self._custom[name] = kind
        self._index()

    def undefine(self, name: str) -> None:
        """Stop serving the kind of a deleted CustomResourceDefinition."""
        if self._custom.pop(name, None) is not None:
            self._index()

    def by_plural(self, group: str, version: str, plural: str) -> KindInfo | None:
        """The kind behind a URL, seen at that version; None if it isn't served."""
        kind = self._by_plural.get((group, plural))
        return kind.at(version) if kind is not None and version in kind.served_versions else None

    def by_kind(self, api_version: str, name: str) -> KindInfo | None:
        """The kind of an object's `apiVersion` and `kind`, seen at that version; None if it isn't served."""
        group, _, version = api_version.rpartition("/")
        kind = self._by_kind.get((group, name))
        return kind.at(version) if kind is not None and version in kind.served_versions else None

    def custom(self) -> list[KindInfo]:
        """The kinds that CustomResourceDefinitions declare."""
        return list(self._custom.values())

"""The roles and bindings that every cluster has from its first start, as Kubernetes' bootstrap policy."""

from __future__ import annotations

from typing import Any

from localcluster.apiserver import kinds

Object = dict[str, Any]

_READ = ["get", "list", "watch"]
_WRITE = ["create", "delete", "deletecollection", "patch", "update"]
_LABELS = {"kubernetes.io/bootstrapping": "rbac-defaults"}
_GROUP = "rbac.authorization.k8s.io"
# What the three user-facing roles are about; secrets, tokens and streams into pods are for editors only.
_VIEWED = {
    "": (
        "bindings configmaps endpoints events limitranges namespaces namespaces/status persistentvolumeclaims "
        "persistentvolumeclaims/status pods pods/log pods/status resourcequotas resourcequotas/status serviceaccounts "
        "services services/status"
    ),
    "apps": (
        "controllerrevisions daemonsets daemonsets/status deployments deployments/scale deployments/status replicasets "
        "replicasets/scale replicasets/status statefulsets statefulsets/scale statefulsets/status"
    ),
    "autoscaling": "horizontalpodautoscalers horizontalpodautoscalers/status",
    "batch": "cronjobs cronjobs/status jobs jobs/status",
    "discovery.k8s.io": "endpointslices",
    "networking.k8s.io": "ingresses ingresses/status networkpolicies",
    "policy": "poddisruptionbudgets poddisruptionbudgets/status",
}
_EDITED = {
    "": "configmaps events persistentvolumeclaims pods secrets serviceaccounts services",
    "apps": (
        "daemonsets deployments deployments/rollback deployments/scale replicasets replicasets/scale statefulsets "
        "statefulsets/scale"
    ),
    "autoscaling": "horizontalpodautoscalers",
    "batch": "cronjobs jobs",
    "networking.k8s.io": "ingresses networkpolicies",
    "policy": "poddisruptionbudgets",
}
_DOCUMENTS = ["/api", "/api/*", "/apis", "/apis/*", "/openapi", "/openapi/*"]
_PUBLIC = ["/healthz", "/livez", "/readyz", "/version", "/version/"]


def objects() -> list[tuple[kinds.KindInfo, Object]]:
    """Cluster roles, and the bindings of those that everyone has."""
    view = [_rule(group, resources.split(), _READ) for group, resources in _VIEWED.items()]
    edit = [
        *view,
        *(_rule(group, resources.split(), _WRITE) for group, resources in _EDITED.items()),
        _rule("", ["pods/attach", "pods/exec", "pods/portforward", "pods/proxy", "secrets"], _READ),
        _rule("", ["pods/attach", "pods/exec", "pods/portforward", "pods/proxy"], _WRITE),
        _rule("", ["pods/eviction", "serviceaccounts/token"], ["create"]),
        _rule("", ["pods/ephemeralcontainers"], ["patch", "update"]),
        _rule("", ["serviceaccounts"], ["impersonate"]),
        _rule("coordination.k8s.io", ["leases"], [*_READ, *_WRITE]),
    ]
    admin = [
        *edit,
        _rule("authorization.k8s.io", ["localsubjectaccessreviews"], ["create"]),
        _rule(_GROUP, ["rolebindings", "roles"], [*_READ, *_WRITE]),
    ]
    everything = [_rule("*", ["*"], ["*"]), {"nonResourceURLs": ["*"], "verbs": ["*"]}]
    reviews = [
        _rule("authorization.k8s.io", ["selfsubjectaccessreviews", "selfsubjectrulesreviews"], ["create"]),
        _rule("authentication.k8s.io", ["selfsubjectreviews"], ["create"]),
    ]
    delegation = [
        _rule("authentication.k8s.io", ["tokenreviews"], ["create"]),
        _rule("authorization.k8s.io", ["subjectaccessreviews"], ["create"]),
    ]
    issuer = ["/.well-known/openid-configuration", "/.well-known/openid-configuration/", "/openid/v1/jwks"]
    return [
        _role("cluster-admin", everything),
        _aggregate("admin", admin),
        _aggregate("edit", edit),
        _aggregate("view", view),
        _role("system:discovery", [_paths([*_DOCUMENTS, *_PUBLIC])]),
        _role("system:public-info-viewer", [_paths(_PUBLIC)]),
        _role("system:basic-user", reviews),
        _role("system:auth-delegator", delegation),
        _role("system:service-account-issuer-discovery", [_paths(issuer)]),
        _binding("cluster-admin", "system:masters"),
        _binding("system:discovery", "system:authenticated"),
        _binding("system:basic-user", "system:authenticated"),
        _binding("system:public-info-viewer", "system:authenticated", "system:unauthenticated"),
        _binding("system:service-account-issuer-discovery", "system:serviceaccounts"),
    ]


def _rule(group: str, resources: list[str], verbs: list[str]) -> Object:
    return {"apiGroups": [group], "resources": resources, "verbs": verbs}


def _paths(paths: list[str]) -> Object:
    return {"nonResourceURLs": paths, "verbs": ["get"]}


def _role(name: str, rules: list[Object]) -> tuple[kinds.KindInfo, Object]:
    return kinds.CLUSTER_ROLE, _named(kinds.CLUSTER_ROLE, name) | {"rules": rules}


def _aggregate(name: str, rules: list[Object]) -> tuple[kinds.KindInfo, Object]:
    """A role that others widen by a label; its own rules stand in it as well."""
    selector = {"matchLabels": {f"{_GROUP}/aggregate-to-{name}": "true"}}
    kind, role = _role(name, rules)
    return kind, role | {"aggregationRule": {"clusterRoleSelectors": [selector]}}


def _binding(name: str, *groups: str) -> tuple[kinds.KindInfo, Object]:
    reference = {"apiGroup": _GROUP, "kind": "ClusterRole", "name": name}
    subjects = [{"apiGroup": _GROUP, "kind": "Group", "name": group} for group in groups]
    binding = _named(kinds.CLUSTER_ROLE_BINDING, name) | {"roleRef": reference, "subjects": subjects}
    return kinds.CLUSTER_ROLE_BINDING, binding


def _named(kind: kinds.KindInfo, name: str) -> Object:
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": name, "labels": dict(_LABELS)}}

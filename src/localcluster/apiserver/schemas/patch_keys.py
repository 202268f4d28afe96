"""How strategic merge patch treats each list: Kubernetes' `patchStrategy` and `patchMergeKey` tags, as a table.

Source: the struct tags in k8s.io/api. A list that is not here is replaced as a whole.
"""

from localcluster.apiserver.schemas.model import Field, Struct, struct

Strategy = tuple[str, str]
REPLACE: Strategy = ("replace", "")
_BY_NAME: Strategy = ("merge", "name")
_BY_TYPE: Strategy = ("merge", "type")
_WHOLE_ELEMENTS: Strategy = ("merge", "")

_CONTAINER_LISTS: dict[str, Strategy] = {
    "env": _BY_NAME,
    "ports": ("merge", "containerPort"),
    "volumeDevices": ("merge", "devicePath"),
    "volumeMounts": ("merge", "mountPath"),
}
_STRATEGIES: dict[str, dict[str, Strategy]] = {
    "meta_v1.ObjectMeta": {"finalizers": _WHOLE_ELEMENTS, "ownerReferences": ("merge", "uid")},
    "core_v1.Container": _CONTAINER_LISTS,
    "core_v1.EphemeralContainer": _CONTAINER_LISTS,
    "core_v1.PodSpec": {
        "containers": _BY_NAME,
        "ephemeralContainers": _BY_NAME,
        "hostAliases": ("merge", "ip"),
        "imagePullSecrets": _BY_NAME,
        "initContainers": _BY_NAME,
        "resourceClaims": _BY_NAME,
        "schedulingGates": _BY_NAME,
        "topologySpreadConstraints": ("merge", "topologyKey"),
        "volumes": _BY_NAME,
    },
    "core_v1.PodStatus": {
        "conditions": _BY_TYPE,
        "hostIPs": ("merge", "ip"),
        "podIPs": ("merge", "ip"),
        "resourceClaimStatuses": _BY_NAME,
    },
    "core_v1.ServiceSpec": {"ports": ("merge", "port")},
    "core_v1.ServiceStatus": {"conditions": _BY_TYPE},
    "core_v1.ServiceAccount": {"secrets": _BY_NAME},
    "core_v1.NamespaceStatus": {"conditions": _BY_TYPE},
    "core_v1.NodeSpec": {"podCIDRs": _WHOLE_ELEMENTS},
    "core_v1.NodeStatus": {"addresses": _BY_TYPE, "conditions": _BY_TYPE},
    "core_v1.PersistentVolumeClaimStatus": {"conditions": _BY_TYPE},
    "core_v1.ReplicationControllerStatus": {"conditions": _BY_TYPE},
    "apps_v1.DeploymentStatus": {"conditions": _BY_TYPE},
    "apps_v1.ReplicaSetStatus": {"conditions": _BY_TYPE},
    "apps_v1.StatefulSetStatus": {"conditions": _BY_TYPE},
    "apps_v1.DaemonSetStatus": {"conditions": _BY_TYPE},
    "batch_v1.JobStatus": {"conditions": _BY_TYPE},
    "policy_v1.PodDisruptionBudgetStatus": {"conditions": _BY_TYPE},
    "networking_v1.IngressStatus": {},
    "admissionregistration_v1.MutatingWebhookConfiguration": {"webhooks": _BY_NAME},
    "admissionregistration_v1.ValidatingWebhookConfiguration": {"webhooks": _BY_NAME},
    "admissionregistration_v1.MutatingWebhook": {"matchConditions": _BY_NAME},
    "admissionregistration_v1.ValidatingWebhook": {"matchConditions": _BY_NAME},
}
# `+patchStrategy=retainKeys`: fields of the object that the patch does not name are dropped.
RETAIN_KEYS: frozenset[tuple[str, str]] = frozenset(
    {("apps_v1.DeploymentSpec", "strategy"), ("core_v1.PodSpec", "volumes")}
)


def of_field(struct_name: str, field_name: str) -> Strategy:
    """(`merge` or `replace`, merge key; "" for lists of plain values) of one field."""
    return _STRATEGIES.get(struct_name, {}).get(field_name, REPLACE)


def of_path(shape: Struct, path: tuple[str, ...]) -> Strategy:
    """The strategy of the list at `path`: field names from the object's root; list elements add nothing."""
    current: Struct | None = shape
    strategy = REPLACE
    for name in path:
        if current is None:
            return REPLACE
        field = current.fields.get(name)
        if field is None:
            return REPLACE
        strategy = of_field(current.name, name)
        current = _struct_below(field)
    return strategy


def _struct_below(field: Field) -> Struct | None:
    below = field.type
    while below.element is not None:
        below = below.element
    return struct(below.struct) if below.category == "object" else None

"""Tables of what a cluster consists of, and of configuration: nodes, namespaces, accounts, secrets, events, RBAC."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from localcluster.apiserver.tables.cells import (
    AGE,
    CREATED_AT,
    NAME,
    NONE,
    UNKNOWN,
    UNSET,
    Cell,
    Column,
    Printer,
    age,
    duration,
    name_of,
    since,
    wide,
)

Object = dict[str, Any]

_ROLE_LABEL = "node-role.kubernetes.io/"
_ACCESS_MODES = {"ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX", "ReadWriteOncePod": "RWOP"}


def _namespace(item: Object, now: datetime) -> list[Cell]:
    return [name_of(item), (item.get("status") or {}).get("phase", ""), age(item, now)]


def _node(item: Object, now: datetime) -> list[Cell]:
    spec, status = item.get("spec") or {}, item.get("status") or {}
    info = status.get("nodeInfo") or {}
    ready = next((c.get("status") for c in status.get("conditions") or () if c.get("type") == "Ready"), None)
    words = [{"True": "Ready", None: "Unknown"}.get(ready, "NotReady")]
    if spec.get("unschedulable"):
        words.append("SchedulingDisabled")
    names = item["metadata"].get("labels") or {}
    roles = sorted(name.removeprefix(_ROLE_LABEL) for name in names if name.startswith(_ROLE_LABEL))
    addresses = {entry.get("type"): entry.get("address") for entry in reversed(status.get("addresses") or ())}
    return [
        name_of(item),
        ",".join(words),
        ",".join(filter(None, roles)) or NONE,
        age(item, now),
        info.get("kubeletVersion", ""),
        addresses.get("InternalIP") or NONE,
        addresses.get("ExternalIP") or NONE,
        info.get("osImage") or UNKNOWN,
        info.get("kernelVersion") or UNKNOWN,
        info.get("containerRuntimeVersion") or UNKNOWN,
    ]


def _secret(item: Object, now: datetime) -> list[Cell]:
    return [name_of(item), item.get("type", "Opaque"), len(item.get("data") or ()), age(item, now)]


def _config_map(item: Object, now: datetime) -> list[Cell]:
    return [name_of(item), len(item.get("data") or ()) + len(item.get("binaryData") or ()), age(item, now)]


def _service_account(item: Object, now: datetime) -> list[Cell]:
    return [name_of(item), len(item.get("secrets") or ()), age(item, now)]


def _event(item: Object, now: datetime) -> list[Cell]:
    involved = item.get("involvedObject") or item.get("regarding") or {}
    series = item.get("series") or {}
    first = item.get("firstTimestamp") or item.get("deprecatedFirstTimestamp") or item.get("eventTime")
    last = series.get("lastObservedTime") or item.get("lastTimestamp") or item.get("deprecatedLastTimestamp") or first
    source = item.get("source") or item.get("deprecatedSource") or {}
    component = source.get("component") or item.get("reportingComponent") or item.get("reportingController") or ""
    kind = str(involved.get("kind") or "").lower()
    count = series.get("count") or item.get("count") or item.get("deprecatedCount") or 1
    return [
        since(last, now),
        item.get("type", ""),
        item.get("reason", ""),
        f"{kind}/{involved['name']}" if involved.get("name") else kind,
        involved.get("fieldPath") or "",
        f"{component}, {source['host']}" if source.get("host") else component,
        str(item.get("message") or item.get("note") or "").strip(),
        since(first, now),
        count,
        name_of(item),
    ]


def _lease(item: Object, now: datetime) -> list[Cell]:
    return [name_of(item), (item.get("spec") or {}).get("holderIdentity") or "", age(item, now)]


def _admission_policy(policy: Object, now: datetime) -> list[Cell]:
    spec = policy.get("spec") or {}
    parameters = spec.get("paramKind")
    shown = f"{parameters['apiVersion']}/{parameters['kind']}" if parameters else UNSET
    return [name_of(policy), len(spec.get("validations") or ()), shown, age(policy, now)]


def _policy_binding(binding: Object, now: datetime) -> list[Cell]:
    spec = binding.get("spec") or {}
    reference = spec.get("paramRef") or {}
    shown = "/".join(reference[field] for field in ("namespace", "name") if reference.get(field)) or UNSET
    return [name_of(binding), spec.get("policyName"), shown, age(binding, now)]


def _webhooks(item: Object, now: datetime) -> list[Cell]:
    return [name_of(item), len(item.get("webhooks") or ()), age(item, now)]


def _created(item: Object, now: datetime) -> list[Cell]:
    return [name_of(item), item["metadata"].get("creationTimestamp")]


def _role_binding(item: Object, now: datetime) -> list[Cell]:
    reference = item.get("roleRef") or {}
    by_kind: dict[str, list[str]] = {"User": [], "Group": [], "ServiceAccount": []}
    for subject in item.get("subjects") or ():
        name = subject.get("name", "")
        shown = f"{subject.get('namespace', '')}/{name}" if subject.get("kind") == "ServiceAccount" else name
        by_kind.setdefault(subject.get("kind", ""), []).append(shown)
    return [
        name_of(item),
        f"{reference.get('kind', '')}/{reference.get('name', '')}",
        age(item, now),
        *(", ".join(by_kind[kind]) for kind in ("User", "Group", "ServiceAccount")),
    ]


def _disruption_budget(item: Object, now: datetime) -> list[Cell]:
    spec, status = item.get("spec") or {}, item.get("status") or {}
    least, most = spec.get("minAvailable"), spec.get("maxUnavailable")
    return [
        name_of(item),
        "N/A" if least is None else str(least),
        "N/A" if most is None else str(most),
        status.get("disruptionsAllowed", 0),
        age(item, now),
    ]


def _claim(item: Object, now: datetime) -> list[Cell]:
    spec, status = item.get("spec") or {}, item.get("status") or {}
    phase = "Terminating" if item["metadata"].get("deletionTimestamp") else status.get("phase", "")
    bound = bool(spec.get("volumeName"))
    modes = ",".join(_ACCESS_MODES.get(mode, mode) for mode in status.get("accessModes") or ()) if bound else ""
    capacity = (status.get("capacity") or {}).get("storage", "") if bound else ""
    return [
        name_of(item),
        phase,
        spec.get("volumeName") or "",
        capacity,
        modes,
        spec.get("storageClassName") or "",
        spec.get("volumeAttributesClassName") or UNSET,
        age(item, now),
        spec.get("volumeMode") or "",
    ]


def _volume(item: Object, now: datetime) -> list[Cell]:
    spec, status = item.get("spec") or {}, item.get("status") or {}
    claim = spec.get("claimRef") or {}
    return [
        name_of(item),
        (spec.get("capacity") or {}).get("storage", ""),
        ",".join(_ACCESS_MODES.get(mode, mode) for mode in spec.get("accessModes") or ()),
        spec.get("persistentVolumeReclaimPolicy") or "Retain",
        "Terminating" if item["metadata"].get("deletionTimestamp") else status.get("phase", ""),
        f"{claim.get('namespace', '')}/{claim['name']}" if claim.get("name") else "",
        spec.get("storageClassName") or "",
        spec.get("volumeAttributesClassName") or UNSET,
        status.get("reason", ""),
        age(item, now),
        spec.get("volumeMode") or "Filesystem",
    ]


def _storage_class(item: Object, now: datetime) -> list[Cell]:
    annotations = item["metadata"].get("annotations") or {}
    is_default = annotations.get("storageclass.kubernetes.io/is-default-class") == "true"
    return [
        f"{name_of(item)} (default)" if is_default else name_of(item),
        item.get("provisioner", ""),
        item.get("reclaimPolicy") or "Delete",
        item.get("volumeBindingMode") or "Immediate",
        bool(item.get("allowVolumeExpansion")),
        age(item, now),
    ]


def _certificate_request(item: Object, now: datetime) -> list[Cell]:
    spec, status = item.get("spec") or {}, item.get("status") or {}
    types = [condition.get("type") for condition in status.get("conditions") or ()]
    # A denial is shown even of a request that was approved (printers/internalversion).
    decided = next((name for name in ("Denied", "Approved") if name in types), "Pending")
    words = [decided, *(["Failed"] if "Failed" in types else []), *(["Issued"] if status.get("certificate") else [])]
    seconds = spec.get("expirationSeconds")
    return [
        name_of(item),
        age(item, now),
        spec.get("signerName") or NONE,
        spec.get("username", ""),
        NONE if seconds is None else duration(seconds),
        ",".join(words),
    ]


NAMESPACES = Printer((NAME, Column("Status"), AGE), _namespace)
NODES = Printer(
    (
        NAME,
        Column("Status"),
        Column("Roles"),
        AGE,
        Column("Version"),
        *(wide(name) for name in ("Internal-IP", "External-IP", "OS-Image", "Kernel-Version", "Container-Runtime")),
    ),
    _node,
)
SECRETS = Printer((NAME, Column("Type"), Column("Data"), AGE), _secret)
CONFIG_MAPS = Printer((NAME, Column("Data"), AGE), _config_map)
SERVICE_ACCOUNTS = Printer((NAME, Column("Secrets"), AGE), _service_account)
EVENTS = Printer(
    (
        Column("Last Seen"),
        Column("Type"),
        Column("Reason"),
        Column("Object"),
        wide("Subobject"),
        wide("Source"),
        Column("Message"),
        wide("First Seen"),
        wide("Count", "integer"),
        Column("Name", priority=1, format="name"),
    ),
    _event,
)
CERTIFICATE_REQUESTS = Printer(
    (
        NAME,
        AGE,
        Column("SignerName"),
        Column("Requestor"),
        Column("RequestedDuration"),
        Column("Condition"),
    ),
    _certificate_request,
)
LEASES = Printer((NAME, Column("Holder"), AGE), _lease)
WEBHOOK_CONFIGURATIONS = Printer((NAME, Column("Webhooks", "integer"), AGE), _webhooks)
ADMISSION_POLICIES = Printer(
    (NAME, Column("Validations", "integer"), Column("ParamKind"), AGE),
    _admission_policy,
)
POLICY_BINDINGS = Printer((NAME, Column("PolicyName"), Column("ParamRef"), AGE), _policy_binding)
CREATED = Printer((NAME, CREATED_AT), _created)
ROLE_BINDINGS = Printer(
    (NAME, Column("Role"), AGE, wide("Users"), wide("Groups"), wide("ServiceAccounts")), _role_binding
)
DISRUPTION_BUDGETS = Printer(
    (
        NAME,
        Column("Min Available"),
        Column("Max Unavailable"),
        Column("Allowed Disruptions", "integer"),
        AGE,
    ),
    _disruption_budget,
)
CLAIMS = Printer(
    (
        NAME,
        Column("Status"),
        Column("Volume"),
        Column("Capacity"),
        Column("Access Modes"),
        Column("StorageClass"),
        Column("VolumeAttributesClass"),
        AGE,
        wide("VolumeMode"),
    ),
    _claim,
)
VOLUMES = Printer(
    (
        NAME,
        Column("Capacity"),
        Column("Access Modes"),
        Column("Reclaim Policy"),
        Column("Status"),
        Column("Claim"),
        Column("StorageClass"),
        Column("VolumeAttributesClass"),
        Column("Reason"),
        AGE,
        wide("VolumeMode"),
    ),
    _volume,
)
STORAGE_CLASSES = Printer(
    (
        NAME,
        Column("Provisioner"),
        Column("ReclaimPolicy"),
        Column("VolumeBindingMode"),
        Column("AllowVolumeExpansion"),
        AGE,
    ),
    _storage_class,
)

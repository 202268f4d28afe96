"""Server-side tables: the columns and cells that `kubectl get` shows, per kind."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from localcluster.apiserver.kinds import KindInfo
from localcluster.apiserver.tables import cluster, jsonpath, network, workloads
from localcluster.apiserver.tables.cells import AGE, NAME, UNKNOWN, Cell, Column, Printer, age, duration, name_of
from localcluster.apiserver.tables.pods import PODS

__all__ = ["table"]

Object = dict[str, Any]

_DEFAULT = Printer((NAME, AGE), lambda item, now: [name_of(item), age(item, now)])
_RBAC = "rbac.authorization.k8s.io"
_ADMISSION = "admissionregistration.k8s.io"
_PRINTERS: dict[tuple[str, str], Printer] = {
    ("", "Pod"): PODS,
    ("", "Service"): network.SERVICES,
    ("", "Endpoints"): network.ENDPOINTS,
    ("", "Namespace"): cluster.NAMESPACES,
    ("", "Node"): cluster.NODES,
    ("", "Secret"): cluster.SECRETS,
    ("", "ConfigMap"): cluster.CONFIG_MAPS,
    ("", "ServiceAccount"): cluster.SERVICE_ACCOUNTS,
    ("", "Event"): cluster.EVENTS,
    ("", "ReplicationController"): workloads.REPLICATION_CONTROLLERS,
    ("", "LimitRange"): cluster.CREATED,
    ("", "PersistentVolumeClaim"): cluster.CLAIMS,
    ("", "PersistentVolume"): cluster.VOLUMES,
    ("events.k8s.io", "Event"): cluster.EVENTS,
    ("apps", "Deployment"): workloads.DEPLOYMENTS,
    ("apps", "ReplicaSet"): workloads.REPLICA_SETS,
    ("apps", "DaemonSet"): workloads.DAEMON_SETS,
    ("apps", "StatefulSet"): workloads.STATEFUL_SETS,
    ("apps", "ControllerRevision"): workloads.CONTROLLER_REVISIONS,
    ("batch", "Job"): workloads.JOBS,
    ("batch", "CronJob"): workloads.CRON_JOBS,
    ("discovery.k8s.io", "EndpointSlice"): network.ENDPOINT_SLICES,
    ("networking.k8s.io", "Ingress"): network.INGRESSES,
    ("networking.k8s.io", "NetworkPolicy"): network.NETWORK_POLICIES,
    ("coordination.k8s.io", "Lease"): cluster.LEASES,
    ("policy", "PodDisruptionBudget"): cluster.DISRUPTION_BUDGETS,
    ("storage.k8s.io", "StorageClass"): cluster.STORAGE_CLASSES,
    ("certificates.k8s.io", "CertificateSigningRequest"): cluster.CERTIFICATE_REQUESTS,
    ("apiextensions.k8s.io", "CustomResourceDefinition"): cluster.CREATED,
    (_ADMISSION, "MutatingWebhookConfiguration"): cluster.WEBHOOK_CONFIGURATIONS,
    (_ADMISSION, "ValidatingWebhookConfiguration"): cluster.WEBHOOK_CONFIGURATIONS,
    (_ADMISSION, "ValidatingAdmissionPolicy"): cluster.ADMISSION_POLICIES,
    (_ADMISSION, "ValidatingAdmissionPolicyBinding"): cluster.POLICY_BINDINGS,
    (_RBAC, "Role"): cluster.CREATED,
    (_RBAC, "ClusterRole"): cluster.CREATED,
    (_RBAC, "RoleBinding"): cluster.ROLE_BINDINGS,
    (_RBAC, "ClusterRoleBinding"): cluster.ROLE_BINDINGS,
}


def table(kind: KindInfo, objects: Sequence[Object], crd_columns: Sequence[Object], now: datetime) -> Object:
    """A meta.k8s.io/v1 Table of `objects`, one row each in their order; rows have `cells` only.

    `crd_columns` are a custom kind's additionalPrinterColumns (name, type, jsonPath, priority) as its definition has
    them; without any it shows NAME and AGE. `now` is aware.
    """
    if kind.is_custom and crd_columns:
        printer = _custom(crd_columns)
    else:
        printer = _PRINTERS.get((kind.group, kind.kind), _DEFAULT)
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "columnDefinitions": [column.as_json() for column in printer.columns],
        "rows": [{"cells": printer.cells(item, now)} for item in objects],
    }


def _custom(crd_columns: Sequence[Object]) -> Printer:
    columns = tuple(
        Column(
            column["name"],
            column["type"],
            column.get("priority") or 0,
            column.get("format") or "",
            column.get("description")
            or f"Custom resource definition column (in JSONPath format): {column['jsonPath']}",
        )
        for column in crd_columns
    )

    def cells(item: Object, now: datetime) -> list[Cell]:
        return [name_of(item), *(_custom_cell(item, column["type"], column["jsonPath"], now) for column in crd_columns)]

    return Printer((NAME, *columns), cells)


def _custom_cell(item: Object, type_: str, path: str, now: datetime) -> Cell:
    """The value at `path` if it has the column's type, else nothing, as the API server's table convertor does."""
    try:
        found = jsonpath.find(path, item)
    except jsonpath.JsonPathError:
        return None
    if not found:
        return None
    value = found[0]
    match type_:
        case "integer" if isinstance(value, int | float) and not isinstance(value, bool):
            return int(value)
        case "number" if isinstance(value, int | float) and not isinstance(value, bool):
            return str(value) if isinstance(value, float) else value
        case "boolean" if isinstance(value, bool):
            return value
        case "date" if isinstance(value, str):
            return _date(value, now)
        case "string":
            return ",".join(_text(part) for part in found) if len(found) > 1 else _text(value)
    return None


def _date(value: str, now: datetime) -> str:
    try:
        return duration((now - datetime.fromisoformat(value)).total_seconds())
    except (ValueError, TypeError):  # TypeError: a time without zone
        return "<invalid>" if value else UNKNOWN


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)

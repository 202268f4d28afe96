"""Scheduling: each pending pod gets the first node that it may run on, at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from localcluster.apiserver import kinds
from localcluster.apiserver.kinds import KindInfo
from localcluster.controllers.conditions import find, with_condition, without
from localcluster.controllers.state import Name, State, is_terminating, name_of
from localcluster.controllers.writes import Bind, Patch, Record, Write

Object = dict[str, Any]

SCHEDULER = "default-scheduler"
_REPELLING = ("NoSchedule", "NoExecute")


def keys(state: State, kind: KindInfo, old: Object | None, new: Object | None) -> Iterable[Name]:
    """The pods that a change lets be scheduled: a pending one itself, or all pending ones when a node changes."""
    if kind is kinds.POD and new is not None and _is_pending(new):
        yield name_of(new)
    elif kind is kinds.NODE:
        for pod in state.all_of(kinds.POD):
            if _is_pending(pod):
                yield name_of(pod)


def reconcile(state: State, key: Name, now: datetime) -> list[Write]:
    """Bind the pod called `key` to a node, or say on the pod why none fits."""
    pod = state.get(kinds.POD, *key)
    if pod is None or not _is_pending(pod):
        return []
    nodes = sorted(state.all_of(kinds.NODE), key=lambda node: node["metadata"]["name"])
    refusals: Counter[str] = Counter()
    for node in nodes:
        why = refusal(pod, node)
        if why is None:
            chosen = node["metadata"]["name"]
            text = f"Successfully assigned {key[0]}/{key[1]} to {chosen}"
            return [Bind(pod, chosen), Record(kinds.POD, pod, "Scheduled", text, SCHEDULER)]
        refusals[why] += 1
    if nodes:
        reasons = ", ".join(f"{count} node(s) {reason}" for reason, count in sorted(refusals.items()))
        message = f"0/{len(nodes)} nodes are available: {reasons}."
    else:
        message = "no nodes available to schedule pods"
    return _unschedulable(pod, message, now)


def bound(pod: Object, node: str, now: datetime) -> Object:
    """The pod on its node. A pod that has one already, or ends, stays as it is."""
    if (pod.get("spec") or {}).get("nodeName") or is_terminating(pod):
        return pod
    status: Object = pod.get("status") or {}
    condition = {"type": "PodScheduled", "status": "True"}
    conditions = with_condition(without(status.get("conditions") or [], "PodScheduled"), condition, now)
    return {**pod, "spec": {**pod["spec"], "nodeName": node}, "status": {**status, "conditions": conditions}}


def _unschedulable(pod: Object, message: str, now: datetime) -> list[Write]:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    before = (pod.get("status") or {}).get("conditions") or []
    former = find(before, "PodScheduled")
    if former is not None and all(former.get(name) == value for name, value in condition.items()):
        return []
    about = pod["metadata"]
    body = {"status": {"conditions": with_condition(before, condition, now)}}
    return [
        Patch(kinds.POD, about["namespace"], about["name"], body, "status"),
        Record(kinds.POD, pod, "FailedScheduling", message, SCHEDULER, "Warning"),
    ]


def _is_pending(pod: Object) -> bool:
    spec = pod.get("spec") or {}
    ours = (spec.get("schedulerName") or SCHEDULER) == SCHEDULER
    return ours and not spec.get("nodeName") and not spec.get("schedulingGates") and not is_terminating(pod)


def refusal(pod: Object, node: Object) -> str | None:
    """Why the pod may not run on the node, in the scheduler's words; None if it may."""
    spec = pod.get("spec") or {}
    labels = node["metadata"].get("labels") or {}
    tolerations = spec.get("tolerations") or []
    taints = (node.get("spec") or {}).get("taints") or []
    unschedulable = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}
    if (node.get("spec") or {}).get("unschedulable") and not _tolerated(unschedulable, tolerations):
        return "were unschedulable"
    for taint in taints:
        if taint.get("effect") in _REPELLING and not _tolerated(taint, tolerations):
            return f"had untolerated taint {{{taint['key']}: {taint.get('value', '')}}}"
    affinity = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    )
    selector = spec.get("nodeSelector") or {}
    if not selector.items() <= labels.items() or (affinity and not _matches_affinity(affinity, node)):
        return "didn't match Pod's node affinity/selector"
    return None


def _tolerated(taint: Object, tolerations: list[Object]) -> bool:
    for toleration in tolerations:
        if toleration.get("effect") and toleration["effect"] != taint.get("effect"):
            continue
        if toleration.get("key") and toleration["key"] != taint["key"]:
            continue
        if toleration.get("operator") == "Exists" or (
            toleration.get("key") and (toleration.get("value") or "") == (taint.get("value") or "")
        ):
            return True
    return False


def _matches_affinity(affinity: Object, node: Object) -> bool:
    """Any of the terms, each with all its expressions."""
    labels = node["metadata"].get("labels") or {}
    fields = {"metadata.name": node["metadata"]["name"]}
    for term in affinity.get("nodeSelectorTerms") or ():
        expressions = [(rule, labels) for rule in term.get("matchExpressions") or ()]
        expressions += [(rule, fields) for rule in term.get("matchFields") or ()]
        if expressions and all(_holds(rule, values) for rule, values in expressions):
            return True
    return False


def _holds(rule: Object, values: dict[str, str]) -> bool:
    held, wanted = values.get(rule["key"]), rule.get("values") or []
    match rule["operator"]:
        case "In":
            return held is not None and held in wanted
        case "NotIn":
            return held not in wanted
        case "Exists":
            return held is not None
        case "DoesNotExist":
            return held is None
        case "Gt" | "Lt" if held is not None and held.lstrip("-").isdigit() and wanted:
            return int(held) > int(wanted[0]) if rule["operator"] == "Gt" else int(held) < int(wanted[0])
    return False

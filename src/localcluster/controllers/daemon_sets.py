"""DaemonSets: one pod on every node that it may run on.

Source: kube-controller-manager's daemon set controller.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from localcluster.apiserver import kinds
from localcluster.apiserver.errors import ApiError
from localcluster.apiserver.kinds import KindInfo
from localcluster.apiserver.selectors import structured
from localcluster.controllers import pods, revisions, rollout, scheduling
from localcluster.controllers.ownership import adoptions, released
from localcluster.controllers.state import Name, State, controller_of, is_terminating, name_of
from localcluster.controllers.templates import creation, new_pod
from localcluster.controllers.writes import Again, Delete, Record, Update, Write

Object = dict[str, Any]

_COMPONENT = "daemonset-controller"
# A daemon stays on a node that has trouble: pkg/controller/daemon/util, AddOrUpdateDaemonPodTolerations.
_TOLERATED = (
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
)


def keys(state: State, kind: KindInfo, old: Object | None, new: Object | None) -> Iterable[Name]:
    """The DaemonSets that a change concerns."""
    if kind is kinds.DAEMON_SET:
        yield name_of(new or old or {})
    elif kind is kinds.NODE:
        if old is None or new is None or _schedulability(old) != _schedulability(new):
            yield from map(name_of, state.all_of(kinds.DAEMON_SET))
    elif kind in (kinds.POD, kinds.CONTROLLER_REVISION):
        for item in (old, new):
            owner = controller_of(item) if item else None
            if item and owner and owner["kind"] == kinds.DAEMON_SET.kind:
                yield item["metadata"]["namespace"], owner["name"]
        if new is not None and controller_of(new) is None:
            labels = new["metadata"].get("labels") or {}
            for daemon_set in state.all_of(kinds.DAEMON_SET, new["metadata"]["namespace"]):
                if labels and structured(daemon_set["spec"].get("selector"))(labels):
                    yield name_of(daemon_set)


def reconcile(state: State, key: Name, now: datetime) -> list[Write]:
    """Bring the pods of the DaemonSet called `key` onto its nodes, and its status up to date."""
    owner = state.get(kinds.DAEMON_SET, *key)
    if owner is None or is_terminating(owner):
        return []
    adopted = adoptions(state, kinds.DAEMON_SET, owner, kinds.POD)
    if adopted:
        return adopted
    history = revisions.history(state, kinds.DAEMON_SET, owner)
    if history.update is None:
        return list(history.writes)
    mine, let_go = released(owner, state.controlled(kinds.POD, owner))
    by_node: dict[str, list[Object]] = defaultdict(list)
    for pod in sorted(mine, key=lambda pod: (pod["metadata"]["creationTimestamp"], pod["metadata"]["name"])):
        by_node[_node_of(pod)].append(pod)
    update = revisions.hash_of(history.update)
    nodes = [node["metadata"]["name"] for node in state.all_of(kinds.NODE) if _runs_on(owner, node)]
    writes: list[Write] = [*let_go]
    for node in nodes:
        writes += _on_node(owner, history.update, node, by_node[node])
    for node in by_node.keys() - set(nodes):
        writes += [write for pod in by_node[node] if pods.is_active(pod) for write in _delete(owner, pod)]
    if not writes and owner["spec"].get("updateStrategy", {}).get("type", "RollingUpdate") == "RollingUpdate":
        writes += _roll(owner, update, [pod for node in nodes for pod in by_node[node]], len(nodes), now)
    in_use = {f"{key[1]}-{_hash(pod)}" for pod in mine}
    writes += revisions.surplus(owner, history, in_use)
    status, waits = _status(owner, update, nodes, by_node, now)
    if status != owner.get("status"):
        writes.append(Update(kinds.DAEMON_SET, {**owner, "status": status}, "status"))
    return [*writes, Again(min(waits))] if waits else writes


def created(state: State, key: Name, item: Object) -> list[Write]:
    """What to record once a pod exists and has its name."""
    owner = state.get(kinds.DAEMON_SET, *key)
    if owner is None or item["kind"] != kinds.POD.kind:
        return []
    message = f"Created pod: {item['metadata']['name']}"
    return [Record(kinds.DAEMON_SET, owner, "SuccessfulCreate", message, _COMPONENT)]


def failed(state: State, key: Name, error: ApiError, now: datetime) -> list[Write]:
    """What users see when a pod was refused."""
    owner = state.get(kinds.DAEMON_SET, *key)
    if owner is None:
        return []
    message = f"Error creating: {error.message}"
    return [Record(kinds.DAEMON_SET, owner, "FailedCreate", message, _COMPONENT, "Warning")]


def _on_node(owner: Object, revision: Object, node: str, present: list[Object]) -> list[Write]:
    """One pod: what has failed is replaced, and of several the oldest stays."""
    writes: list[Write] = []
    for pod in present:
        if (pod.get("status") or {}).get("phase") == "Failed" and not is_terminating(pod):
            name = pod["metadata"]["name"]
            message = (
                f"Found failed daemon pod {pod['metadata']['namespace']}/{name} on node {node}, will try to kill it"
            )
            writes.append(Record(kinds.DAEMON_SET, owner, "FailedDaemonPod", message, _COMPONENT, "Warning"))
            writes += _delete(owner, pod)
    staying = [pod for pod in present if pods.is_active(pod)]
    if not staying and not any(is_terminating(pod) for pod in present) and not writes:
        return [creation(_pod(owner, revision, node))]
    return writes + [write for pod in staying[1:] for write in _delete(owner, pod)]


def _roll(owner: Object, update: str, present: list[Object], desired: int, now: datetime) -> list[Write]:
    """Delete pods of former templates: unavailable ones at once, others as far as maxUnavailable goes."""
    rolling = owner["spec"].get("updateStrategy", {}).get("rollingUpdate") or {}
    room = max(1, rollout.pods_of(rolling.get("maxUnavailable", 1), desired, up=True))
    minimum = owner["spec"].get("minReadySeconds") or 0
    active = [pod for pod in present if pods.is_active(pod)]
    available = [pod for pod in active if pods.available_in(pod, minimum, now) == 0]
    old = [pod for pod in active if _hash(pod) != update]
    broken = [pod for pod in old if pod not in available]
    room -= desired - len(available)
    serving = [pod for pod in old if pod in available][: max(0, room)]
    return [write for pod in [*broken, *serving] for write in _delete(owner, pod)]


def _pod(owner: Object, revision: Object, node: str) -> Object:
    labels = {revisions.LABEL: revisions.hash_of(revision)}
    pod = new_pod(kinds.DAEMON_SET, owner, revisions.template(revision), labels=labels)
    # The scheduler places it, on this node and no other: a replacement must not be wherever there is room.
    affinity = pod["spec"].setdefault("affinity", {})
    chosen = {"key": "metadata.name", "operator": "In", "values": [node]}
    affinity["nodeAffinity"] = {
        **(affinity.get("nodeAffinity") or {}),
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchFields": [chosen]}]},
    }
    pod["spec"]["tolerations"] = _tolerations(pod["spec"])
    return pod


def _tolerations(spec: Object) -> list[Object]:
    added = [{"key": key, "operator": "Exists", "effect": effect} for key, effect in _TOLERATED]
    if spec.get("hostNetwork"):
        added.append({"key": "node.kubernetes.io/network-unavailable", "operator": "Exists", "effect": "NoSchedule"})
    given = spec.get("tolerations") or []
    return [*given, *(toleration for toleration in added if toleration not in given)]


def _runs_on(owner: Object, node: Object) -> bool:
    template = (owner["spec"].get("template") or {}).get("spec") or {}
    pod = {"spec": {**template, "tolerations": _tolerations(template)}}
    return not is_terminating(node) and scheduling.refusal(pod, node) is None


def _schedulability(node: Object) -> tuple[Any, ...]:
    return node["metadata"].get("labels"), node.get("spec"), is_terminating(node)


def _node_of(pod: Object) -> str:
    """Where a pod is, or is to be."""
    spec = pod.get("spec") or {}
    if spec.get("nodeName"):
        return str(spec["nodeName"])
    required = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    ) or {}
    for term in required.get("nodeSelectorTerms") or ():
        for rule in term.get("matchFields") or ():
            if rule.get("key") == "metadata.name" and rule.get("values"):
                return str(rule["values"][0])
    return ""


def _hash(pod: Object) -> str:
    return str((pod["metadata"].get("labels") or {}).get(revisions.LABEL, ""))


def _delete(owner: Object, pod: Object) -> list[Write]:
    message = f"Deleted pod: {pod['metadata']['name']}"
    return [Delete(kinds.POD, pod), Record(kinds.DAEMON_SET, owner, "SuccessfulDelete", message, _COMPONENT)]


def _status(
    owner: Object, update: str, nodes: list[str], by_node: dict[str, list[Object]], now: datetime
) -> tuple[Object, list[float]]:
    """The status, and the seconds after which pods become available by waiting alone."""
    minimum = owner["spec"].get("minReadySeconds") or 0
    shown = [staying[0] for node in nodes if (staying := [pod for pod in by_node[node] if pods.is_active(pod)])]
    waits = [pods.available_in(pod, minimum, now) for pod in shown]
    available = sum(wait == 0 for wait in waits)
    elsewhere = by_node.keys() - set(nodes)
    optional = {
        "updatedNumberScheduled": sum(_hash(pod) == update for pod in shown),
        "numberAvailable": available,
        "numberUnavailable": len(nodes) - available,
    }
    status: Object = {
        "currentNumberScheduled": len(shown),
        "numberMisscheduled": sum(any(pods.is_active(pod) for pod in by_node[node]) for node in elsewhere),
        "desiredNumberScheduled": len(nodes),
        "numberReady": sum(wait is not None for wait in waits),
        "observedGeneration": owner["metadata"].get("generation", 0),
        # Zeroes are left out, as Kubernetes' `omitempty` does.
        **{name: count for name, count in optional.items() if count},
    }
    return status, [wait for wait in waits if wait]

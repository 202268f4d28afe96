"""A pod's status as the API shows it: a pure function of the pod and of what is known about its containers."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from localcluster.node.pods import (
    CREATING,
    INITIALIZING,
    ContainerView,
    PodView,
    Running,
    Terminated,
    Waiting,
    all_containers,
    ephemeral_containers,
    finished,
    init_containers,
    init_failed,
    is_sidecar,
)

_OWN_CONDITIONS = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")


def timestamp(moment: datetime) -> str:
    """Kubernetes' `Time`: RFC 3339 in UTC, whole seconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def phase(pod: Mapping[str, Any], view: PodView) -> str:
    """Pending, Running, Succeeded or Failed, by the kubelet's rules (`getPhase`)."""
    if view.failure is not None or init_failed(pod, view):
        return "Failed"
    if not initialized(pod, view):
        return "Pending"
    mains = [view.containers[container["name"]] for container in pod["spec"]["containers"]]
    if finished(pod, view):
        if any(view.containers[container["name"]].running for container in init_containers(pod)):
            return "Running"  # its sidecars are still being stopped
        failed = any(isinstance(main.state, Terminated) and main.state.exit_code for main in mains)
        return "Failed" if failed else "Succeeded"
    if any(isinstance(main.state, Waiting) and main.last is None and not main.attempts for main in mains):
        return "Pending"
    return "Running"


def initialized(pod: Mapping[str, Any], view: PodView) -> bool:
    """Whether every init container is done: ended well, or, for a sidecar, started."""
    return not _incomplete(pod, view)


def _incomplete(pod: Mapping[str, Any], view: PodView) -> list[str]:
    begun = any(view.containers[container["name"]].attempts for container in pod["spec"]["containers"])
    names = []
    for container in init_containers(pod):
        known = view.containers[container["name"]]
        done = isinstance(known.state, Terminated) and known.state.exit_code == 0
        if not (begun or done or (is_sidecar(container) and known.started)):
            names.append(container["name"])
    return names


def pod_status(
    pod: Mapping[str, Any],
    view: PodView,
    *,
    written: Iterable[Mapping[str, Any]],
    host_ip: str,
    started_at: datetime,
    now: datetime,
) -> dict[str, Any]:
    """The whole status. `written` are the conditions that this node wrote last.

    Conditions that others own are kept as they are in `pod`; a condition's time changes only with its value.
    """
    current_phase = phase(pod, view)
    before = {item["type"]: item for item in (pod.get("status") or {}).get("conditions") or ()}
    before |= {item["type"]: item for item in written if item["type"] in _OWN_CONDITIONS}
    status: dict[str, Any] = {
        "phase": current_phase,
        "conditions": _conditions(pod, view, current_phase, before, now),
        "hostIP": host_ip,
        "hostIPs": [{"ip": host_ip}],
        "startTime": timestamp(started_at),
        "containerStatuses": [_container_status(pod, container, view) for container in pod["spec"]["containers"]],
    }
    if view.pod_ip:
        status["podIP"] = view.pod_ip
        status["podIPs"] = [{"ip": view.pod_ip}]
    if init_containers(pod):
        status["initContainerStatuses"] = [_container_status(pod, item, view) for item in init_containers(pod)]
    if ephemeral_containers(pod):
        status["ephemeralContainerStatuses"] = [
            _container_status(pod, item, view) for item in ephemeral_containers(pod)
        ]
    if view.failure is not None:
        status["reason"], status["message"] = view.failure
    if pod["metadata"].get("generation"):
        status["observedGeneration"] = pod["metadata"]["generation"]
    return status


def _container_status(pod: Mapping[str, Any], container: Mapping[str, Any], view: PodView) -> dict[str, Any]:
    known = view.containers[container["name"]]
    is_init = any(item["name"] == known.name for item in init_containers(pod))
    ordinary_init = is_init and not is_sidecar(container)
    status: dict[str, Any] = {
        "name": known.name,
        "image": container.get("image", ""),
        "imageID": f"localcluster://{container.get('image', '')}" if known.attempts else "",
        "ready": (isinstance(known.state, Terminated) and known.state.exit_code == 0) if ordinary_init else known.ready,
        "restartCount": known.restart_count,
        "started": known.started,
        "state": _state(pod, known, view),
        "lastState": {"terminated": _terminated(pod, known, known.last, _last_run(known))} if known.last else {},
    }
    if known.attempts:
        status["containerID"] = _container_id(pod, known.name, known.restart_count)
    return status


def _last_run(container: ContainerView) -> int:
    # While it waits for a restart, the run that ended still is the one that the count numbers.
    return max(container.restart_count - (0 if isinstance(container.state, Waiting) else 1), 0)


def _container_id(pod: Mapping[str, Any], name: str, run: int) -> str:
    """The name of one run of one container; it changes with each restart."""
    return f"localcluster://{pod['metadata']['uid']}/{name}/{run}"


def _state(pod: Mapping[str, Any], container: ContainerView, view: PodView) -> dict[str, Any]:
    match container.state:
        case Running(started_at):
            return {"running": {"startedAt": timestamp(started_at)}}
        case Terminated() as terminated:
            return {"terminated": _terminated(pod, container, terminated, container.restart_count)}
        case Waiting(reason, message):
            if reason == CREATING and init_containers(pod) and (not initialized(pod, view)):
                reason = INITIALIZING
            return {"waiting": {"reason": reason, "message": message} if message else {"reason": reason}}


def _terminated(pod: Mapping[str, Any], container: ContainerView, terminated: Terminated, run: int) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "exitCode": terminated.exit_code,
        "reason": terminated.reason,
        "startedAt": timestamp(terminated.started_at),
        "finishedAt": timestamp(terminated.finished_at),
        "containerID": _container_id(pod, container.name, run),
    }
    if terminated.message:
        shown["message"] = terminated.message
    if terminated.signal is not None:
        shown["signal"] = terminated.signal
    return shown


def _conditions(
    pod: Mapping[str, Any],
    view: PodView,
    current_phase: str,
    before: Mapping[str, Mapping[str, Any]],
    now: datetime,
) -> list[dict[str, Any]]:
    conditions = [dict(condition) for kind, condition in before.items() if kind not in _OWN_CONDITIONS]
    for kind, is_true, reason, message in _own_conditions(pod, view, current_phase, before):
        value = "True" if is_true else "False"
        old = before.get(kind, {})
        condition = {
            "type": kind,
            "status": value,
            "lastProbeTime": None,
            "lastTransitionTime": old["lastTransitionTime"] if old.get("status") == value else timestamp(now),
        }
        if reason:
            condition["reason"] = reason
        if message:
            condition["message"] = message
        conditions.append(condition)
    return conditions


def _own_conditions(
    pod: Mapping[str, Any], view: PodView, current_phase: str, before: Mapping[str, Mapping[str, Any]]
) -> list[tuple[str, bool, str, str]]:
    """(type, whether true, reason, message) of the node's conditions (`kubelet/status/generate.go`)."""
    incomplete = _incomplete(pod, view)
    if current_phase == "Succeeded":
        initialization = (True, "PodCompleted", "")
        readiness = (False, "PodCompleted", "")
    else:
        initialization = (
            (False, "ContainersNotInitialized", f"containers with incomplete status: [{' '.join(incomplete)}]")
            if incomplete
            else (True, "", "")
        )
        unready = [
            container["name"]
            for container in all_containers(pod)
            if (container in pod["spec"]["containers"] or is_sidecar(container))
            and not view.containers[container["name"]].ready
        ]
        if current_phase == "Failed":
            readiness = (False, "PodFailed", "")
        elif unready:
            readiness = (False, "ContainersNotReady", f"containers with unready status: [{' '.join(unready)}]")
        else:
            readiness = (True, "", "")
    ready = readiness
    if readiness[0]:
        closed = [
            gate["conditionType"]
            for gate in pod["spec"].get("readinessGates") or ()
            if before.get(gate["conditionType"], {}).get("status") != "True"
        ]
        if closed:
            texts = [f'the status of pod readiness gate "{gate}" is not "True"' for gate in closed]
            ready = (False, "ReadinessGatesNotReady", ", ".join(texts))
    return [
        ("PodReadyToStartContainers", view.network_ready and current_phase in ("Pending", "Running"), "", ""),
        ("Initialized", *initialization),
        ("Ready", *ready),
        ("ContainersReady", *readiness),
        ("PodScheduled", True, "", ""),
    ]


def restored(pod: Mapping[str, Any], now: datetime) -> PodView:
    """The view that a new worker begins with: nothing runs.

    What the status says of earlier runs (before the node's restart) becomes the restart count and the last state,
    so that users see that the pod was started anew.
    """
    status = pod.get("status") or {}
    known = {
        item["name"]: item
        for group in ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses")
        for item in status.get(group) or ()
    }
    containers = {}
    for container in all_containers(pod):
        name = container["name"]
        old = known.get(name, {})
        ran = "containerID" in old
        containers[name] = ContainerView(
            name,
            last=_lost_run(old, now) if ran else None,
            restart_count=int(old.get("restartCount", 0)) + (1 if ran else 0),
        )
    for container in ephemeral_containers(pod):
        # They are made for one look, and never run again.
        old = known.get(container["name"], {})
        if "containerID" in old:
            containers[container["name"]] = ContainerView(
                container["name"], state=_lost_run(old, now), attempts=1, retry_at=None
            )
    return PodView(containers)


def began(pod: Mapping[str, Any]) -> datetime | None:
    """When this node first took note of the pod, if its status says so."""
    text = (pod.get("status") or {}).get("startTime")
    try:
        return datetime.fromisoformat(text) if text else None
    except ValueError:
        return None


def _lost_run(status: Mapping[str, Any], now: datetime) -> Terminated:
    state = status.get("state") or {}
    if ended := state.get("terminated"):
        return Terminated(
            int(ended.get("exitCode", 255)),
            str(ended.get("reason", "Unknown")),
            _moment(ended.get("startedAt"), now),
            _moment(ended.get("finishedAt"), now),
            str(ended.get("message", "")),
        )
    started = _moment((state.get("running") or {}).get("startedAt"), now)
    return Terminated(255, "Unknown", started, now, "the node was restarted")


def _moment(text: str | None, otherwise: datetime) -> datetime:
    try:
        return datetime.fromisoformat(text) if text else otherwise
    except ValueError:
        return otherwise

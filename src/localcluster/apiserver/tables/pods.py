"""Pods as kubectl shows them: READY, STATUS and RESTARTS from the containers' states.

Source: k8s.io/kubernetes/pkg/printers/internalversion, printPod.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from localcluster.apiserver.tables.cells import AGE, NAME, NONE, Cell, Column, Printer, age, name_of, since, wide

Object = dict[str, Any]


@dataclass
class _Summary:
    """What the containers' states come to so far."""

    reason: str
    ready: int = 0
    restarts: int = 0
    last_restart: str = ""

    def count_restarts(self, status: Object) -> None:
        self.restarts += status.get("restartCount") or 0
        ended = ((status.get("lastState") or {}).get("terminated") or {}).get("finishedAt") or ""
        self.last_restart = max(self.last_restart, ended)


def _cells(pod: Object, now: datetime) -> list[Cell]:
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    sidecars = {c.get("name", "") for c in spec.get("initContainers") or () if c.get("restartPolicy") == "Always"}
    total = len(spec.get("containers") or ()) + len(sidecars)
    summary = summarize(pod, sidecars)
    restarts: Cell = str(summary.restarts)
    if summary.restarts and summary.last_restart:
        restarts = f"{summary.restarts} ({since(summary.last_restart, now)} ago)"
    return [
        name_of(pod),
        f"{summary.ready}/{total}",
        summary.reason,
        restarts,
        age(pod, now),
        status.get("podIP") or NONE,
        spec.get("nodeName") or NONE,
        status.get("nominatedNodeName") or NONE,
        _readiness_gates(spec, status),
    ]


def summarize(pod: Object, sidecars: set[str]) -> _Summary:
    """The pod's STATUS word, ready containers and restarts; `sidecars` are its restartable init containers."""
    status = pod.get("status") or {}
    phase = status.get("phase") or ""
    summary = _Summary(status.get("reason") or phase)
    scheduled = _condition(status, "PodScheduled")
    if scheduled.get("reason") == "SchedulingGated":
        summary.reason = "SchedulingGated"
    initializing, of_sidecars = _initialization(pod, sidecars, summary)
    if not initializing or _condition(status, "Initialized").get("status") == "True":
        # Once initialized, what the init containers went through no longer counts, except the sidecars'.
        summary.restarts, summary.last_restart = of_sidecars.restarts, of_sidecars.last_restart
        _containers(status, summary)
    if pod["metadata"].get("deletionTimestamp"):
        if status.get("reason") == "NodeLost":
            summary.reason = "Unknown"
        elif phase not in ("Succeeded", "Failed"):
            summary.reason = "Terminating"
    return summary


def _initialization(pod: Object, sidecars: set[str], summary: _Summary) -> tuple[bool, _Summary]:
    """Whether an init container is still at work (its state becomes the reason); and the sidecars' restarts."""
    of_sidecars = _Summary("")
    count = len((pod.get("spec") or {}).get("initContainers") or ())
    for index, container in enumerate((pod.get("status") or {}).get("initContainerStatuses") or ()):
        state = container.get("state") or {}
        ended, waiting = state.get("terminated"), state.get("waiting") or {}
        summary.count_restarts(container)
        if container.get("name") in sidecars:
            of_sidecars.count_restarts(container)
        if ended is not None and ended.get("exitCode", 0) == 0:
            continue
        if container.get("name") in sidecars and container.get("started"):
            summary.ready += bool(container.get("ready"))
            continue
        if ended is not None:
            summary.reason = f"Init:{ended.get('reason') or _exit(ended)}"
        elif waiting.get("reason") and waiting["reason"] != "PodInitializing":
            summary.reason = f"Init:{waiting['reason']}"
        else:
            summary.reason = f"Init:{index}/{count}"
        return True, of_sidecars
    return False, of_sidecars


def _containers(status: Object, summary: _Summary) -> None:
    is_running = False
    # From the last to the first, so that the first container's trouble is the one that shows.
    for container in reversed(status.get("containerStatuses") or ()):
        summary.count_restarts(container)
        state = container.get("state") or {}
        waiting, ended = state.get("waiting") or {}, state.get("terminated")
        if waiting.get("reason"):
            summary.reason = waiting["reason"]
        elif ended is not None:
            summary.reason = ended.get("reason") or _exit(ended)
        elif container.get("ready") and state.get("running") is not None:
            is_running = True
            summary.ready += 1
    if summary.reason == "Completed" and is_running:
        summary.reason = "Running" if _condition(status, "Ready").get("status") == "True" else "NotReady"


def _exit(ended: Object) -> str:
    return f"Signal:{ended['signal']}" if ended.get("signal") else f"ExitCode:{ended.get('exitCode', 0)}"


def _condition(status: Object, kind: str) -> Object:
    return next((item for item in status.get("conditions") or () if item.get("type") == kind), {})


def _readiness_gates(spec: Object, status: Object) -> str:
    gates = spec.get("readinessGates") or []
    if not gates:
        return NONE
    met = sum(_condition(status, gate.get("conditionType", "")).get("status") == "True" for gate in gates)
    return f"{met}/{len(gates)}"


PODS = Printer(
    (
        NAME,
        Column("Ready", description="Ready containers of all containers."),
        Column("Status", description="The state of the pod in one word."),
        Column("Restarts", description="How often containers were restarted, and when last."),
        AGE,
        wide("IP"),
        wide("Node"),
        wide("Nominated Node"),
        wide("Readiness Gates"),
    ),
    _cells,
)

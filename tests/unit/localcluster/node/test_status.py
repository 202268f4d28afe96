"""What kubectl is shown of a pod."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from localcluster.node.pods import ContainerView, PodView, Terminated, Waiting, after_start
from localcluster.node.status import pod_status, restored

NOW = datetime(2026, 1, 1, 10, 0, 0, tzinfo=UTC)
LATER = datetime(2026, 1, 1, 10, 5, 0, tzinfo=UTC)
POD: dict[str, Any] = {
    "metadata": {"name": "p", "namespace": "n", "uid": "u"},
    "spec": {"containers": [{"name": "one", "image": "nginx"}]},
}


def known(container: ContainerView) -> PodView:
    return PodView({container.name: container}, network_ready=True, volumes_ready=True, pod_ip="10.244.0.9")


def status(view: PodView, pod: dict[str, Any] = POD, written: Any = (), now: datetime = NOW) -> dict[str, Any]:
    return pod_status(pod, view, written=written, host_ip="10.244.0.1", started_at=NOW, now=now)


def conditions(shown: dict[str, Any]) -> dict[str, str]:
    return {item["type"]: item["status"] for item in shown["conditions"]}


RUNNING = replace(after_start(ContainerView("one"), NOW), started=True, ready=True)


def test_a_ready_pod() -> None:
    shown = status(known(RUNNING))
    assert shown["phase"] == "Running"
    assert shown["podIPs"] == [{"ip": "10.244.0.9"}]
    assert set(conditions(shown).values()) == {"True"}
    assert shown["containerStatuses"] == [
        {
            "name": "one",
            "image": "nginx",
            "imageID": "localcluster://nginx",
            "containerID": "localcluster://u/one/0",
            "ready": True,
            "restartCount": 0,
            "started": True,
            "state": {"running": {"startedAt": "2026-01-01T10:00:00Z"}},
            "lastState": {},
        }
    ]


def test_a_pod_that_is_not_ready_says_which_container() -> None:
    shown = status(known(replace(RUNNING, ready=False)))
    ready = next(item for item in shown["conditions"] if item["type"] == "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "ContainersNotReady")
    assert ready["message"] == "containers with unready status: [one]"


@pytest.mark.parametrize(("code", "phase", "reason"), [(0, "Succeeded", "PodCompleted"), (2, "Failed", "PodFailed")])
def test_a_pod_that_is_over(code: int, phase: str, reason: str) -> None:
    over = replace(RUNNING, state=Terminated(code, "Error", NOW, NOW), retry_at=None, ready=False)
    shown = status(known(over))
    assert shown["phase"] == phase
    assert next(item for item in shown["conditions"] if item["type"] == "Ready")["reason"] == reason


def test_waiting_for_init_containers() -> None:
    pod = {**POD, "spec": {**POD["spec"], "initContainers": [{"name": "init", "image": "busybox"}]}}
    view = known(ContainerView("one")).changed(after_start(ContainerView("init"), NOW))
    shown = status(view, pod)
    assert shown["phase"] == "Pending"
    assert shown["containerStatuses"][0]["state"] == {"waiting": {"reason": "PodInitializing"}}
    assert conditions(shown)["Initialized"] == "False"


def test_a_crash_loop_still_counts_as_running_and_shows_the_last_end() -> None:
    ended = Terminated(7, "Error", NOW, NOW)
    crashed = replace(RUNNING, state=Waiting("CrashLoopBackOff", "back-off"), last=ended, restart_count=3, ready=False)
    shown = status(known(crashed))
    assert shown["phase"] == "Running"
    last = shown["containerStatuses"][0]["lastState"]["terminated"]
    assert (last["exitCode"], last["containerID"]) == (7, "localcluster://u/one/3")


def test_times_of_conditions_change_only_with_their_values() -> None:
    first = status(known(replace(RUNNING, ready=False)))
    second = status(known(RUNNING), written=first["conditions"], now=LATER)
    times = {item["type"]: item["lastTransitionTime"] for item in second["conditions"]}
    assert times["Ready"] == "2026-01-01T10:05:00Z"
    assert times["PodScheduled"] == "2026-01-01T10:00:00Z"


def test_others_conditions_are_kept_and_open_readiness_gates() -> None:
    gated = {**POD, "spec": {**POD["spec"], "readinessGates": [{"conditionType": "mesh"}]}}
    assert conditions(status(known(RUNNING), gated))["Ready"] == "False"
    opened = {**gated, "status": {"conditions": [{"type": "mesh", "status": "True"}]}}
    shown = conditions(status(known(RUNNING), opened))
    assert (shown["mesh"], shown["Ready"]) == ("True", "True")


def test_after_the_nodes_restart_the_count_goes_up_and_the_lost_run_is_shown() -> None:
    view = restored({**POD, "status": status(known(RUNNING))}, LATER)
    container = view.containers["one"]
    assert container.restart_count == 1
    assert container.last == Terminated(255, "Unknown", NOW, LATER, "the node was restarted")
    assert after_start(container, LATER).restart_count == 1


def test_a_pod_that_failed_as_a_whole_says_why() -> None:
    shown = status(replace(known(RUNNING), failure=("DeadlineExceeded", "too long")))

    assert (shown["phase"], shown["reason"], shown["message"]) == ("Failed", "DeadlineExceeded", "too long")


def test_ephemeral_containers_have_statuses_of_their_own_and_are_not_run_again() -> None:
    looked_into = {**POD, "spec": {**POD["spec"], "ephemeralContainers": [{"name": "look", "image": "busybox"}]}}
    both = PodView({"one": RUNNING, "look": replace(RUNNING, name="look")}, network_ready=True, volumes_ready=True)
    shown = status(both, looked_into)

    assert [item["name"] for item in shown["ephemeralContainerStatuses"]] == ["look"]
    assert [item["name"] for item in shown["containerStatuses"]] == ["one"]
    again = restored({**looked_into, "status": shown}, LATER)
    assert again.containers["look"].over
    assert not again.containers["one"].over

"""Deployments: which ReplicaSets are made, grown and shrunk, step by step, and what the status says."""

from typing import Any

import pytest
from cluster_objects import NOW, deployment, metadata, pod, replica_set, state

from localcluster.apiserver import kinds
from localcluster.controllers import deployments, rollout
from localcluster.controllers.state import State
from localcluster.controllers.templates import content_hash
from localcluster.controllers.writes import Again, Create, Delete, Patch, Record, Update, Write

Object = dict[str, Any]
KEY = ("demo", "web")
REVISION = "deployment.kubernetes.io/revision"


def steps(found: State) -> list[Write]:
    """What is written besides status, events and waiting."""
    return [
        write
        for write in deployments.reconcile(found, KEY, NOW)
        if not isinstance(write, Record | Again) and not (isinstance(write, Update) and write.subresource == "status")
    ]


def sizes(found: State) -> dict[str, int]:
    """The new sizes of ReplicaSets."""
    return {
        write.name: write.body["spec"]["replicas"]
        for write in steps(found)
        if isinstance(write, Patch) and "spec" in write.body
    }


def conditions(found: State) -> dict[str, tuple[str, str]]:
    """Status and reason of the conditions that are written."""
    status = next(
        write.object["status"]
        for write in deployments.reconcile(found, KEY, NOW)
        if isinstance(write, Update) and write.subresource == "status"
    )
    return {item["type"]: (item["status"], item["reason"]) for item in status["conditions"]}


def test_a_new_deployment_gets_its_replica_set_at_full_size() -> None:
    found = state(deployments=[deployment()])

    (write,) = steps(found)
    assert isinstance(write, Create)
    made = write.object
    label = made["spec"]["selector"]["matchLabels"]["pod-template-hash"]
    assert made["metadata"]["name"] == f"web-{label}"
    assert made["metadata"]["labels"] == {"app": "web", "pod-template-hash": label}
    assert made["metadata"]["ownerReferences"][0]["uid"] == "uid-web"
    assert made["metadata"]["annotations"] == {
        "deployment.kubernetes.io/desired-replicas": "2",
        "deployment.kubernetes.io/max-replicas": "3",
        "deployment.kubernetes.io/revision": "1",
    }
    assert made["spec"]["replicas"] == 2
    assert made["spec"]["template"]["metadata"]["labels"]["pod-template-hash"] == label
    assert conditions(found) == {
        "Available": ("False", "MinimumReplicasUnavailable"),
        "Progressing": ("True", "NewReplicaSetCreated"),
    }


def test_the_same_template_has_the_same_hash_and_another_one_another() -> None:
    first, second = deployment()["spec"]["template"], deployment("web:2")["spec"]["template"]

    assert content_hash(first) == content_hash(deployment()["spec"]["template"])
    assert content_hash(first) != content_hash(second)
    assert content_hash(first) != content_hash(first, 1)


def test_another_replica_set_with_the_same_hash_is_counted_as_a_collision() -> None:
    owner = deployment("web:2")
    label = content_hash(owner["spec"]["template"])
    found = state(deployments=[owner], replicasets=[replica_set(owner, f"web-{label}", 2, image="web:1")])

    collisions = [
        write.object["status"]["collisionCount"]
        for write in deployments.reconcile(found, KEY, NOW)
        if isinstance(write, Update) and "collisionCount" in write.object["status"]
    ]
    assert collisions[0] == 1


def test_everything_in_place_writes_nothing_but_annotations_once() -> None:
    owner = deployment()
    owner["metadata"]["annotations"] = {"deployment.kubernetes.io/revision": "1"}
    current = replica_set(owner, "web-a", 2)
    current["metadata"]["annotations"] |= {
        "deployment.kubernetes.io/desired-replicas": "2",
        "deployment.kubernetes.io/max-replicas": "3",
    }
    found = state(deployments=[owner], replicasets=[current])
    (status,) = deployments.reconcile(found, KEY, NOW)
    assert isinstance(status, Update)

    settled = state(deployments=[status.object], replicasets=[current])

    assert deployments.reconcile(settled, KEY, NOW) == []


def test_a_new_template_grows_by_the_surge_beside_the_old() -> None:
    owner = deployment("web:2", 4)
    found = state(deployments=[owner], replicasets=[replica_set(owner, "web-a", 4)])

    (write,) = [write for write in steps(found) if isinstance(write, Create)]
    assert write.object["spec"]["replicas"] == 1
    assert write.object["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "2"


ROLLING: list[tuple[tuple[int, int], tuple[int, int], dict[str, int]]] = [
    # (old size, old available), (new size, new available) -> sizes that are set, of 4 with a quarter each way
    ((4, 4), (1, 0), {"old": 3}),
    ((3, 3), (1, 1), {"new": 2}),
    ((3, 3), (2, 1), {"old": 2}),
    ((2, 2), (3, 1), {}),
    ((3, 3), (2, 2), {"old": 1}),
    ((0, 0), (4, 4), {}),
    ((4, 2), (1, 0), {"old": 3}),
]


@pytest.mark.parametrize(("old", "new", "expected"), ROLLING)
def test_rolling_keeps_enough_pods_available(
    old: tuple[int, int], new: tuple[int, int], expected: dict[str, int]
) -> None:
    owner = deployment("web:2", 4)
    found = state(
        deployments=[owner],
        replicasets=[
            replica_set(owner, "old", old[0], available=old[1]),
            replica_set(owner, "new", new[0], image="web:2", available=new[1], revision=2),
        ],
    )

    assert sizes(found) == expected


def test_a_rollout_ends_with_all_pods_new_and_never_leaves_its_limits() -> None:
    owner = deployment("web:2", 5)
    old, new = replica_set(owner, "old", 5), replica_set(owner, "new", 0, image="web:2", revision=2)
    for _ in range(30):
        changed = sizes(state(deployments=[owner], replicasets=[old, new]))
        old = replica_set(owner, "old", changed.get("old", old["spec"]["replicas"]))
        new = replica_set(owner, "new", changed.get("new", new["spec"]["replicas"]), image="web:2", revision=2)
        total = old["spec"]["replicas"] + new["spec"]["replicas"]
        assert 4 <= total <= 7
    assert (old["spec"]["replicas"], new["spec"]["replicas"]) == (0, 5)


def test_recreate_waits_until_the_last_old_pod_is_gone() -> None:
    owner = deployment("web:2", strategy={"type": "Recreate"})
    old = replica_set(owner, "old", 2)
    assert sizes(state(deployments=[owner], replicasets=[old])) == {}  # no pods: the new one is made at once

    last = pod("old-1", owner=(kinds.REPLICA_SET, old))
    assert sizes(state(deployments=[owner], replicasets=[old], pods=[last])) == {"old": 0}

    empty = replica_set(owner, "old", 0)
    assert [
        w for w in steps(state(deployments=[owner], replicasets=[empty], pods=[last])) if isinstance(w, Create)
    ] == []
    (made,) = [w for w in steps(state(deployments=[owner], replicasets=[empty])) if isinstance(w, Create)]
    assert made.object["spec"]["replicas"] == 2


def test_scaling_changes_the_present_replica_set() -> None:
    owner = deployment(replicas=5)

    assert sizes(state(deployments=[owner], replicasets=[replica_set(owner, "web-a", 2)])) == {"web-a": 5}


def test_a_paused_deployment_scales_but_does_not_roll() -> None:
    owner = deployment("web:2", 5, paused=True)
    found = state(deployments=[owner], replicasets=[replica_set(owner, "old", 2)])

    assert [write for write in steps(found) if isinstance(write, Create)] == []
    assert sizes(found) == {"old": 5}
    assert conditions(found)["Progressing"] == ("Unknown", "DeploymentPaused")


def test_a_rollback_gives_the_old_replica_set_a_new_revision() -> None:
    owner = deployment("web:1")
    owner["metadata"]["annotations"] = {"deployment.kubernetes.io/revision": "2"}
    found = state(
        deployments=[owner],
        replicasets=[
            replica_set(owner, "first", 0, image="web:1", revision=1),
            replica_set(owner, "second", 2, image="web:2", revision=2),
        ],
    )

    annotated = {
        write.name: write.body["metadata"]["annotations"]
        for write in steps(found)
        if isinstance(write, Patch)
        and "deployment.kubernetes.io/revision" in write.body["metadata"].get("annotations", {})
    }
    assert annotated["first"]["deployment.kubernetes.io/revision"] == "3"
    assert annotated["first"]["deployment.kubernetes.io/revision-history"] == "1"
    assert annotated["web"] == {"deployment.kubernetes.io/revision": "3"}


def test_old_revisions_beyond_the_limit_are_forgotten_once_the_rollout_is_complete() -> None:
    done = {"replicas": 2, "updatedReplicas": 2, "availableReplicas": 2, "observedGeneration": 1}
    owner = deployment("web:9", status=done, revisionHistoryLimit=1)
    old = [replica_set(owner, f"old-{n}", 0, image=f"web:{n}", revision=n) for n in (1, 2, 3)]
    found = state(deployments=[owner], replicasets=[*old, replica_set(owner, "new", 2, image="web:9", revision=4)])

    assert [write.object["metadata"]["name"] for write in steps(found) if isinstance(write, Delete)] == [
        "old-1",
        "old-2",
    ]


def test_orphans_that_the_selector_matches_are_adopted_first() -> None:
    owner = deployment()
    orphan = replica_set(owner, "web-a", 2)
    del orphan["metadata"]["ownerReferences"]

    (write,) = steps(state(deployments=[owner], replicasets=[orphan]))
    assert isinstance(write, Patch)
    assert write.body["metadata"]["uid"] == "uid-web-a"
    assert write.body["metadata"]["ownerReferences"][0]["name"] == "web"


def test_a_rollout_without_progress_until_the_deadline_has_failed() -> None:
    progressing: Object = {
        "type": "Progressing",
        "status": "True",
        "reason": "ReplicaSetUpdated",
        "message": "",
        "lastTransitionTime": "2026-11-23T11:49:00Z",
    }

    def since(time: str) -> State:
        moved = {**progressing, "lastUpdateTime": time}
        before = {"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "conditions": [moved]}
        owner = deployment(status=before)
        return state(deployments=[owner], replicasets=[replica_set(owner, "web-a", 2, available=0)])

    assert conditions(since("2026-11-23T11:49:00Z"))["Progressing"] == ("False", "ProgressDeadlineExceeded")
    again = deployments.reconcile(since("2026-11-23T11:55:00Z"), KEY, NOW)
    waits = [write.seconds for write in again if isinstance(write, Again)]
    assert waits == [300.0]


def test_a_finished_rollout_that_loses_a_pod_is_not_progressing_again() -> None:
    owner = deployment()
    complete = state(deployments=[owner], replicasets=[replica_set(owner, "web-a", 2)])
    status = next(w for w in deployments.reconcile(complete, KEY, NOW) if isinstance(w, Update)).object["status"]
    found = state(deployments=[{**owner, "status": status}], replicasets=[replica_set(owner, "web-a", 2, available=1)])

    assert conditions(found) == {
        "Progressing": ("True", "NewReplicaSetAvailable"),
        "Available": ("False", "MinimumReplicasUnavailable"),
    }


def test_a_failure_of_the_replica_set_shows_on_the_deployment() -> None:
    owner = deployment()
    current = replica_set(owner, "web-a", 2, available=0)
    current["status"]["conditions"] = [
        {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "refused"}
    ]

    assert conditions(state(deployments=[owner], replicasets=[current]))["ReplicaFailure"] == ("True", "FailedCreate")


@pytest.mark.parametrize(
    ("replicas", "surge", "unavailable", "expected"),
    [
        (4, "25%", "25%", (1, 1)),
        (2, "25%", "25%", (1, 0)),
        (10, "25%", "25%", (3, 2)),
        (3, 0, 0, (0, 1)),
        (3, 1, "100%", (1, 3)),
        (1, "25%", "25%", (1, 0)),
    ],
)
def test_shares_round_the_surge_up_and_the_unavailable_down(
    replicas: int, surge: int | str, unavailable: int | str, expected: tuple[int, int]
) -> None:
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}
    found = rollout.limits(deployment(replicas=replicas, strategy=rolling))

    assert (found.surge, found.unavailable) == expected


def test_changes_of_replica_sets_and_orphans_lead_to_their_deployment() -> None:
    owner = deployment()
    mine = replica_set(owner, "web-a", 2)
    found = state(deployments=[owner], replicasets=[mine])
    orphan = {"metadata": metadata("stray", labels={"app": "web"}), "spec": {}}

    assert list(deployments.keys(found, kinds.REPLICA_SET, None, mine)) == [KEY]
    assert list(deployments.keys(found, kinds.REPLICA_SET, None, orphan)) == [KEY]
    assert list(deployments.keys(found, kinds.CONFIG_MAP, None, orphan)) == []
    assert deployments.reconcile(state(), KEY, NOW) == []

"""ReplicaSets: how many pods are made or deleted, and which."""

from typing import Any

from cluster_objects import NOW, deployment, pod, replica_set, state

from localcluster.apiserver import kinds
from localcluster.apiserver.errors import InternalServerError
from localcluster.controllers import replica_sets
from localcluster.controllers.state import State
from localcluster.controllers.writes import Again, Create, Delete, Patch, Record, Update

Object = dict[str, Any]
OWNER = replica_set(deployment(), "web-a", 2)
MINE = (kinds.REPLICA_SET, OWNER)
KEY = ("demo", "web-a")
LABELS = OWNER["spec"]["selector"]["matchLabels"]


def member(name: str, **given: Any) -> Object:
    return pod(name, owner=MINE, labels=LABELS, **given)


def created(found: State) -> list[Object]:
    return [w.object for w in replica_sets.reconcile(found, KEY, NOW) if isinstance(w, Create)]


def deleted(found: State) -> list[str]:
    return [w.object["metadata"]["name"] for w in replica_sets.reconcile(found, KEY, NOW) if isinstance(w, Delete)]


def test_missing_pods_are_made_from_the_template() -> None:
    made = created(state(replicasets=[OWNER], pods=[member("web-a-1")]))

    assert len(made) == 1
    assert made[0]["metadata"]["generateName"] == "web-a-"
    assert made[0]["metadata"]["labels"] == LABELS
    assert made[0]["metadata"]["ownerReferences"] == [
        {
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "name": "web-a",
            "uid": "uid-web-a",
            "controller": True,
            "blockOwnerDeletion": True,
        }
    ]
    assert made[0]["spec"] == OWNER["spec"]["template"]["spec"]


def test_pods_that_end_or_have_ended_do_not_count() -> None:
    found = state(
        replicasets=[OWNER],
        pods=[member("a", deletionTimestamp="2026-11-23T12:00:30Z"), member("b", phase="Failed"), member("c")],
    )

    assert len(created(found)) == 1


def test_surplus_pods_go_the_least_useful_first() -> None:
    pending = member("pending", ready=False, phase="Pending")
    young = member("young", creationTimestamp="2026-11-23T11:59:00Z")
    unready = member("unready", ready=False)
    found = state(replicasets=[OWNER], pods=[member("old-1"), young, unready, pending, member("old-2")])

    assert deleted(found) == ["pending", "unready", "young"]


def test_the_deletion_cost_decides_among_equals() -> None:
    cheap = member("cheap", annotations={"controller.kubernetes.io/pod-deletion-cost": "-5"})
    found = state(replicasets=[OWNER], pods=[member("a"), cheap, member("b")])

    assert deleted(found) == ["cheap"]


def test_a_replica_set_that_ends_makes_no_pods() -> None:
    ending = {**OWNER, "metadata": {**OWNER["metadata"], "deletionTimestamp": "2026-11-23T12:00:00Z"}}

    assert created(state(replicasets=[ending])) == []


def test_orphans_are_adopted_in_the_place_of_new_pods() -> None:
    found = state(replicasets=[OWNER], pods=[pod("stray", labels=LABELS), member("a")])

    assert created(found) == []
    (patch,) = [w for w in replica_sets.reconcile(found, KEY, NOW) if isinstance(w, Patch)]
    assert (patch.name, patch.body["metadata"]["uid"]) == ("stray", "uid-stray")


def test_a_pod_whose_labels_were_changed_is_let_go_and_replaced() -> None:
    found = state(replicasets=[OWNER], pods=[pod("gone", owner=MINE, labels={"app": "debug"}), member("a")])

    assert len(created(found)) == 1
    (patch,) = [w for w in replica_sets.reconcile(found, KEY, NOW) if isinstance(w, Patch)]
    assert patch.body["metadata"]["ownerReferences"] is None


def test_the_status_counts_and_is_written_only_when_it_changes() -> None:
    found = state(replicasets=[OWNER], pods=[member("a"), member("b", ready=False)])

    (write,) = replica_sets.reconcile(found, KEY, NOW)
    assert isinstance(write, Update)
    assert write.object["status"] == {
        "replicas": 2,
        "fullyLabeledReplicas": 2,
        "readyReplicas": 1,
        "availableReplicas": 1,
        "observedGeneration": 1,
    }
    found.put(kinds.REPLICA_SET, write.object)
    assert replica_sets.reconcile(found, KEY, NOW) == []


def test_a_pod_counts_as_available_after_min_ready_seconds() -> None:
    patient = {**OWNER, "spec": {**OWNER["spec"], "replicas": 1, "minReadySeconds": 3610}}
    writes = replica_sets.reconcile(state(replicasets=[patient], pods=[member("a")]), KEY, NOW)

    assert [w.seconds for w in writes if isinstance(w, Again)] == [10.0]
    (status,) = [w.object["status"] for w in writes if isinstance(w, Update)]
    assert status["readyReplicas"] == 1
    assert "availableReplicas" not in status


def test_a_refused_pod_shows_as_event_and_condition_until_there_are_enough() -> None:
    error = InternalServerError("the webhook is down")
    event, status = replica_sets.failed(state(replicasets=[OWNER]), KEY, error, NOW)

    assert isinstance(event, Record)
    assert (event.reason, event.type, event.message) == (
        "FailedCreate",
        "Warning",
        "Error creating: the webhook is down",
    )
    assert isinstance(status, Update)
    (condition,) = status.object["status"]["conditions"]
    assert (condition["type"], condition["reason"], condition["message"]) == (
        "ReplicaFailure",
        "FailedCreate",
        "the webhook is down",
    )
    recovered = state(replicasets=[status.object], pods=[member("a"), member("b")])
    (write,) = replica_sets.reconcile(recovered, KEY, NOW)
    assert isinstance(write, Update)
    assert "conditions" not in write.object["status"]


def test_changes_of_pods_lead_to_their_replica_set() -> None:
    found = state(replicasets=[OWNER])

    assert list(replica_sets.keys(found, kinds.POD, member("a"), None)) == [KEY]
    assert list(replica_sets.keys(found, kinds.POD, None, pod("stray", labels=LABELS))) == [KEY]
    assert list(replica_sets.keys(found, kinds.POD, None, pod("other", labels={"app": "db"}))) == []

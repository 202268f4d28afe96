"""StatefulSets: which pod is made, taken away or rolled next, and what the status says."""

from typing import Any

import pytest
from cluster_objects import LABELS, NOW, metadata, pod, state

from localcluster.apiserver import defaults, kinds
from localcluster.controllers import revisions, stateful_sets
from localcluster.controllers.state import State
from localcluster.controllers.writes import Create, Delete, Patch, Update, Write

Object = dict[str, Any]
KEY = ("demo", "web")
CLAIM = {"metadata": {"name": "disk"}, "spec": {"accessModes": ["ReadWriteOnce"]}}


def stateful_set(image: str = "web:1", status: Object | None = None, **spec: Any) -> Object:
    template = {"metadata": {"labels": LABELS}, "spec": {"containers": [{"name": "main", "image": image}]}}
    given = {"replicas": 3, "serviceName": "web", "selector": {"matchLabels": LABELS}, "template": template, **spec}
    return defaults.apply(
        kinds.STATEFUL_SET, {"metadata": metadata("web", generation=1), "spec": given, "status": status or {}}
    )


def revision(owner: Object, number: int = 1) -> Object:
    (write,) = revisions.history(state(), kinds.STATEFUL_SET, owner).writes
    assert isinstance(write, Create)
    made = write.object
    return {**made, "revision": number, "metadata": {**metadata(made["metadata"]["name"]), **made["metadata"]}}


def member(owner: Object, ordinal: int, of: Object, **given: Any) -> Object:
    labels = {**LABELS, revisions.LABEL: of["metadata"]["name"]}
    return pod(f"web-{ordinal}", owner=(kinds.STATEFUL_SET, owner), labels=labels, **given)


def known(owner: Object, *pods: Object, more: tuple[Object, ...] = (), **rest: Any) -> State:
    return state(statefulsets=[owner], controllerrevisions=[revision(owner), *more], pods=list(pods), **rest)


def steps(found: State) -> list[Write]:
    return stateful_sets.reconcile(found, KEY, NOW)


def created(found: State) -> list[str]:
    return [w.object["metadata"]["name"] for w in steps(found) if isinstance(w, Create)]


def deleted(found: State) -> list[str]:
    return [w.object["metadata"]["name"] for w in steps(found) if isinstance(w, Delete)]


def status(found: State) -> Object:
    (written,) = [w.object["status"] for w in steps(found) if isinstance(w, Update)]
    return dict(written)


def test_the_template_is_kept_as_a_revision_first() -> None:
    (write,) = steps(state(statefulsets=[stateful_set()]))

    assert isinstance(write, Create)
    assert write.kind is kinds.CONTROLLER_REVISION
    assert write.object["data"]["spec"]["template"]["$patch"] == "replace"


def test_pods_are_made_one_after_the_other_as_the_one_before_is_ready() -> None:
    owner = stateful_set()
    first = revision(owner)

    assert created(known(owner)) == ["web-0"]
    assert created(known(owner, member(owner, 0, first, ready=False))) == []
    assert created(known(owner, member(owner, 0, first))) == ["web-1"]


def test_a_pod_has_its_name_its_host_name_and_its_claim() -> None:
    owner = stateful_set(volumeClaimTemplates=[CLAIM])
    claim, made = [w.object for w in steps(known(owner)) if isinstance(w, Create)]

    assert claim["metadata"]["name"] == "disk-web-0"
    assert (made["spec"]["hostname"], made["spec"]["subdomain"]) == ("web-0", "web")
    assert made["spec"]["volumes"] == [{"name": "disk", "persistentVolumeClaim": {"claimName": "disk-web-0"}}]
    assert made["metadata"]["labels"] == {
        **LABELS,
        "statefulset.kubernetes.io/pod-name": "web-0",
        "apps.kubernetes.io/pod-index": "0",
        revisions.LABEL: revision(owner)["metadata"]["name"],
    }


def test_a_claim_that_exists_is_kept_and_goes_only_if_asked_for() -> None:
    claims = [{"metadata": metadata(f"disk-web-{n}"), "spec": {}} for n in (0, 1)]
    keeping = stateful_set(volumeClaimTemplates=[CLAIM], replicas=1)
    asked = {"whenScaled": "Delete", "whenDeleted": "Retain"}
    deleting = stateful_set(volumeClaimTemplates=[CLAIM], replicas=1, persistentVolumeClaimRetentionPolicy=asked)

    assert created(known(keeping, persistentvolumeclaims=claims)) == ["web-0"]
    assert deleted(known(keeping, member(keeping, 0, revision(keeping)), persistentvolumeclaims=claims)) == []
    assert deleted(known(deleting, member(deleting, 0, revision(deleting)), persistentvolumeclaims=claims)) == [
        "disk-web-1"
    ]


def test_parallel_sets_make_and_take_away_all_at_once() -> None:
    owner = stateful_set(podManagementPolicy="Parallel", replicas=2)
    first = revision(owner)

    assert created(known(owner)) == ["web-0", "web-1"]
    everyone = [member(owner, number, first) for number in range(4)]
    assert deleted(known(owner, *everyone)) == ["web-3", "web-2"]


def test_ordered_sets_shrink_from_the_highest_number_one_at_a_time() -> None:
    owner = stateful_set(replicas=1)
    first = revision(owner)
    everyone = [member(owner, number, first) for number in range(3)]
    ending = member(owner, 2, first, deletionTimestamp="2026-11-23T12:00:30Z")

    assert deleted(known(owner, *everyone)) == ["web-2"]
    assert deleted(known(owner, *everyone[:2], ending)) == []


def test_a_failed_pod_is_replaced() -> None:
    owner = stateful_set()

    assert deleted(known(owner, member(owner, 0, revision(owner), phase="Failed", ready=False))) == ["web-0"]


def test_a_roll_goes_from_the_highest_number_and_waits_for_each() -> None:
    before, owner = revision(stateful_set()), stateful_set("web:2")
    after = {**revision(owner), "revision": 2}
    old = [member(owner, number, before) for number in range(3)]

    def rolling(*pods: Object) -> State:
        return state(statefulsets=[owner], controllerrevisions=[before, after], pods=list(pods))

    assert deleted(rolling(*old)) == ["web-2"]
    assert deleted(rolling(*old[:2], member(owner, 2, after, ready=False))) == []
    assert deleted(rolling(*old[:2], member(owner, 2, after))) == ["web-1"]


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        ({"type": "OnDelete"}, []),
        ({"type": "RollingUpdate", "rollingUpdate": {"partition": 3}}, []),
        ({"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}, ["web-2"]),
    ],
)
def test_strategies_limit_a_roll(strategy: Object, expected: list[str]) -> None:
    before, owner = revision(stateful_set()), stateful_set("web:2", updateStrategy=strategy)
    after = {**revision(owner), "revision": 2}
    old = [member(owner, number, before) for number in range(3)]

    assert deleted(state(statefulsets=[owner], controllerrevisions=[before, after], pods=old)) == expected


def test_a_pod_below_the_partition_comes_back_as_it_was() -> None:
    before = revision(stateful_set())
    held = {"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}
    owner = stateful_set("web:2", {"currentRevision": before["metadata"]["name"]}, updateStrategy=held)
    after = {**revision(owner), "revision": 2}
    found = state(statefulsets=[owner], controllerrevisions=[before, after])

    (made,) = [w.object for w in steps(found) if isinstance(w, Create)]
    assert made["spec"]["containers"][0]["image"] == "web:1"


def test_a_template_that_was_there_before_becomes_the_newest_revision() -> None:
    owner = stateful_set()
    first, second = revision(owner, 1), {**revision(stateful_set("web:2")), "revision": 2}

    (write,) = steps(state(statefulsets=[owner], controllerrevisions=[first, second]))
    assert isinstance(write, Patch)
    assert (write.name, write.body) == (first["metadata"]["name"], {"revision": 3})


def test_unused_revisions_beyond_the_limit_are_forgotten() -> None:
    owner = stateful_set(revisionHistoryLimit=1)
    old = tuple(revision(stateful_set(f"old:{number}"), number - 10) for number in range(3))

    assert deleted(known(owner, member(owner, 0, revision(owner)), more=old)) == [
        old[0]["metadata"]["name"],
        old[1]["metadata"]["name"],
    ]


def test_the_status_moves_to_the_new_revision_when_all_are_rolled() -> None:
    before, owner = revision(stateful_set()), stateful_set("web:2")
    owner["status"] = {"currentRevision": before["metadata"]["name"]}
    after = {**revision(owner), "revision": 2}
    both = [before, after]
    half = [member(owner, 0, before), member(owner, 1, before), member(owner, 2, after)]

    shown = status(state(statefulsets=[owner], controllerrevisions=both, pods=half))
    assert (shown["currentRevision"], shown["updateRevision"]) == (
        before["metadata"]["name"],
        after["metadata"]["name"],
    )
    assert (shown["currentReplicas"], shown["updatedReplicas"], shown["readyReplicas"]) == (2, 1, 3)
    done = status(
        state(statefulsets=[owner], controllerrevisions=both, pods=[member(owner, n, after) for n in range(3)])
    )
    assert done["currentRevision"] == done["updateRevision"] == after["metadata"]["name"]

"""Garbage collection: in the background, in the foreground, orphaning, and what is kept."""

from typing import Any

from cluster_objects import NOW, deployment, metadata, pod, replica_set, state

from localcluster.apiserver import kinds
from localcluster.apiserver.kinds import Kinds
from localcluster.controllers import garbage
from localcluster.controllers.state import State, owner_reference
from localcluster.controllers.writes import Delete, Patch, Write

Object = dict[str, Any]
FIND = Kinds().by_kind
OWNER = replica_set(deployment(), "web-a", 1)
CHILD = pod("web-a-1", owner=(kinds.REPLICA_SET, OWNER))


def reconcile(found: State, item: Object) -> list[Write]:
    return garbage.reconcile(FIND, found, ("", item["metadata"]["uid"]), NOW)


def ending(item: Object, *finalizers: str) -> Object:
    about = {**item["metadata"], "deletionTimestamp": "2026-11-23T12:00:00Z", "finalizers": list(finalizers)}
    return {**item, "metadata": about}


def test_what_has_its_owner_stays() -> None:
    assert reconcile(state(replicasets=[OWNER], pods=[CHILD]), CHILD) == []


def test_what_lost_its_owner_goes_unless_the_api_knows_better() -> None:
    (write,) = reconcile(state(pods=[CHILD]), CHILD)

    assert isinstance(write, Delete)
    assert write.object is CHILD
    assert write.unless_exists == ((kinds.REPLICA_SET, "demo", "web-a", "uid-web-a"),)


def test_an_owner_made_anew_under_the_same_name_is_another_one() -> None:
    other = {**OWNER, "metadata": {**OWNER["metadata"], "uid": "uid-other"}}

    assert [type(write) for write in reconcile(state(replicasets=[other], pods=[CHILD]), CHILD)] == [Delete]


def test_what_has_another_owner_left_only_loses_the_reference() -> None:
    config = {"metadata": metadata("c"), "data": {}}
    child = pod("p")
    child["metadata"]["ownerReferences"] = [
        owner_reference(kinds.REPLICA_SET, OWNER),
        {**owner_reference(kinds.CONFIG_MAP, config), "controller": False},
    ]

    (write,) = reconcile(state(pods=[child], configmaps=[config]), child)
    assert isinstance(write, Patch)
    assert [reference["name"] for reference in write.body["metadata"]["ownerReferences"]] == ["c"]


def test_what_is_owned_by_a_kind_that_nobody_serves_is_kept() -> None:
    child = pod("p")
    reference = {"apiVersion": "example.com/v1", "kind": "Widget", "name": "w", "uid": "u"}
    child["metadata"]["ownerReferences"] = [reference]

    assert reconcile(state(pods=[child]), child) == []


def test_in_the_foreground_the_dependents_go_first() -> None:
    owner = ending(OWNER, garbage.FOREGROUND)

    (write,) = reconcile(state(replicasets=[owner], pods=[CHILD]), owner)
    assert isinstance(write, Delete)
    assert write.object is CHILD

    assert reconcile(state(replicasets=[owner], pods=[ending(CHILD)]), owner) == []

    (release,) = reconcile(state(replicasets=[owner]), owner)
    assert isinstance(release, Patch)
    assert release.body["metadata"] == {"finalizers": None, "resourceVersion": "1"}


def test_orphaning_frees_the_dependents_and_then_the_owner() -> None:
    owner = ending(OWNER, garbage.ORPHAN, "example.com/other")

    freed, released = reconcile(state(replicasets=[owner], pods=[CHILD]), owner)
    assert isinstance(freed, Patch)
    assert freed.body["metadata"] == {"uid": "uid-web-a-1", "ownerReferences": None}
    assert isinstance(released, Patch)
    assert released.body["metadata"]["finalizers"] == ["example.com/other"]


def test_an_end_leads_to_the_dependents_and_to_the_owners_that_wait() -> None:
    found = state(pods=[CHILD])

    assert list(garbage.keys(found, kinds.REPLICA_SET, OWNER, None)) == [("", "uid-web-a-1"), ("", "uid-web")]
    assert list(garbage.keys(found, kinds.POD, None, CHILD)) == [("", "uid-web-a-1")]
    assert list(garbage.keys(found, kinds.POD, None, pod("free"))) == []

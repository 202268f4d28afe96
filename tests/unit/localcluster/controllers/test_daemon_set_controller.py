"""DaemonSets: which nodes get a pod, which pods go, and what the status says."""

from typing import Any

from cluster_objects import LABELS, NOW, metadata, pod, state

from localcluster.apiserver import defaults, kinds
from localcluster.controllers import daemon_sets, revisions
from localcluster.controllers.state import State
from localcluster.controllers.writes import Create, Delete, Update

Object = dict[str, Any]
KEY = ("demo", "agent")


def daemon_set(image: str = "agent:1", pod_spec: Object | None = None, **spec: Any) -> Object:
    containers = {"containers": [{"name": "main", "image": image}], **(pod_spec or {})}
    given = {"selector": {"matchLabels": LABELS}, "template": {"metadata": {"labels": LABELS}, "spec": containers}}
    return defaults.apply(
        kinds.DAEMON_SET, {"metadata": metadata("agent", generation=1), "spec": {**given, **spec}, "status": {}}
    )


def node(name: str = "local", **spec: Any) -> Object:
    about = metadata(name, labels={"disk": "fast"} if name == "local" else {})
    del about["namespace"]
    return {"metadata": about, "spec": spec}


def revision(owner: Object, number: int = 1) -> Object:
    (write,) = revisions.history(state(), kinds.DAEMON_SET, owner).writes
    assert isinstance(write, Create)
    made = write.object
    return {**made, "revision": number, "metadata": {**metadata(made["metadata"]["name"]), **made["metadata"]}}


def daemon(owner: Object, name: str, of: Object, **given: Any) -> Object:
    labels = {**LABELS, revisions.LABEL: revisions.hash_of(of)}
    return pod(name, owner=(kinds.DAEMON_SET, owner), labels=labels, **given)


def known(owner: Object, *pods: Object, nodes: tuple[Object, ...] = (), revisions_: tuple[Object, ...] = ()) -> State:
    return state(
        daemonsets=[owner],
        controllerrevisions=list(revisions_ or (revision(owner),)),
        pods=list(pods),
        nodes=list(nodes or (node(),)),
    )


def created(found: State) -> list[Object]:
    return [w.object for w in daemon_sets.reconcile(found, KEY, NOW) if isinstance(w, Create)]


def deleted(found: State) -> list[str]:
    return [w.object["metadata"]["name"] for w in daemon_sets.reconcile(found, KEY, NOW) if isinstance(w, Delete)]


def test_each_node_gets_one_pod_of_its_own() -> None:
    owner = daemon_set()
    made = created(known(owner, nodes=(node(), node("other"))))

    fields = [
        item["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
        for item in made
    ]
    assert [term[0]["matchFields"][0]["values"] for term in fields] == [["local"], ["other"]]
    assert made[0]["metadata"]["generateName"] == "agent-"


def test_nodes_that_its_pods_may_not_run_on_get_none() -> None:
    picky = daemon_set(pod_spec={"nodeSelector": {"disk": "fast"}})
    taint = {"key": "gpu", "value": "yes", "effect": "NoSchedule"}

    assert len(created(known(picky, nodes=(node(), node("other"))))) == 1
    assert created(known(daemon_set(), nodes=(node(taints=[taint]),))) == []


def test_a_cordoned_node_keeps_its_daemon() -> None:
    owner = daemon_set()

    assert deleted(known(owner, daemon(owner, "a", revision(owner)), nodes=(node(unschedulable=True),))) == []
    assert len(created(known(owner, nodes=(node(unschedulable=True),)))) == 1


def test_pods_on_nodes_that_are_not_meant_and_second_ones_go() -> None:
    owner = daemon_set(pod_spec={"nodeSelector": {"disk": "slow"}})

    assert deleted(known(owner, daemon(owner, "a", revision(owner)))) == ["a"]
    twice = daemon_set()
    of = revision(twice)
    young = daemon(twice, "young", of, creationTimestamp="2026-11-23T11:30:00Z")
    assert deleted(known(twice, young, daemon(twice, "old", of))) == ["young"]


def test_a_failed_pod_is_replaced_once_it_is_gone() -> None:
    owner = daemon_set()
    broken = daemon(owner, "a", revision(owner), phase="Failed", ready=False)

    assert deleted(known(owner, broken)) == ["a"]
    assert created(known(owner, broken)) == []


def test_a_roll_replaces_old_pods_unless_it_waits_for_deletions() -> None:
    before = revision(daemon_set())
    rolling, waiting = daemon_set("agent:2"), daemon_set("agent:2", updateStrategy={"type": "OnDelete"})

    for owner, expected in ((rolling, ["a"]), (waiting, [])):
        both = (before, {**revision(owner), "revision": 2})
        assert deleted(known(owner, daemon(owner, "a", before), revisions_=both)) == expected


def test_a_roll_keeps_as_many_available_as_it_promises() -> None:
    before, owner = revision(daemon_set()), daemon_set("agent:2")
    both = (before, {**revision(owner), "revision": 2})
    here = daemon(owner, "here", before)
    there = daemon(owner, "there", both[1], ready=False)
    there["spec"]["nodeName"] = "other"

    assert deleted(known(owner, here, there, nodes=(node(), node("other")), revisions_=both)) == []


def test_the_status_counts_nodes() -> None:
    owner = daemon_set()
    found = known(owner, daemon(owner, "a", revision(owner)), nodes=(node(), node("other")))

    (written,) = [w.object["status"] for w in daemon_sets.reconcile(found, KEY, NOW) if isinstance(w, Update)]
    assert written == {
        "currentNumberScheduled": 1,
        "desiredNumberScheduled": 2,
        "numberMisscheduled": 0,
        "numberReady": 1,
        "numberAvailable": 1,
        "numberUnavailable": 1,
        "updatedNumberScheduled": 1,
        "observedGeneration": 1,
    }

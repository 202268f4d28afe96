"""Scheduling: pending pods get the node at once, or say why not."""

from typing import Any

import pytest
from cluster_objects import NOW, metadata, pod, state

from localcluster.apiserver import kinds
from localcluster.controllers import scheduling
from localcluster.controllers.writes import Bind, Patch, Record

Object = dict[str, Any]
KEY = ("demo", "a")


def node(labels: Object | None = None, **spec: Any) -> Object:
    about = metadata("local", labels=labels or {})
    del about["namespace"]
    return {"metadata": about, "spec": spec}


def pending(**spec: Any) -> Object:
    found = pod("a", phase="Pending", ready=False)
    del found["spec"]["nodeName"]
    found["spec"] |= spec
    return found


def test_a_pending_pod_gets_the_node() -> None:
    bind, event = scheduling.reconcile(state(nodes=[node()], pods=[pending()]), KEY, NOW)

    assert isinstance(bind, Bind)
    assert bind.node == "local"
    assert isinstance(event, Record)
    assert event.message == "Successfully assigned demo/a to local"


def test_binding_sets_the_node_and_the_condition_once() -> None:
    bound = scheduling.bound(pending(), "local", NOW)

    assert bound["spec"]["nodeName"] == "local"
    assert bound["status"]["conditions"][-1] == {
        "type": "PodScheduled",
        "status": "True",
        "lastTransitionTime": "2026-11-23T12:00:00Z",
    }
    assert scheduling.bound(bound, "other", NOW) == bound


@pytest.mark.parametrize(
    "spec",
    [{"nodeName": "local"}, {"schedulingGates": [{"name": "wait"}]}, {"schedulerName": "mine"}],
)
def test_a_pod_that_is_not_ours_to_place_is_left_alone(spec: Object) -> None:
    assert scheduling.reconcile(state(nodes=[node()], pods=[pending(**spec)]), KEY, NOW) == []


@pytest.mark.parametrize(
    ("nodes", "spec", "message"),
    [
        ([], {}, "no nodes available to schedule pods"),
        (
            [node()],
            {"nodeSelector": {"disk": "ssd"}},
            "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.",
        ),
        ([node(unschedulable=True)], {}, "0/1 nodes are available: 1 node(s) were unschedulable."),
        (
            [node(taints=[{"key": "gpu", "effect": "NoSchedule"}])],
            {},
            "0/1 nodes are available: 1 node(s) had untolerated taint {gpu: }.",
        ),
    ],
)
def test_a_pod_that_fits_nowhere_says_why(nodes: list[Object], spec: Object, message: str) -> None:
    found = state(nodes=nodes, pods=[pending(**spec)])
    patch, event = scheduling.reconcile(found, KEY, NOW)

    assert isinstance(patch, Patch)
    condition = patch.body["status"]["conditions"][-1]
    assert (condition["reason"], condition["message"]) == ("Unschedulable", message)
    assert isinstance(event, Record)
    assert event.reason == "FailedScheduling"
    told = pending(**spec)
    told["status"]["conditions"] = patch.body["status"]["conditions"]
    assert scheduling.reconcile(state(nodes=nodes, pods=[told]), KEY, NOW) == []


@pytest.mark.parametrize(
    "spec",
    [
        {"nodeSelector": {"disk": "ssd"}},
        {"tolerations": [{"operator": "Exists"}]},
        {
            "affinity": {
                "nodeAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": {
                        "nodeSelectorTerms": [
                            {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd", "nvme"]}]}
                        ]
                    }
                }
            }
        },
    ],
)
def test_a_pod_that_fits_is_bound(spec: Object) -> None:
    found = state(nodes=[node({"disk": "ssd"})], pods=[pending(**spec)])

    assert isinstance(scheduling.reconcile(found, KEY, NOW)[0], Bind)


def test_a_tainted_node_takes_whom_its_taint_suffers() -> None:
    tainted = node(taints=[{"key": "gpu", "value": "yes", "effect": "NoSchedule"}])
    suffering = pending(tolerations=[{"key": "gpu", "operator": "Equal", "value": "yes", "effect": "NoSchedule"}])

    assert isinstance(scheduling.reconcile(state(nodes=[tainted], pods=[suffering]), KEY, NOW)[0], Bind)


def test_a_new_node_leads_to_every_pending_pod() -> None:
    found = state(pods=[pending(), pod("b")])

    assert list(scheduling.keys(found, kinds.NODE, None, node())) == [KEY]

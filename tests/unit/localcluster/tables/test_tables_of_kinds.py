"""The rows that `kubectl get` shows."""

from datetime import UTC, datetime
from typing import Any

import pytest

from localcluster.apiserver import kinds, tables

Object = dict[str, Any]
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
CREATED = "2026-11-23T11:59:00Z"


def row(kind: kinds.KindInfo, item: Object, *, wide: bool = False) -> dict[str, Any]:
    """The cells by column name."""
    shown = tables.table(kind, [{**item, "metadata": {"creationTimestamp": CREATED, **item["metadata"]}}], [], NOW)
    return {
        column["name"]: cell
        for column, cell in zip(shown["columnDefinitions"], shown["rows"][0]["cells"], strict=True)
        if wide or not column["priority"]
    }


def pod(status: Object, *, deleted: bool = False, init: tuple[Object, ...] = (), containers: int = 1) -> Object:
    metadata: Object = {"name": "p"}
    if deleted:
        metadata["deletionTimestamp"] = CREATED
    spec = {"containers": [{"name": f"c{i}"} for i in range(containers)], "initContainers": list(init)}
    return {"metadata": metadata, "spec": spec, "status": status}


def state(**given: Any) -> Object:
    """One container's status."""
    return {"name": "c0", "ready": False, "restartCount": 0, **given}


RUNNING = state(ready=True, state={"running": {}})
COMPLETED = state(state={"terminated": {"exitCode": 0, "reason": "Completed"}})
FAILED = {"terminated": {"exitCode": 1, "reason": "Error"}}
READY = [{"type": "Ready", "status": "True"}]


@pytest.mark.parametrize(
    ("item", "ready", "word"),
    [
        (pod({"phase": "Pending"}), "0/1", "Pending"),
        (pod({"phase": "Running", "containerStatuses": [RUNNING]}), "1/1", "Running"),
        (pod({"phase": "Running", "containerStatuses": [RUNNING]}, deleted=True), "1/1", "Terminating"),
        (pod({"phase": "Succeeded", "containerStatuses": [COMPLETED]}), "0/1", "Completed"),
        (pod({"phase": "Succeeded", "containerStatuses": [COMPLETED]}, deleted=True), "0/1", "Completed"),
        (
            pod({"phase": "Running", "containerStatuses": [state(state={"waiting": {"reason": "CrashLoopBackOff"}})]}),
            "0/1",
            "CrashLoopBackOff",
        ),
        (
            pod({"phase": "Pending", "containerStatuses": [state(state={"waiting": {"reason": "ErrImagePull"}})]}),
            "0/1",
            "ErrImagePull",
        ),
        (
            pod({"phase": "Failed", "containerStatuses": [state(state={"terminated": {"exitCode": 3}})]}),
            "0/1",
            "ExitCode:3",
        ),
        (
            pod({"phase": "Failed", "containerStatuses": [state(state={"terminated": {"signal": 9}})]}),
            "0/1",
            "Signal:9",
        ),
        (pod({"phase": "Failed", "reason": "Evicted"}), "0/1", "Evicted"),
        (
            pod(
                {"phase": "Running", "conditions": READY, "containerStatuses": [COMPLETED, {**RUNNING, "name": "c1"}]},
                containers=2,
            ),
            "1/2",
            "Running",
        ),
        (
            pod(
                {"phase": "Running", "containerStatuses": [COMPLETED, {**RUNNING, "name": "c1"}]},
                containers=2,
            ),
            "1/2",
            "NotReady",
        ),
        (
            pod(
                {"phase": "Pending", "initContainerStatuses": [state(name="i0", state={"running": {}})]},
                init=({"name": "i0"},),
            ),
            "0/1",
            "Init:0/1",
        ),
        (
            pod(
                {
                    "phase": "Pending",
                    "initContainerStatuses": [
                        state(name="i0", state={"terminated": {"exitCode": 0}}),
                        state(name="i1", state={"waiting": {"reason": "PodInitializing"}}),
                    ],
                },
                init=({"name": "i0"}, {"name": "i1"}),
            ),
            "0/1",
            "Init:1/2",
        ),
        (
            pod(
                {
                    "phase": "Pending",
                    "initContainerStatuses": [
                        state(name="i0", state={"terminated": {"exitCode": 1, "reason": "Error"}})
                    ],
                },
                init=({"name": "i0"},),
            ),
            "0/1",
            "Init:Error",
        ),
        (
            pod(
                {
                    "phase": "Pending",
                    "initContainerStatuses": [state(name="i0", state={"waiting": {"reason": "CrashLoopBackOff"}})],
                },
                init=({"name": "i0"},),
            ),
            "0/1",
            "Init:CrashLoopBackOff",
        ),
        (
            pod(
                {
                    "phase": "Running",
                    "initContainerStatuses": [state(name="i0", ready=True, started=True, state={"running": {}})],
                    "containerStatuses": [RUNNING],
                },
                init=({"name": "i0", "restartPolicy": "Always"},),
            ),
            "2/2",
            "Running",
        ),
        (
            pod({"phase": "Pending", "conditions": [{"type": "PodScheduled", "reason": "SchedulingGated"}]}),
            "0/1",
            "SchedulingGated",
        ),
    ],
)
def test_a_pod_in_one_word(item: Object, ready: str, word: str) -> None:
    found = row(kinds.POD, item)

    assert (found["Ready"], found["Status"]) == (ready, word)


def test_restarts_tell_how_long_ago_the_last_was() -> None:
    last = {"terminated": {"finishedAt": "2026-11-23T11:58:30Z"}}
    found = row(
        kinds.POD,
        pod({"phase": "Running", "containerStatuses": [{**RUNNING, "restartCount": 3, "lastState": last}]}),
    )

    assert found["Restarts"] == "3 (90s ago)"
    assert row(kinds.POD, pod({"phase": "Pending"}))["Restarts"] == "0"


def test_wide_pods_tell_address_and_node() -> None:
    item = pod({"phase": "Running", "podIP": "10.244.0.5"})
    item["spec"]["nodeName"] = "local"

    assert row(kinds.POD, item, wide=True) == {
        "Name": "p",
        "Ready": "0/1",
        "Status": "Running",
        "Restarts": "0",
        "Age": "60s",
        "IP": "10.244.0.5",
        "Node": "local",
        "Nominated Node": "<none>",
        "Readiness Gates": "<none>",
    }


CASES: list[tuple[kinds.KindInfo, Object, Object]] = [
    (
        kinds.DEPLOYMENT,
        {"metadata": {"name": "d"}, "spec": {"replicas": 3}, "status": {"readyReplicas": 2, "updatedReplicas": 3}},
        {"Name": "d", "Ready": "2/3", "Up-to-date": 3, "Available": 0, "Age": "60s"},
    ),
    (
        kinds.REPLICA_SET,
        {"metadata": {"name": "r"}, "spec": {"replicas": 3}, "status": {"replicas": 3, "readyReplicas": 1}},
        {"Name": "r", "Desired": 3, "Current": 3, "Ready": 1, "Age": "60s"},
    ),
    (
        kinds.SERVICE,
        {
            "metadata": {"name": "s"},
            "spec": {
                "type": "NodePort",
                "clusterIP": "10.96.0.7",
                "ports": [{"port": 80, "nodePort": 30080}, {"port": 53, "protocol": "UDP"}],
            },
        },
        {
            "Name": "s",
            "Type": "NodePort",
            "Cluster-IP": "10.96.0.7",
            "External-IP": "<none>",
            "Port(s)": "80:30080/TCP,53/UDP",
            "Age": "60s",
        },
    ),
    (
        kinds.ENDPOINTS,
        {
            "metadata": {"name": "e"},
            "subsets": [{"addresses": [{"ip": f"10.0.0.{i}"} for i in range(1, 6)], "ports": [{"port": 80}]}],
        },
        {"Name": "e", "Endpoints": "10.0.0.1:80,10.0.0.2:80,10.0.0.3:80 + 2 more...", "Age": "60s"},
    ),
    (
        kinds.ENDPOINT_SLICE,
        {
            "metadata": {"name": "e"},
            "addressType": "IPv4",
            "ports": [{"port": 80}],
            "endpoints": [{"addresses": ["10.0.0.1"]}],
        },
        {"Name": "e", "AddressType": "IPv4", "Ports": "80", "Endpoints": "10.0.0.1", "Age": "60s"},
    ),
    (
        kinds.NODE,
        {
            "metadata": {"name": "local", "labels": {"node-role.kubernetes.io/control-plane": ""}},
            "spec": {"unschedulable": True},
            "status": {"conditions": READY, "nodeInfo": {"kubeletVersion": "v1.32.0"}},
        },
        {
            "Name": "local",
            "Status": "Ready,SchedulingDisabled",
            "Roles": "control-plane",
            "Age": "60s",
            "Version": "v1.32.0",
        },
    ),
    (
        kinds.SECRET,
        {"metadata": {"name": "s"}, "type": "Opaque", "data": {"a": "", "b": ""}},
        {"Name": "s", "Type": "Opaque", "Data": 2, "Age": "60s"},
    ),
    (
        kinds.EVENT,
        {
            "metadata": {"name": "e"},
            "type": "Warning",
            "reason": "Failed",
            "message": "no\n",
            "lastTimestamp": CREATED,
            "involvedObject": {"kind": "Pod", "name": "p"},
        },
        {"Last Seen": "60s", "Type": "Warning", "Reason": "Failed", "Object": "pod/p", "Message": "no"},
    ),
    (
        kinds.CUSTOM_RESOURCE_DEFINITION,
        {"metadata": {"name": "c"}},
        {"Name": "c", "Created At": CREATED},
    ),
    (kinds.RESOURCE_QUOTA, {"metadata": {"name": "q"}}, {"Name": "q", "Age": "60s"}),
]


@pytest.mark.parametrize(("kind", "item", "expected"), CASES, ids=lambda case: getattr(case, "resource", ""))
def test_a_kind_has_kubernetes_columns(kind: kinds.KindInfo, item: Object, expected: Object) -> None:
    assert row(kind, item) == expected


@pytest.mark.parametrize("kind", kinds.BUILTIN, ids=lambda kind: kind.resource)
def test_an_object_of_any_kind_can_be_shown_with_its_name_alone(kind: kinds.KindInfo) -> None:
    shown = tables.table(kind, [{"metadata": {"name": "x"}}], [], NOW)

    assert len(shown["rows"][0]["cells"]) == len(shown["columnDefinitions"])


def test_custom_columns_come_from_the_definition() -> None:
    definition = {
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com",
            "names": {"plural": "widgets", "kind": "Widget"},
            "versions": [{"name": "v1", "served": True, "storage": True}],
        },
    }
    kind = kinds.from_definition(definition)
    assert kind is not None
    columns = [
        {"name": "Mode", "type": "string", "jsonPath": ".spec.mode"},
        {"name": "Size", "type": "integer", "jsonPath": ".spec.size", "priority": 1},
        {"name": "Hosts", "type": "string", "jsonPath": ".spec.hosts"},
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
        {"name": "Broken", "type": "string", "jsonPath": ".a["},
    ]
    item = {"metadata": {"name": "w", "creationTimestamp": CREATED}, "spec": {"mode": "A", "size": "x", "hosts": ["h"]}}

    shown = tables.table(kind, [item], columns, NOW)

    assert [column["name"] for column in shown["columnDefinitions"]] == ["Name", *(c["name"] for c in columns)]
    assert [column["priority"] for column in shown["columnDefinitions"]] == [0, 0, 1, 0, 0, 0]
    assert shown["rows"] == [{"cells": ["w", "A", None, '["h"]', "60s", None]}]
    assert tables.table(kind, [item], [], NOW)["rows"] == [{"cells": ["w", "60s"]}]

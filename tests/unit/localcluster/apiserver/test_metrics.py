"""metrics.k8s.io: numbers of the node as kubectl reads them."""

from typing import Any

from localcluster.apiserver.http.metrics import node_metrics, pod_metrics

STATS: dict[str, Any] = {
    "windowSeconds": 0.5,
    "node": {"cores": 1.5, "memory": 3 << 20},
    "pods": {"u1": {"main": {"cores": 0.25, "memory": 2048}, "a-side": {"cores": 0.0, "memory": 0}}},
}


def test_a_pods_containers_have_their_usage() -> None:
    pod = {"metadata": {"name": "p", "namespace": "n", "uid": "u1", "labels": {"app": "p"}}}
    shown = pod_metrics(pod, STATS)

    assert shown is not None
    assert shown["containers"] == [
        {"name": "a-side", "usage": {"cpu": "0n", "memory": "0Ki"}},
        {"name": "main", "usage": {"cpu": "250000000n", "memory": "2Ki"}},
    ]
    assert (shown["window"], shown["metadata"]["labels"]) == ("0.500s", {"app": "p"})


def test_a_pod_that_does_not_run_has_none() -> None:
    assert pod_metrics({"metadata": {"name": "p", "uid": "other"}}, STATS) is None


def test_the_node_has_everything() -> None:
    shown = node_metrics({"metadata": {"name": "local"}}, STATS)

    assert shown is not None
    assert shown["usage"] == {"cpu": "1500000000n", "memory": "3072Ki"}

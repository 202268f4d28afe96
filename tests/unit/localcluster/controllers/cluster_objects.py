"""Objects and states for the controllers' tests."""

from datetime import UTC, datetime
from typing import Any

from localcluster.apiserver import defaults, kinds
from localcluster.controllers.state import State, owner_reference

Object = dict[str, Any]
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
LONG_AGO = "2026-11-23T11:00:00Z"
LABELS = {"app": "web"}


def metadata(name: str, **more: Any) -> Object:
    """Metadata as the server completes it; the uid is the name."""
    return {
        "name": name,
        "namespace": "demo",
        "uid": f"uid-{name}",
        "resourceVersion": "1",
        "creationTimestamp": LONG_AGO,
        **more,
    }


def namespace(**more: Any) -> Object:
    """The namespace `demo`."""
    about = {**metadata("demo", **more)}
    del about["namespace"]
    return {"metadata": about, "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}}


def deployment(image: str = "web:1", replicas: int = 2, status: Object | None = None, **spec: Any) -> Object:
    """The Deployment `web`, with its defaults."""
    template = {"metadata": {"labels": LABELS}, "spec": {"containers": [{"name": "main", "image": image}]}}
    return defaults.apply(
        kinds.DEPLOYMENT,
        {
            "metadata": metadata("web", generation=1),
            "spec": {"replicas": replicas, "selector": {"matchLabels": LABELS}, "template": template, **spec},
            "status": status or {},
        },
    )


def replica_set(
    owner: Object, name: str, replicas: int, *, image: str = "web:1", available: int | None = None, revision: int = 1
) -> Object:
    """A ReplicaSet of a Deployment, whose pods are all there; `available` of them, all if it is None."""
    ready = replicas if available is None else available
    template = deployment(image)["spec"]["template"]
    labels = {**LABELS, "pod-template-hash": name}
    return {
        "metadata": metadata(
            name,
            generation=1,
            labels=labels,
            ownerReferences=[owner_reference(kinds.DEPLOYMENT, owner)],
            annotations={"deployment.kubernetes.io/revision": str(revision)},
        ),
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {**template, "metadata": {"labels": labels}},
        },
        "status": {
            "replicas": replicas,
            "readyReplicas": ready,
            "availableReplicas": ready,
            "observedGeneration": 1,
        },
    }


def pod(
    name: str,
    *,
    owner: tuple[kinds.KindInfo, Object] | None = None,
    ready: bool = True,
    phase: str = "Running",
    address: str = "",
    labels: Object | None = None,
    **about: Any,
) -> Object:
    """A pod on the node `local`."""
    references = {"ownerReferences": [owner_reference(*owner)]} if owner else {}
    return {
        "metadata": metadata(name, labels=LABELS if labels is None else labels, **references, **about),
        "spec": {
            "nodeName": "local",
            "containers": [{"name": "main", "image": "web", "ports": [{"name": "http", "containerPort": 8080}]}],
        },
        "status": {
            "phase": phase,
            **({"podIP": address} if address else {}),
            "conditions": [{"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": LONG_AGO}],
        },
    }


def state(**objects: list[Object]) -> State:
    """A state by the kinds' plural names: `state(pods=[...])`."""
    by_plural = {kind.plural: kind for kind in reversed(kinds.BUILTIN)}
    return State((by_plural[plural], item) for plural, items in objects.items() for item in items)

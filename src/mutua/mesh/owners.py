"""Which workload a pod belongs to, as users know it: a Deployment rather than its ReplicaSet."""

from collections.abc import Mapping
from typing import Final

PODS_OF_A_REPLICA_SET: Final = "pod-template-hash"
CANONICAL_NAME_LABEL: Final = "service.istio.io/canonical-name"
_LONGEST_LABEL: Final = 63


def kind_and_name(kind: str, name: str, labels: Mapping[str, str]) -> tuple[str, str]:
    """The controller of a pod with these labels, given the one that its owner reference names.

    Source: Kubernetes names a Deployment's ReplicaSet `<deployment>-<pod-template-hash>`.
    """
    template = labels.get(PODS_OF_A_REPLICA_SET)
    if kind == "ReplicaSet" and template and name.endswith(f"-{template}"):
        return "Deployment", name.removesuffix(f"-{template}")
    return kind, name


def app(labels: Mapping[str, str]) -> str:
    """What metrics call the application; "" if nobody said. Source: Istio's label `app` of a pod."""
    return labels.get("app") or labels.get("app.kubernetes.io/name") or ""


def canonical_service(labels: Mapping[str, str], owner: str) -> str:
    """What metrics call the service that a pod is part of. Source: Istio's canonical service."""
    said = labels.get(CANONICAL_NAME_LABEL) or labels.get("app.kubernetes.io/name") or labels.get("app") or owner
    return said[:_LONGEST_LABEL].rstrip("-_.")

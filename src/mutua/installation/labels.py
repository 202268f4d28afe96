"""Names and labels that all installed objects share."""

from typing import Any

from mutua.installation.values import Installation

Object = dict[str, Any]

CONTROL_PLANE = "istiod"
MANAGED_BY = "mutua"
MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
COMPONENT_LABEL = "operator.istio.io/component"


def common_labels(installation: Installation) -> dict[str, str]:
    """By these all installed objects are found again."""
    return {
        "app": CONTROL_PLANE,
        "istio.io/rev": installation.revision,
        "app.kubernetes.io/part-of": "istio",
        MANAGED_BY_LABEL: MANAGED_BY,
        "app.kubernetes.io/version": installation.tag,
    }


def labelled(
    installation: Installation,
    api_version: str,
    kind: str,
    name: str,
    *,
    namespace: str = "",
    labels: dict[str, str] | None = None,
    **fields: Any,
) -> Object:
    """An object with our labels; `fields` are its parts beside metadata."""
    metadata: Object = {"name": name}
    if namespace:
        metadata["namespace"] = namespace
    metadata["labels"] = common_labels(installation) | (labels or {})
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **fields}

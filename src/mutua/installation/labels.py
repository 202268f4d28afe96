"""Names and labels that all installed objects share."""

from typing import Any

from mutua.installation.values import Installation

Object = dict[str, Any]

CONTROL_PLANE = "istiod"
COMPONENT_LABEL = "operator.istio.io/component"


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
    metadata["labels"] = {
        "app": CONTROL_PLANE,
        "istio.io/rev": installation.revision,
        "app.kubernetes.io/part-of": "istio",
        "app.kubernetes.io/managed-by": "mutua",
        "app.kubernetes.io/version": installation.tag,
    } | (labels or {})
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **fields}

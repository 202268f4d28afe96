"""Whether a pod gets a sidecar, and why."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from mutua.injection.selectors import matches
from mutua.injection.settings import InjectorSettings

INJECT = "sidecar.istio.io/inject"
STATUS = "sidecar.istio.io/status"
PROXY_CONTAINER = "istio-proxy"

# Nothing of the cluster itself may wait for the mesh. Source: Istio's list of ignored namespaces.
SYSTEM_NAMESPACES = frozenset({"kube-system", "kube-public", "kube-node-lease", "local-path-storage"})
_YES = frozenset({"y", "yes", "true", "on"})
_NO = frozenset({"n", "no", "false", "off"})


class Decision(NamedTuple):
    """The answer and the words for it."""

    inject: bool
    reason: str


def should_inject(pod: Mapping[str, Any], namespace: str, settings: InjectorSettings) -> Decision:
    """Whether this pod, which a webhook was called for, gets a sidecar.

    The pod's label beats its annotation, which beats never- and always-selectors, which beat the policy.
    Source: Istio's injection policy and `sidecar.istio.io/inject`.
    """
    spec, metadata = pod.get("spec") or {}, pod.get("metadata") or {}
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    if spec.get("hostNetwork"):
        return Decision(False, "the pod uses the node's network, where nothing can be captured for it alone")
    if namespace in SYSTEM_NAMESPACES:
        return Decision(False, f"namespace {namespace} belongs to the cluster itself")
    if already_injected(pod):
        return Decision(False, "the pod has a sidecar already")
    place, value = ("label", labels[INJECT]) if INJECT in labels else ("annotation", annotations.get(INJECT, ""))
    if value:
        wanted = value.strip().lower() in _YES
        unclear = "" if wanted or value.strip().lower() in _NO else ", which is neither true nor false"
        return Decision(wanted, f"the pod's {place} {INJECT} is {value!r}{unclear}")
    if any(matches(selector, labels) for selector in settings.never_inject):
        return Decision(False, "neverInjectSelector matches the pod's labels")
    if any(matches(selector, labels) for selector in settings.always_inject):
        return Decision(True, "alwaysInjectSelector matches the pod's labels")
    policy = "enabled" if settings.inject_by_default else "disabled"
    return Decision(settings.inject_by_default, f"the injection policy is {policy}")


def refusal(pod: Mapping[str, Any]) -> str:
    """Why a pod is never injected, whatever its namespace says; "" if nothing of its own forbids it."""
    spec, metadata = pod.get("spec") or {}, pod.get("metadata") or {}
    if spec.get("hostNetwork"):
        return "the pod uses the node's network, where nothing can be captured for it alone"
    for place in ("labels", "annotations"):
        value = str((metadata.get(place) or {}).get(INJECT, ""))
        if value.strip().lower() in _NO:
            return f"the pod's {place.removesuffix('s')} {INJECT} is {value!r}"
    return ""


def already_injected(pod: Mapping[str, Any]) -> bool:
    """Whether we were here before: our status annotation and our container are both there."""
    spec, metadata = pod.get("spec") or {}, pod.get("metadata") or {}
    containers = [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]
    present = any(container.get("name") == PROXY_CONTAINER for container in containers)
    return present and STATUS in (metadata.get("annotations") or {})

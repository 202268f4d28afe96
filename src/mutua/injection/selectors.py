"""Kubernetes label selectors, and which injection webhook a pod's labels reach, in words."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

REVISION_LABEL = "istio.io/rev"
_DEACTIVATED_LABEL = "istio.io/deactivated"
_INJECTION_LABEL = "istio-injection"


def matches(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether labels fit a LabelSelector; an empty one fits all. An operator that we do not know fits nothing.

    Source: LabelSelector of Kubernetes' meta/v1.
    """
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    return all(_expression_holds(expression, labels) for expression in selector.get("matchExpressions") or ())


def _expression_holds(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    key, values = expression.get("key", ""), expression.get("values") or ()
    match expression.get("operator"):
        case "In":
            return key in labels and labels[key] in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
    return False


def calling(
    configuration: Mapping[str, Any], namespace_labels: Mapping[str, str], pod_labels: Mapping[str, str]
) -> tuple[str, ...]:
    """Names of the webhooks of a MutatingWebhookConfiguration that the API server calls for such a pod."""
    return tuple(
        webhook["name"]
        for webhook in configuration.get("webhooks") or ()
        if matches(webhook.get("namespaceSelector") or {}, namespace_labels)
        and matches(webhook.get("objectSelector") or {}, pod_labels)
    )


class Explanation(NamedTuple):
    """What one webhook configuration does for a pod, and why."""

    webhook: str
    revision: str
    injected: bool
    reason: str


def explain(
    configuration: Mapping[str, Any], namespace_labels: Mapping[str, str], pod_labels: Mapping[str, str]
) -> Explanation:
    """Whether a MutatingWebhookConfiguration (its `name`, `labels` and `webhooks`) injects such a pod, and why."""
    webhooks = tuple(configuration.get("webhooks") or ())
    injected, reason = _verdict(webhooks, namespace_labels, pod_labels)
    revision = (configuration.get("labels") or {}).get(REVISION_LABEL, "")
    return Explanation(str(configuration.get("name", "")), revision, injected, reason)


def _verdict(
    webhooks: Iterable[Mapping[str, Any]], namespace_labels: Mapping[str, str], pod_labels: Mapping[str, str]
) -> tuple[bool, str]:
    webhooks = tuple(webhooks)
    if all(_DEACTIVATED_LABEL in _required(webhook.get("namespaceSelector") or {}) for webhook in webhooks):
        return False, "The injection webhook is deactivated, and will never match labels."
    for webhook in webhooks:
        namespace_selector = webhook.get("namespaceSelector") or {}
        pod_selector = webhook.get("objectSelector") or {}
        namespace_fits = matches(namespace_selector, namespace_labels)
        pod_fits = matches(pod_selector, pod_labels)
        if namespace_fits and pod_fits:
            return True, _why_injected(
                _present(namespace_selector, namespace_labels), _present(pod_selector, pod_labels)
            )
        if namespace_fits:
            for expression in pod_selector.get("matchExpressions") or ():
                key = expression.get("key", "")
                if key in pod_labels and _forbids(expression, pod_labels[key]):
                    return False, f"Pod has {key}={pod_labels[key]} label, preventing injection"
        elif pod_fits and namespace_labels.get(_INJECTION_LABEL, "enabled") != "enabled":
            value = namespace_labels[_INJECTION_LABEL]
            return False, f"Namespace has {_INJECTION_LABEL}={value} label, preventing injection"
    namespaces = _wanted(webhook.get("namespaceSelector") or {} for webhook in webhooks)
    pods = _wanted(webhook.get("objectSelector") or {} for webhook in webhooks)
    return False, f"No matching namespace labels ({namespaces}) or pod labels ({pods})"


def _why_injected(namespace_label: str, pod_label: str) -> str:
    if namespace_label and pod_label:
        return f"Namespace label {namespace_label} matches, and pod label {pod_label} matches"
    if namespace_label:
        return f"Namespace label {namespace_label} matches"
    return f"Pod label {pod_label} matches" if pod_label else "All pods match"


def _required(selector: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """The labels, with their values, that a selector wants to see."""
    required: dict[str, tuple[str, ...]] = {key: (value,) for key, value in (selector.get("matchLabels") or {}).items()}
    for expression in selector.get("matchExpressions") or ():
        if expression.get("operator") == "In":
            required[expression["key"]] = tuple(expression.get("values") or ())
    return required


def _present(selector: Mapping[str, Any], labels: Mapping[str, str]) -> str:
    """The first label that the selector asks for and that is there, as `key=value`, else ""."""
    looked_at = [expression.get("key", "") for expression in selector.get("matchExpressions") or ()]
    return next((f"{key}={labels[key]}" for key in (*_required(selector), *looked_at) if key in labels), "")


def _forbids(expression: Mapping[str, Any], value: str) -> bool:
    operator = expression.get("operator")
    return operator == "DoesNotExist" or (operator == "NotIn" and value in (expression.get("values") or ()))


def _wanted(selectors: Iterable[Mapping[str, Any]]) -> str:
    pairs = dict.fromkeys(
        f"{key}={value}" for selector in selectors for key, values in _required(selector).items() for value in values
    )
    return ", ".join(pairs)

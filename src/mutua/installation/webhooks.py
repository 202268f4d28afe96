"""When the API server asks us: which pods are injected, and which objects are judged."""

from typing import Any

from mutua.api import kinds
from mutua.installation.access import webhook_names
from mutua.installation.labels import CONTROL_PLANE, Object, labelled
from mutua.installation.values import Installation

REVISION = "istio.io/rev"
INJECTION = "istio-injection"
POD_INJECT = "sidecar.istio.io/inject"
_SYSTEM_NAMESPACES = ["kube-system", "kube-public", "kube-node-lease", "local-path-storage"]


def injector(installation: Installation) -> Object:
    """The webhooks that call for a sidecar: by the namespace's label, or by the pod's where the namespace has none.

    A namespace's `istio-injection` beats its revision; a pod's "false" beats both. The selectors exclude each other, so
    that a pod is never injected twice. Source: Istio's sidecar injection by labels and revisions.
    """
    revision = installation.revision
    name, _ = webhook_names(installation)
    not_refused = _expression(POD_INJECT, "NotIn", "false")
    by_revision = {
        "rev.namespace": (
            [_expression(REVISION, "In", revision), _expression(INJECTION, "DoesNotExist")],
            [not_refused],
        ),
        "rev.object": (
            [_expression(REVISION, "DoesNotExist"), _expression(INJECTION, "DoesNotExist")],
            [not_refused, _expression(REVISION, "In", revision)],
        ),
    }
    by_word: dict[str, tuple[list[Object], list[Object]]] = {}
    if revision == "default":
        unlabelled = [_expression(INJECTION, "DoesNotExist"), _expression(REVISION, "DoesNotExist")]
        by_word = {
            "namespace": ([_expression(INJECTION, "In", "enabled")], [not_refused]),
            "object": (unlabelled, [_expression(POD_INJECT, "In", "true"), _expression(REVISION, "DoesNotExist")]),
        }
        if installation.inject_by_default_everywhere:
            everywhere = [*unlabelled, _expression("kubernetes.io/metadata.name", "NotIn", *_SYSTEM_NAMESPACES)]
            unasked = [_expression(POD_INJECT, "DoesNotExist"), _expression(REVISION, "DoesNotExist")]
            by_word["auto"] = (everywhere, unasked)
    webhooks = [
        _webhook(f"{prefix}.sidecar-injector.istio.io", installation, "/inject")
        | {
            "failurePolicy": "Fail",
            "reinvocationPolicy": "Never",
            "rules": [_rule("", ["v1"], ["pods"], ["CREATE"])],
            "namespaceSelector": {"matchExpressions": namespaces},
            "objectSelector": {"matchExpressions": pods},
        }
        for prefix, (namespaces, pods) in {**by_revision, **by_word}.items()
    ]
    labels = {"app": "sidecar-injector"}
    version = "admissionregistration.k8s.io/v1"
    return labelled(installation, version, "MutatingWebhookConfiguration", name, labels=labels, webhooks=webhooks)


def validator(installation: Installation) -> Object:
    """The webhook that judges objects of ours. Without a control plane nothing is judged, so nothing is stored."""
    _, name = webhook_names(installation)
    groups: dict[str, tuple[set[str], set[str]]] = {}
    for kind in kinds.ours():
        versions, plurals = groups.setdefault(kind.group, (set(), set()))
        versions.update(kind.versions)
        plurals.add(kind.plural)
    webhook = _webhook("rev.validation.istio.io", installation, "/validate") | {
        "failurePolicy": "Fail",
        "rules": [
            _rule(group, sorted(versions), sorted(plurals), ["CREATE", "UPDATE"])
            for group, (versions, plurals) in groups.items()
        ],
    }
    version = "admissionregistration.k8s.io/v1"
    return labelled(installation, version, "ValidatingWebhookConfiguration", name, webhooks=[webhook])


def _webhook(name: str, installation: Installation, path: str) -> Object:
    suffix = installation.name_suffix
    service = {"name": CONTROL_PLANE + suffix, "namespace": installation.namespace, "path": path, "port": 443}
    return {
        "name": name,
        "clientConfig": {"service": service},
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "timeoutSeconds": 10,
    }


def _rule(group: str, versions: list[str], resources: list[str], operations: list[str]) -> Object:
    return {
        "apiGroups": [group],
        "apiVersions": versions,
        "resources": resources,
        "operations": operations,
        "scope": "*",
    }


def _expression(key: str, operator: str, *values: str) -> Object:
    expression: dict[str, Any] = {"key": key, "operator": operator}
    return expression | {"values": list(values)} if values else expression

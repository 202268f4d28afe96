"""Which webhooks a write concerns: rules, scope and selectors. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from localcluster.apiserver import errors, selectors
from localcluster.apiserver.admission import conditions
from localcluster.apiserver.errors import FieldError
from localcluster.apiserver.kinds import NAMESPACE, KindInfo

Object = dict[str, Any]
Selection = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Attributes:
    """One write as admission sees it. `object` is None for DELETE, `old` for CREATE."""

    kind: KindInfo
    operation: str
    namespace: str
    name: str
    object: Object | None
    old: Object | None
    subresource: str = ""


@dataclass(frozen=True)
class Webhook:
    """One entry of a webhook configuration, with its defaults."""

    configuration: str
    spec: Mapping[str, Any]

    @property
    def name(self) -> str:
        """What messages call it."""
        return str(self.spec["name"])

    @property
    def ignores_failure(self) -> bool:
        """failurePolicy: Ignore."""
        return self.spec.get("failurePolicy") == "Ignore"

    @property
    def timeout_seconds(self) -> int:
        """How long it may take; 10 if it doesn't say."""
        return int(self.spec.get("timeoutSeconds") or 10)

    @property
    def has_side_effects(self) -> bool:
        """Whether a dry run must not call it."""
        return self.spec.get("sideEffects") not in ("None", "NoneOnDryRun")

    @property
    def reinvoked(self) -> bool:
        """reinvocationPolicy: IfNeeded."""
        return self.spec.get("reinvocationPolicy") == "IfNeeded"


def matched_version(wanted: Selection, write: Attributes, namespace_labels: Mapping[str, str]) -> str | None:
    """The API version in which a webhook or policy wants to see this write; None if it does not concern it.

    `wanted` is a webhook's configuration, or what a policy matches with its `resourceRules` as `rules`.
    """
    # A webhook that could veto its own removal would lock everybody out.
    if write.kind.group == "admissionregistration.k8s.io":
        return None
    version = rules_version(wanted.get("rules") or (), write, str(wanted.get("matchPolicy") or "Equivalent"))
    if version is None or not _namespace_matches(wanted, write, namespace_labels):
        return None
    return version if _object_matches(wanted, write) else None


def rules_version(rules: Iterable[Selection], write: Attributes, match_policy: str) -> str | None:
    """The API version in which the first of the rules that concerns this write names its kind; None: none does."""
    return next((found for rule in rules if (found := _rule_version(rule, write, match_policy))), None)


def _rule_version(rule: Selection, write: Attributes, match_policy: str) -> str | None:
    kind = write.kind
    if rule.get("resourceNames") and write.name not in rule["resourceNames"]:
        return None
    if not _in(rule.get("operations"), write.operation) or not _in(rule.get("apiGroups"), kind.group):
        return None
    if rule.get("scope", "*") == ("Cluster" if kind.namespaced else "Namespaced"):
        return None
    if not any(_resource_matches(wanted, kind.plural, write.subresource) for wanted in rule.get("resources") or ()):
        return None
    versions = rule.get("apiVersions") or ()
    if "*" in versions or kind.version in versions:
        return kind.version
    if match_policy == "Exact":
        return None
    return next((version for version in kind.served_versions if version in versions), None)


def _in(wanted: Any, value: str) -> bool:
    return bool(wanted) and ("*" in wanted or value in wanted)


def _resource_matches(wanted: str, plural: str, subresource: str) -> bool:
    resource, slash, wanted_subresource = wanted.partition("/")
    if resource not in ("*", plural):
        return False
    if not slash:
        return not subresource
    return wanted_subresource in ("*", subresource)


def _namespace_matches(wanted: Selection, write: Attributes, namespace_labels: Mapping[str, str]) -> bool:
    selector = wanted.get("namespaceSelector")
    if not selector:
        return True
    if (write.kind.group, write.kind.kind) == (NAMESPACE.group, NAMESPACE.kind):
        subject = write.object or write.old or {}
        return selectors.structured(selector)(subject["metadata"].get("labels") or {})
    return not write.kind.namespaced or selectors.structured(selector)(namespace_labels)


def _object_matches(wanted: Selection, write: Attributes) -> bool:
    selector = wanted.get("objectSelector")
    if not selector:
        return True
    matches = selectors.structured(selector)
    return any(matches(side["metadata"].get("labels") or {}) for side in (write.object, write.old) if side is not None)


def configuration_violations(configuration: Object) -> list[FieldError]:
    """What a webhook configuration asks for that this server would not do."""
    found: list[FieldError] = []
    for at, webhook in enumerate(configuration.get("webhooks") or ()):
        found += conditions.violations(webhook.get("matchConditions") or (), f"webhooks[{at}].matchConditions")
        reviewed = webhook.get("admissionReviewVersions") or ()
        if "v1" not in reviewed:
            found.append(errors.invalid(f"webhooks[{at}].admissionReviewVersions", list(reviewed), "must include v1"))
    return found

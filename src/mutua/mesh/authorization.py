"""Which AuthorizationPolicies apply to a workload, as values for the filter. Source: Istio AuthorizationPolicy."""

from collections.abc import Iterable
from typing import Final

from mutua.api import security
from mutua.mesh.proxy_view import (
    AuthorizationAction,
    Condition,
    EffectivePolicy,
    Frozen,
    Operation,
    Rule,
    Source,
)
from mutua.mesh.selectors import NO_LABELS, Labels, labels_of

DRY_RUN_ANNOTATION: Final = "istio.io/dry-run"

# Go's strconv.ParseBool, which reads the annotation in Istio. Any other text means that the policy is enforced.
_TRUE: Final = frozenset({"1", "t", "T", "TRUE", "true", "True"})


class SelectedPolicy(Frozen, frozen=True):
    """A policy, and whom it is for."""

    selector: Labels
    policy: EffectivePolicy


def policies_in(namespace: str, objects: Iterable[security.AuthorizationPolicy]) -> tuple[SelectedPolicy, ...]:
    """The policies of one namespace by name. Those attached to gateways or Services are not for sidecars."""
    return tuple(
        SelectedPolicy(
            labels_of(item.spec.selector.match_labels) if item.spec.selector else NO_LABELS, _effective(item)
        )
        for item in sorted(objects, key=lambda item: item.metadata.name)
        if item.metadata.namespace == namespace and not has_target(item)
    )


def applying(
    root: tuple[SelectedPolicy, ...], own: tuple[SelectedPolicy, ...], labels: Labels
) -> tuple[EffectivePolicy, ...]:
    """The policies that apply to a workload with these labels: the root namespace's first, then its own."""
    return tuple(selected.policy for selected in (*root, *own) if selected.selector <= labels)


def has_target(item: security.AuthorizationPolicy) -> bool:
    """Whether the policy is attached to a gateway or Service by targetRef."""
    return item.spec.target_ref is not None or bool(item.spec.target_refs)


def _effective(item: security.AuthorizationPolicy) -> EffectivePolicy:
    spec = item.spec
    return EffectivePolicy(
        namespace=item.metadata.namespace,
        name=item.metadata.name,
        action=AuthorizationAction(spec.action.value),
        rules=tuple(_rule(rule) for rule in spec.rules),
        dry_run=item.metadata.annotations.get(DRY_RUN_ANNOTATION, "") in _TRUE,
        provider=spec.provider.name if spec.provider else "",
    )


def _rule(rule: security.Rule) -> Rule:
    return Rule(
        sources=tuple(_source(entry.source or security.Source()) for entry in rule.from_ or ()),
        operations=tuple(_operation(entry.operation or security.Operation()) for entry in rule.to or ()),
        conditions=tuple(Condition(entry.key, entry.values, entry.not_values) for entry in rule.when or ()),
    )


def _source(source: security.Source) -> Source:
    return Source(**{field: getattr(source, field) for field in Source.__struct_fields__})


def _operation(operation: security.Operation) -> Operation:
    return Operation(**{field: getattr(operation, field) for field in Operation.__struct_fields__})

"""Which AuthorizationPolicies apply to a workload, as values for the filter. Source: Istio AuthorizationPolicy."""

import re
from collections.abc import Iterable
from typing import Final

import msgspec

from mutua.api import dry_run, security
from mutua.api.validation import authorization_policy
from mutua.mesh.kept import kept
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

_RULE_FIELD: Final = re.compile(r"spec\.rules\[(\d+)\]")
_NOBODY: Final = Rule(conditions=(Condition("invalid", ("",)),))
"""A rule that asks for what does not exist. An ALLOW rule with such a condition is void."""


class SelectedPolicy(Frozen, frozen=True):
    """A policy, and whom it is for."""

    selector: Labels
    policy: EffectivePolicy


def policies_in(namespace: str, objects: Iterable[security.AuthorizationPolicy]) -> tuple[SelectedPolicy, ...]:
    """The policies of one namespace by name. Those attached to gateways or Services are not for sidecars.

    An object that no webhook would have let in lets nobody in: see `closed`.
    """
    mine = (item for item in objects if item.metadata.namespace == namespace)
    found = (closed(item) for item in sorted(mine, key=lambda item: item.metadata.name))
    return tuple(selected for selected in found if selected is not None)


def as_written(item: security.AuthorizationPolicy) -> SelectedPolicy | None:
    """What the object says, taken literally; None if it is attached to a gateway or Service."""
    if has_target(item):
        return None
    return SelectedPolicy(_selector(item), _effective(item))


@kept(limit=16384)
def closed(item: security.AuthorizationPolicy) -> SelectedPolicy | None:
    """What the object says, where what it says is valid; elsewhere nobody is let in by mistake.

    Selection in doubt: everything is denied to all that it could select. A rule in doubt: of an ALLOW policy it allows
    nobody, of the others it is about everybody.
    """
    problems = [violation.field for violation in authorization_policy.violations(item) if violation.is_error]
    if not problems:
        return as_written(item)
    if any(_is_about_selection(field) for field in problems):
        if has_target(item) and item.spec.selector is None:
            return None
        everything = security.AuthorizationPolicySpec(action=security.Action.DENY, rules=(security.Rule(),))
        return SelectedPolicy(NO_LABELS, _effective(msgspec.structs.replace(item, spec=everything)))
    written = as_written(item)
    if written is None or item.spec.action is security.Action.AUDIT:
        return written
    instead = _NOBODY if item.spec.action is security.Action.ALLOW else Rule()
    doubtful = {int(found[1]) for field in problems if (found := _RULE_FIELD.match(field))}
    rules = tuple(instead if index in doubtful else rule for index, rule in enumerate(written.policy.rules))
    return SelectedPolicy(written.selector, msgspec.structs.replace(written.policy, rules=rules))


def applying(
    root: tuple[SelectedPolicy, ...], own: tuple[SelectedPolicy, ...], labels: Labels
) -> tuple[EffectivePolicy, ...]:
    """The policies that apply to a workload with these labels: the root namespace's first, then its own."""
    return tuple(selected.policy for selected in (*root, *own) if selected.selector <= labels)


def has_target(item: security.AuthorizationPolicy) -> bool:
    """Whether the policy is attached to a gateway or Service by targetRef."""
    return item.spec.target_ref is not None or bool(item.spec.target_refs)


def _is_about_selection(field: str) -> bool:
    return field == "spec" or field.startswith(("spec.selector", "spec.targetRef"))


def _selector(item: security.AuthorizationPolicy) -> Labels:
    return labels_of(item.spec.selector.match_labels) if item.spec.selector else NO_LABELS


def _effective(item: security.AuthorizationPolicy) -> EffectivePolicy:
    spec = item.spec
    return EffectivePolicy(
        namespace=item.metadata.namespace,
        name=item.metadata.name,
        action=AuthorizationAction(spec.action.value),
        rules=tuple(_rule(rule) for rule in spec.rules),
        dry_run=dry_run.is_dry_run(item.metadata),
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

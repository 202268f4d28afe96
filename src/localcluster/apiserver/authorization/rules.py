"""Policy rules of roles: which requests they allow, and which other rules they cover. Pure.

Source: Kubernetes' RBAC documentation, and pkg/apis/rbac and pkg/registry/rbac/validation of its source.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

from localcluster.apiserver.context import UserInfo

ALL = "*"


@dataclass(frozen=True, slots=True)
class Attributes:
    """One request as rules see it.

    A request for a resource has `resource`; any other has `path`. `namespace` is "" at the cluster scope, `name` is ""
    where none is known (create, list).
    """

    user: UserInfo
    verb: str
    namespace: str = ""
    group: str = ""
    resource: str = ""
    subresource: str = ""
    name: str = ""
    path: str = ""

    @property
    def combined_resource(self) -> str:
        """`pods` or `pods/log`."""
        return f"{self.resource}/{self.subresource}" if self.subresource else self.resource


@dataclass(frozen=True, slots=True)
class PolicyRule:
    """`rbac.authorization.k8s.io/v1 PolicyRule`."""

    verbs: tuple[str, ...]
    groups: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()

    @classmethod
    def read(cls, rule: Mapping[str, Any]) -> PolicyRule:
        """The rule as it stands in a role."""
        fields = ("verbs", "apiGroups", "resources", "resourceNames", "nonResourceURLs")
        return cls(*(tuple(str(item) for item in rule.get(name) or ()) for name in fields))

    def as_json(self) -> dict[str, list[str]]:
        """The rule as reviews show it."""
        shown = {
            "verbs": self.verbs,
            "apiGroups": self.groups,
            "resources": self.resources,
            "resourceNames": self.names,
            "nonResourceURLs": self.paths,
        }
        return {name: list(items) for name, items in shown.items() if items}

    def allows(self, asked: Attributes) -> bool:
        """Whether the rule allows the request."""
        if not asked.resource:
            return _contains(self.verbs, asked.verb) and any(_path_matches(path, asked.path) for path in self.paths)
        return (
            _contains(self.verbs, asked.verb)
            and _contains(self.groups, asked.group)
            and any(_resource_matches(resource, asked.combined_resource) for resource in self.resources)
            and (not self.names or asked.name in self.names)
        )


def _contains(items: tuple[str, ...], wanted: str) -> bool:
    return ALL in items or wanted in items


def _resource_matches(rule: str, wanted: str) -> bool:
    if rule in (ALL, wanted):
        return True
    # "*/scale" is the subresource of every resource.
    _, _, subresource = wanted.partition("/")
    return bool(subresource) and rule == f"*/{subresource}"


def _path_matches(rule: str, wanted: str) -> bool:
    return rule in (ALL, wanted) or (rule.endswith(ALL) and wanted.startswith(rule[:-1]))


def uncovered(owned: Iterable[PolicyRule], wanted: Iterable[PolicyRule]) -> list[PolicyRule]:
    """The parts of `wanted`, each of one verb on one thing, that no rule of `owned` allows."""
    held = tuple(owned)
    return [part for rule in wanted for part in _parts(rule) if not any(_covers(owner, part) for owner in held)]


def _parts(rule: PolicyRule) -> Iterable[PolicyRule]:
    for verb, path in product(rule.verbs, rule.paths):
        yield PolicyRule((verb,), paths=(path,))
    for verb, group, resource in product(rule.verbs, rule.groups, rule.resources):
        each_name: list[tuple[str, ...]] = [(name,) for name in rule.names]
        for names in each_name or [()]:
            yield PolicyRule((verb,), (group,), (resource,), names)


def _covers(owner: PolicyRule, part: PolicyRule) -> bool:
    if not _contains(owner.verbs, part.verbs[0]):
        return False
    if part.paths:
        return any(_path_matches(path, part.paths[0]) for path in owner.paths)
    return (
        _contains(owner.groups, part.groups[0])
        and any(_resource_matches(resource, part.resources[0]) for resource in owner.resources)
        and (not owner.names or (bool(part.names) and part.names[0] in owner.names))
    )

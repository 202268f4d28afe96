"""The authorizer: roles and bindings as they are stored now, and what they allow whom."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from localcluster.apiserver import kinds, selectors
from localcluster.apiserver.authorization.rules import Attributes, PolicyRule, uncovered
from localcluster.apiserver.context import UserInfo
from localcluster.apiserver.errors import FieldError, ForbiddenError
from localcluster.apiserver.kinds import KindInfo
from localcluster.apiserver.storage import Change, Store

Object = Mapping[str, Any]

# Masters may do everything, in Kubernetes too. The one node of this cluster runs every pod of it: what it may not
# read, its pods' processes would not get.
ALL_POWERFUL = frozenset({"system:masters", "system:nodes"})
_ACCOUNT_PREFIX = "system:serviceaccount:"
_WATCHED = (kinds.ROLE, kinds.CLUSTER_ROLE, kinds.ROLE_BINDING, kinds.CLUSTER_ROLE_BINDING)
_GRANTING = frozenset(kind.storage_key for kind in _WATCHED)
_GRANTS = ("rules", "aggregationRule", "roleRef", "subjects")


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a request is allowed; the reason names the binding, empty if there is none."""

    allowed: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class _Binding:
    """One binding; `namespace` is None for those of the whole cluster. `role` is (namespace or "", name)."""

    namespace: str | None
    name: str
    role: tuple[str, str]
    subjects: tuple[tuple[str, str], ...]

    def subject_of(self, user: UserInfo) -> str | None:
        """The subject that is this user, in words; None if none is."""
        for kind, name in self.subjects:
            if (kind == "Group" and name in user.groups) or (kind != "Group" and name == user.username):
                return f'{kind} "{_shown(kind, name)}"'
        return None

    def describe(self, subject: str) -> str:
        """The reason that reviews give."""
        where, role_namespace = self.namespace, self.role[0]
        binding = f'ClusterRoleBinding "{self.name}"' if where is None else f'RoleBinding "{self.name}/{where}"'
        role = f'{"Role" if role_namespace else "ClusterRole"} "{self.role[1]}"'
        return f"RBAC: allowed by {binding} of {role} to {subject}"


def _shown(kind: str, name: str) -> str:
    if kind != "ServiceAccount":
        return name
    namespace, _, account = name.removeprefix(_ACCOUNT_PREFIX).partition(":")
    return f"{account}/{namespace}"


class Authorizer:
    """Decides from the roles and bindings in `store`; what is written counts from the moment it is durable."""

    def __init__(self, store: Store) -> None:
        """Read roles when they are first needed, and again after they changed."""
        self._store = store
        self._roles: dict[tuple[str, str], tuple[PolicyRule, ...]] | None = None
        self._bindings: dict[str | None, list[_Binding]] = {}

        def forget(change: Change) -> None:
            if change.resource in _GRANTING:
                self._roles = None

        store.on_change(forget)

    def decide(self, asked: Attributes) -> Decision:
        """Whether the request is allowed."""
        powerful = ALL_POWERFUL.intersection(asked.user.groups)
        if powerful:
            return Decision(True, f"the group {min(powerful)} may do everything")
        for binding, subject, rules in self._matching(asked.user, asked.namespace if asked.resource else ""):
            if any(rule.allows(asked) for rule in rules):
                return Decision(True, binding.describe(subject))
        return Decision(False)

    def require(self, asked: Attributes) -> None:
        """ForbiddenError, in Kubernetes' words, unless the request is allowed."""
        if self.decide(asked).allowed:
            return
        user = f'User "{asked.user.username}"'
        if not asked.resource:
            raise ForbiddenError(f'forbidden: {user} cannot {asked.verb} path "{asked.path}"')
        resource = f"{asked.resource}.{asked.group}" if asked.group else asked.resource
        place = f'in the namespace "{asked.namespace}"' if asked.namespace else "at the cluster scope"
        named = f' "{asked.name}"' if asked.name else ""
        raise ForbiddenError(
            f'{resource}{named} is forbidden: {user} cannot {asked.verb} resource "{asked.combined_resource}" '
            f'in API group "{asked.group}" {place}',
            group=asked.group,
            resource=asked.resource,
            name=asked.name,
        )

    def require_any(self, alternatives: Sequence[Attributes]) -> None:
        """ForbiddenError, about the first of them, unless one is allowed; nothing is needed if there is none."""
        if alternatives and not any(self.decide(asked).allowed for asked in alternatives):
            self.require(alternatives[0])

    def rules_of(self, user: UserInfo, namespace: str) -> list[PolicyRule]:
        """Every rule that holds for the user in a namespace ("": at the cluster scope only)."""
        if ALL_POWERFUL.intersection(user.groups):
            return [PolicyRule(("*",), ("*",), ("*",)), PolicyRule(("*",), paths=("*",))]
        return [rule for _, _, rules in self._matching(user, namespace) for rule in rules]

    def refuse_escalation(self, kind: KindInfo, object: Object, old: Object | None, user: UserInfo) -> None:
        """ForbiddenError if a role (or the role of a binding) grants more than its writer has.

        Whoever may `escalate` roles, or `bind` the role, is exempt, and so is a write that leaves the grants as they
        are in `old` (Kubernetes' privilege escalation prevention).
        """
        if ALL_POWERFUL.intersection(user.groups) or kind.storage_key not in _GRANTING:
            return
        if old is not None and all(object.get(name) == old.get(name) for name in _GRANTS):
            return
        about = object["metadata"]
        namespace, name = about.get("namespace", ""), about.get("name", "")
        if kind.kind.endswith("Binding"):
            role_kind, role = _role_of(object, namespace)
            wanted = self._rules(role)
            exempt = Attributes(user, "bind", namespace, kind.group, role_kind.plural, name=role[1])
        else:
            wanted = tuple(PolicyRule.read(rule) for rule in object.get("rules") or ())
            if object.get("aggregationRule"):
                # What it will gather is not known yet, so it takes everything (registry/rbac/clusterrole).
                wanted += (PolicyRule(("*",), ("*",), ("*",)), PolicyRule(("*",), paths=("*",)))
            exempt = Attributes(user, "escalate", namespace, kind.group, kind.plural, name=name)
        if self.decide(exempt).allowed:
            return
        beyond = uncovered(self.rules_of(user, namespace), wanted)
        if beyond:
            listed = "; ".join(str(rule.as_json()) for rule in beyond[:10])
            raise ForbiddenError(
                f'{kind.resource} "{name}" is forbidden: user "{user.username}" (groups={list(user.groups)}) is '
                f"attempting to grant RBAC permissions not currently held: {listed}",
                group=kind.group,
                resource=kind.plural,
                name=name,
                causes=[FieldError("rules", "FieldValueForbidden", f"not held: {listed}")],
            )

    def _matching(self, user: UserInfo, namespace: str) -> Iterator[tuple[_Binding, str, tuple[PolicyRule, ...]]]:
        if self._roles is None:
            self._read()
        for place in (None, namespace) if namespace else (None,):
            for binding in self._bindings.get(place, ()):
                subject = binding.subject_of(user)
                if subject is not None:
                    yield binding, subject, self._rules(binding.role)

    def _rules(self, role: tuple[str, str]) -> tuple[PolicyRule, ...]:
        if self._roles is None:
            self._read()
        return (self._roles or {}).get(role, ())

    def _read(self) -> None:
        objects = {kind: [stored.object() for _, stored in self._store.entries(kind.storage_key)] for kind in _WATCHED}
        cluster_roles = objects[kinds.CLUSTER_ROLE]
        self._bindings = {}
        for binding in objects[kinds.CLUSTER_ROLE_BINDING] + objects[kinds.ROLE_BINDING]:
            found = _binding(binding)
            self._bindings.setdefault(found.namespace, []).append(found)
        self._roles = {
            (role["metadata"].get("namespace", ""), role["metadata"]["name"]): tuple(
                PolicyRule.read(rule) for rule in [*(role.get("rules") or ()), *_aggregated(role, cluster_roles)]
            )
            for role in cluster_roles + objects[kinds.ROLE]
        }


def _aggregated(role: Object, cluster_roles: list[dict[str, Any]]) -> Iterator[Object]:
    """The rules of the cluster roles that an aggregationRule selects."""
    for selector in (role.get("aggregationRule") or {}).get("clusterRoleSelectors") or ():
        selects = selectors.structured(selector)
        for other in cluster_roles:
            if other is not role and selects(other["metadata"].get("labels") or {}):
                yield from other.get("rules") or ()


def _role_of(binding: Object, namespace: str) -> tuple[KindInfo, tuple[str, str]]:
    reference = binding.get("roleRef") or {}
    kind = kinds.ROLE if reference.get("kind") == "Role" else kinds.CLUSTER_ROLE
    return kind, (namespace if kind is kinds.ROLE else "", str(reference.get("name", "")))


def _binding(object: Object) -> _Binding:
    about = object["metadata"]
    namespace = about.get("namespace")
    subjects = []
    for subject in object.get("subjects") or ():
        kind, name = str(subject.get("kind", "")), str(subject.get("name", ""))
        if kind == "ServiceAccount":
            name = f"{_ACCOUNT_PREFIX}{subject.get('namespace') or namespace or ''}:{name}"
        subjects.append((kind, name))
    _, role = _role_of(object, namespace or "")
    return _Binding(namespace, about["name"], role, tuple(subjects))

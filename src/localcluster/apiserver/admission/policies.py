"""ValidatingAdmissionPolicies: rules in CEL that judge every write, bound to where they hold and to their parameters.

Source: Kubernetes' "Validating Admission Policy", and apiserver/pkg/admission/plugin/policy/validating.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from localcluster.apiserver import cel, selectors
from localcluster.apiserver.admission import conditions
from localcluster.apiserver.admission.matching import Attributes, matched_version, rules_version
from localcluster.apiserver.admission.webhooks import namespace_of, review_of
from localcluster.apiserver.context import RequestContext
from localcluster.apiserver.conversion import Conversion
from localcluster.apiserver.errors import ApiError, FieldError, ForbiddenError
from localcluster.apiserver.kinds import (
    VALIDATING_ADMISSION_POLICY,
    VALIDATING_ADMISSION_POLICY_BINDING,
    KindInfo,
    Kinds,
)
from localcluster.apiserver.schemas.policies import VARIABLES
from localcluster.apiserver.storage import Change, Store

Object = dict[str, Any]

_CODES = {"Unauthorized": 401, "Forbidden": 403, "Invalid": 422, "RequestEntityTooLarge": 413}
_LONGEST_MESSAGE = 5 * 1024


@dataclass(frozen=True, slots=True)
class Failure:
    """A validation that does not hold, or an expression that could not be evaluated."""

    message: str
    reason: str = "Invalid"


def failures(policy: Object, variables: Mapping[str, Any]) -> Iterator[Failure]:
    """The validations of a policy's `spec` that do not hold for a write. Pure.

    `variables` are `object`, `oldObject`, `request`, `params` and `namespaceObject`. CelError if an expression fails.
    """
    known, broken = _composed(policy, variables)
    for validation in policy.get("validations") or ():
        expression = str(validation["expression"])
        try:
            holds = _value(expression, known) is True
        except cel.CelError as error:
            used = next((cause for name, cause in broken.items() if f"variables.{name}" in expression), error)
            raise cel.CelError(f"expression '{expression}' resulted in error: {used}") from error
        if not holds:
            yield Failure(_message(validation, known), str(validation.get("reason") or "Invalid"))


def notes(policy: Object, variables: Mapping[str, Any]) -> dict[str, str]:
    """What a policy's `auditAnnotations` say of a write; null ones are left out. Pure. CelError."""
    known, _ = _composed(policy, variables)
    told = {item["key"]: _value(item["valueExpression"], known) for item in policy.get("auditAnnotations") or ()}
    return {str(key): value for key, value in told.items() if isinstance(value, str)}


def _composed(policy: Object, variables: Mapping[str, Any]) -> tuple[Object, dict[str, cel.CelError]]:
    """The variables with the policy's own ones, and those that fail: they matter only to who uses them."""
    composed: Object = {}
    known = {**variables, "variables": composed}
    broken: dict[str, cel.CelError] = {}
    for variable in policy.get("variables") or ():
        try:
            composed[variable["name"]] = _value(variable["expression"], known)
        except cel.CelError as error:
            broken[str(variable["name"])] = error
    return known, broken


def _message(validation: Mapping[str, Any], variables: Mapping[str, Any]) -> str:
    if validation.get("messageExpression"):
        try:
            text = _value(validation["messageExpression"], variables)
        except cel.CelError:
            text = None
        if isinstance(text, str) and text.strip() and "\n" not in text.strip() and len(text) <= _LONGEST_MESSAGE:
            return text.strip()
    return str(validation.get("message") or "").strip() or f"failed expression: {validation['expression']}"


def _value(expression: str, variables: Mapping[str, Any]) -> Any:
    return cel.program(str(expression), VARIABLES).evaluate(variables)


class Policies:
    """The policies and bindings in the store, and their parameters."""

    def __init__(self, store: Store, kinds: Kinds, conversion: Conversion) -> None:
        """Read policies from the store, again after each change."""
        self._store = store
        self._kinds = kinds
        self._conversion = conversion
        self._known: list[tuple[str, Object, Object]] | None = None
        store.on_change(self._follow)

    def _follow(self, change: Change) -> None:
        if change.resource in (
            VALIDATING_ADMISSION_POLICY.storage_key,
            VALIDATING_ADMISSION_POLICY_BINDING.storage_key,
        ):
            self._known = None

    def _bound(self) -> list[tuple[str, Object, Object]]:
        """(binding's name, its spec, its policy's spec) for each binding whose policy exists."""
        if self._known is None:
            stored = self._store.entries(VALIDATING_ADMISSION_POLICY.storage_key)
            policies = {name: entry.object()["spec"] for (_, name), entry in stored}
            bindings = self._store.entries(VALIDATING_ADMISSION_POLICY_BINDING.storage_key)
            found = [(name, entry.object()["spec"]) for (_, name), entry in bindings]
            self._known = [
                (name, spec, policies[spec["policyName"]]) for name, spec in found if spec["policyName"] in policies
            ]
        return self._known

    async def validate(self, write: Attributes, context: RequestContext) -> None:
        """Hold a write to all policies that are bound to it. ApiError if one denies it; warnings go to the context."""
        denials: list[tuple[str, str, Failure]] = []
        audited: list[Object] = []
        for binding, bound, policy in self._bound():
            name = str(bound["policyName"])
            for failure in await self._failures(write, bound, policy, context):
                actions = bound.get("validationActions") or ()
                if "Warn" in actions:
                    context.warnings.append(
                        f"Validation failed for ValidatingAdmissionPolicy '{name}' with binding '{binding}': "
                        f"{failure.message}"
                    )
                if "Audit" in actions:
                    about = {"message": failure.message, "policy": name, "binding": binding}
                    audited.append({**about, "validationActions": actions})
                if "Deny" in actions:
                    denials.append((name, binding, failure))
        if audited:
            told = msgspec.json.encode(audited).decode()
            context.annotations["validation.policy.admission.k8s.io/validation_failure"] = told
        if denials:
            raise _denied(write, *denials[0])

    async def _failures(
        self, write: Attributes, binding: Object, policy: Object, context: RequestContext
    ) -> list[Failure]:
        namespace = namespace_of(self._store, write)
        labels = {} if namespace is None else namespace["metadata"].get("labels") or {}
        version = _version(policy.get("matchConstraints") or {}, write, labels)
        matched = binding.get("matchResources")
        if version is None or (matched and _version(matched, write, labels) is None):
            return []
        request: Object = review_of(write, version, context)["request"]
        known = {
            "object": request["object"],
            "oldObject": request["oldObject"],
            "request": request,
            "namespaceObject": namespace,
        }
        try:
            if not conditions.hold(policy.get("matchConditions") or (), request):
                return []
            found: list[Failure] = []
            for parameters in await self._parameters(binding, policy, write):
                variables = {**known, "params": parameters}
                found += failures(policy, variables)
                for key, value in notes(policy, variables).items():
                    context.annotations[f"{binding['policyName']}/{key}"] = value
        except cel.CelError as error:
            return [] if policy.get("failurePolicy") == "Ignore" else [Failure(str(error))]
        return found

    async def _parameters(self, binding: Object, policy: Object, write: Attributes) -> list[Object | None]:
        """The objects that the policy is evaluated with, one after the other. CelError if there must be one."""
        wanted, reference = policy.get("paramKind"), binding.get("paramRef")
        if not wanted or not reference:
            return [None]
        kind = self._kind(wanted)
        namespace = (reference.get("namespace") or write.namespace) if kind.namespaced else ""
        if kind.namespaced and not namespace:
            raise cel.CelError("params: a namespaced paramKind needs paramRef.namespace for cluster-scoped objects")
        entries = self._store.entries(kind.storage_key, namespace or None)
        found = [entry.object() for (_, name), entry in entries if reference.get("name") in (None, "", name)]
        if reference.get("selector") is not None:
            selected = selectors.structured(reference["selector"])
            found = [object for object in found if selected(object["metadata"].get("labels") or {})]
        if not found and reference.get("parameterNotFoundAction") == "Deny":
            raise cel.CelError("no params found for policy binding with `Deny` parameterNotFoundAction")
        return list(await self._conversion.all_from_stored(kind, found))

    def _kind(self, wanted: Mapping[str, Any]) -> KindInfo:
        kind = self._kinds.by_kind(str(wanted["apiVersion"]), str(wanted["kind"]))
        if kind is None:
            raise cel.CelError(f"params: no kind {wanted['kind']!r} of {wanted['apiVersion']} is served")
        return kind


def _version(match: Mapping[str, Any], write: Attributes, namespace_labels: Mapping[str, str]) -> str | None:
    """In which version a policy or a binding sees this write; None if it does not concern it."""
    excluded = match.get("excludeResourceRules") or ()
    if excluded and rules_version(excluded, write, str(match.get("matchPolicy") or "Equivalent")):
        return None
    # A binding may leave out the rules: then those of its policy are all.
    everything = [{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*", "*/*"]}]
    return matched_version({**match, "rules": match.get("resourceRules") or everything}, write, namespace_labels)


def _denied(write: Attributes, policy: str, binding: str, failure: Failure) -> ApiError:
    kind = write.kind
    told = f"ValidatingAdmissionPolicy '{policy}' with binding '{binding}' denied request: {failure.message}"
    error = ForbiddenError(
        f'{kind.resource} "{write.name}" is forbidden: {told}',
        group=kind.group,
        resource=kind.plural,
        name=write.name,
        causes=[FieldError("", "", told)],  # of an Invalid answer, kubectl prints only these
    )
    error.reason, error.code = failure.reason, _CODES.get(failure.reason, 422)
    return error

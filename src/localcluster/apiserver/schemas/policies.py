"""Rules of ValidatingAdmissionPolicies and their bindings.

Source: kubernetes/pkg/apis/admissionregistration/validation.
"""

from typing import Any

from localcluster.apiserver import cel, errors
from localcluster.apiserver.admission import conditions
from localcluster.apiserver.errors import FieldError
from localcluster.apiserver.schemas import metadata

Object = dict[str, Any]

# What expressions may use; `variables` are those of the policy itself.
VARIABLES = ("object", "oldObject", "request", "params", "namespaceObject", "variables")
_REASONS = ("Forbidden", "Invalid", "RequestEntityTooLarge", "Unauthorized")
_ACTIONS = ("Audit", "Deny", "Warn")
_OPERATIONS = ("*", "CONNECT", "CREATE", "DELETE", "UPDATE")


def validate_policy(value: Object) -> list[FieldError]:
    """The violations in a ValidatingAdmissionPolicy."""
    spec: Object = value.get("spec") or {}
    validations, annotations = spec.get("validations") or [], spec.get("auditAnnotations") or []
    found: list[FieldError] = []
    if not validations and not annotations:
        detail = "validations or auditAnnotations must contain at least one item"
        found.append(errors.required("spec.validations", detail))
    if spec.get("failurePolicy") not in ("Fail", "Ignore"):
        found.append(errors.not_supported("spec.failurePolicy", spec.get("failurePolicy") or "", ("Fail", "Ignore")))
    for name in ("apiVersion", "kind"):
        if spec.get("paramKind") and not spec["paramKind"].get(name):
            found.append(errors.required(f"spec.paramKind.{name}"))
    constraints: Object = spec.get("matchConstraints") or {}
    if not constraints.get("resourceRules"):
        found.append(errors.required("spec.matchConstraints.resourceRules"))
    found += _match(constraints, "spec.matchConstraints")
    found += conditions.violations(spec.get("matchConditions") or (), "spec.matchConditions")
    for index, variable in enumerate(spec.get("variables") or []):
        here = f"spec.variables[{index}]"
        if not str(variable.get("name") or "").isidentifier():
            found.append(errors.invalid(f"{here}.name", variable.get("name") or "", "is not a valid CEL identifier"))
        found += _expression(variable.get("expression"), f"{here}.expression", None)
    for index, validation in enumerate(validations):
        here = f"spec.validations[{index}]"
        found += _expression(validation.get("expression"), f"{here}.expression", "BOOL")
        if validation.get("messageExpression"):
            found += _expression(validation["messageExpression"], f"{here}.messageExpression", "STRING")
        message = validation.get("message") or ""
        if "\n" in message:
            found.append(errors.invalid(f"{here}.message", message, "must not contain line breaks"))
        if validation.get("reason") not in (None, *_REASONS):
            found.append(errors.not_supported(f"{here}.reason", validation["reason"], _REASONS))
    for index, annotation in enumerate(annotations):
        here = f"spec.auditAnnotations[{index}]"
        if not annotation.get("key"):
            found.append(errors.required(f"{here}.key"))
        found += _expression(annotation.get("valueExpression"), f"{here}.valueExpression", "STRING")
    return found


def validate_binding(value: Object) -> list[FieldError]:
    """The violations in a ValidatingAdmissionPolicyBinding."""
    spec: Object = value.get("spec") or {}
    found: list[FieldError] = []
    if not spec.get("policyName"):
        found.append(errors.required("spec.policyName"))
    actions = spec.get("validationActions") or []
    if not actions:
        found.append(errors.required("spec.validationActions"))
    found += [
        errors.not_supported(f"spec.validationActions[{index}]", action, _ACTIONS)
        for index, action in enumerate(actions)
        if action not in _ACTIONS
    ]
    if {"Deny", "Warn"} <= set(actions):
        detail = "must not contain both Deny and Warn (repeating the same validation failure information in the API "
        detail += "response and headers serves no purpose)"
        found.append(errors.invalid("spec.validationActions", actions, detail))
    reference = spec.get("paramRef")
    if reference is not None:
        if bool(reference.get("name")) == bool(reference.get("selector") is not None):
            found.append(errors.required("spec.paramRef.name", "one of name or selector must be specified"))
        if reference.get("parameterNotFoundAction") not in ("Allow", "Deny"):
            chosen = reference.get("parameterNotFoundAction") or ""
            found.append(errors.not_supported("spec.paramRef.parameterNotFoundAction", chosen, ("Allow", "Deny")))
        if reference.get("selector"):
            found += metadata.selector(reference["selector"], "spec.paramRef.selector")
    return found + _match(spec.get("matchResources") or {}, "spec.matchResources")


def _match(match: Object, path: str) -> list[FieldError]:
    found: list[FieldError] = []
    for name in ("namespaceSelector", "objectSelector"):
        if match.get(name):
            found += metadata.selector(match[name], f"{path}.{name}")
    if match.get("matchPolicy") not in (None, "Equivalent", "Exact"):
        found.append(errors.not_supported(f"{path}.matchPolicy", match["matchPolicy"], ("Equivalent", "Exact")))
    for name in ("resourceRules", "excludeResourceRules"):
        for index, rule in enumerate(match.get(name) or []):
            here = f"{path}.{name}[{index}]"
            found += [
                errors.required(f"{here}.{field}")
                for field in ("operations", "apiGroups", "apiVersions", "resources")
                if not rule.get(field)
            ]
            found += [
                errors.not_supported(f"{here}.operations[{at}]", operation, _OPERATIONS)
                for at, operation in enumerate(rule.get("operations") or [])
                if operation not in _OPERATIONS
            ]
    return found


def _expression(expression: Any, path: str, wanted: str | None) -> list[FieldError]:
    if not expression:
        return [errors.required(path)]
    try:
        result = cel.program(str(expression), VARIABLES).result_type
    except cel.CelError as error:
        return [errors.invalid(path, expression, str(error))]
    if wanted is not None and result not in (wanted, "DYN"):
        return [errors.invalid(path, expression, f"must evaluate to {wanted.lower()}")]
    return []

"""Rules of what configures the API itself: webhooks, custom resource definitions, RBAC, leases."""

from typing import Any
from urllib.parse import urlsplit

from localcluster.apiserver import errors
from localcluster.apiserver.errors import FieldError
from localcluster.apiserver.schemas import metadata, names, rules, structural

_OPERATIONS = ("*", "CONNECT", "CREATE", "DELETE", "UPDATE")
_REVIEW_VERSIONS = ("v1", "v1beta1")
_SUBJECT_KINDS = ("ServiceAccount", "User", "Group")
_LONGEST_WEBHOOK_TIMEOUT_SECONDS = 30


def validate_webhooks(value: dict[str, Any]) -> list[FieldError]:
    """The violations in a mutating or validating webhook configuration."""
    found: list[FieldError] = []
    seen: set[str] = set()
    for index, webhook in enumerate(value.get("webhooks") or []):
        here = f"webhooks[{index}]"
        name = webhook.get("name") or ""
        if not name:
            found.append(errors.required(f"{here}.name"))
        elif len(name.split(".")) < 3:
            found.append(
                errors.invalid(
                    f"{here}.name", name, "should be a domain with at least three segments separated by dots"
                )
            )
        elif name in seen:
            found.append(errors.duplicate(f"{here}.name", name))
        seen.add(name)
        found += _webhook(webhook, here)
    return found


def _webhook(webhook: dict[str, Any], path: str) -> list[FieldError]:
    found: list[FieldError] = []
    versions = webhook.get("admissionReviewVersions") or []
    if not versions:
        found.append(
            errors.required(f"{path}.admissionReviewVersions", f"must specify one of {', '.join(_REVIEW_VERSIONS)}")
        )
    elif not set(versions) & set(_REVIEW_VERSIONS):
        detail = f"must include at least one of {', '.join(_REVIEW_VERSIONS)}"
        found.append(errors.invalid(f"{path}.admissionReviewVersions", versions, detail))
    for name, supported, needed in (
        ("sideEffects", ("None", "NoneOnDryRun"), True),
        ("failurePolicy", ("Fail", "Ignore"), False),
        ("matchPolicy", ("Equivalent", "Exact"), False),
        ("reinvocationPolicy", ("IfNeeded", "Never"), False),
    ):
        chosen = webhook.get(name)
        if chosen is None and needed:
            found.append(errors.required(f"{path}.{name}", f"must specify one of {', '.join(supported)}"))
        elif chosen is not None and chosen not in supported:
            found.append(errors.not_supported(f"{path}.{name}", chosen, supported))
    seconds = webhook.get("timeoutSeconds")
    if seconds is not None and not 1 <= seconds <= _LONGEST_WEBHOOK_TIMEOUT_SECONDS:
        detail = "the timeout value must be between 1 and 30 seconds"
        found.append(errors.invalid(f"{path}.timeoutSeconds", seconds, detail))
    for name in ("namespaceSelector", "objectSelector"):
        if webhook.get(name):
            found += metadata.selector(webhook[name], f"{path}.{name}")
    for index, rule in enumerate(webhook.get("rules") or []):
        here = f"{path}.rules[{index}]"
        found += [
            errors.required(f"{here}.{name}")
            for name in ("operations", "apiGroups", "apiVersions", "resources")
            if not rule.get(name)
        ]
        found += [
            errors.not_supported(f"{here}.operations[{at}]", operation, _OPERATIONS)
            for at, operation in enumerate(rule.get("operations") or [])
            if operation not in _OPERATIONS
        ]
    return found + _client(webhook.get("clientConfig") or {}, f"{path}.clientConfig")


def _client(config: dict[str, Any], path: str) -> list[FieldError]:
    url: str = config.get("url") or ""
    service: dict[str, Any] = config.get("service") or {}
    if bool(url) == bool(service):
        return [errors.required(path, "exactly one of url or service is required")]
    if url:
        parts = urlsplit(url)
        if parts.scheme != "https":
            return [errors.invalid(f"{path}.url", url, "'https' is the only allowed URL scheme")]
        return [] if parts.hostname else [errors.invalid(f"{path}.url", url, "host must be specified")]
    found = [errors.required(f"{path}.service.{name}") for name in ("namespace", "name") if not service.get(name)]
    if service.get("path") and not service["path"].startswith("/"):
        found.append(errors.invalid(f"{path}.service.path", service["path"], "must start with a '/'"))
    port = service.get("port", 443)
    return found + [errors.invalid(f"{path}.service.port", port, problem) for problem in names.port_number(port)]


def validate_definition(value: dict[str, Any], old: dict[str, Any] | None) -> list[FieldError]:
    """The violations in a CustomResourceDefinition."""
    spec: dict[str, Any] = value.get("spec") or {}
    group, defined = spec.get("group") or "", spec.get("names") or {}
    found: list[FieldError] = []
    if not group:
        found.append(errors.required("spec.group"))
    elif "." not in group:
        found.append(errors.invalid("spec.group", group, "should be a domain with at least one dot"))
    found += [errors.required(f"spec.names.{name}") for name in ("plural", "kind") if not defined.get(name)]
    name = (value.get("metadata") or {}).get("name") or ""
    expected = f"{defined.get('plural') or ''}.{group}"
    if name != expected:
        detail = 'must be spec.names.plural+"."+spec.group'
        found.append(errors.invalid("metadata.name", name, detail))
    scope = spec.get("scope")
    if not scope:
        found.append(errors.required("spec.scope"))
    elif scope not in ("Cluster", "Namespaced"):
        found.append(errors.not_supported("spec.scope", scope, ("Cluster", "Namespaced")))
    found += _versions(spec.get("versions") or [])
    found += _conversion(spec.get("conversion") or {}, "spec.conversion")
    if old is not None:
        before: dict[str, Any] = old.get("spec") or {}
        for path, mine, theirs in (
            ("spec.group", group, before.get("group")),
            ("spec.scope", scope, before.get("scope")),
            ("spec.names.plural", defined.get("plural"), (before.get("names") or {}).get("plural")),
            ("spec.names.kind", defined.get("kind"), (before.get("names") or {}).get("kind")),
        ):
            if mine != theirs:
                found.append(errors.invalid(path, mine, "field is immutable"))
    return found


def _conversion(conversion: dict[str, Any], path: str) -> list[FieldError]:
    strategy, webhook = conversion.get("strategy") or "", conversion.get("webhook")
    if strategy not in ("None", "Webhook"):
        return [errors.not_supported(f"{path}.strategy", strategy, ("None", "Webhook"))]
    if strategy == "None":
        detail = 'should not be set when strategy is not set to "Webhook"'
        return [errors.forbidden(f"{path}.webhook", detail)] if webhook else []
    if not webhook:
        return [errors.required(f"{path}.webhook", 'required when strategy is set to "Webhook"')]
    found: list[FieldError] = []
    versions = webhook.get("conversionReviewVersions") or []
    if not versions:
        found.append(errors.required(f"{path}.webhook.conversionReviewVersions"))
    elif "v1" not in versions:
        found.append(errors.invalid(f"{path}.webhook.conversionReviewVersions", versions, "must include v1"))
    if not webhook.get("clientConfig"):
        return [*found, errors.required(f"{path}.webhook.clientConfig")]
    return found + _client(webhook["clientConfig"], f"{path}.webhook.clientConfig")


def _versions(versions: list[dict[str, Any]]) -> list[FieldError]:
    found: list[FieldError] = []
    seen: set[str] = set()
    for index, version in enumerate(versions):
        here = f"spec.versions[{index}]"
        name = version.get("name") or ""
        if name in seen:
            found.append(errors.duplicate(f"{here}.name", name))
        seen.add(name)
        found += [errors.invalid(f"{here}.name", name, problem) for problem in names.dns_1035_label(name)]
        if not (version.get("schema") or {}).get("openAPIV3Schema"):
            found.append(errors.required(f"{here}.schema.openAPIV3Schema", "schemas are required"))
        else:
            schema: dict[str, Any] = version["schema"]["openAPIV3Schema"]
            schema_path = f"{here}.schema.openAPIV3Schema"
            found += structural.violations(schema, schema_path)
            if rules.has_rules(schema):
                found += rules.definition_violations(schema, schema_path)
        for at, column in enumerate(version.get("additionalPrinterColumns") or []):
            path = f"{here}.additionalPrinterColumns[{at}]"
            found += [errors.required(f"{path}.{key}") for key in ("name", "type", "jsonPath") if not column.get(key)]
    if sum(bool(version.get("storage")) for version in versions) != 1:
        detail = "must have exactly one version marked as storage version"
        found.append(errors.invalid("spec.versions", [v.get("name") for v in versions], detail))
    return found


def validate_role(value: dict[str, Any]) -> list[FieldError]:
    """The violations in a Role or ClusterRole."""
    found: list[FieldError] = []
    for index, rule in enumerate(value.get("rules") or []):
        here = f"rules[{index}]"
        if not rule.get("verbs"):
            found.append(errors.required(f"{here}.verbs", "verbs must contain at least one value"))
        if rule.get("nonResourceURLs"):
            if rule.get("resources") or rule.get("apiGroups"):
                detail = "rules cannot apply to both regular resources and non-resource URLs"
                found.append(errors.invalid(f"{here}.nonResourceURLs", rule["nonResourceURLs"], detail))
            continue
        for name in ("apiGroups", "resources"):
            if not rule.get(name):
                detail = f"resource rules must supply at least one {'api group' if name == 'apiGroups' else 'resource'}"
                found.append(errors.required(f"{here}.{name}", detail))
    return found


def validate_role_binding(value: dict[str, Any], old: dict[str, Any] | None) -> list[FieldError]:
    """The violations in a RoleBinding or ClusterRoleBinding."""
    reference: dict[str, Any] = value.get("roleRef") or {}
    found: list[FieldError] = []
    if reference.get("kind") not in ("Role", "ClusterRole"):
        found.append(errors.not_supported("roleRef.kind", reference.get("kind") or "", ("ClusterRole", "Role")))
    if not reference.get("name"):
        found.append(errors.required("roleRef.name"))
    for index, subject in enumerate(value.get("subjects") or []):
        here = f"subjects[{index}]"
        if not subject.get("name"):
            found.append(errors.required(f"{here}.name"))
        if subject.get("kind") not in _SUBJECT_KINDS:
            found.append(errors.not_supported(f"{here}.kind", subject.get("kind") or "", _SUBJECT_KINDS))
        if subject.get("kind") == "ServiceAccount" and not subject.get("namespace"):
            found.append(errors.required(f"{here}.namespace"))
    if old is not None and reference != old.get("roleRef"):
        found.append(errors.invalid("roleRef", reference, "cannot change roleRef"))
    return found


def validate_lease(value: dict[str, Any]) -> list[FieldError]:
    """The violations in a Lease."""
    spec: dict[str, Any] = value.get("spec") or {}
    seconds, transitions = spec.get("leaseDurationSeconds"), spec.get("leaseTransitions")
    found: list[FieldError] = []
    if seconds is not None and seconds <= 0:
        found.append(errors.invalid("spec.leaseDurationSeconds", seconds, "must be greater than 0"))
    if transitions is not None and transitions < 0:
        found.append(errors.invalid("spec.leaseTransitions", transitions, "must be greater than or equal to 0"))
    return found

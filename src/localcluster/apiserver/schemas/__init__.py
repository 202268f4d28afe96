"""What every kind looks like and must keep to: decoding, unknown fields, validation, patch strategies."""

from collections.abc import Callable
from typing import Any

from localcluster.apiserver.errors import FieldError
from localcluster.apiserver.kinds import KindInfo
from localcluster.apiserver.schemas import (
    certificates,
    configuration,
    custom,
    extensions,
    metadata,
    patch_keys,
    pods,
    policies,
    required,
    rules,
    services,
    workloads,
)
from localcluster.apiserver.schemas.decoding import TYPE_ERROR, Decoded
from localcluster.apiserver.schemas.decoding import decode as _decode_struct
from localcluster.apiserver.schemas.model import Struct, struct, struct_of_kind

__all__ = ["TYPE_ERROR", "Decoded", "decode", "patch_strategy", "unknown_fields", "validate"]

_Object = dict[str, Any]
_Rule = Callable[[KindInfo, _Object, _Object | None], list[FieldError]]

_OBJECT_META = "meta_v1.ObjectMeta"

_RULES: dict[tuple[str, str], _Rule] = {
    ("", "Pod"): lambda _, value, old: pods.validate(value, old),
    ("", "Service"): lambda _, value, old: services.validate(value, old),
    ("", "Endpoints"): lambda _, value, _old: services.validate_endpoints(value),
    ("", "ConfigMap"): lambda _, value, old: configuration.validate_config_map(value, old),
    ("", "Secret"): lambda _, value, old: configuration.validate_secret(value, old),
    ("discovery.k8s.io", "EndpointSlice"): lambda _, value, old: services.validate_slice(value, old),
    ("apps", "Deployment"): workloads.validate,
    ("apps", "ReplicaSet"): workloads.validate,
    ("apps", "StatefulSet"): workloads.validate,
    ("apps", "DaemonSet"): workloads.validate,
    ("batch", "Job"): lambda _, value, old: workloads.validate_job(value, old),
    ("batch", "CronJob"): lambda _, value, _old: workloads.validate_cron_job(value),
    ("certificates.k8s.io", "CertificateSigningRequest"): (
        lambda _, value, old: [] if old is not None else certificates.validate(value)
    ),
    ("coordination.k8s.io", "Lease"): lambda _, value, _old: extensions.validate_lease(value),
    ("rbac.authorization.k8s.io", "Role"): lambda _, value, _old: extensions.validate_role(value),
    ("rbac.authorization.k8s.io", "ClusterRole"): lambda _, value, _old: extensions.validate_role(value),
    ("rbac.authorization.k8s.io", "RoleBinding"): lambda _, value, old: extensions.validate_role_binding(value, old),
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"): (
        lambda _, value, old: extensions.validate_role_binding(value, old)
    ),
    ("apiextensions.k8s.io", "CustomResourceDefinition"): (
        lambda _, value, old: extensions.validate_definition(value, old)
    ),
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy"): (
        lambda _, value, _old: policies.validate_policy(value)
    ),
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding"): (
        lambda _, value, _old: policies.validate_binding(value)
    ),
    ("admissionregistration.k8s.io", "MutatingWebhookConfiguration"): (
        lambda _, value, _old: extensions.validate_webhooks(value)
    ),
    ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration"): (
        lambda _, value, _old: extensions.validate_webhooks(value)
    ),
}

_STATUS_RULES: dict[tuple[str, str], Callable[[_Object, _Object | None], list[FieldError]]] = {
    ("certificates.k8s.io", "CertificateSigningRequest"): certificates.validate_status,
}


def decode(kind: KindInfo, value: _Object) -> Decoded:
    """`value` as the kind's decoder leaves it: without unknown fields (and, for built-in kinds, nulls).

    `unknown_fields` of the result are what strict field validation refuses. `type_errors` (built-in kinds only; a
    custom kind's types are `validate`'s) are 400s: `<Kind> in version "v1" cannot be handled as a <Kind>: <message>`.
    """
    if kind.is_custom:
        return _decode_custom(kind, value)
    shape = struct_of_kind(kind.group, kind.version, kind.kind)
    return Decoded(value, (), ()) if shape is None else _decode_struct(shape, value)


def unknown_fields(kind: KindInfo, value: _Object) -> list[str]:
    """The paths of fields that the kind does not have, such as `spec.containers[0].imagee`."""
    return list(decode(kind, value).unknown_fields)


def validate(kind: KindInfo, value: _Object, operation: str = "create", old: _Object | None = None) -> list[FieldError]:
    """Every rule that `value` breaks; empty: it may be stored.

    `value` is decoded, without type errors, and has its defaults. `operation` is "create", "update" (with `old`, the
    object as it is stored) or "status" (only what may be wrong in a status: custom kinds' schemas).
    """
    before = old if operation == "update" else None
    found: list[FieldError] = []
    if operation != "status":
        found += metadata.validate(kind, value, before)
    if kind.is_custom:
        schema = custom.schema_of(kind)
        if schema is not None:
            found += custom.validate(schema, value)
            # Rules may rely on the types that the schema declares.
            if not found and rules.has_rules(schema):
                found += rules.validate(schema, value, old)
    elif operation != "status":
        rule = _RULES.get((kind.group, kind.kind))
        found += rule(kind, value, before) if rule is not None else []
        shape = struct_of_kind(kind.group, kind.version, kind.kind)
        found += required.missing(shape, value) if shape is not None else []
    elif (of_status := _STATUS_RULES.get((kind.group, kind.kind))) is not None:
        found += of_status(value, old)
    return _distinct(found)


def patch_strategy(kind: KindInfo, path: tuple[str, ...]) -> patch_keys.Strategy:
    """("merge" or "replace", merge key) of the list at `path`: field names from the root, list elements add nothing.

    Custom kinds have no strategic merge patch (415 in Kubernetes); theirs are all "replace".
    """
    shape = None if kind.is_custom else struct_of_kind(kind.group, kind.version, kind.kind)
    return patch_keys.REPLACE if shape is None else patch_keys.of_path(shape, path)


def _decode_custom(kind: KindInfo, value: _Object) -> Decoded:
    schema = custom.schema_of(kind)
    pruned, unknown = (value, []) if schema is None else custom.prune(schema, value)
    about: Struct | None = struct(_OBJECT_META)
    if about is None or not isinstance(value.get("metadata"), dict):
        return Decoded(pruned, tuple(unknown), ())
    decoded = _decode_struct(about, value["metadata"])
    wrong = tuple(
        FieldError(
            f"metadata.{error.field}", error.reason, error.message.replace("ObjectMeta.", "ObjectMeta.metadata.")
        )
        for error in decoded.type_errors
    )
    unknown += [f"metadata.{name}" for name in decoded.unknown_fields]
    return Decoded({**pruned, "metadata": decoded.object}, tuple(unknown), wrong)


def _distinct(found: list[FieldError]) -> list[FieldError]:
    """One error per field and reason: a kind's own rule words it better than the generic one, and comes first."""
    kept: dict[tuple[str, str, str], FieldError] = {}
    for error in found:
        detail = "" if error.reason == "FieldValueRequired" else error.message
        kept.setdefault((error.field, error.reason, detail), error)
    return list(kept.values())

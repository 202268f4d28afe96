"""What every write is held to before it is stored: its form, its place, its kind's rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from localcluster.apiserver import kinds, lifecycle, schemas
from localcluster.apiserver.admission.matching import configuration_violations
from localcluster.apiserver.context import RequestContext
from localcluster.apiserver.documents import copied
from localcluster.apiserver.errors import (
    AlreadyExistsError,
    BadRequestError,
    ConflictError,
    FieldError,
    ForbiddenError,
    InvalidError,
    MethodNotAllowedError,
    NotFoundError,
)
from localcluster.apiserver.kinds import KindInfo
from localcluster.apiserver.storage import Store

Object = dict[str, Any]

MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"
_WEBHOOK_KINDS = (kinds.MUTATING_WEBHOOK_CONFIGURATION, kinds.VALIDATING_WEBHOOK_CONFIGURATION)


def missing(kind: KindInfo, name: str) -> NotFoundError:
    """The 404 for an object."""
    return NotFoundError(f'{kind.resource} "{name}" not found', group=kind.group, resource=kind.plural, name=name)


def conflict(kind: KindInfo, name: str, detail: str) -> ConflictError:
    """The 409 for a write that came too late, or for another object."""
    message = f'Operation cannot be fulfilled on {kind.resource} "{name}": {detail}'
    return ConflictError(message, group=kind.group, resource=kind.plural, name=name)


def taken(kind: KindInfo, name: str) -> AlreadyExistsError:
    """The 409 for a name that is in use."""
    message = f'{kind.resource} "{name}" already exists'
    return AlreadyExistsError(message, group=kind.group, resource=kind.plural, name=name)


def check_deletable(kind: KindInfo, object: Object, options: Object) -> None:
    """ForbiddenError for the system's namespaces, ConflictError if a precondition of `options` does not hold."""
    name = object["metadata"]["name"]
    if kind.storage_key == kinds.NAMESPACE.storage_key and name in lifecycle.PROTECTED_NAMESPACES:
        raise ForbiddenError(
            f'namespaces "{name}" is forbidden: this namespace may not be deleted', resource=kind.plural, name=name
        )
    for field, found in (options.get("preconditions") or {}).items():
        current = object["metadata"].get(field)
        if found is not None and field in ("uid", "resourceVersion") and found != current:
            label = "UID" if field == "uid" else "ResourceVersion"
            detail = f"Precondition failed: {label} in precondition: {found}, {label} in object meta: {current}"
            raise conflict(kind, name, detail)


def read(kind: KindInfo, object: Object, context: RequestContext) -> Object:
    """The object without fields that its kind lacks; they are errors, warnings or nothing, as the context says."""
    if not isinstance(object, dict):
        raise BadRequestError("the object provided is unrecognized: expected a JSON object")
    api_version, name = object.setdefault("apiVersion", kind.api_version), object.setdefault("kind", kind.kind)
    if (api_version, name) != (kind.api_version, kind.kind):
        raise BadRequestError(
            f"the object provided is a {name} of {api_version}, but this is the place of {kind.kind} of "
            f"{kind.api_version}"
        )
    if not isinstance(object.setdefault("metadata", {}), dict):
        raise BadRequestError(f'{kind.kind} in version "{kind.version}": metadata must be an object')
    decoded = schemas.decode(kind, object)
    if decoded.type_errors:
        raise BadRequestError(
            f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}: '
            f"{decoded.type_errors[0].message}",
            causes=decoded.type_errors,
        )
    if decoded.unknown_fields:
        problems = [f'unknown field "{path}"' for path in decoded.unknown_fields]
        if context.field_validation == "Strict":
            raise BadRequestError(
                f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}: strict decoding '
                f"error: {', '.join(problems)}"
            )
        if context.field_validation == "Warn":
            context.warnings.extend(problem for problem in problems if problem not in context.warnings)
    return copied(decoded.object)


def check_place(store: Store, kind: KindInfo, namespace: str, name: str) -> None:
    """NotFoundError without its namespace, ForbiddenError if that one ends, 405 if its definition does."""
    if kind.is_custom:
        _check_definition(store, kind)
    if not kind.namespaced:
        return
    if not namespace:
        raise BadRequestError("an empty namespace may not be set during creation")
    stored = store.get(kinds.NAMESPACE.storage_key, "", namespace, latest=True)
    if stored is None:
        raise missing(kinds.NAMESPACE, namespace)
    if stored.object()["metadata"].get("deletionTimestamp"):
        detail = f"unable to create new content in namespace {namespace} because it is being terminated"
        raise ForbiddenError(
            f'{kind.resource} "{name}" is forbidden: {detail}',
            group=kind.group,
            resource=kind.plural,
            name=name,
            causes=[
                FieldError("metadata.namespace", "NamespaceTerminating", f"namespace {namespace} is being terminated")
            ],
        )


def _check_definition(store: Store, kind: KindInfo) -> None:
    name = kind.resource
    stored = store.get(kinds.CUSTOM_RESOURCE_DEFINITION.storage_key, "", name)
    if stored is None or stored.object()["metadata"].get("deletionTimestamp"):
        raise MethodNotAllowedError(
            f"create not allowed while custom resource definition is terminating: {name}",
            group=kind.group,
            resource=kind.plural,
        )


def refuse_invalid(kind: KindInfo, object: Object, found: Sequence[FieldError]) -> None:
    """InvalidError if rules were `found` broken, or ask for what this server does not do."""
    if any(kind.storage_key == other.storage_key for other in _WEBHOOK_KINDS):
        found = [*found, *configuration_violations(object)]
    if found:
        raise InvalidError.of(kind.kind, kind.group, object["metadata"].get("name") or "", found)

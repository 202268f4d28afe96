"""The one way in for every write: decode, default, admit, validate, allocate, store."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

from localcluster.apiserver import apply, conversion, defaults, kinds, lifecycle, metadata, patch, schemas
from localcluster.apiserver.admission import service_account
from localcluster.apiserver.admission.matching import Attributes, configuration_violations
from localcluster.apiserver.admission.webhooks import Webhooks
from localcluster.apiserver.allocation import ServiceAllocator
from localcluster.apiserver.context import RequestContext
from localcluster.apiserver.definitions import Definitions
from localcluster.apiserver.errors import (
    AlreadyExistsError,
    BadRequestError,
    ConflictError,
    FieldError,
    ForbiddenError,
    InternalServerError,
    InvalidError,
    MethodNotAllowedError,
    NotFoundError,
    UnsupportedMediaTypeError,
)
from localcluster.apiserver.kinds import KindInfo
from localcluster.apiserver.storage import RevisionMismatchError, Store, Stored

Object = dict[str, Any]
Change = Callable[[Object], Object]

_MOST_ATTEMPTS = 8
_WEBHOOK_KINDS = (kinds.MUTATING_WEBHOOK_CONFIGURATION, kinds.VALIDATING_WEBHOOK_CONFIGURATION)


def missing(kind: KindInfo, name: str) -> NotFoundError:
    """The 404 for an object."""
    return NotFoundError(f'{kind.resource} "{name}" not found', group=kind.group, resource=kind.plural, name=name)


def _conflict(kind: KindInfo, name: str, detail: str) -> ConflictError:
    message = f'Operation cannot be fulfilled on {kind.resource} "{name}": {detail}'
    return ConflictError(message, group=kind.group, resource=kind.plural, name=name)


_MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"


class Writer:
    """Creates, changes and deletes objects. `Resources` is its public face."""

    def __init__(self, store: Store, webhooks: Webhooks, allocator: ServiceAllocator, definitions: Definitions) -> None:
        """Write to `store` what `webhooks` let through."""
        self._store = store
        self._definitions = definitions
        self._webhooks = webhooks
        self._allocator = allocator

    async def create(self, kind: KindInfo, object: Object, context: RequestContext) -> Object:
        """See `Resources.create`."""
        object = self._read(kind, object, context)
        about = object["metadata"]
        namespace = about.get("namespace", "") if kind.namespaced else ""
        if about.get("resourceVersion"):
            raise BadRequestError("resourceVersion should not be set on objects to be created")
        self._check_namespace(kind, namespace, about.get("name") or about.get("generateName") or "")
        generates = not about.get("name") and bool(about.get("generateName"))
        object = defaults.apply(kind, object)
        for _ in range(_MOST_ATTEMPTS):
            candidate = copy.deepcopy(object)
            metadata.prepare_for_create(kind, candidate)
            lifecycle.prepare_for_create(kind, candidate)
            try:
                return await self._insert(kind, namespace, candidate, context)
            except AlreadyExistsError:
                if not generates:
                    raise
        raise AlreadyExistsError(
            f"no free name found for {about['generateName']}", group=kind.group, resource=kind.plural
        )

    async def _insert(self, kind: KindInfo, namespace: str, object: Object, context: RequestContext) -> Object:
        object = await self._mutated(kind, "CREATE", namespace, object, None, "", context)
        name = object["metadata"].get("name") or ""
        self._refuse_invalid(kind, object, schemas.validate(kind, object, "create", None))
        await self._webhooks.validate(Attributes(kind, "CREATE", namespace, name, object, None), context)
        if self._store.get(kind.storage_key, namespace, name, latest=True) is not None:
            raise self._taken(kind, name)
        self._complete_definition(kind, object, None)
        held = self._allocate(kind, object, None)
        if context.dry_run:
            self._allocator.release(held)
            return object
        try:
            stored = await self._store.put(kind.storage_key, namespace, name, conversion.to_stored(kind, object), 0)
        except RevisionMismatchError as error:
            self._allocator.release(held)
            raise self._taken(kind, name) from error
        except BaseException:
            self._allocator.release(held)
            raise
        return conversion.from_stored(kind, stored.object())

    @staticmethod
    def _taken(kind: KindInfo, name: str) -> AlreadyExistsError:
        message = f'{kind.resource} "{name}" already exists'
        return AlreadyExistsError(message, group=kind.group, resource=kind.plural, name=name)

    async def modify(
        self,
        kind: KindInfo,
        namespace: str,
        name: str,
        change: Change,
        subresource: str,
        context: RequestContext,
        *,
        attempts: int = 1,
        trusted: bool = False,
    ) -> Object:
        """Store what `change` makes of the current object; again on a conflict, up to `attempts` times.

        `trusted` changes are the server's own (binding a pod): no admission and no validation.
        """
        for remaining in reversed(range(attempts)):
            stored = self._store.get(kind.storage_key, namespace, name, latest=True)
            if stored is None:
                raise missing(kind, name)
            old = conversion.from_stored(kind, stored.object())
            new = change(copy.deepcopy(old))
            try:
                return await self._replace(kind, stored, old, new, subresource, context, trusted=trusted)
            except RevisionMismatchError as error:
                if error.current == 0:
                    raise missing(kind, name) from error
                if remaining == 0:
                    raise _conflict(kind, name, _MODIFIED) from error
        raise InternalServerError("no attempt was made")

    async def _replace(
        self,
        kind: KindInfo,
        stored: Stored,
        old: Object,
        new: Object,
        subresource: str,
        context: RequestContext,
        *,
        trusted: bool,
    ) -> Object:
        new = self._read(kind, new, context)
        about, before = new["metadata"], old["metadata"]
        namespace, name = before.get("namespace", ""), before["name"]
        if about.get("resourceVersion") and about["resourceVersion"] != before["resourceVersion"]:
            raise _conflict(kind, name, _MODIFIED)
        if about.get("uid") and about["uid"] != before["uid"]:
            detail = f"Precondition failed: UID in precondition: {about['uid']}, UID in object meta: {before['uid']}"
            raise _conflict(kind, name, detail)
        if "managedFields" not in about and before.get("managedFields"):
            about["managedFields"] = before["managedFields"]
        new = defaults.apply(kind, new)
        if not trusted:
            new = lifecycle.prepare_for_update(kind, old, new, subresource)
        metadata.prepare_for_update(kind, old, new)
        if not trusted:
            new = await self._mutated(kind, "UPDATE", namespace, new, old, subresource, context)
            metadata.prepare_for_update(kind, old, new)
            self._refuse_invalid(kind, new, schemas.validate(kind, new, "status" if subresource else "update", old))
            await self._webhooks.validate(Attributes(kind, "UPDATE", namespace, name, new, old, subresource), context)
            if not subresource:
                self._complete_definition(kind, new, old)
        if before.get("managedFields") == about.get("managedFields"):
            apply.track_update(kind, old, new, apply.strategy_of(kind), context)
        return await self._store_update(kind, stored, old, new, context)

    async def _store_update(
        self, kind: KindInfo, stored: Stored, old: Object, new: Object, context: RequestContext
    ) -> Object:
        namespace, name = old["metadata"].get("namespace", ""), old["metadata"]["name"]
        held = self._allocate(kind, new, old)
        if context.dry_run or _same(old, new):
            self._allocator.release(held)
            return new
        form = conversion.to_stored(kind, copy.deepcopy(new))
        try:
            if lifecycle.is_released(kind, new):
                written = await self._store.remove(kind.storage_key, namespace, name, form, stored.revision)
            else:
                written = await self._store.put(kind.storage_key, namespace, name, form, stored.revision)
        except BaseException:
            self._allocator.release(held)
            raise
        return conversion.from_stored(kind, written.object())

    async def patch(
        self,
        kind: KindInfo,
        namespace: str,
        name: str,
        patch_type: str,
        body: Any,
        subresource: str,
        context: RequestContext,
    ) -> Object:
        """See `Resources.patch`."""
        if patch_type == "apply":
            return await self._apply(kind, namespace, name, body, subresource, context)
        if patch_type == "strategic" and kind.is_custom:
            raise UnsupportedMediaTypeError(
                "the body of the request was in an unknown format - accepted media types include: "
                "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml"
            )
        change = patch_function(kind, patch_type, body)
        return await self.modify(kind, namespace, name, change, subresource, context, attempts=_MOST_ATTEMPTS)

    async def _apply(
        self, kind: KindInfo, namespace: str, name: str, body: Any, subresource: str, context: RequestContext
    ) -> Object:
        if not isinstance(body, dict):
            raise BadRequestError("an applied configuration is an object")
        about = body.setdefault("metadata", {})
        if about.get("name", name) != name:
            raise BadRequestError(f"metadata.name ({about['name']}) does not match the name in the URL ({name})")
        about["name"] = name
        if kind.namespaced:
            about.setdefault("namespace", namespace)
        body = self._read(kind, body, context)
        strategy = apply.strategy_of(kind)
        for _ in range(2):
            if subresource or self._store.get(kind.storage_key, namespace, name, latest=True) is not None:
                return await self.modify(
                    kind,
                    namespace,
                    name,
                    lambda live: apply.merge(kind, live, body, strategy, context),
                    subresource,
                    context,
                    attempts=_MOST_ATTEMPTS,
                )
            try:
                return await self.create(kind, apply.merge(kind, None, body, strategy, context), context)
            except AlreadyExistsError:
                continue
        raise _conflict(kind, name, _MODIFIED)

    async def delete(
        self, kind: KindInfo, namespace: str, name: str, options: Object, context: RequestContext
    ) -> tuple[Object, bool]:
        """The object's last or marked form, and whether it is gone. See `Resources.delete`."""
        for _ in range(_MOST_ATTEMPTS):
            stored = self._store.get(kind.storage_key, namespace, name, latest=True)
            if stored is None:
                raise missing(kind, name)
            old = conversion.from_stored(kind, stored.object())
            self._check_deletable(kind, old, options)
            await self._webhooks.validate(Attributes(kind, "DELETE", namespace, name, None, old), context)
            new = copy.deepcopy(old)
            gone = lifecycle.mark_for_deletion(kind, new, options)
            if context.dry_run or (not gone and new == old):
                return new, gone
            form = conversion.to_stored(kind, new)
            try:
                if gone:
                    written = await self._store.remove(kind.storage_key, namespace, name, form, stored.revision)
                else:
                    written = await self._store.put(kind.storage_key, namespace, name, form, stored.revision)
            except RevisionMismatchError:
                continue
            return conversion.from_stored(kind, written.object()), gone
        raise _conflict(kind, name, _MODIFIED)

    @staticmethod
    def _check_deletable(kind: KindInfo, object: Object, options: Object) -> None:
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
                raise _conflict(kind, name, detail)

    def _read(self, kind: KindInfo, object: Object, context: RequestContext) -> Object:
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
        return copy.deepcopy(decoded.object)

    def _check_namespace(self, kind: KindInfo, namespace: str, name: str) -> None:
        if kind.is_custom:
            self._check_definition(kind)
        if not kind.namespaced:
            return
        if not namespace:
            raise BadRequestError("an empty namespace may not be set during creation")
        stored = self._store.get(kinds.NAMESPACE.storage_key, "", namespace, latest=True)
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
                    FieldError(
                        "metadata.namespace", "NamespaceTerminating", f"namespace {namespace} is being terminated"
                    )
                ],
            )

    def _check_definition(self, kind: KindInfo) -> None:
        name = kind.resource
        stored = self._store.get(kinds.CUSTOM_RESOURCE_DEFINITION.storage_key, "", name)
        if stored is None or stored.object()["metadata"].get("deletionTimestamp"):
            raise MethodNotAllowedError(
                f"create not allowed while custom resource definition is terminating: {name}",
                group=kind.group,
                resource=kind.plural,
            )

    async def _mutated(
        self,
        kind: KindInfo,
        operation: str,
        namespace: str,
        object: Object,
        old: Object | None,
        subresource: str,
        context: RequestContext,
    ) -> Object:
        name = object["metadata"].get("name") or ""
        if operation == "CREATE" and kind.storage_key == kinds.POD.storage_key:
            object = await service_account.admit(self._store, object)
        write = Attributes(kind, operation, namespace, name, object, old, subresource)
        changed = await self._webhooks.mutate(write, context)
        if changed is None or changed is object:
            return object
        about = changed.get("metadata")
        if not isinstance(about, dict) or (about.get("name") or "", about.get("namespace", "")) != (name, namespace):
            raise InternalServerError(f"a mutating webhook changed the name or namespace of {kind.resource} {name!r}")
        return defaults.apply(kind, self._read(kind, changed, RequestContext(field_validation="Ignore")))

    @staticmethod
    def _refuse_invalid(kind: KindInfo, object: Object, found: Sequence[FieldError]) -> None:
        if any(kind.storage_key == other.storage_key for other in _WEBHOOK_KINDS):
            found = [*found, *configuration_violations(object)]
        if found:
            raise InvalidError.of(kind.kind, kind.group, object["metadata"].get("name") or "", found)

    def _complete_definition(self, kind: KindInfo, object: Object, old: Object | None) -> None:
        if kind.storage_key == kinds.CUSTOM_RESOURCE_DEFINITION.storage_key:
            self._definitions.complete(object, old)

    def _allocate(self, kind: KindInfo, object: Object, old: Object | None) -> set[str | int]:
        if kind.storage_key != kinds.SERVICE.storage_key:
            return set()
        return self._allocator.allocate(object, old)


def patch_function(kind: KindInfo, patch_type: str, body: Any) -> Change:
    """What a JSON, merge or strategic merge patch does to an object."""
    strategy = apply.strategy_of(kind)

    def change(object: Object) -> Object:
        match patch_type:
            case "json":
                return patch.json_patch(object, body)
            case "merge":
                patched = patch.merge_patch(object, body)
                if not isinstance(body, dict) or not isinstance(patched, dict):
                    raise BadRequestError("a merge patch of an object is an object")
                return patched
            case "strategic":
                return patch.strategic_merge(object, body, strategy)
        raise UnsupportedMediaTypeError(f"unknown patch type {patch_type!r}")

    return change


def _same(old: Object, new: Object) -> bool:
    def stripped(object: Object) -> Object:
        about = {**object["metadata"]}
        about["managedFields"] = [
            {name: value for name, value in entry.items() if name != "time"}
            for entry in about.get("managedFields") or ()
        ]
        return {**object, "metadata": about}

    return stripped(old) == stripped(new)

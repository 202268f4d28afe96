"""The one way in for every write: decode, default, admit, validate, allocate, store."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from localcluster.apiserver import (
    apply,
    certificate_requests,
    checks,
    defaults,
    kinds,
    lifecycle,
    metadata,
    patch,
    schemas,
)
from localcluster.apiserver.admission import service_account
from localcluster.apiserver.admission.matching import Attributes
from localcluster.apiserver.admission.policies import Policies
from localcluster.apiserver.admission.webhooks import Webhooks
from localcluster.apiserver.allocation import ServiceAllocator
from localcluster.apiserver.authorization.rbac import Authorizer
from localcluster.apiserver.context import RequestContext
from localcluster.apiserver.conversion import Conversion
from localcluster.apiserver.definitions import Definitions
from localcluster.apiserver.documents import copied
from localcluster.apiserver.errors import (
    AlreadyExistsError,
    BadRequestError,
    InternalServerError,
    UnsupportedMediaTypeError,
)
from localcluster.apiserver.kinds import KindInfo
from localcluster.apiserver.storage import RevisionMismatchError, Store, Stored

Object = dict[str, Any]
Change = Callable[[Object], Object]

_MOST_ATTEMPTS = 8


class Writer:
    """Creates, changes and deletes objects. `Resources` is its public face."""

    def __init__(
        self,
        store: Store,
        conversion: Conversion,
        webhooks: Webhooks,
        policies: Policies,
        allocator: ServiceAllocator,
        definitions: Definitions,
        authorizer: Authorizer,
    ) -> None:
        """Write to `store` what `policies` and `webhooks` let through, and what grants no more than its writer has."""
        self._authorizer = authorizer
        self._store = store
        self._definitions = definitions
        self._conversion = conversion
        self._webhooks = webhooks
        self._policies = policies
        self._allocator = allocator

    async def create(self, kind: KindInfo, object: Object, context: RequestContext, *, applied: bool = False) -> Object:
        """See `Resources.create`. An `applied` object says itself who manages its fields."""
        object = checks.read(kind, object, context)
        about = object["metadata"]
        namespace = about.get("namespace", "") if kind.namespaced else ""
        if about.get("resourceVersion"):
            raise BadRequestError("resourceVersion should not be set on objects to be created")
        checks.check_place(self._store, kind, namespace, about.get("name") or about.get("generateName") or "")
        if kind.unserved:
            context.warnings.append(f"this local cluster only stores a {kind.kind}: {kind.unserved}")
        generates = not about.get("name") and bool(about.get("generateName"))
        object = defaults.apply(kind, object)
        for _ in range(_MOST_ATTEMPTS):
            candidate = copied(object)
            metadata.prepare_for_create(kind, candidate)
            lifecycle.prepare_for_create(kind, candidate, context.user)
            try:
                return await self._insert(kind, namespace, candidate, context, applied=applied)
            except AlreadyExistsError:
                if not generates:
                    raise
        raise AlreadyExistsError(
            f"no free name found for {about['generateName']}", group=kind.group, resource=kind.plural
        )

    async def _insert(
        self, kind: KindInfo, namespace: str, object: Object, context: RequestContext, *, applied: bool
    ) -> Object:
        object = await self._mutated(kind, "CREATE", namespace, object, None, "", context)
        name = object["metadata"].get("name") or ""
        checks.refuse_invalid(kind, object, schemas.validate(kind, object, "create", None))
        self._authorizer.refuse_escalation(kind, object, None, context.user)
        await self._judge(Attributes(kind, "CREATE", namespace, name, object, None), context)
        if self._store.get(kind.storage_key, namespace, name, latest=True) is not None:
            raise checks.taken(kind, name)
        if not applied:
            apply.track_create(kind, object, context)
        self._complete_definition(kind, object, None)
        held = self._allocate(kind, object, None)
        if context.dry_run:
            self._allocator.release(held)
            return object
        try:
            form = await self._conversion.to_stored(kind, object)
            await self._store.put(kind.storage_key, namespace, name, form, 0)
        except RevisionMismatchError as error:
            self._allocator.release(held)
            raise checks.taken(kind, name) from error
        except BaseException:
            self._allocator.release(held)
            raise
        return await self._conversion.from_stored(kind, form)

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
                raise checks.missing(kind, name)
            old = await self._conversion.from_stored(kind, stored.object())
            new = change(copied(old))
            try:
                return await self._replace(kind, stored, old, new, subresource, context, trusted=trusted)
            except RevisionMismatchError as error:
                if error.current == 0:
                    raise checks.missing(kind, name) from error
                if remaining == 0:
                    raise checks.conflict(kind, name, checks.MODIFIED) from error
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
        new = checks.read(kind, new, context)
        about, before = new["metadata"], old["metadata"]
        namespace, name = before.get("namespace", ""), before["name"]
        if about.get("resourceVersion") and about["resourceVersion"] != before["resourceVersion"]:
            raise checks.conflict(kind, name, checks.MODIFIED)
        if about.get("uid") and about["uid"] != before["uid"]:
            detail = f"Precondition failed: UID in precondition: {about['uid']}, UID in object meta: {before['uid']}"
            raise checks.conflict(kind, name, detail)
        if "managedFields" not in about and before.get("managedFields"):
            about["managedFields"] = before["managedFields"]
        new = defaults.apply(kind, new)
        if not trusted:
            new = lifecycle.prepare_for_update(kind, old, new, subresource)
        metadata.prepare_for_update(kind, old, new)
        if not trusted:
            new = await self._mutated(kind, "UPDATE", namespace, new, old, subresource, context)
            metadata.prepare_for_update(kind, old, new)
            checks.refuse_invalid(kind, new, schemas.validate(kind, new, "status" if subresource else "update", old))
            self._authorizer.refuse_escalation(kind, new, old, context.user)
            if kind.storage_key == kinds.CERTIFICATE_SIGNING_REQUEST.storage_key:
                self._authorizer.require_any(certificate_requests.required_rights(old, new, subresource, context.user))
            await self._judge(Attributes(kind, "UPDATE", namespace, name, new, old, subresource), context)
            if not subresource:
                self._complete_definition(kind, new, old)
        if before.get("managedFields") == about.get("managedFields"):
            apply.track_update(kind, old, new, subresource, context)
        return await self._store_update(kind, stored, old, new, context)

    async def _store_update(
        self, kind: KindInfo, stored: Stored, old: Object, new: Object, context: RequestContext
    ) -> Object:
        namespace, name = old["metadata"].get("namespace", ""), old["metadata"]["name"]
        held = self._allocate(kind, new, old)
        if context.dry_run or _same(old, new):
            self._allocator.release(held)
            return new
        try:
            form = await self._conversion.to_stored(kind, new)
            if lifecycle.is_released(kind, new):
                await self._store.remove(kind.storage_key, namespace, name, form, stored.revision)
            else:
                await self._store.put(kind.storage_key, namespace, name, form, stored.revision)
        except BaseException:
            self._allocator.release(held)
            raise
        return await self._conversion.from_stored(kind, form)

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
        if not isinstance(about, dict):
            raise BadRequestError("metadata must be an object")
        if about.get("name", name) != name:
            raise BadRequestError(f"metadata.name ({about['name']}) does not match the name in the URL ({name})")
        about["name"] = name
        if kind.namespaced:
            about.setdefault("namespace", namespace)
        body = checks.read(kind, body, context)
        for _ in range(2):
            if subresource or self._store.get(kind.storage_key, namespace, name, latest=True) is not None:
                return await self.modify(
                    kind,
                    namespace,
                    name,
                    lambda live: apply.merge(kind, live, body, subresource, context),
                    subresource,
                    context,
                    attempts=_MOST_ATTEMPTS,
                )
            try:
                merged = apply.merge(kind, None, body, subresource, context)
                return await self.create(kind, merged, context, applied=True)
            except AlreadyExistsError:
                continue
        raise checks.conflict(kind, name, checks.MODIFIED)

    async def delete(
        self, kind: KindInfo, namespace: str, name: str, options: Object, context: RequestContext
    ) -> tuple[Object, bool]:
        """The object's last or marked form, and whether it is gone. See `Resources.delete`."""
        for _ in range(_MOST_ATTEMPTS):
            stored = self._store.get(kind.storage_key, namespace, name, latest=True)
            if stored is None:
                raise checks.missing(kind, name)
            old = await self._conversion.from_stored(kind, stored.object())
            checks.check_deletable(kind, old, options)
            await self._judge(Attributes(kind, "DELETE", namespace, name, None, old), context)
            new = copied(old)
            gone = lifecycle.mark_for_deletion(kind, new, options)
            if context.dry_run or (not gone and new == old):
                return new, gone
            form = await self._conversion.to_stored(kind, new)
            try:
                if gone:
                    await self._store.remove(kind.storage_key, namespace, name, form, stored.revision)
                else:
                    await self._store.put(kind.storage_key, namespace, name, form, stored.revision)
            except RevisionMismatchError:
                continue
            return await self._conversion.from_stored(kind, form), gone
        raise checks.conflict(kind, name, checks.MODIFIED)

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
        return defaults.apply(kind, checks.read(kind, changed, RequestContext(field_validation="Ignore")))

    async def _judge(self, write: Attributes, context: RequestContext) -> None:
        await self._policies.validate(write, context)
        await self._webhooks.validate(write, context)

    def _complete_definition(self, kind: KindInfo, object: Object, old: Object | None) -> None:
        if kind.storage_key == kinds.CUSTOM_RESOURCE_DEFINITION.storage_key:
            self._definitions.complete(object, old)

    def _allocate(self, kind: KindInfo, object: Object, old: Object | None) -> set[str | int]:
        if kind.storage_key != kinds.SERVICE.storage_key:
            return set()
        return self._allocator.allocate(object, old)


def patch_function(kind: KindInfo, patch_type: str, body: Any) -> Change:
    """What a JSON, merge or strategic merge patch does to an object."""
    strategy = partial(schemas.patch_strategy, kind)

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

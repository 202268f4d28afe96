"""The API as Python: what HTTP handlers and controllers call; one pipeline for both."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from localcluster.apiserver import checks, scale, selectors
from localcluster.apiserver.admission.calls import Caller
from localcluster.apiserver.admission.policies import Policies
from localcluster.apiserver.admission.webhooks import Webhooks
from localcluster.apiserver.allocation import ServiceAllocator
from localcluster.apiserver.authorization.rbac import Authorizer
from localcluster.apiserver.context import RequestContext
from localcluster.apiserver.conversion import Conversion
from localcluster.apiserver.definitions import Definitions
from localcluster.apiserver.errors import BadRequestError, MethodNotAllowedError
from localcluster.apiserver.kinds import KindInfo, Kinds
from localcluster.apiserver.settings import Settings
from localcluster.apiserver.storage import Store
from localcluster.apiserver.writing import Writer

Object = dict[str, Any]
Objects = list[Object]


class Resources:
    """Reads and writes of objects: plain JSON dictionaries, the caller's own copies.

    `kind` is a row of `kinds` (constants such as `kinds.POD`, or `resources.kinds.by_kind(...)` for custom ones);
    `namespace` is "" for cluster-scoped kinds. Every method raises `errors.ApiError`. Writes return the object as
    stored, once it is durable. `context` says who asks; controllers leave it out.
    """

    def __init__(self, store: Store, known_kinds: Kinds, settings: Settings) -> None:
        """Serve what `store` holds."""
        self.store = store
        self.kinds = known_kinds
        self._caller = Caller(store)
        self.conversion = Conversion(self._caller)
        webhooks = Webhooks(store, self._caller)
        policies = Policies(store, known_kinds, self.conversion)
        self.definitions = Definitions(store, known_kinds)
        self.authorizer = Authorizer(store)
        allocator = ServiceAllocator(store, settings)
        self._writer = Writer(store, self.conversion, webhooks, policies, allocator, self.definitions, self.authorizer)

    async def close(self) -> None:
        """Close the connections to webhooks."""
        await self._caller.close()

    async def get(self, kind: KindInfo, namespace: str, name: str) -> Object:
        """The object. NotFoundError if there is none."""
        stored = self.store.get(kind.storage_key, namespace, name)
        if stored is None:
            raise checks.missing(kind, name)
        return await self.conversion.from_stored(kind, stored.object())

    async def list(
        self,
        kind: KindInfo,
        namespace: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
    ) -> tuple[Objects, str]:
        """The objects (of every namespace if `namespace` is None or ""), and the resource version to watch from."""
        selected = selection(kind, label_selector, field_selector)
        found = [stored.object() for _, stored in self.store.entries(kind.storage_key, namespace or None)]
        revision = self.store.revision
        chosen = [object for object in found if selected is None or selected(object)]
        return await self.conversion.all_from_stored(kind, chosen), str(revision)

    async def create(self, kind: KindInfo, object: Object, context: RequestContext | None = None) -> Object:
        """Create it in `metadata.namespace`.

        AlreadyExistsError; InvalidError; NotFoundError (no such namespace); ForbiddenError (the namespace is being
        deleted, a webhook refuses).
        """
        return await self._writer.create(kind, object, context or RequestContext())

    async def update(
        self, kind: KindInfo, object: Object, subresource: str | None = None, context: RequestContext | None = None
    ) -> Object:
        """Replace the object, or only its `subresource` ("status", "scale", "finalize").

        ConflictError if `metadata.resourceVersion` is set and no longer the current one. Taking away the last
        finalizer of an object under deletion removes it.
        """
        metadata = object.get("metadata")
        if not isinstance(metadata, dict) or not metadata.get("name"):
            raise BadRequestError("metadata.name is missing")
        namespace = metadata.get("namespace", "") if kind.namespaced else ""
        self._check_subresource(kind, subresource)
        if subresource == "scale":
            change = scale.replacement(kind, object)
            changed = await self._writer.modify(
                kind, namespace, metadata["name"], change, "", context or RequestContext()
            )
            return scale.of(kind, changed)
        return await self._writer.modify(
            kind, namespace, metadata["name"], lambda _: object, subresource or "", context or RequestContext()
        )

    async def patch(
        self,
        kind: KindInfo,
        namespace: str,
        name: str,
        patch_type: str,
        body: Any,
        subresource: str | None = None,
        context: RequestContext | None = None,
    ) -> Object:
        """Change parts of it. `patch_type` is "json", "merge", "strategic" or "apply"; `body` is decoded JSON.

        Tried again by itself when another writer comes between, unless the patch names a resourceVersion.
        """
        self._check_subresource(kind, subresource)
        asked = context or RequestContext()
        if subresource == "scale":
            change = scale.patched(kind, patch_type, body)
            changed = await self._writer.modify(kind, namespace, name, change, "", asked, attempts=8)
            return scale.of(kind, changed)
        return await self._writer.patch(kind, namespace, name, patch_type, body, subresource or "", asked)

    async def delete(
        self,
        kind: KindInfo,
        namespace: str,
        name: str,
        options: Object | None = None,
        context: RequestContext | None = None,
    ) -> Object:
        """Delete it, or mark it for deletion if it has finalizers or (pods) a grace period; returns its last form.

        `options` is a metav1.DeleteOptions: gracePeriodSeconds, propagationPolicy, preconditions (uid,
        resourceVersion).
        """
        object, _ = await self.remove(kind, namespace, name, options, context)
        return object

    async def remove(
        self,
        kind: KindInfo,
        namespace: str,
        name: str,
        options: Object | None = None,
        context: RequestContext | None = None,
    ) -> tuple[Object, bool]:
        """As `delete`, and whether the object is gone (rather than marked)."""
        return await self._writer.delete(kind, namespace, name, options or {}, context or RequestContext())

    async def modify(
        self, kind: KindInfo, namespace: str, name: str, change: Callable[[Object], Object], context: RequestContext
    ) -> Object:
        """The server's own change of an object: `change` gets a copy; neither admission nor validation looks at it."""
        return await self._writer.modify(kind, namespace, name, change, "", context, attempts=8, trusted=True)

    async def watch(
        self, kind: KindInfo, namespace: str | None = None, resource_version: str | None = None
    ) -> AsyncIterator[tuple[str, Object]]:
        """Every change after `resource_version`: ("ADDED" | "MODIFIED" | "DELETED", object), for ever.

        Without a version it begins with ADDED for all that exists. GoneError when the version is older than the
        history: list, and watch from there. Slow readers lose nothing: they are served from the history.
        """
        after = parse_version(resource_version) or self.store.revision
        existing = [] if resource_version else self.store.entries(kind.storage_key, namespace or None)
        with self.store.subscribe(kind.storage_key, namespace or None, after) as subscription:
            for _, stored in existing:
                yield "ADDED", await self.conversion.from_stored(kind, stored.object())
            while True:
                for change in await subscription.next():
                    yield change.type, await self.conversion.from_stored(kind, change.object())

    @staticmethod
    def _check_subresource(kind: KindInfo, subresource: str | None) -> None:
        if subresource and subresource not in kind.subresources:
            raise MethodNotAllowedError(f"{kind.resource} has no subresource {subresource!r}")


def selection(
    kind: KindInfo, label_selector: str | None, field_selector: str | None
) -> Callable[[Mapping[str, Any]], bool] | None:
    """Which stored objects both selectors choose; None: all. BadRequestError if one can't be read."""
    by_label, by_field = selectors.labels(label_selector), selectors.fields(kind, field_selector)
    if by_label is None or by_field is None:
        return by_label or by_field
    return lambda object: by_label(object) and by_field(object)


def parse_version(text: str | None) -> int:
    """A resource version as a number; 0 for none and for "0" ("any"). BadRequestError if it isn't one of ours."""
    if not text:
        return 0
    if not text.isdigit():
        raise BadRequestError(f"invalid resource version {text!r}: it must be a number that this server gave")
    return int(text)

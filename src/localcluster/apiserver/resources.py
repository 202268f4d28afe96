"""The API as Python: what HTTP handlers and controllers call; one pipeline for both."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from localcluster.apiserver.context import RequestContext
from localcluster.apiserver.kinds import KindInfo, Kinds

Object = dict[str, Any]


class Resources:
    """Reads and writes of objects: plain JSON dictionaries, the caller's own copies.

    `kind` is a row of `kinds` (constants such as `kinds.POD`, or `resources.kinds.by_kind(...)` for custom ones);
    `namespace` is "" for cluster-scoped kinds. Every method raises `errors.ApiError`. Writes return the object as
    stored, once it is durable. `context` says who asks; controllers leave it out.
    """

    kinds: Kinds

    async def get(self, kind: KindInfo, namespace: str, name: str) -> Object:
        """The object. NotFoundError if there is none."""
        raise NotImplementedError

    async def list(
        self,
        kind: KindInfo,
        namespace: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
    ) -> tuple[list[Object], str]:
        """The objects (of every namespace if `namespace` is None or ""), and the resource version to watch from."""
        raise NotImplementedError

    async def create(self, kind: KindInfo, object: Object, context: RequestContext | None = None) -> Object:
        """Create it in `metadata.namespace`. AlreadyExistsError, InvalidError, ForbiddenError (namespace ends, webhook refuses)."""
        raise NotImplementedError

    async def update(
        self, kind: KindInfo, object: Object, subresource: str | None = None, context: RequestContext | None = None
    ) -> Object:
        """Replace the object, or only its `subresource` ("status", "scale", "finalize").

        ConflictError if `metadata.resourceVersion` is set and no longer the current one. Taking away the last
        finalizer of an object under deletion removes it.
        """
        raise NotImplementedError

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
        raise NotImplementedError

    async def delete(
        self,
        kind: KindInfo,
        namespace: str,
        name: str,
        options: Object | None = None,
        context: RequestContext | None = None,
    ) -> Object:
        """Delete it, or mark it for deletion if it has finalizers or (pods) a grace period; returns its last form.

        `options` is a metav1.DeleteOptions: gracePeriodSeconds, propagationPolicy, preconditions {uid, resourceVersion}.
        """
        raise NotImplementedError

    def watch(
        self, kind: KindInfo, namespace: str | None = None, resource_version: str | None = None
    ) -> AsyncIterator[tuple[str, Object]]:
        """Every change after `resource_version`: ("ADDED" | "MODIFIED" | "DELETED", object), for ever.

        Without a version it begins with ADDED for all that exists. GoneError when the version is older than the
        history: list, and watch from there. Slow readers lose nothing: they are served from the history.
        """
        raise NotImplementedError

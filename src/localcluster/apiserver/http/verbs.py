"""The verbs of every resource: get, list, create, replace, patch, delete and deletecollection."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from localcluster.apiserver import conversion, scale
from localcluster.apiserver.context import RequestContext, UserInfo
from localcluster.apiserver.errors import BadRequestError, GoneError, MethodNotAllowedError, UnsupportedMediaTypeError
from localcluster.apiserver.http import access, audit, negotiation, views, watching
from localcluster.apiserver.http.targets import Target
from localcluster.apiserver.kinds import KindInfo
from localcluster.apiserver.resources import Resources, selection
from localcluster.apiserver.storage import Name, Stored

Object = dict[str, Any]

_DECODED_AT_ONCE = 200
_VALIDATIONS = ("Strict", "Warn", "Ignore")
_POLICIES = ("Orphan", "Background", "Foreground")


def context_of(request: Request, user: UserInfo) -> RequestContext:
    """The options of a write from its query: dryRun, fieldValidation, fieldManager, force."""
    query = request.query_params
    for value in query.getlist("dryRun"):
        if value not in ("All", ""):
            raise BadRequestError(f"dryRun must be All, not {value!r}")
    validation = query.get("fieldValidation") or "Warn"
    if validation not in _VALIDATIONS:
        raise BadRequestError(f"fieldValidation must be one of {', '.join(_VALIDATIONS)}, not {validation!r}")
    trail = audit.of(request.scope)
    agent = request.headers.get("user-agent", "unknown").partition("/")[0]
    return RequestContext(
        user=user,
        dry_run="All" in query.getlist("dryRun"),
        field_validation=validation,
        field_manager=query.get("fieldManager") or agent,
        force=query.get("force") == "true",
        annotations={} if trail is None else trail.annotations,
    )


class Verbs:
    """Answers requests for collections and objects."""

    def __init__(self, resources: Resources) -> None:
        """Answer from `resources`."""
        self._resources = resources

    async def answer(self, request: Request, target: Target, user: UserInfo) -> Response:
        """The response for a collection, an object, or its status, scale or finalize subresource."""
        watches = request.query_params.get("watch") in ("true", "1")
        match request.method, bool(target.name):
            case ("GET", _) if watches and not target.subresource:
                self._require(target, "watch")
                return watching.response(request, target, self._resources)
            case "GET", True:
                self._require(target, "get")
                return await self._get(request, target)
            case "GET", False:
                self._require(target, "list")
                return await self._list(request, target)
            case "POST", False:
                self._require(target, "create")
                return await self._create(request, target, user)
            case "PUT", True:
                self._require(target, "update")
                return await self._replace(request, target, user)
            case "PATCH", True:
                self._require(target, "patch")
                return await self._patch(request, target, user)
            case "DELETE", True if not target.subresource:
                self._require(target, "delete")
                return await self._delete(request, target, user)
            case "DELETE", False:
                self._require(target, "deletecollection")
                return await self._delete_collection(request, target, user)
        raise MethodNotAllowedError("the server does not allow this method on the requested resource")

    @staticmethod
    def _require(target: Target, verb: str) -> None:
        if verb not in target.kind.verbs:
            raise MethodNotAllowedError("the server does not allow this method on the requested resource")

    async def _get(self, request: Request, target: Target) -> Response:
        object = await self._resources.get(target.kind, target.namespace or "", target.name)
        if target.subresource == "scale":
            return negotiation.answer(scale.of(target.kind, object))
        return self._shown(request, target.kind, object)

    @staticmethod
    def _shown(
        request: Request, kind: KindInfo, object: Object, code: int = 200, warnings: list[str] | None = None
    ) -> Response:
        wanted = negotiation.wanted(request, views=("", "Table", "PartialObjectMetadata"))
        shown = views.of_object(kind, object, wanted, request.query_params.get("includeObject", ""))
        return negotiation.answer(shown, code=code, media_type=wanted.media_type, warnings=warnings)

    async def _list(self, request: Request, target: Target) -> Response:
        query, kind = request.query_params, target.kind
        wanted = negotiation.wanted(request, views=("", "Table", "PartialObjectMetadataList"))
        selected = selection(kind, query.get("labelSelector"), query.get("fieldSelector"))
        store = self._resources.store
        revision, start = _continuation(query.get("continue", ""))
        if start is None:
            revision, entries = store.revision, store.entries(kind.storage_key, target.namespace)
        else:
            # Every page shows the moment of the first one, so that the whole is what once was there.
            entries = [entry for entry in await self._as_it_was(target, revision) if entry[0] > start]
        limit = _limit(query)
        if selected is not None:
            entries = [entry for entry in entries if selected(entry[1].object())]
        metadata: Object = {"resourceVersion": str(revision)}
        if limit and len(entries) > limit:
            if selected is None:
                metadata["remainingItemCount"] = len(entries) - limit
            entries = entries[:limit]
            token = msgspec.json.encode({"revision": revision, "start": entries[-1][0]})
            metadata["continue"] = base64.urlsafe_b64encode(token).decode()
        if not wanted.view and wanted.media_type == negotiation.JSON and conversion.is_stored_form(kind):
            # The stored bytes are what the client wants: nothing is decoded.
            head = msgspec.json.encode({"kind": kind.list_kind, "apiVersion": kind.api_version, "metadata": metadata})
            body = head[:-1] + b',"items":[' + b",".join(stored.body for _, stored in entries) + b"]}"
            return Response(body, media_type=negotiation.JSON)
        include = query.get("includeObject", "")
        if wanted.view and conversion.is_stored_form(kind):
            return await self._viewed(kind, entries, metadata, wanted, include)
        objects = await self._resources.conversion.all_from_stored(kind, [stored.object() for _, stored in entries])
        shown = views.of_list(kind, objects, metadata, wanted, include)
        return negotiation.answer(shown, media_type=wanted.media_type)

    @staticmethod
    async def _viewed(
        kind: KindInfo,
        entries: list[tuple[Name, Stored]],
        metadata: Object,
        wanted: negotiation.Wanted,
        include: str,
    ) -> Response:
        """A table, or metadata only, made in parts: decoded at once, thousands take more room than all that is stored.

        Others need not wait for a long list; it shows what was there when it began.
        """
        shown = views.of_list(kind, [], metadata, wanted, include)
        inside = "rows" if "rows" in shown else "items"
        for first in range(0, len(entries), _DECODED_AT_ONCE):
            objects = [stored.object() for _, stored in entries[first : first + _DECODED_AT_ONCE]]
            part = views.of_list(kind, objects, metadata, wanted, include)
            shown[inside] += [msgspec.Raw(negotiation.encode(row)) for row in part[inside]]
            await asyncio.sleep(0)
        return negotiation.answer(shown)

    async def _as_it_was(self, target: Target, revision: int) -> list[tuple[Name, Stored]]:
        try:
            return await self._resources.store.entries_at(target.kind.storage_key, target.namespace, revision)
        except GoneError as error:
            raise GoneError(
                "The provided continue parameter is too old to display a consistent list result. "
                f"Start a new list without the continue parameter ({error.message})"
            ) from error

    async def _create(self, request: Request, target: Target, user: UserInfo) -> Response:
        context = context_of(request, user)
        object = await _object_of(request)
        self._place(object, target)
        created = await self._resources.create(target.kind, object, context)
        return self._shown(request, target.kind, created, 201, context.warnings)

    async def _replace(self, request: Request, target: Target, user: UserInfo) -> Response:
        context = context_of(request, user)
        object = await _object_of(request)
        self._place(object, target)
        updated = await self._resources.update(target.kind, object, target.subresource or None, context)
        if target.subresource == "scale":
            return negotiation.answer(updated, warnings=context.warnings)
        return self._shown(request, target.kind, updated, 200, context.warnings)

    async def _patch(self, request: Request, target: Target, user: UserInfo) -> Response:
        media_type = negotiation.media_type_of(request)
        patch_type = negotiation.PATCH_TYPES.get(media_type)
        if patch_type is None:
            raise UnsupportedMediaTypeError(
                f"the body of the request was in an unknown format ({media_type}) - accepted media types include: "
                f"{', '.join(negotiation.PATCH_TYPES)}"
            )
        context = context_of(request, user)
        body = await negotiation.document_of(request)
        before = self._resources.store.get(target.kind.storage_key, target.namespace or "", target.name)
        if before is None and patch_type == "apply":
            self._resources.authorizer.require(access.of_target("POST", {}, target, user))
        patched = await self._resources.patch(
            target.kind, target.namespace or "", target.name, patch_type, body, target.subresource or None, context
        )
        if target.subresource == "scale":
            return negotiation.answer(patched, warnings=context.warnings)
        code = 201 if before is None and patch_type == "apply" else 200
        return self._shown(request, target.kind, patched, code, context.warnings)

    async def _delete(self, request: Request, target: Target, user: UserInfo) -> Response:
        context, options = context_of(request, user), await _delete_options(request)
        if options.get("dryRun"):
            context = RequestContext(user=user, dry_run=True)
        kind = target.kind
        object, gone = await self._resources.remove(kind, target.namespace or "", target.name, options, context)
        if not gone or kind.storage_key == "pods":
            return self._shown(request, kind, object, 200, context.warnings)
        details: Object = {"name": target.name, "kind": kind.plural, "uid": object["metadata"]["uid"]}
        if kind.group:
            details["group"] = kind.group
        status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}
        return negotiation.answer(status, warnings=context.warnings)

    async def _delete_collection(self, request: Request, target: Target, user: UserInfo) -> Response:
        context, options = context_of(request, user), await _delete_options(request)
        query, kind = request.query_params, target.kind
        found, version = await self._resources.list(
            kind, target.namespace, query.get("labelSelector"), query.get("fieldSelector")
        )
        options.pop("preconditions", None)
        deleted = []
        for object in found:
            metadata = object["metadata"]
            options["preconditions"] = {"uid": metadata["uid"]}
            deleted.append(
                await self._resources.delete(kind, metadata.get("namespace", ""), metadata["name"], options, context)
            )
        shown = views.of_list(kind, deleted, {"resourceVersion": version}, negotiation.Wanted())
        return negotiation.answer(shown, warnings=context.warnings)

    @staticmethod
    def _place(object: Object, target: Target) -> None:
        """Hold the object to the URL's namespace and name; what it leaves out comes from there."""
        metadata = object.setdefault("metadata", {})
        if not isinstance(metadata, dict):
            raise BadRequestError("metadata must be an object")
        if target.kind.namespaced:
            namespace = metadata.get("namespace") or target.namespace or ""
            if target.namespace is not None and namespace != target.namespace:
                raise BadRequestError(
                    f"the namespace of the provided object does not match the namespace sent on the request "
                    f"({namespace!r} and {target.namespace!r})"
                )
            metadata["namespace"] = namespace
        elif metadata.get("namespace"):
            raise BadRequestError("namespace is not allowed on this type")
        if target.name:
            name = metadata.setdefault("name", target.name)
            if name != target.name:
                raise BadRequestError(
                    f"the name of the object ({name}) does not match the name on the URL ({target.name})"
                )


async def _object_of(request: Request) -> Object:
    document = await negotiation.document_of(request)
    if not isinstance(document, dict):
        raise BadRequestError("the body of the request must be one object")
    return document


async def _delete_options(request: Request) -> Object:
    document = await negotiation.document_of(request)
    options: Object = dict(document) if isinstance(document, dict) else {}
    query = request.query_params
    if "propagationPolicy" in query:
        options["propagationPolicy"] = query["propagationPolicy"]
    if "gracePeriodSeconds" in query:
        options["gracePeriodSeconds"] = query["gracePeriodSeconds"]
    if options.get("propagationPolicy") not in (None, *_POLICIES):
        raise BadRequestError(f"propagationPolicy must be one of {', '.join(_POLICIES)}")
    grace = options.get("gracePeriodSeconds")
    if grace is not None:
        try:
            options["gracePeriodSeconds"] = int(grace)
        except (TypeError, ValueError) as error:
            raise BadRequestError(f"gracePeriodSeconds must be a number, not {grace!r}") from error
    return options


def _limit(query: Mapping[str, str]) -> int:
    text = query.get("limit") or "0"
    if not text.isdigit():
        raise BadRequestError(f"limit must be a number, not {text!r}")
    return int(text)


def _continuation(token: str) -> tuple[int, tuple[str, str] | None]:
    """The revision of the first page and the last name on the previous one; None at the beginning."""
    if not token:
        return 0, None
    try:
        content = msgspec.json.decode(base64.urlsafe_b64decode(token))
        return int(content["revision"]), (str(content["start"][0]), str(content["start"][1]))
    except (ValueError, KeyError, IndexError, TypeError, msgspec.DecodeError) as error:
        raise BadRequestError(f"continue key is not valid: {error}") from error

"""Calls mutating and validating webhooks (admission.k8s.io/v1) and applies what they answer."""

from __future__ import annotations

import asyncio
import logging
import uuid
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from localcluster.apiserver import patch
from localcluster.apiserver.admission import conditions
from localcluster.apiserver.admission.calls import Caller, WebhookFailureError
from localcluster.apiserver.admission.matching import Attributes, Webhook, matched_version
from localcluster.apiserver.cel import CelError
from localcluster.apiserver.context import RequestContext
from localcluster.apiserver.errors import ApiError, BadRequestError, ForbiddenError, InternalServerError
from localcluster.apiserver.kinds import (
    MUTATING_WEBHOOK_CONFIGURATION,
    NAMESPACE,
    VALIDATING_WEBHOOK_CONFIGURATION,
    KindInfo,
)
from localcluster.apiserver.storage import Change, Store

Object = dict[str, Any]
_logger = logging.getLogger(__name__)
_OPTIONS = {"CREATE": "CreateOptions", "UPDATE": "UpdateOptions", "DELETE": "DeleteOptions"}


class Webhooks:
    """The webhooks of all configurations."""

    def __init__(self, store: Store, caller: Caller) -> None:
        """Read configurations from the store, again after each change."""
        self._store = store
        self._caller = caller
        self._known: dict[str, list[Webhook]] = {}
        store.on_change(self._follow)

    def _follow(self, change: Change) -> None:
        self._known.pop(change.resource, None)

    def _configured(self, kind: KindInfo) -> list[Webhook]:
        known = self._known.get(kind.storage_key)
        if known is None:
            known = [
                Webhook(name, webhook)
                for (_, name), stored in self._store.entries(kind.storage_key)
                for webhook in stored.object().get("webhooks") or ()
            ]
            self._known[kind.storage_key] = known
        return known

    async def mutate(self, write: Attributes, context: RequestContext) -> Object | None:
        """The object after all mutating webhooks, in the order of configuration names and of their entries.

        Those with `reinvocationPolicy: IfNeeded` are asked a second time if the object changed after their turn.
        ApiError if one denies the write, or fails and may not.
        """
        asked: dict[int, Object | None] = {}
        for is_second_round in (False, True):
            for at, webhook in enumerate(self._configured(MUTATING_WEBHOOK_CONFIGURATION)):
                if is_second_round and (at not in asked or not webhook.reinvoked or asked[at] == write.object):
                    continue
                labels = namespace_labels(self._store, write)
                version = matched_version(webhook.spec, write, labels)
                if version is None:
                    continue
                changed = await self._ask(webhook, write, version, context)
                if changed is not None:
                    write = replace(write, object=changed)
                asked[at] = write.object
        return write.object

    async def validate(self, write: Attributes, context: RequestContext) -> None:
        """Ask all validating webhooks at once. ApiError if one denies the write, or fails and may not."""
        labels = namespace_labels(self._store, write)
        concerned = [
            (webhook, version)
            for webhook in self._configured(VALIDATING_WEBHOOK_CONFIGURATION)
            if (version := matched_version(webhook.spec, write, labels)) is not None
        ]
        if concerned:
            asked = (self._ask(webhook, write, version, context) for webhook, version in concerned)
            for outcome in await asyncio.gather(*asked, return_exceptions=True):
                if isinstance(outcome, BaseException):
                    raise outcome

    async def _ask(self, webhook: Webhook, write: Attributes, version: str, context: RequestContext) -> Object | None:
        """The object as the webhook patched it, None if it left it alone."""
        review = review_of(write, version, context)
        try:
            if not _concerns(webhook, review):
                return None
            if context.dry_run and webhook.has_side_effects:
                raise BadRequestError(
                    f"admission webhook {webhook.name!r} does not support dry run because it has side effects"
                )
            answer = await self._caller.post(webhook.spec.get("clientConfig") or {}, review, webhook.timeout_seconds)
            return _outcome(webhook, write, answer, context)
        except WebhookFailureError as failure:
            if webhook.ignores_failure:
                _logger.warning("failed calling webhook %r, going on without it: %s", webhook.name, failure)
                return None
            raise InternalServerError(
                f'Internal error occurred: failed calling webhook "{webhook.name}": failed to call webhook: {failure}'
            ) from failure


def namespace_of(store: Store, write: Attributes) -> Object | None:
    """The namespace of a write, None for what is in none."""
    stored = store.get(NAMESPACE.storage_key, "", write.namespace) if write.namespace else None
    return None if stored is None else stored.object()


def namespace_labels(store: Store, write: Attributes) -> Mapping[str, str]:
    """The labels of the namespace of a write."""
    namespace = namespace_of(store, write)
    return {} if namespace is None else namespace["metadata"].get("labels") or {}


def _concerns(webhook: Webhook, review: Object) -> bool:
    """Whether the webhook's match conditions hold. WebhookFailureError if they can't be evaluated."""
    wanted = webhook.spec.get("matchConditions")
    if not wanted:
        return True
    try:
        return conditions.hold(wanted, review["request"])
    except CelError as error:
        raise WebhookFailureError(str(error)) from error


def review_of(write: Attributes, version: str, context: RequestContext) -> Object:
    """The AdmissionReview request for a write, with its objects at `version`."""
    kind = write.kind
    seen = kind.at(version)

    def shown(object: Object | None) -> Object | None:
        return object if object is None else {**object, "apiVersion": seen.api_version, "kind": kind.kind}

    request: Object = {
        "uid": str(uuid.uuid4()),
        "kind": {"group": kind.group, "version": version, "kind": kind.kind},
        "resource": {"group": kind.group, "version": version, "resource": kind.plural},
        "requestKind": {"group": kind.group, "version": kind.version, "kind": kind.kind},
        "requestResource": {"group": kind.group, "version": kind.version, "resource": kind.plural},
        "name": write.name,
        "operation": write.operation,
        "userInfo": context.user.as_json(),
        "object": shown(write.object),
        "oldObject": shown(write.old),
        "dryRun": context.dry_run,
        "options": {"apiVersion": "meta.k8s.io/v1", "kind": _OPTIONS[write.operation]},
    }
    if write.namespace:
        request["namespace"] = write.namespace
    if write.subresource:
        request["subResource"] = request["requestSubResource"] = write.subresource
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}


def _outcome(webhook: Webhook, write: Attributes, answer: Object, context: RequestContext) -> Object | None:
    response = answer.get("response")
    if not isinstance(response, dict) or not isinstance(response.get("allowed"), bool):
        raise WebhookFailureError("the answer holds no response with `allowed`")
    warnings, status = response.get("warnings") or [], response.get("status") or {}
    if not isinstance(warnings, list) or not isinstance(status, dict):
        raise WebhookFailureError("the answer's `warnings` are no list, or its `status` is no object")
    context.warnings.extend(str(warning) for warning in warnings)
    if not response["allowed"]:
        raise _denial(webhook, status)
    encoded = response.get("patch")
    if not encoded or write.object is None:
        return None
    import json

    if response.get("patchType") != "JSONPatch":
        raise WebhookFailureError(f"patchType {response.get('patchType')!r} is not JSONPatch")
    try:
        return patch.json_patch(write.object, json.loads(b64decode(encoded, validate=True)))
    except (ValueError, TypeError, ApiError) as error:
        raise WebhookFailureError(f"its patch cannot be applied: {error}") from error


def _denial(webhook: Webhook, status: Object) -> ApiError:
    text = status.get("message") or status.get("reason")
    prefix = f'admission webhook "{webhook.name}" denied the request'
    error = ForbiddenError(f"{prefix}: {text}" if text else f"{prefix} without explanation")
    code = status.get("code")
    error.code = code if isinstance(code, int) and 400 <= code < 600 else ForbiddenError.code
    error.reason = str(status.get("reason") or ForbiddenError.reason)
    return error

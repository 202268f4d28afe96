"""Objects between the version that is stored and the version that was asked for."""

from __future__ import annotations

import uuid
from typing import Any

from localcluster.apiserver.admission.calls import Caller, WebhookFailureError
from localcluster.apiserver.errors import InternalServerError
from localcluster.apiserver.kinds import EVENT, EVENTS_EVENT, KindInfo

Object = dict[str, Any]

_TIMEOUT_SECONDS = 30
# core/v1 Event -> events.k8s.io/v1 Event (kubernetes/pkg/apis/events/v1/conversion.go).
_EVENT_FIELDS = {
    "involvedObject": "regarding",
    "message": "note",
    "reportingComponent": "reportingController",
    "source": "deprecatedSource",
    "firstTimestamp": "deprecatedFirstTimestamp",
    "lastTimestamp": "deprecatedLastTimestamp",
    "count": "deprecatedCount",
}
_CORE_FIELDS = {new: old for old, new in _EVENT_FIELDS.items()}


class Conversion:
    """Converts custom objects with their definitions' webhooks, and all others by rules of its own."""

    def __init__(self, caller: Caller) -> None:
        """Ask webhooks through `caller`."""
        self._caller = caller

    async def to_stored(self, kind: KindInfo, object: Object) -> Object:
        """The object as the store keeps it; custom kinds in their storage version. InternalServerError."""
        if kind.stored_as == EVENTS_EVENT.stored_as and kind.group == EVENTS_EVENT.group:
            return _renamed(object, _CORE_FIELDS, EVENT.api_version)
        if kind.definition is None:
            return object
        return (await self._converted(kind, [object], kind.at(_storage_version(kind.definition)).api_version))[0]

    async def from_stored(self, kind: KindInfo, object: Object) -> Object:
        """A stored object as `kind`, at its version; the given one may be changed. InternalServerError."""
        return (await self.all_from_stored(kind, [object]))[0]

    async def all_from_stored(self, kind: KindInfo, objects: list[Object]) -> list[Object]:
        """The same for many, with at most one call of a webhook."""
        if kind.stored_as == EVENTS_EVENT.stored_as and kind.group == EVENTS_EVENT.group:
            return [_renamed(object, _EVENT_FIELDS, kind.api_version) for object in objects]
        if kind.definition is None:
            return objects
        return await self._converted(kind, objects, kind.api_version)

    async def _converted(self, kind: KindInfo, objects: list[Object], api_version: str) -> list[Object]:
        others = [object for object in objects if object.get("apiVersion") != api_version]
        if not others:
            return objects
        webhook = _webhook(kind)
        if webhook is None:
            return [{**object, "apiVersion": api_version} for object in objects]
        uid = str(uuid.uuid4())
        review: Object = {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "ConversionReview",
            "request": {"uid": uid, "desiredAPIVersion": api_version, "objects": others},
        }
        try:
            answer = await self._caller.post(webhook.get("clientConfig") or {}, review, _TIMEOUT_SECONDS)
            converted = iter(converted_objects(others, answer, uid, api_version))
        except WebhookFailureError as error:
            raise InternalServerError(f"conversion webhook for {_named(kind)} failed: {error}") from error
        return [object if object.get("apiVersion") == api_version else next(converted) for object in objects]


def converted_objects(objects: list[Object], answer: Object, uid: str, api_version: str) -> list[Object]:
    """What a ConversionReview answers for `objects`. Pure. WebhookFailureError if it is not what was asked for.

    Of the metadata only labels and annotations may change (apiextensions-apiserver/pkg/apiserver/conversion).
    """
    response = answer.get("response")
    if not isinstance(response, dict):
        raise WebhookFailureError("the answer holds no response")
    if response.get("uid") != uid:
        raise WebhookFailureError(f"expected response.uid {uid!r}, got {response.get('uid')!r}")
    result = response.get("result")
    if not isinstance(result, dict) or result.get("status") != "Success":
        told = result.get("message") if isinstance(result, dict) else None
        raise WebhookFailureError(str(told) if told else "the answer holds no result with status Success")
    found = response.get("convertedObjects")
    if not isinstance(found, list) or len(found) != len(objects):
        raise WebhookFailureError(f"{len(objects)} objects were sent, and not as many came back")
    return [_checked(old, new, at, api_version) for at, (old, new) in enumerate(zip(objects, found, strict=True))]


def _checked(old: Object, new: Any, at: int, api_version: str) -> Object:
    where = f"response.convertedObjects[{at}]"
    if not isinstance(new, dict) or not isinstance(new.get("metadata"), dict):
        raise WebhookFailureError(f"{where} is no object with metadata")
    if (new.get("apiVersion"), new.get("kind")) != (api_version, old.get("kind")):
        raise WebhookFailureError(f"{where} is a {new.get('kind')} of {new.get('apiVersion')}, not of {api_version}")
    about, before = new["metadata"], old["metadata"]
    for field in ("name", "namespace", "uid"):
        if about.get(field) != before.get(field):
            raise WebhookFailureError(f"{where} has another metadata.{field}")
    kept = {name: about[name] for name in ("labels", "annotations") if about.get(name)}
    unchanged = {name: value for name, value in before.items() if name not in ("labels", "annotations")}
    return {**new, "metadata": {**unchanged, **kept}}


def is_stored_form(kind: KindInfo) -> bool:
    """Whether every stored object already is of this kind and version, so that its bytes can be sent as they are."""
    if kind.definition is not None:
        stored = (kind.definition.get("status") or {}).get("storedVersions")
        return stored == [kind.version] and kind.version == _storage_version(kind.definition)
    return kind.stored_as == (kind.group, kind.plural)


def _storage_version(definition: Object) -> str:
    return next(str(version["name"]) for version in definition["spec"]["versions"] if version.get("storage"))


def _webhook(kind: KindInfo) -> Object | None:
    conversion = ((kind.definition or {}).get("spec") or {}).get("conversion") or {}
    return (conversion.get("webhook") or {}) if conversion.get("strategy") == "Webhook" else None


def _named(kind: KindInfo) -> str:
    return f"{kind.group}, Kind={kind.kind}"


def _renamed(object: Object, names: dict[str, str], api_version: str) -> Object:
    return {names.get(name, name): value for name, value in object.items()} | {"apiVersion": api_version}

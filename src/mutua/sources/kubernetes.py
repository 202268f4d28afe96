"""Objects from the Kubernetes API: every kind of a table is listed and followed."""

import asyncio
from collections.abc import Callable, Iterable

import msgspec

from mutua.api import decode
from mutua.api.findings import Finding
from mutua.api.kinds import AnyObject, Key, Kind
from mutua.api.meta import ObjectMeta
from mutua.mesh import unreadable
from mutua.sources.merge import Merge
from mutua.system.kube import KubeClient
from mutua.system.kube_errors import KubeError, KubeNotFoundError
from mutua.system.kube_resources import EventType, Resource, WatchEvent

RETRY_SECONDS = 5.0

Report = Callable[[str], None]
Observe = Callable[[Kind, WatchEvent], None]
"""Told of every event as the API sent it."""


async def follow(
    kube: KubeClient, kinds: Iterable[Kind], merge: Merge, report: Report, observe: Observe = lambda *_: None
) -> None:
    """Feeds `merge` with all objects of these kinds until cancelled.

    Lost connections heal by themselves. `report` gets one line when a kind cannot be followed, and is tried again.
    A kind that is not installed counts as having no objects.
    """
    async with asyncio.TaskGroup() as group:
        for kind in kinds:
            group.create_task(_follow(kube, kind, merge, report, observe), name=f"follow {kind.plural}")


def resource(kind: Kind) -> Resource:
    """The collection in which the API keeps a kind."""
    return Resource(kind.group, kind.storage_version, kind.plural)


async def _follow(kube: KubeClient, kind: Kind, merge: Merge, report: Report, observe: Observe) -> None:
    said = ""
    while True:
        try:
            async for event in kube.watch(resource(kind)):
                said = ""
                observe(kind, event)
                if event.type is EventType.LISTED:
                    _replace(kind, event.objects, merge)
                    continue
                for raw in event.objects:
                    key = _key(kind, raw)
                    if event.type is EventType.DELETED:
                        merge.remove(kind, key)
                    else:
                        value, findings = read(kind, raw)
                        merge.put(kind, key, value, findings)
        except KubeNotFoundError:
            merge.replace(kind, {}, {})
            trouble = f"kind {kind.name} is not installed in the cluster; treated as empty"
        except KubeError as error:
            trouble = str(error)
        if trouble != said:
            report(trouble)
            said = trouble
        await asyncio.sleep(RETRY_SECONDS)


def read(kind: Kind, raw: msgspec.Raw) -> tuple[AnyObject | None, tuple[Finding, ...]]:
    """One object from the API's bytes, and what is wrong with it; None if it cannot be read and nothing stands in."""
    decoded = decode.from_json(kind, bytes(raw))
    if not decoded.findings:
        return decoded.value, ()
    head = _head_and_spec.decode(raw)
    return unreadable.stand_in(kind, head.metadata, decoded.value, decoded.findings, head.spec)


def _replace(kind: Kind, listed: Iterable[msgspec.Raw], merge: Merge) -> None:
    objects: dict[Key, AnyObject] = {}
    problems: dict[Key, tuple[Finding, ...]] = {}
    for raw in listed:
        value, findings = read(kind, raw)
        key = kind.key(value.metadata) if value is not None else _key(kind, raw)
        if value is not None:
            objects[key] = value
        if findings:
            problems[key] = findings
    merge.replace(kind, objects, problems)


class _Head(msgspec.Struct):
    metadata: ObjectMeta


class _HeadAndSpec(_Head):
    spec: object = None


_head = msgspec.json.Decoder(_Head)
_head_and_spec = msgspec.json.Decoder(_HeadAndSpec)


def _key(kind: Kind, raw: msgspec.Raw) -> Key:
    """Where the object belongs, whatever else it holds; the API server itself guarantees its metadata."""
    return kind.key(_head.decode(raw).metadata)

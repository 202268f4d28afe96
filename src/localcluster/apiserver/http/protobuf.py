"""Bodies in Kubernetes' protobuf encoding, which typed Go clients send: decoded to the JSON form.

`kubernetes.binpb.gz` is a FileDescriptorSet with the field numbers of the built-in kinds at Kubernetes 1.33, made by
`tools/kubernetes_descriptors.py` from a kubectl binary (Apache-2.0; see NOTICE). The
encoding wraps the message in `runtime.Unknown` behind a magic prefix (apimachinery/pkg/runtime/serializer/protobuf).
"""

from __future__ import annotations

import base64
import gzip
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from google.protobuf.descriptor import FieldDescriptor
    from google.protobuf.descriptor_pool import DescriptorPool
    from google.protobuf.message import Message

MEDIA_TYPE = "application/vnd.kubernetes.protobuf"
_MAGIC = b"k8s\x00"
_META = "k8s.io.apimachinery.pkg.apis.meta.v1"
_MOMENTS = (f"{_META}.Time", f"{_META}.MicroTime")
_JSON_BYTES = (f"{_META}.FieldsV1", "k8s.io.apimachinery.pkg.runtime.RawExtension")
# Go structs that JSON inlines into the one around them.
_INLINE = frozenset(
    {
        "ephemeralContainerCommon",
        "handler",
        "ingressRuleValue",
        "localObjectReference",
        "persistentVolumeSource",
        "rule",
        "ruleWithOperations",
        "volumeSource",
    }
)
# gogoproto.nullable = false (extension 65001) on a field: a plain value in Go, which is always sent, also when unset.
_NOT_NULLABLE = b"\xc8\xde\x1f\x00"


def decode(raw: bytes) -> dict[str, Any]:
    """The object in `raw` as JSON would give it. ValueError if it can't be read or is of a kind without descriptor."""
    from google.protobuf.message import DecodeError
    from google.protobuf.message_factory import GetMessageClass

    if not raw.startswith(_MAGIC):
        raise ValueError("it does not begin with Kubernetes' protobuf prefix")
    pool = _pool()
    try:
        unknown: Any = GetMessageClass(pool.FindMessageTypeByName("k8s.io.apimachinery.pkg.runtime.Unknown"))()
        unknown.ParseFromString(raw[len(_MAGIC) :])
        api_version, kind = unknown.typeMeta.apiVersion, unknown.typeMeta.kind
        message = GetMessageClass(pool.FindMessageTypeByName(_message_name(api_version, kind)))()
        message.ParseFromString(unknown.raw)
    except DecodeError as error:
        raise ValueError(f"the message is damaged: {error}") from error
    except KeyError as error:
        raise ValueError(f"{kind or 'an object without kind'} of {api_version} is only understood as JSON") from error
    return {"apiVersion": api_version, "kind": kind, **_object(message)}


@cache
def _pool() -> DescriptorPool:
    from google.protobuf.descriptor_pb2 import FileDescriptorSet
    from google.protobuf.descriptor_pool import DescriptorPool

    pool = DescriptorPool()
    packed = (Path(__file__).parent / "kubernetes.binpb.gz").read_bytes()
    for file in FileDescriptorSet.FromString(gzip.decompress(packed)).file:
        pool.Add(file)
    return pool


def _message_name(api_version: str, kind: str) -> str:
    if kind == "DeleteOptions":
        return f"{_META}.{kind}"
    group, _, version = api_version.rpartition("/")
    return f"k8s.io.api.{group.partition('.')[0] or 'core'}.{version}.{kind}"


def _object(message: Message) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for field, value in message.ListFields():
        shown = _field(field, value)
        if shown is None:
            continue
        if field.name in _INLINE and isinstance(shown, dict):
            result |= shown
        else:
            result[field.name] = shown
    return result


def _field(field: FieldDescriptor, value: Any) -> Any:
    """The value as JSON, None if it is one that Go leaves out of JSON."""
    if field.is_repeated:
        entry = field.message_type
        if entry is not None and entry.GetOptions().map_entry:
            inner = entry.fields_by_name["value"]
            return {key: _value(inner, value[key]) for key in value}
        return [_value(field, item) for item in value]
    shown = _value(field, value)
    is_plain = field.GetOptions().SerializeToString() == _NOT_NULLABLE
    # For a pointer (replicas: 0, emptyDir: {}) the empty value is a value; for the rest it is none.
    return None if is_plain and not shown else shown


def _value(field: FieldDescriptor, value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if field.message_type is None:
        return value
    name = field.message_type.full_name
    if name in _MOMENTS:
        return _moment(value, fraction=name.endswith("MicroTime"))
    if name in _JSON_BYTES:
        return msgspec.json.decode(value.Raw if hasattr(value, "Raw") else value.raw)
    if name.endswith(".resource.Quantity"):
        return value.string
    if name.endswith(".intstr.IntOrString"):
        return value.strVal if value.type == 1 else value.intVal
    if name.endswith(".ExtraValue"):
        return list(value.items)
    return _object(value)


def _moment(value: Any, *, fraction: bool) -> str | None:
    if not value.seconds and not value.nanos:
        return None
    moment = datetime.fromtimestamp(value.seconds, UTC)
    text = moment.strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{value.nanos // 1000:06d}Z" if fraction else f"{text}Z"

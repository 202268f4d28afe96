"""Envoy's admin answers as canonical protobuf JSON, the form that istioctl prints and scripts rely on."""

import importlib
import pkgutil
import re
from collections.abc import Mapping
from typing import Any

from google.protobuf import any_pb2, json_format
from google.protobuf.descriptor_pool import Default
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from mutua.errors import UnsupportedError
from mutua.reports import envoy_dump

_PACKED_TYPE = re.compile(rb"type\.googleapis\.com/([\w.]+)")
_MODULES = {
    "envoy.admin.v3": ("config_dump_pb2", "config_dump_shared_pb2", "clusters_pb2"),
    "envoy.config.cluster.v3": ("cluster_pb2",),
    "envoy.config.listener.v3": ("listener_pb2",),
    "envoy.config.route.v3": ("route_pb2",),
    "envoy.config.endpoint.v3": ("endpoint_pb2",),
    "envoy.config.core.v3": ("extension_pb2",),
}


def canonical(document: Mapping[str, Any], message_type: str, *, names_as_envoy_prints: bool = False) -> dict[str, Any]:
    """One message, given with either kind of field names, with JSON's own or Envoy's. Raises UnsupportedError.

    `message_type` is as "envoy.config.cluster.v3.Cluster". Every type that is packed in the document is loaded first.
    """
    for found in {message_type, *envoy_dump.types(document)}:
        _load(found)
    plain = {key: value for key, value in document.items() if key != "@type"}
    try:
        message: Message = GetMessageClass(Default().FindMessageTypeByName(message_type))()
        json_format.ParseDict(plain, message, ignore_unknown_fields=True)
        converted: dict[str, Any] = json_format.MessageToDict(
            message, preserving_proto_field_name=names_as_envoy_prints
        )
    except (json_format.Error, KeyError, TypeError) as error:
        raise UnsupportedError(
            f"the Envoy's {message_type} cannot be read: {error}",
            "is its version newer than this program's? the table (-o short) still works",
        ) from error
    return converted


def unpacked(body: bytes) -> dict[str, Any]:
    """A serialised google.protobuf.Any as canonical JSON of what is in it. Raises UnsupportedError."""
    packed = any_pb2.Any.FromString(body)
    for found in set(_PACKED_TYPE.findall(body)):
        _load(found.decode())
    try:
        message: Message = GetMessageClass(Default().FindMessageTypeByName(packed.TypeName()))()
        message.ParseFromString(packed.value)
        converted: dict[str, Any] = json_format.MessageToDict(message)
    except (json_format.Error, DecodeError, KeyError, TypeError) as error:
        raise UnsupportedError(f"the control plane's {packed.TypeName()} cannot be read: {error}") from error
    return converted


def _load(message_type: str) -> None:
    """Import what declares a message: all of its package, but for the few large ones that we know our way about in."""
    package = message_type.rpartition(".")[0]
    for name in _MODULES.get(package, ()):
        importlib.import_module(f"{package}.{name}")
    if package not in _MODULES:
        _load_package(package)


def _load_package(package: str) -> None:
    """Imports every message of a protobuf package; what we do not have is told apart when it is parsed."""
    try:
        module = importlib.import_module(package)
    except ImportError:
        return
    for found in pkgutil.iter_modules(module.__path__):
        if found.name.endswith("_pb2"):
            importlib.import_module(f"{package}.{found.name}")

"""Protobuf messages inside messages, packed so that equal values give equal bytes."""

from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf import any_pb2, duration_pb2, struct_pb2
from xds.type.v3 import typed_struct_pb2

MILLISECONDS = 1000
NANOSECONDS_PER_MILLISECOND = 1_000_000


def packed(message: Any) -> any_pb2.Any:
    """`message` as google.protobuf.Any; maps inside are serialised in the order of their keys."""
    wrapped = any_pb2.Any()
    wrapped.Pack(message, deterministic=True)
    return wrapped


def duration(seconds: float) -> duration_pb2.Duration:
    """`seconds`, exact to the millisecond."""
    whole, rest = divmod(round(seconds * MILLISECONDS), MILLISECONDS)
    return duration_pb2.Duration(seconds=whole, nanos=rest * NANOSECONDS_PER_MILLISECOND)


def struct(values: Mapping[str, str | Sequence[Mapping[str, str]]]) -> struct_pb2.Struct:
    """`values` as google.protobuf.Struct, as Envoy's metadata wants it."""
    made = struct_pb2.Struct()
    made.update(values)
    return made


def typed_struct(type_name: str, value: Mapping[str, Any]) -> any_pb2.Any:
    """A message that Envoy knows and our protobuf package does not, or not all of its fields: by names, as JSON has it.

    Source: xds.type.v3.TypedStruct, which Envoy takes wherever it takes an extension's configuration.
    """
    made = typed_struct_pb2.TypedStruct(type_url=f"type.googleapis.com/{type_name}")
    made.value.update(value)
    return packed(made)

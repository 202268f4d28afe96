"""Makes `kubernetes.binpb.gz` of `localcluster.apiserver.http.protobuf` from the descriptors inside a kubectl binary.

Kubernetes' generated Go code carries each .proto file's FileDescriptorProto, compressed with gzip, as plain bytes. This
looks for them, keeps the served groups and what those import, and writes what decoding needs: messages, fields, and the
one option that tells a plain value from a pointer.

    .venv/bin/python tools/kubernetes_descriptors.py /usr/local/bin/kubectl
"""

import argparse
import contextlib
import gzip
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto, FileDescriptorSet
from google.protobuf.message import DecodeError

TARGET = Path(__file__).parent.parent / "src/localcluster/apiserver/http/kubernetes.binpb.gz"
GROUPS = (
    "admissionregistration/v1",
    "apps/v1",
    "authentication/v1",
    "authorization/v1",
    "autoscaling/v1",
    "autoscaling/v2",
    "batch/v1",
    "certificates/v1",
    "coordination/v1",
    "core/v1",
    "discovery/v1",
    "events/v1",
    "networking/v1",
    "policy/v1",
    "rbac/v1",
    "storage/v1",
)
# gzip with deflate, no flags, no time: what Go's generator writes.
_GZIP_MAGIC = b"\x1f\x8b\x08\x00\x00\x00\x00\x00"
# gogoproto.nullable = false, the only extension that decoding asks for.
_NOT_NULLABLE = b"\xc8\xde\x1f\x00"


def descriptors(binary: bytes) -> Iterator[FileDescriptorProto]:
    """Every FileDescriptorProto in an executable's bytes."""
    start = binary.find(_GZIP_MAGIC)
    while start >= 0:
        # Other compressed data, or the same bytes by chance, are none.
        with contextlib.suppress(zlib.error, DecodeError):
            yield FileDescriptorProto.FromString(zlib.decompressobj(wbits=31).decompress(binary[start:]))
        start = binary.find(_GZIP_MAGIC, start + 1)


def with_imports(known: dict[str, FileDescriptorProto], names: list[str]) -> list[FileDescriptorProto]:
    """The files called `names` and what they import, imports first. KeyError if one is missing."""
    ordered: dict[str, FileDescriptorProto] = {}

    def add(name: str) -> None:
        if name in ordered or not name.startswith("k8s.io/"):
            return
        for dependency in sorted(known[name].dependency):
            add(dependency)
        ordered[name] = known[name]

    for name in names:
        add(name)
    return list(ordered.values())


def reduced(file: FileDescriptorProto) -> FileDescriptorProto:
    """The file without what only code generators read, and without imports that are no Kubernetes files."""
    bare = FileDescriptorProto(name=file.name, package=file.package)
    bare.dependency.extend(sorted(name for name in file.dependency if name.startswith("k8s.io/")))
    for message in file.message_type:
        kept = bare.message_type.add()
        kept.CopyFrom(message)
        _reduce(kept)
    return bare


def _reduce(message: DescriptorProto) -> None:
    is_map_entry = message.options.map_entry
    message.ClearField("options")
    if is_map_entry:
        message.options.map_entry = True
    for field in message.field:
        plain = _NOT_NULLABLE in field.options.SerializeToString()
        field.ClearField("options")
        if plain:
            field.options.MergeFromString(_NOT_NULLABLE)
    for nested in message.nested_type:
        _reduce(nested)


def main() -> int:
    """Write the file; 1 with what is missing if the binary does not hold it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("kubectl", type=Path, help="a kubectl executable")
    parser.add_argument("--output", type=Path, default=TARGET)
    arguments = parser.parse_args()
    known = {file.name: file for file in descriptors(arguments.kubectl.read_bytes())}
    try:
        files = with_imports(known, [f"k8s.io/api/{group}/generated.proto" for group in GROUPS])
    except KeyError as missing:
        print(f"error: {arguments.kubectl} holds no descriptor of {missing}", file=sys.stderr)
        return 1
    content = FileDescriptorSet(file=[reduced(file) for file in files]).SerializeToString(deterministic=True)
    arguments.output.write_bytes(gzip.compress(content, mtime=0))
    print(f"{len(files)} files, {arguments.output.stat().st_size} bytes", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())

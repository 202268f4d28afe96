"""Definitions of our kinds for the API server: structural OpenAPI v3 schemas made from the structs."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from mutua.api.kinds import Kind

Schema = dict[str, Any]

_REFERENCE_PREFIX: Final = "#/$defs/"

# What msgspec writes and a structural schema must not hold: names, values filled in by the server, and the refusal of
# unknown fields, which the server prunes instead.
_DROPPED: Final = frozenset({"title", "default", "$defs"})


def schema(kind: Kind) -> Schema:
    """The schema of one of our kinds, complete and without references; `metadata` and the head are the server's."""
    generated = msgspec.json.schema(kind.struct)
    definitions: Mapping[str, Any] = generated["$defs"]
    properties = definitions[kind.struct.__name__]["properties"]
    spec = _inline(properties["spec"], definitions)
    spec["description"] = kind.description
    status = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {"type": "object", "properties": {"spec": spec, "status": status}}


def custom_resource_definition(kind: Kind) -> dict[str, Any]:
    """The whole CustomResourceDefinition. Every version is served with one schema; the first is stored."""
    columns = [
        {"name": column.name, "type": column.type, "jsonPath": column.path, "description": column.description}
        | ({"priority": column.priority} if column.priority else {})
        for column in kind.columns
    ]
    names: dict[str, Any] = {
        "kind": kind.name,
        "listKind": kind.list_kind,
        "plural": kind.plural,
        "singular": kind.singular,
        "categories": list(kind.categories),
    }
    if kind.short_names:
        names["shortNames"] = list(kind.short_names)
    versions = [
        {
            "name": version,
            "served": True,
            "storage": version == kind.storage_version,
            "schema": {"openAPIV3Schema": schema(kind)},
            "subresources": {"status": {}},
        }
        | ({"additionalPrinterColumns": columns} if columns else {})
        for version in kind.versions
    ]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{kind.group}"},
        "spec": {
            "group": kind.group,
            "names": names,
            "scope": "Namespaced" if kind.namespaced else "Cluster",
            "versions": versions,
        },
    }


def _inline(node: Mapping[str, Any], definitions: Mapping[str, Any]) -> Schema:
    """A node with its references replaced by what they refer to, in structural form."""
    if "$ref" in node:
        referred = definitions[node["$ref"].removeprefix(_REFERENCE_PREFIX)]
        return _inline({**referred, **{key: value for key, value in node.items() if key != "$ref"}}, definitions)
    if "anyOf" in node:
        return _optional(node, definitions)
    result: Schema = {key: value for key, value in node.items() if key not in _DROPPED}
    if "enum" in result:
        result["type"] = "string"
    if result.get("additionalProperties") is False:
        del result["additionalProperties"]
    if isinstance(additional := result.get("additionalProperties"), Mapping):
        result["additionalProperties"] = _inline(additional, definitions)
    if "properties" in result:
        result["properties"] = {name: _inline(part, definitions) for name, part in result["properties"].items()}
    if "items" in result:
        result["items"] = _inline(result["items"], definitions)
    if not result.get("required", True):
        del result["required"]
    return result


def _optional(node: Mapping[str, Any], definitions: Mapping[str, Any]) -> Schema:
    """`X | None`: the schema of X. Numbers and booleans may be null, as protobuf's wrapper types are."""
    present = [option for option in node["anyOf"] if option.get("type") != "null"]
    if len(present) != 1:
        raise ValueError(f"a structural schema cannot hold this union: {node['anyOf']}")
    result = _inline(present[0], definitions)
    if result.get("type") in ("integer", "number", "boolean"):
        result["nullable"] = True
    return result

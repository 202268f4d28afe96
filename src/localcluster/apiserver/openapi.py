"""OpenAPI documents of what is served, for `kubectl explain`, `apply` and validation: v3 per group version, and v2.

Built from the same shapes that requests are checked against. Nothing is built before someone asks.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

from localcluster.apiserver.kinds import BUILTIN, MEASURED, KindInfo, Kinds
from localcluster.apiserver.schemas import custom, patch_keys
from localcluster.apiserver.schemas.model import Field, Struct, Type, documentation, struct, struct_of_kind

Document = dict[str, Any]

# Part of every hash: clients keep documents by it, so it has to change when what is written here does.
_EDITION = "3"
_INFO = {"title": "Kubernetes", "version": "v1.32.0"}
_PREFIXES = {
    "meta": "io.k8s.apimachinery.pkg.apis.meta",
    "apiextensions": "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions",
    "apiregistration": "io.k8s.kube-aggregator.pkg.apis.apiregistration",
}
_PATCH_TYPES = (
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
)
# kubectl applies by this one wherever it is said to be understood.
_BUILTIN_PATCH_TYPES = (*_PATCH_TYPES, "application/strategic-merge-patch+json")
_OPTIONS = {
    "dryRun": "When present, indicates that modifications should not be persisted: `All`.",
    "fieldManager": "The name of the actor that makes these changes.",
    "fieldValidation": "What to do with unknown or duplicate fields: `Ignore`, `Warn` or `Strict`.",
}
_LIST_OPTIONS = {
    "allowWatchBookmarks": ("boolean", "Send events of type BOOKMARK in a watch."),
    "continue": ("string", "Where an earlier page of this list ended."),
    "fieldSelector": ("string", "Which objects, by their fields."),
    "labelSelector": ("string", "Which objects, by their labels."),
    "limit": ("integer", "The most objects of one page."),
    "resourceVersion": ("string", "From which version on."),
    "resourceVersionMatch": ("string", "How resourceVersion is meant."),
    "sendInitialEvents": ("boolean", "Begin a watch with what exists already."),
    "timeoutSeconds": ("integer", "How long a watch lasts."),
    "watch": ("boolean", "Watch the objects instead of listing them."),
}
_DELETE_OPTIONS = {
    "dryRun": ("string", _OPTIONS["dryRun"]),
    "gracePeriodSeconds": ("integer", "How long a pod has to end."),
    "propagationPolicy": ("string", "What becomes of what the object owns: `Orphan`, `Background` or `Foreground`."),
}
_FORCE = "Take over fields of other managers when applying."


def v3_index(kinds: Kinds) -> Document:
    """`/openapi/v3`: where each group version's document is, by `api/v1` or `apis/<group>/<version>`."""
    paths = {}
    for path in sorted({_path(kind, version) for kind in _described(kinds) for version in kind.served_versions}):
        members = list(_members(path, kinds))
        paths[path] = {"serverRelativeURL": f"/openapi/v3/{path}?hash={_hash(members)}"}
    return {"paths": paths}


def v3_document(path: str, kinds: Kinds) -> Document | None:
    """The document of a group version (`api/v1`, `apis/apps/v1`); None if nothing is served there."""
    members = list(_members(path, kinds))
    if not members:
        return None
    builtin = [kind for kind in members if not kind.is_custom]
    document = _builtin_document(path) if builtin else _Builder("#/components/schemas/").v3(())
    if len(builtin) == len(members):
        return document
    added = _Builder("#/components/schemas/").v3([kind for kind in members if kind.is_custom])
    schemas = {**document["components"]["schemas"], **added["components"]["schemas"]}
    return {**document, "paths": {**document["paths"], **added["paths"]}, "components": {"schemas": schemas}}


V2_PROTOBUF = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
"""The only form that kubectl takes version 2 in; it asks when version 3 does not know a kind."""

V2_WITHOUT_KINDS = b"\n\x032.0\x12\x15\n\nKubernetes\x12\x07v1.33.0B\x00"
"""openapi.v2.Document {swagger, info {title, version}, paths {}}: whatever is asked about is not described there.

kubectl then goes on to say that the server has no such kind, instead of that it cannot validate it.
"""


def v2_document(kinds: Kinds) -> Document:
    """`/openapi/v2`: every kind in one document, for clients that know only this form."""
    everything = [kind.at(version) for kind in _described(kinds) for version in kind.served_versions]
    return _Builder("#/definitions/").v2(everything)


@cache
def _builtin_document(path: str) -> Document:
    return _Builder("#/components/schemas/").v3([kind for kind in BUILTIN if _path(kind, kind.version) == path])


def _path(kind: KindInfo, version: str) -> str:
    return f"apis/{kind.group}/{version}" if kind.group else f"api/{version}"


def _described(kinds: Kinds) -> Iterable[KindInfo]:
    """The kinds whose objects are written by clients: what is only measured has no shape to keep to."""
    return (kind for kind in kinds if kind not in MEASURED)


def _members(path: str, kinds: Kinds) -> Iterable[KindInfo]:
    for kind in _described(kinds):
        for version in kind.served_versions:
            if _path(kind, version) == path:
                yield kind.at(version)


def _hash(members: list[KindInfo]) -> str:
    content = [_EDITION, *sorted(kind.kind for kind in members)]
    content += [json.dumps(custom.schema_of(kind), sort_keys=True) for kind in members if kind.is_custom]
    return hashlib.sha256("\n".join(content).encode()).hexdigest().upper()


def _component(struct_name: str) -> str:
    """`core_v1.Pod` as Kubernetes' documents call it: `io.k8s.api.core.v1.Pod`."""
    module, _, name = struct_name.partition(".")
    group, _, version = module.rpartition("_")
    return f"{_PREFIXES.get(group, f'io.k8s.api.{group}')}.{version}.{name}"


def _custom_component(kind: KindInfo) -> str:
    return ".".join([*reversed(kind.group.split(".")), kind.version, kind.kind])


def _identity(kind: KindInfo) -> Document:
    return {"group": kind.group, "version": kind.version, "kind": kind.kind}


class _Builder:
    """Collects the schemas that a document's kinds refer to; `prefix` is where references point."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._is_v3 = prefix.startswith("#/components")
        self._schemas: dict[str, Document] = {}

    def v3(self, kinds: Iterable[KindInfo]) -> Document:
        paths = self._paths(kinds)
        schemas = dict(sorted(self._schemas.items()))
        return {"openapi": "3.0.0", "info": _INFO, "paths": paths, "components": {"schemas": schemas}}

    def v2(self, kinds: Iterable[KindInfo]) -> Document:
        paths = self._paths(kinds)
        return {"swagger": "2.0", "info": _INFO, "paths": paths, "definitions": dict(sorted(self._schemas.items()))}

    # Schemas

    def _of_kind(self, kind: KindInfo) -> str:
        """Add the schema of a kind; returns its component's name."""
        if kind.is_custom:
            name = _custom_component(kind)
            self._schemas[name] = self._custom(kind)
            return name
        shape = struct_of_kind(kind.group, kind.version, kind.kind)
        if shape is None:
            raise LookupError(f"the models lack the built-in kind {kind.api_version} {kind.kind}")
        self._of_struct(shape)
        name = _component(shape.name)
        self._schemas[name]["x-kubernetes-group-version-kind"] = [_identity(kind)]
        return name

    def _list_of(self, kind: KindInfo, reference: str) -> str:
        """Add the schema of a kind's lists; a reference to it."""
        name = f"{reference.removeprefix(self._prefix).rpartition('.')[0]}.{kind.list_kind}"
        if name not in self._schemas:
            about = self._type(Type("object", struct="meta_v1.ListMeta"))
            self._schemas[name] = {
                "type": "object",
                "required": ["items"],
                "properties": {
                    "apiVersion": {"type": "string"},
                    "kind": {"type": "string"},
                    "metadata": {"allOf": [about]} if self._is_v3 else about,
                    "items": {"type": "array", "items": {"$ref": reference}},
                },
                "x-kubernetes-group-version-kind": [{**_identity(kind), "kind": kind.list_kind}],
            }
        return f"{self._prefix}{name}"

    def _custom(self, kind: KindInfo) -> Document:
        own = custom.schema_of(kind) or {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
        about = struct("meta_v1.ObjectMeta")
        top = struct_of_kind("", "v1", "Pod")
        properties = dict(own.get("properties") or {})
        if top is not None and about is not None:
            texts = documentation(top.name)[1]
            for name in ("apiVersion", "kind", "metadata"):
                properties[name] = self._property(top, top.fields[name], texts.get(name, ""))
        return {**own, "properties": properties, "x-kubernetes-group-version-kind": [_identity(kind)]}

    def _of_struct(self, shape: Struct) -> None:
        name = _component(shape.name)
        if name in self._schemas:
            return
        description, texts = documentation(shape.name)
        schema: Document = {"type": "object", "properties": {}}
        if description:
            schema["description"] = description
        self._schemas[name] = schema
        for field in shape.fields.values():
            schema["properties"][field.name] = self._property(shape, field, texts.get(field.name, ""))
        needed = [field.name for field in shape.fields.values() if field.required]
        if needed:
            schema["required"] = needed

    def _property(self, shape: Struct, field: Field, description: str) -> Document:
        schema = self._type(field.type)
        if "$ref" in schema and self._is_v3:
            # OpenAPI 3.0 ignores whatever stands beside a reference.
            schema = {"allOf": [schema]}
        if description:
            schema["description"] = description
        strategy, key = patch_keys.of_field(shape.name, field.name)
        words = ["retainKeys"] if (shape.name, field.name) in patch_keys.RETAIN_KEYS else []
        if strategy == "merge":
            words.insert(0, "merge")
            if key:
                schema["x-kubernetes-patch-merge-key"] = key
        if words:
            schema["x-kubernetes-patch-strategy"] = ",".join(words)
        return schema

    def _type(self, type_: Type) -> Document:
        match type_.category:
            case "object":
                shape = struct(type_.struct)
                if shape is None:
                    return {"type": "object"}
                self._of_struct(shape)
                return {"$ref": f"{self._prefix}{_component(shape.name)}"}
            case "list" if type_.element is not None:
                return {"type": "array", "items": self._type(type_.element)}
            case "map" if type_.element is not None:
                return {"type": "object", "additionalProperties": self._type(type_.element)}
            case "integer":
                return {"type": "integer", "format": "int32"}
            case "number":
                return {"type": "number", "format": "double"}
            case "time":
                return {"type": "string", "format": "date-time"}
            case "bytes":
                return {"type": "string", "format": "byte"}
            case "int-or-string" if self._is_v3:
                return {"oneOf": [{"type": "integer"}, {"type": "string"}], "format": "int-or-string"}
            case "int-or-string":
                return {"type": "string", "format": "int-or-string"}
            case "quantity" if self._is_v3:
                return {"oneOf": [{"type": "string"}, {"type": "number"}]}
            case "any":
                return {"type": "object"}
            case "boolean":
                return {"type": "boolean"}
        return {"type": "string"}

    # Paths

    def _paths(self, kinds: Iterable[KindInfo]) -> Document:
        paths: Document = {}
        for kind in kinds:
            reference = f"{self._prefix}{self._of_kind(kind)}"
            root = f"/{_path(kind, kind.version)}"
            home = f"{root}/namespaces/{{namespace}}/{kind.plural}" if kind.namespaced else f"{root}/{kind.plural}"
            operation = self._operations(kind, reference)
            collection = {
                "get": operation("list"),
                "post": operation("post"),
                "delete": operation("deletecollection"),
            }
            item = {name: operation(name) for name in ("get", "put", "patch", "delete")}
            in_path = [self._parameter("name", "path", "The object's name.")]
            if kind.namespaced:
                namespace = self._parameter("namespace", "path", "The object's namespace.")
                collection["parameters"] = [namespace]
                in_path.append(namespace)
                if "list" in kind.verbs:
                    paths[f"{root}/{kind.plural}"] = {"get": operation("list")}
            paths[home] = {verb: found for verb, found in collection.items() if found}
            found_item: Document = {verb: found for verb, found in item.items() if found}
            if found_item:
                paths[f"{home}/{{name}}"] = {**found_item, "parameters": in_path}
            if "status" in kind.subresources:
                of_status = {name: operation(name, "Status") for name in ("get", "put", "patch")}
                found_status: Document = {verb: found for verb, found in of_status.items() if found}
                paths[f"{home}/{{name}}/status"] = {**found_status, "parameters": in_path}
        return paths

    def _operations(self, kind: KindInfo, reference: str) -> Callable[..., Any]:
        needs = {"post": "create", "put": "update"}

        def operation(action: str, subresource: str = "") -> Document | None:
            if needs.get(action, action) not in kind.verbs:
                return None
            answer = self._list_of(kind, reference) if action == "list" else reference
            body = self._body(answer, ("application/json",), answer=True)
            found: Document = {
                "operationId": f"{action}{kind.version.capitalize()}{kind.kind}{subresource}",
                "responses": {"200": {"description": "OK", **body}},
                "x-kubernetes-action": action,
                "x-kubernetes-group-version-kind": _identity(kind),
            }
            parameters = []
            if action in ("post", "put", "patch"):
                parameters = [self._parameter(name, "query", text) for name, text in _OPTIONS.items()]
                types: tuple[str, ...] = ("application/json", "application/yaml")
                if action == "patch":
                    types = _PATCH_TYPES if kind.is_custom else _BUILTIN_PATCH_TYPES
                    parameters.append(self._parameter("force", "query", _FORCE, type_="boolean"))
                if self._is_v3:
                    found["requestBody"] = {"required": True, **self._body(reference, types)}
                else:
                    found["consumes"] = list(types)
                    parameters.append({"name": "body", "in": "body", "required": True, "schema": {"$ref": reference}})
            else:
                options = (_LIST_OPTIONS if action in ("list", "deletecollection") else {}) | (
                    _DELETE_OPTIONS if action in ("delete", "deletecollection") else {}
                )
                parameters = [
                    self._parameter(name, "query", text, type_=type_) for name, (type_, text) in options.items()
                ]
            if parameters:
                found["parameters"] = parameters
            return found

        return operation

    def _body(self, reference: str, media_types: tuple[str, ...], *, answer: bool = False) -> Document:
        schema = {"$ref": reference}
        if self._is_v3:
            return {"content": {media_type: {"schema": schema} for media_type in media_types}}
        return {"schema": schema} if answer else {}

    def _parameter(self, name: str, place: str, description: str, *, type_: str = "string") -> Document:
        shape: Document = {"schema": {"type": type_}} if self._is_v3 else {"type": type_}
        needed = {"required": True} if place == "path" else {}
        return {"name": name, "in": place, "description": description, **needed, **shape}

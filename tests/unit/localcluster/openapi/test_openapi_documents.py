"""The documents behind `kubectl explain` and validation."""

from typing import Any

import pytest

from localcluster.apiserver import kinds, openapi
from localcluster.apiserver.kinds import Kinds

Object = dict[str, Any]


def widgets(mode: Object | None = None) -> Kinds:
    served = Kinds()
    served.define(
        {
            "metadata": {"name": "widgets.example.com"},
            "spec": {
                "group": "example.com",
                "scope": "Cluster",
                "names": {"plural": "widgets", "kind": "Widget"},
                "versions": [
                    {
                        "name": "v1",
                        "served": True,
                        "storage": True,
                        "schema": {
                            "openAPIV3Schema": {"type": "object", "properties": {"mode": mode or {"type": "string"}}}
                        },
                    }
                ],
            },
        }
    )
    return served


def references(value: Any) -> set[str]:
    """Every `$ref` below a value."""
    if isinstance(value, dict):
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*(references(item) for item in value.values()))
    if isinstance(value, list):
        return set().union(*(references(item) for item in value))
    return set()


@pytest.mark.parametrize("path", openapi.v3_index(Kinds())["paths"])
def test_every_document_of_the_index_is_complete(path: str) -> None:
    document = openapi.v3_document(path, Kinds())

    assert document is not None
    schemas = document["components"]["schemas"]
    assert {name.removeprefix("#/components/schemas/") for name in references(document)} <= schemas.keys()
    assert document["paths"]


def test_a_schema_tells_its_kind_its_patch_keys_and_its_words() -> None:
    document = openapi.v3_document("api/v1", Kinds())
    assert document is not None
    schemas = document["components"]["schemas"]

    pod = schemas["io.k8s.api.core.v1.Pod"]
    assert pod["x-kubernetes-group-version-kind"] == [{"group": "", "version": "v1", "kind": "Pod"}]
    containers = schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"]
    assert containers["x-kubernetes-patch-merge-key"] == "name"
    assert containers["x-kubernetes-patch-strategy"] == "merge"
    assert containers["items"] == {"$ref": "#/components/schemas/io.k8s.api.core.v1.Container"}
    assert containers["description"].startswith("List of containers belonging to the pod.")
    volumes = schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["volumes"]
    assert volumes["x-kubernetes-patch-strategy"] == "merge,retainKeys"
    port = schemas["io.k8s.api.core.v1.ServicePort"]["properties"]["targetPort"]
    assert port["oneOf"] == [{"type": "integer"}, {"type": "string"}]


@pytest.mark.parametrize("verb", ["patch", "put"])
def test_writes_take_field_validation_so_that_kubectl_leaves_it_to_the_server(verb: str) -> None:
    document = openapi.v3_document("apis/apps/v1", Kinds())
    assert document is not None

    operation = document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"][verb]
    assert "fieldValidation" in {parameter["name"] for parameter in operation["parameters"]}
    assert operation["x-kubernetes-group-version-kind"] == {"group": "apps", "version": "v1", "kind": "Deployment"}


def test_a_custom_kind_is_described_by_its_definition() -> None:
    document = openapi.v3_document("apis/example.com/v1", widgets())
    assert document is not None

    schema = document["components"]["schemas"]["com.example.v1.Widget"]
    assert set(schema["properties"]) == {"apiVersion", "kind", "metadata", "mode"}
    assert "/apis/example.com/v1/widgets/{name}" in document["paths"]
    assert {name.removeprefix("#/components/schemas/") for name in references(document)} <= (
        document["components"]["schemas"].keys()
    )


def test_a_changed_schema_has_another_address() -> None:
    first = openapi.v3_index(widgets())["paths"]
    second = openapi.v3_index(widgets({"type": "integer"}))["paths"]

    assert first["apis/example.com/v1"] != second["apis/example.com/v1"]
    assert first["api/v1"] == second["api/v1"] == openapi.v3_index(Kinds())["paths"]["api/v1"]


def test_nothing_is_served_of_an_unknown_group() -> None:
    assert openapi.v3_document("apis/example.com/v1", Kinds()) is None


def test_the_older_document_has_every_kind() -> None:
    document = openapi.v2_document(widgets())

    told = {
        (entry["group"], entry["kind"])
        for definition in document["definitions"].values()
        for entry in definition.get("x-kubernetes-group-version-kind", ())
    }
    assert told == {
        (kind.group, name)
        for kind in (*kinds.BUILTIN, *widgets().custom())
        for name in (kind.kind, *([kind.list_kind] if "list" in kind.verbs else ()))
    }
    assert {name.removeprefix("#/definitions/") for name in references(document)} <= document["definitions"].keys()


def test_kubectl_is_told_which_patches_a_kind_understands() -> None:
    def patches(document: Object | None, path: str) -> set[str]:
        assert document is not None
        return set(document["paths"][path]["patch"]["requestBody"]["content"])

    strategic = "application/strategic-merge-patch+json"
    custom = patches(openapi.v3_document("apis/example.com/v1", widgets()), "/apis/example.com/v1/widgets/{name}")
    builtin = patches(openapi.v3_document("api/v1", Kinds()), "/api/v1/namespaces/{name}")

    assert "application/merge-patch+json" in custom
    assert strategic not in custom
    assert strategic in builtin

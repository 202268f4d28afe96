"""Objects of custom resources against their definition's schema."""

from typing import Any

import pytest

from localcluster.apiserver import defaults, kinds, schemas

Object = dict[str, Any]

SPEC: Object = {
    "type": "object",
    "required": ["mode"],
    "properties": {
        "mode": {"type": "string", "enum": ["STRICT", "PERMISSIVE"]},
        "size": {"type": "integer", "minimum": 1, "maximum": 9, "default": 3},
        "host": {"type": "string", "pattern": "^[a-z.]+$", "maxLength": 10},
        "port": {"x-kubernetes-int-or-string": True},
        "tags": {"type": "array", "maxItems": 2, "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
        "anything": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        "ports": {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "properties": {"mode": {"type": "string", "default": "STRICT"}},
            },
        },
        "either": {
            "type": "object",
            "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
            "oneOf": [{"required": ["a"]}, {"required": ["b"]}],
        },
    },
}


@pytest.fixture
def widget() -> kinds.KindInfo:
    """A custom kind."""
    found = kinds.from_definition(
        {
            "metadata": {"name": "widgets.example.com"},
            "spec": {
                "group": "example.com",
                "scope": "Namespaced",
                "names": {"plural": "widgets", "kind": "Widget"},
                "versions": [
                    {
                        "name": "v1",
                        "served": True,
                        "storage": True,
                        "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": SPEC}}},
                    }
                ],
            },
        }
    )
    assert found is not None
    return found


def manifest(**spec: Any) -> Object:
    return {
        "apiVersion": "example.com/v1",
        "kind": "Widget",
        "metadata": {"name": "w"},
        "spec": {"mode": "STRICT", **spec},
    }


def test_unknown_fields_are_named_and_pruned(widget: kinds.KindInfo) -> None:
    decoded = schemas.decode(widget, manifest(sizee=1, anything={"goes": 1}, ports={"80": {"mod": "x"}}))

    assert decoded.unknown_fields == ("spec.sizee", "spec.ports.80.mod")
    assert decoded.object["spec"] == {"mode": "STRICT", "anything": {"goes": 1}, "ports": {"80": {}}}
    assert decoded.object["metadata"] == {"name": "w"}


def test_defaults_of_the_schema_are_filled_in(widget: kinds.KindInfo) -> None:
    found = defaults.apply(widget, manifest(ports={"80": {}}))

    assert found["spec"] == {"mode": "STRICT", "size": 3, "ports": {"80": {"mode": "STRICT"}}}
    assert defaults.apply(widget, found) == found


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, []),
        (
            {"mode": "STRIKT"},
            ['spec.mode: Unsupported value: "STRIKT": supported values: "STRICT", "PERMISSIVE"'],
        ),
        (
            {"size": "big"},
            ['spec.size: Invalid value: "string": spec.size in body must be of type integer: "string"'],
        ),
        ({"size": 0}, ["spec.size: Invalid value: 0: spec.size in body should be greater than or equal to 1"]),
        ({"size": 10}, ["spec.size: Invalid value: 10: spec.size in body should be less than or equal to 9"]),
        ({"size": True}, ['spec.size: Invalid value: "boolean": spec.size in body must be of type integer: "boolean"']),
        ({"host": "A"}, ["spec.host: Invalid value: \"A\": spec.host in body should match '^[a-z.]+$'"]),
        ({"host": "a" * 11}, ["spec.host: Too long: may not be more than 10 bytes"]),
        ({"port": 80}, []),
        ({"port": "http"}, []),
        ({"tags": ["a", "b", "c"]}, ["spec.tags: Too many: 3: must have at most 2 items"]),
        ({"tags": ["a", "a"]}, ['spec.tags[1]: Duplicate value: "a"']),
        ({"either": {"a": "1"}}, []),
        (
            {"either": {"a": "1", "b": "2"}},
            [
                'spec.either: Invalid value: {"a": "1", "b": "2"}: spec.either in body must validate one and only '
                "one schema (oneOf)"
            ],
        ),
    ],
)
def test_the_schema_is_kept(widget: kinds.KindInfo, spec: Object, expected: list[str]) -> None:
    assert [str(error) for error in schemas.validate(widget, manifest(**spec))] == expected


def test_a_missing_field_is_required(widget: kinds.KindInfo) -> None:
    found = schemas.validate(widget, {**manifest(), "spec": {}})

    assert [str(error) for error in found] == ["spec.mode: Required value"]


def test_metadata_of_a_custom_object_is_typed(widget: kinds.KindInfo) -> None:
    (error,) = schemas.decode(widget, {**manifest(), "metadata": {"name": "w", "labels": {"a": 1}}}).type_errors

    assert (
        error.message == "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string"
    )

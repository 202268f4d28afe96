"""The table of kinds, and the definitions made from it."""

import json
from typing import Any

import pytest

from mutua.api import crd_schemas, kinds
from mutua.api.kinds import Kind


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("pa", kinds.PEER_AUTHENTICATION),
        ("dr", kinds.DESTINATION_RULE),
        ("ap", kinds.AUTHORIZATION_POLICY),
        ("ra", kinds.REQUEST_AUTHENTICATION),
        ("peerauthentications", kinds.PEER_AUTHENTICATION),
        ("PeerAuthentication", kinds.PEER_AUTHENTICATION),
        ("svc", kinds.SERVICE),
        ("se", kinds.SERVICE_ENTRY),
        ("we", kinds.WORKLOAD_ENTRY),
        ("nonsense", None),
    ],
)
def test_people_find_kinds_by_any_name(word: str, kind: Kind | None) -> None:
    assert kinds.find(word) is kind


def test_no_name_means_two_kinds() -> None:
    names = [name for kind in kinds.KINDS for name in (kind.plural, kind.singular, *kind.short_names)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("kind", kinds.ours(), ids=lambda kind: kind.name)
def test_definitions_are_structural(kind: Kind) -> None:
    definition = crd_schemas.custom_resource_definition(kind)
    text = json.dumps(definition)
    assert "$ref" not in text and '"default"' not in text and '"anyOf"' not in text

    def every_node_has_a_type(node: dict[str, Any]) -> None:
        assert node["type"] in {"object", "array", "string", "integer", "number", "boolean"}, node
        assert node.get("additionalProperties") is not False
        inner = [*node.get("properties", {}).values(), node.get("items"), node.get("additionalProperties")]
        for child in filter(None, inner):
            every_node_has_a_type(child)

    versions = definition["spec"]["versions"]
    for version in versions:
        every_node_has_a_type(version["schema"]["openAPIV3Schema"])
    assert [version["name"] for version in versions if version["storage"]] == ["v1"]
    assert definition["metadata"]["name"] == f"{kind.plural}.{kind.group}"


def test_columns_are_the_ones_that_people_know() -> None:
    shown = {kind.name: [column.name.upper() for column in kind.columns] for kind in kinds.ours()}
    assert shown == {
        "PeerAuthentication": ["MODE", "AGE", "PROXIES", "EFFECTIVE"],
        "AuthorizationPolicy": ["ACTION", "AGE", "PROXIES", "EFFECTIVE"],
        "RequestAuthentication": ["AGE", "PROXIES", "EFFECTIVE"],
        "DestinationRule": ["HOST", "AGE", "PROXIES", "EFFECTIVE"],
        "ServiceEntry": ["HOSTS", "LOCATION", "RESOLUTION", "AGE"],
        "WorkloadEntry": ["AGE", "ADDRESS"],
    }


def test_ports_are_keys_of_a_map() -> None:
    spec = crd_schemas.schema(kinds.PEER_AUTHENTICATION)["properties"]["spec"]["properties"]
    assert spec["portLevelMtls"]["additionalProperties"]["properties"]["mode"]["type"] == "string"
    assert sorted(spec["mtls"]["properties"]["mode"]["enum"]) == ["DISABLE", "PERMISSIVE", "STRICT", "UNSET"]

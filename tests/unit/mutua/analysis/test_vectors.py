"""Istio's own analyzer cases: the same codes about the same objects."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from mutua.analysis import run
from mutua.analysis.inputs import World
from mutua.api import decode, kinds
from mutua.mesh.objects import ObjectSet

VECTORS = Path(__file__).parents[5] / "shared" / "vectors" / "analyze.jsonl"
# Name of the case, or of the analyzer; docs/compatibility.md lists the same with reasons.
NOT_SERVED = frozenset(
    {
        "annotations.AlphaAnalyzer",
        "conditions.ConditionAnalyzer",
        "externalcontrolplane.ExternalControlPlaneAnalyzer",
        "gateway.SecretAnalyzer",
        "k8sgateway.CRDVersionAnalyzer",
        "k8sgateway.SelectorAnalyzer",
        "meshnetworks.MeshNetworksAnalyzer",
        "schema.ValidationAnalyzer.VirtualService",
        "services.MultiClusterServiceAnalyzer",
        "telemetry.DefaultSelectorAnalyzer",
        "telemetry.LightstepAnalyzer",
        "telemetry.ProviderAnalyzer",
        "telemetry.SelectorAnalyzer",
    }
)


def cases() -> list[Any]:
    if not VECTORS.exists():
        return [pytest.param({}, marks=pytest.mark.skip(reason="conformance vectors not present"))]
    return [pytest.param(case, id=case["name"]) for case in map(json.loads, VECTORS.read_text().splitlines())]


def is_served(case: dict[str, Any]) -> bool:
    return not NOT_SERVED & {case["name"], *case["analyzers"]}


def analyzed(case: dict[str, Any]) -> list[tuple[str, str]]:
    read = [document for part in case["inputs"] for document in yaml.safe_load_all(part["yaml"]) if document]
    documents = [item for document in read for item in document.get("items", [document])]
    known = [
        (kind, document)
        for document in documents
        if (kind := kinds.by_api_version(document.get("apiVersion", ""), document.get("kind", "")))
    ]
    decoded = [decode.from_mapping(kind, document) for kind, document in known]
    config, _ = decode.mesh_config(yaml.safe_load(case["meshConfig"] or "{}"))
    world = World(
        ObjectSet.of(item.value for item in decoded if item.value is not None),
        config,
        istio_namespace=case["istioNamespace"],
        unreadable=tuple(finding for item in decoded for finding in item.findings),
    )
    messages = run.analyze(world, run.chosen(case["analyzers"]))
    return sorted((message.code, str(message.subject)) for message in messages)


@pytest.mark.parametrize("case", cases())
def test_says_what_istio_says(case: dict[str, Any]) -> None:
    if not is_served(case):
        pytest.skip("about what is not served")
    expected = sorted((item["code"], item["resource"]) for item in case["expect"])
    assert set(case["analyzers"]) <= {name for check in run.chosen(case["analyzers"]) for name in prefixes(check.name)}
    assert analyzed(case) == expected


def prefixes(name: str) -> list[str]:
    """A check's name and the names under which it is a part."""
    parts = name.split(".")
    return [".".join(parts[: length + 1]) for length in range(len(parts))]


def test_what_is_not_served_is_documented() -> None:
    """Both ways: the list here is the list of the documentation."""
    text = (Path(__file__).parents[4] / "docs" / "compatibility.md").read_text()
    section = text.partition("## Analyzers that are not served\n")[2].partition("\n## ")[0]
    listed = {line.split("`")[1] for line in section.splitlines() if line.startswith("| `")}
    assert listed == NOT_SERVED

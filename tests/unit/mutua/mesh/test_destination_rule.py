"""Which DestinationRule a client follows, and what it says about a port."""

from typing import Any

import msgspec
import pytest

from mutua.api import decode, kinds
from mutua.api.networking import DestinationRule, TrafficPolicy
from mutua.mesh import destination_rule
from mutua.mesh.destination_rule import DestinationRules
from mutua.mesh.proxy_view import ClientTlsMode
from mutua.mesh.selectors import NO_LABELS, labels_of

ROOT = "istio-system"
HOST = "backend.b.svc.cluster.local"


def read(manifest: dict[str, Any]) -> DestinationRule:
    decoded = decode.from_mapping(kinds.DESTINATION_RULE, manifest)
    assert isinstance(decoded.value, DestinationRule), decoded.findings
    return decoded.value


def rule(namespace: str, name: str, spec: dict[str, Any], created: str = "2024-01-01T00:00:00Z") -> DestinationRule:
    return read({"metadata": {"namespace": namespace, "name": name, "creationTimestamp": created}, "spec": spec})


def tls(mode: str) -> dict[str, Any]:
    return {"tls": {"mode": mode}}


def index(*rules: DestinationRule) -> DestinationRules:
    return DestinationRules(rules, ROOT, "cluster.local")


@pytest.mark.vectors("client-tls", kind="destinationrule-selection")
def test_selection_agrees_with_istio(vector: dict[str, Any]) -> None:
    if "trafficPolicyFrom" in vector["expect"]:
        pytest.skip("a rule that Istio makes from the Gateway API's backend policies, which are not served")
    root = vector["mesh"].get("rootNamespace", ROOT)
    rules = DestinationRules([read(manifest) for manifest in vector["destinationRules"]], root, "cluster.local")
    service, expected = vector["service"], vector["expect"]
    found = rules.candidates(vector["client"]["namespace"], service["hostname"], service["namespace"])
    if "names" in expected:
        assert sorted(item.source.name for item in found) == sorted(expected["names"])
        merged = {item.source.name: [source.name for source in item.sources] for item in found}
        assert {name: merged[name] for name in expected["mergedFrom"]} == expected["mergedFrom"]
    else:
        chosen = rules.select(vector["client"]["namespace"], NO_LABELS, service["hostname"], service["namespace"])
        assert chosen is not None
        assert [subset.name for subset in chosen.subsets] == expected["subsets"]


@pytest.mark.vectors("client-tls", kind="traffic-policy-merge")
def test_subset_settings_merge_as_in_istio(vector: dict[str, Any]) -> None:
    def read_policy(value: Any) -> TrafficPolicy | None:
        return None if value is None else msgspec.convert(value, TrafficPolicy)

    merged = destination_rule.merge(read_policy(vector["original"]), read_policy(vector["subsetPolicy"]))
    assert merged == read_policy(vector["expect"]["policy"])


@pytest.mark.parametrize(
    ("rules", "client", "expected"),
    [
        ([("client", HOST, "SIMPLE", ["*"]), ("b", HOST, "DISABLE", ["*"])], "client", "client"),
        ([("b", HOST, "DISABLE", ["*"]), (ROOT, "*.local", "ISTIO_MUTUAL", ["*"])], "client", "b"),
        ([("b", HOST, "DISABLE", ["."]), (ROOT, "*.local", "ISTIO_MUTUAL", ["*"])], "client", ROOT),
        ([("b", HOST, "DISABLE", ["."])], "b", "b"),
        ([("b", HOST, "DISABLE", ["."])], "client", None),
        ([("other", HOST, "DISABLE", ["*"])], "client", None),
        ([("client", "*.local", "SIMPLE", []), ("client", "*.b.svc.cluster.local", "MUTUAL", [])], "client", "client"),
        ([(ROOT, "*.local", "SIMPLE", []), ("b", "backend", "DISABLE", [])], ROOT, "b"),
    ],
)
def test_client_namespace_then_host_namespace_then_root(
    rules: list[tuple[str, str, str, list[str]]], client: str, expected: str | None
) -> None:
    table = index(
        *(
            rule(namespace, f"{namespace}-{host}", {"host": host, "trafficPolicy": tls(mode), "exportTo": export})
            for namespace, host, mode, export in rules
        )
    )
    found = table.select(client, NO_LABELS, HOST, "b")
    assert (found.source.namespace if found else None) == expected


def test_the_most_specific_host_wins() -> None:
    table = index(
        *(
            rule("b", name, {"host": host})
            for name, host in (("all", "*"), ("wild", "*.b.svc.cluster.local"), ("own", "backend"))
        )
    )
    chosen = [
        found.source.name
        for host in (HOST, "frontend.b.svc.cluster.local", "example.org")
        if (found := table.select("b", NO_LABELS, host, "b"))
    ]
    assert chosen == ["own", "wild", "all"]


def test_rules_for_one_host_merge_and_the_oldest_policy_counts() -> None:
    table = index(
        rule(
            "b",
            "newer",
            {"host": "backend", "trafficPolicy": tls("DISABLE"), "subsets": [{"name": "v2"}]},
            "2024-01-02T00:00:00Z",
        ),
        rule("b", "older", {"host": HOST, "trafficPolicy": tls("SIMPLE"), "subsets": [{"name": "v1"}]}),
    )
    found = table.select("b", NO_LABELS, HOST, "b")
    assert found is not None
    assert [source.name for source in found.sources] == ["older", "newer"]
    assert [subset.name for subset in found.subsets] == ["v1", "v2"]
    assert found.traffic_policy == msgspec.convert(tls("SIMPLE"), TrafficPolicy)


def test_a_rule_for_chosen_clients_is_followed_by_them_only() -> None:
    chosen = {"host": HOST, "workloadSelector": {"matchLabels": {"app": "x"}}, "trafficPolicy": tls("SIMPLE")}
    table = index(
        rule("client", "chosen", chosen), rule("client", "all", {"host": HOST, "trafficPolicy": tls("DISABLE")})
    )
    names = [
        found.source.name
        for labels in ({"app": "x"}, {"app": "y"})
        if (found := table.select("client", labels_of(labels), HOST, "b"))
    ]
    assert names == ["chosen", "all"]
    assert [item.source.name for item in table.selected_by("client", labels_of({"app": "x"}))] == ["chosen"]


def test_port_settings_stand_alone() -> None:
    policy = msgspec.convert(
        {**tls("SIMPLE"), "portLevelSettings": [{"port": {"number": 80}, **tls("DISABLE")}, {"port": {"number": 81}}]},
        TrafficPolicy,
    )
    modes = {}
    for port in (80, 81, 82):
        settings = destination_rule.for_port(policy, port)
        modes[port] = destination_rule.client_tls(settings.tls if settings else None, auto_mtls=True).mode
    assert modes == {80: ClientTlsMode.DISABLE, 81: ClientTlsMode.AUTO, 82: ClientTlsMode.SIMPLE}
    assert destination_rule.client_tls(None, auto_mtls=False).mode is ClientTlsMode.DISABLE

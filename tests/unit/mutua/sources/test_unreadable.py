"""A policy that cannot be read denies, whatever it was meant to do."""

import json
from typing import Any

import msgspec
import pytest
from envoy.config.cluster.v3 import cluster_pb2
from google.protobuf import any_pb2

from mutua.api import kinds
from mutua.api.findings import Finding
from mutua.api.kinds import AnyObject, Kind
from mutua.api.meshconfig import MeshConfig
from mutua.api.networking import ClientTlsSettings, ClientTlsSettingsMode, DestinationRule
from mutua.envoy import translate
from mutua.envoy.resource_set import CLUSTER
from mutua.mesh import build
from mutua.mesh.objects import ObjectSet
from mutua.mesh.proxy_view import ClientTlsMode, Discovery, MtlsMode, ProxyView
from mutua.mesh.view import Proxy, for_proxy
from mutua.sources.kubernetes import read
from mutua.verdict.authorization import Authorization
from mutua.verdict.request import Connection

CONNECTION = Connection(source_ip="10.0.0.1", destination_ip="10.0.0.2", destination_port=80)
UNKNOWN_FIELD = {"rules": [{"from": [{"source": {"principal": ["a"]}}]}]}
NO_LIST = {"action": "DENY", "rules": [{"to": [{"operation": {"paths": "/admin"}}]}]}
NO_ACTION = {"action": "REFUSE", "rules": [{}]}
SELECTED = {"selector": {"matchLabels": {"app": "a"}}}


def received(namespace: str, spec: Any) -> tuple[AnyObject | None, tuple[Finding, ...]]:
    metadata = {"namespace": namespace, "name": "policy", "uid": "1"}
    manifest = {"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy", "metadata": metadata, "spec": spec}
    return read(kinds.AUTHORIZATION_POLICY, msgspec.Raw(json.dumps(manifest).encode()))


def allows(value: AnyObject | None, namespace: str, app: str) -> bool:
    """Whether a workload takes anything at all, by what its proxy is told."""
    snapshot = build.snapshot(ObjectSet.of([value] if value else []), MeshConfig())
    view = for_proxy(snapshot, Proxy(namespace, labels={"app": app})).inbound
    return Authorization(view.policies, view.trust).decide(CONNECTION).allowed


@pytest.mark.parametrize("spec", [UNKNOWN_FIELD, NO_LIST, NO_ACTION, {"selector": "a"}, [], "text"])
def test_its_namespace_is_closed(spec: Any) -> None:
    value, findings = received("apps", spec)
    assert not allows(value, "apps", "a")
    assert allows(value, "web", "a")
    assert findings[-1].is_error
    assert "everything is denied to all workloads that namespace apps rules" in findings[-1].message


def test_in_the_root_namespace_the_mesh_is_closed() -> None:
    value, _ = received("istio-system", NO_LIST)
    assert not allows(value, "web", "a")


def test_a_readable_selector_limits_it() -> None:
    """Only if nothing but unknown fields was in the way, and none of them in the selector."""
    value, findings = received("apps", UNKNOWN_FIELD | SELECTED)
    assert not allows(value, "apps", "a")
    assert allows(value, "apps", "b")
    assert "the workloads that it selects" in findings[-1].message
    value, _ = received("apps", {"selector": {"matchLabels": {"app": "a"}, "matchExpressions": []}, "rules": [{}]})
    assert not allows(value, "apps", "b")
    value, _ = received("apps", NO_LIST | SELECTED)
    assert not allows(value, "apps", "b")


def test_a_readable_policy_is_itself() -> None:
    value, findings = received("apps", {"rules": [{}]})
    assert findings == ()
    assert allows(value, "apps", "a")


@pytest.mark.parametrize("spec", [{"mtls": {"mode": "STRCT"}}, {"mtls": {"mod": "STRICT"}}, {"mtls": "STRICT"}])
def test_a_peer_authentication_demands_mutual_tls(spec: Any) -> None:
    """Left out, it would leave its workloads open to plaintext; also where an older one says PERMISSIVE."""
    metadata = {"namespace": "apps", "name": "broken", "creationTimestamp": "2025-01-01T00:00:00Z"}
    value, findings = read(
        kinds.PEER_AUTHENTICATION, msgspec.Raw(json.dumps({"metadata": metadata, "spec": spec}).encode())
    )
    older = metadata | {"name": "older", "creationTimestamp": "2024-01-01T00:00:00Z"}
    permissive, _ = read(
        kinds.PEER_AUTHENTICATION,
        msgspec.Raw(json.dumps({"metadata": older, "spec": {"mtls": {"mode": "PERMISSIVE"}}}).encode()),
    )
    assert value is not None
    assert permissive is not None
    snapshot = build.snapshot(ObjectSet.of([value, permissive]), MeshConfig())
    assert for_proxy(snapshot, Proxy("apps")).inbound.default_mode is MtlsMode.STRICT
    assert for_proxy(snapshot, Proxy("web")).inbound.default_mode is MtlsMode.PERMISSIVE
    assert "mutual TLS is demanded of the clients of all workloads" in findings[-1].message


ENTRY = {
    "hosts": ["api.example.com"],
    "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
    "location": "MESH_EXTERNAL",
    "resolution": "DNS",
}


def stored(kind: Kind, spec: Any, name: str = "outside") -> tuple[AnyObject | None, tuple[Finding, ...]]:
    metadata = {"namespace": "apps", "name": name}
    return read(kind, msgspec.Raw(json.dumps({"metadata": metadata, "spec": spec}).encode()))


def outside(*found: AnyObject | None) -> ProxyView:
    return for_proxy(build.snapshot(ObjectSet.of([each for each in found if each]), MeshConfig()), Proxy("apps"))


@pytest.mark.parametrize(
    "policy",
    [
        {"trafficPolicy": {"tls": {"mode": "SIMPL"}}},
        {"trafficPolicy": {"tls": {"mod": "SIMPLE"}}},
        {"trafficPolicy": {"tls": {"mode": "SIMPLE"}, "loadBalancer": {"simple": "FASTEST"}}},
        {"trafficPolicy": {"portLevelSettings": [{"port": {"number": 80}, "tls": "SIMPLE"}]}},
        {"trafficPolicy": []},
    ],
)
def test_nobody_dials_the_host_of_a_rule_that_cannot_be_read(policy: dict[str, Any]) -> None:
    """It may be the one that encrypts: without it the host would be called in plaintext."""
    entry, _ = stored(kinds.SERVICE_ENTRY, ENTRY)
    rule, findings = stored(kinds.DESTINATION_RULE, {"host": "api.example.com"} | policy)

    found = outside(entry, rule).outbound.find("api.example.com")
    assert found is not None
    (port,) = found.ports
    assert (port.tls.mode, port.tls.client_certificate, port.tls.credential_name) == (ClientTlsMode.MUTUAL, "", "")
    told = translate.resources(outside(entry, rule)).of(CLUSTER).resources["outbound|80||api.example.com"]
    cluster = cluster_pb2.Cluster()
    assert any_pb2.Any.FromString(told.body).Unpack(cluster)
    assert (cluster.type, len(cluster.load_assignment.endpoints)) == (cluster_pb2.Cluster.STATIC, 0)
    assert "nobody is connected to api.example.com" in findings[-1].message


def test_a_mistake_beside_the_encryption_leaves_the_rule_as_it_is() -> None:
    policy = {"trafficPolicy": {"tls": {"mode": "SIMPLE"}, "outlierDetection": {"consecutiveErors": 1}}}
    rule, findings = stored(kinds.DESTINATION_RULE, {"host": "api.example.com"} | policy)

    assert isinstance(rule, DestinationRule)
    assert rule.spec.traffic_policy is not None
    assert rule.spec.traffic_policy.tls == ClientTlsSettings(ClientTlsSettingsMode.SIMPLE)
    assert [finding.field for finding in findings] == ["spec.trafficPolicy.outlierDetection.consecutiveErors"]


@pytest.mark.parametrize("change", [{"resolution": "DNSS"}, {"location": 1}, {"endpoints": "10.0.0.1"}])
def test_hosts_of_an_entry_that_cannot_be_read_lead_nowhere(change: dict[str, Any]) -> None:
    """Unknown hosts are let through as the application calls them, past every rule for them."""
    entry, findings = stored(kinds.SERVICE_ENTRY, ENTRY | change)

    view = outside(entry)
    found = view.outbound.find("api.example.com")
    assert found is not None
    assert (found.discovery, [port.number for port in found.ports]) == (Discovery.PUSHED, [80])
    assert [each.endpoints for each in view.endpoints if each.host == "api.example.com"] in ([], [()])
    assert "nobody is connected to api.example.com" in findings[-1].message


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        (kinds.DESTINATION_RULE, {"host": 1}),
        (kinds.DESTINATION_RULE, "text"),
        (kinds.SERVICE_ENTRY, ENTRY | {"hosts": "api.example.com"}),
        (kinds.SERVICE_ENTRY, ENTRY | {"ports": [{"number": "eighty"}]}),
    ],
)
def test_what_names_no_host_is_left_out(kind: Kind, spec: Any) -> None:
    value, findings = stored(kind, spec)

    assert value is None
    assert "it counts for nothing" in findings[-1].message


def test_other_kinds_are_left_out() -> None:
    value, findings = stored(kinds.WORKLOAD_ENTRY, {"address": 1})

    assert value is None
    assert [finding.field for finding in findings] == ["spec.address"]

"""A policy that cannot be read denies, whatever it was meant to do."""

import json
from typing import Any

import msgspec
import pytest

from mutua.api import kinds
from mutua.api.findings import Finding
from mutua.api.kinds import AnyObject
from mutua.api.meshconfig import MeshConfig
from mutua.mesh import build
from mutua.mesh.objects import ObjectSet
from mutua.mesh.proxy_view import MtlsMode
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


def test_other_kinds_are_left_out() -> None:
    manifest = {"metadata": {"namespace": "apps", "name": "rule"}, "spec": {"host": 1}}
    value, findings = read(kinds.DESTINATION_RULE, msgspec.Raw(json.dumps(manifest).encode()))
    assert value is None
    assert findings

"""What a workload's ports accept, at the four levels."""

from typing import Any

import msgspec
import pytest

from mutua.api import decode, kinds
from mutua.api.security import PeerAuthentication
from mutua.mesh import peer_authentication
from mutua.mesh.peer_authentication import PeerPolicies
from mutua.mesh.proxy_view import MtlsMode, ObjectRef
from mutua.mesh.selectors import labels_of

ROOT = "istio-system"


def read(manifest: dict[str, Any]) -> PeerAuthentication:
    decoded = decode.from_mapping(kinds.PEER_AUTHENTICATION, manifest)
    assert isinstance(decoded.value, PeerAuthentication), decoded.findings
    return decoded.value


def policy(
    namespace: str, name: str, spec: dict[str, Any], created: str = "2024-01-01T00:00:00Z", dry_run: str = ""
) -> PeerAuthentication:
    metadata = {"namespace": namespace, "name": name, "creationTimestamp": created}
    annotations = {"istio.io/dry-run": dry_run} if dry_run else {}
    return read({"metadata": metadata | {"annotations": annotations}, "spec": spec})


def policies_of(vector: dict[str, Any], namespace: str) -> PeerPolicies:
    objects = [read(manifest) for manifest in vector["policies"]]
    return peer_authentication.policies_for(namespace, vector["mesh"]["rootNamespace"], objects)


@pytest.mark.vectors("mtls-mode", kind="server")
def test_effective_mode_agrees_with_istio(vector: dict[str, Any]) -> None:
    workload = vector["workload"]
    mode = peer_authentication.effective(policies_of(vector, workload["namespace"]), labels_of(workload["labels"]))
    port = vector["port"]
    assert (mode.on_port(port) if port else mode.default) == vector["expect"]
    for number, expected in (vector.get("expectPerPort") or {}).items():
        assert mode.on_port(int(number)) == expected


@pytest.mark.vectors("mtls-mode", kind="selection")
def test_the_policies_that_count_agree_with_istio(vector: dict[str, Any]) -> None:
    workload = vector["workload"]
    policies = policies_of(vector, workload["namespace"])
    chosen = peer_authentication.selected(policies, labels_of(workload["labels"]))
    assert [f"{item.source.namespace}/{item.source.name}" for item in chosen] == vector["expectSelected"]
    assert (peer_authentication.namespace_mode(policies) or "UNKNOWN") == vector["expectNamespaceMode"]


@pytest.mark.vectors("mtls-mode", kind="service")
def test_the_mode_of_a_service_agrees_with_istio(vector: dict[str, Any]) -> None:
    service = vector["service"]
    if service["meshExternal"] or service["resolution"] != "ClientSideLB":
        pytest.skip("where there is no endpoint there is no mode: each endpoint has its own")
    mode = peer_authentication.namespace_mode(policies_of(vector, service["namespace"]))
    assert (mode or MtlsMode.PERMISSIVE) == vector["expect"]


def test_each_level_overrides_the_one_above_and_unset_inherits() -> None:
    objects = [
        policy(ROOT, "default", {"mtls": {"mode": "STRICT"}}),
        policy("a", "default", {"mtls": {"mode": "PERMISSIVE"}}),
        policy(
            "a",
            "w",
            {"selector": {"matchLabels": {"app": "x"}}, "portLevelMtls": {"80": {"mode": "DISABLE"}, "81": {}}},
        ),
    ]
    policies = peer_authentication.policies_for("a", ROOT, objects)
    mode = peer_authentication.effective(policies, labels_of({"app": "x"}))
    assert (mode.default, mode.ports) == (MtlsMode.PERMISSIVE, ((80, MtlsMode.DISABLE), (81, MtlsMode.PERMISSIVE)))
    assert mode.decided_by == ObjectRef("PeerAuthentication", "a", "default")
    assert mode.ports_decided_by == ObjectRef("PeerAuthentication", "a", "w")
    other = peer_authentication.policies_for("b", ROOT, objects)
    assert peer_authentication.effective(other, labels_of({"app": "x"})).default is MtlsMode.STRICT


def test_the_oldest_of_a_level_wins_then_the_first_by_name() -> None:
    objects = [
        policy("a", "default", {"mtls": {"mode": "PERMISSIVE"}}, "2024-01-02T00:00:00Z"),
        policy("a", "strict-mtls", {"mtls": {"mode": "STRICT"}}, "2024-01-01T00:00:00Z"),
        policy("b", "z", {"mtls": {"mode": "STRICT"}}),
        policy("b", "y", {"mtls": {"mode": "DISABLE"}}),
    ]
    modes = {
        namespace: peer_authentication.effective(
            peer_authentication.policies_for(namespace, ROOT, objects), frozenset()
        ).default
        for namespace in ("a", "b")
    }
    assert modes == {"a": MtlsMode.STRICT, "b": MtlsMode.DISABLE}
    found = peer_authentication.ineffective(objects, ROOT)
    assert [(item.policy.metadata.name, item.older.metadata.name if item.older else "") for item in found] == [
        ("z", "y"),
        ("default", "strict-mtls"),
    ]


def test_a_selector_in_the_root_namespace_decides_nothing() -> None:
    objects = [policy(ROOT, "p", {"selector": {"matchLabels": {"app": "x"}}, "mtls": {"mode": "STRICT"}})]
    for namespace in (ROOT, "a"):
        policies = peer_authentication.policies_for(namespace, ROOT, objects)
        assert peer_authentication.effective(policies, labels_of({"app": "x"})).default is MtlsMode.PERMISSIVE
    assert peer_authentication.ineffective(objects, ROOT) == [(objects[0], None)]


@pytest.mark.parametrize("namespace", [ROOT, "a"])
@pytest.mark.parametrize("selector", [{}, {"selector": {"matchLabels": {"app": "x"}}}])
def test_a_policy_in_dry_run_changes_nothing_and_shadows_nobody(namespace: str, selector: dict[str, Any]) -> None:
    live = [policy("a", "default", {"mtls": {"mode": "PERMISSIVE"}}, "2024-01-02T00:00:00Z")]
    if selector:
        live.append(policy("a", "w", {**selector, "mtls": {"mode": "PERMISSIVE"}}, "2024-01-02T00:00:00Z"))
    tried = policy(namespace, "tried", {**selector, "mtls": {"mode": "STRICT"}}, dry_run="true")
    with_it = peer_authentication.policies_for("a", ROOT, [*live, tried])

    assert msgspec.structs.replace(with_it, rehearsed=None) == peer_authentication.policies_for("a", ROOT, live)
    assert peer_authentication.ineffective([*live, tried], ROOT) == []


def test_what_a_dry_run_would_refuse_is_what_takes_plaintext_now() -> None:
    labels = labels_of({"app": "x"})
    objects = [
        policy("a", "default", {"mtls": {"mode": "PERMISSIVE"}}),
        policy("a", "tried", {"mtls": {"mode": "STRICT"}}, "2024-01-03T00:00:00Z", dry_run="true"),
        policy(
            "a",
            "w",
            {"selector": {"matchLabels": {"app": "x"}}, "portLevelMtls": {"80": {"mode": "PERMISSIVE"}, "81": {}}},
        ),
        policy("b", "default", {"mtls": {"mode": "STRICT"}}),
        policy("b", "tried", {"mtls": {"mode": "STRICT"}}, dry_run="true"),
    ]
    policies = peer_authentication.policies_for("a", ROOT, objects)
    tried = ObjectRef("PeerAuthentication", "a", "tried")
    found = {port: peer_authentication.refused_by_dry_run(policies, labels, port) for port in (80, 81, 82)}

    assert found == {80: None, 81: tried, 82: tried}
    strict = peer_authentication.policies_for("b", ROOT, objects)
    assert peer_authentication.refused_by_dry_run(strict, labels, 80) is None


@pytest.mark.parametrize("value", ["false", "no", ""])
def test_any_other_value_of_the_annotation_is_no_dry_run(value: str) -> None:
    policies = peer_authentication.policies_for("a", ROOT, [policy("a", "p", {"mtls": {"mode": "STRICT"}}, "", value)])
    assert peer_authentication.effective(policies, frozenset()).default is MtlsMode.STRICT

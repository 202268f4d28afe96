"""Why a connection came without mutual TLS."""

from typing import Any

import pytest

from mutua.api import core, decode
from mutua.api.kinds import AnyObject
from mutua.api.meshconfig import MeshConfig
from mutua.api.meta import ObjectMeta
from mutua.mesh import build, workloads
from mutua.mesh.objects import ObjectSet
from mutua.mesh.proxy_view import MtlsMode, ObjectRef
from mutua.mesh.workloads import Workload
from mutua.verdict import plaintext
from mutua.verdict.plaintext import PlaintextEdge


def pod(name: str, address: str, *containers: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": "shop", "name": name, "labels": {"app": name}},
        "spec": {"containers": [{"name": item} for item in containers]},
        "status": {"phase": "Running", "podIP": address},
    }


PODS = (
    pod("web", "10.0.0.1", "web", "istio-proxy"),
    pod("meshed", "10.0.0.2", "meshed", "istio-proxy"),
    pod("bare", "10.0.0.3", "bare"),
)


def policy(mode: str, name: str = "all", **annotations: str) -> dict[str, Any]:
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "PeerAuthentication",
        "metadata": {"namespace": "shop", "name": name, "annotations": annotations},
        "spec": {"mtls": {"mode": mode}},
    }


def explained(client_address: str, *documents: dict[str, Any], departed: Workload | None = None) -> PlaintextEdge:
    objects: list[AnyObject] = []
    for document in (*PODS, *documents):
        value = decode.any_from_mapping(document).value
        assert value is not None
        objects.append(value)
    snapshot = build.snapshot(ObjectSet.of(objects), MeshConfig())
    server = snapshot.workload("shop", "web")
    assert server is not None
    return plaintext.explain(snapshot, client_address, server, 80, refused=False, departed=departed)


@pytest.mark.parametrize(
    ("address", "client", "reason"),
    [
        ("10.0.0.3", "shop/bare", "the client has no sidecar"),
        ("192.0.2.1", "192.0.2.1", "the client is no pod of this cluster"),
        ("10.0.0.2", "shop/meshed", "the connection does not pass the client's sidecar"),
    ],
)
def test_the_client_is_named_with_why_it_has_no_mutual_tls(address: str, client: str, reason: str) -> None:
    edge = explained(address)

    assert (edge.client, edge.server, edge.port) == (client, "shop/web", 80)
    assert edge.reason.startswith(reason)


def test_a_port_that_takes_no_mutual_tls_is_the_reason_itself() -> None:
    assert explained("10.0.0.2", policy("DISABLE")).reason.startswith("the port's mode is DISABLE")


def test_the_mode_and_who_decided_it_are_told() -> None:
    edge = explained("10.0.0.3", policy("STRICT"))

    assert edge.mode is MtlsMode.STRICT
    assert edge.policy is not None
    assert edge.policy.name == "all"
    assert explained("10.0.0.3").policy is None


def test_a_policy_in_dry_run_that_would_refuse_it_is_named() -> None:
    tried = policy("STRICT", "tried", **{"istio.io/dry-run": "true"})
    edge = explained("10.0.0.3", tried, policy("PERMISSIVE"))

    assert (edge.mode, edge.would_refuse) == (MtlsMode.PERMISSIVE, ObjectRef("PeerAuthentication", "shop", "tried"))
    assert explained("10.0.0.3", policy("PERMISSIVE")).would_refuse is None


def test_a_client_that_has_just_gone_is_named_too() -> None:
    gone = workloads.from_pod(core.Pod(metadata=ObjectMeta(name="job-1", namespace="batch")))
    edge = explained("10.0.0.9", departed=gone)

    assert (edge.client, edge.reason) == ("batch/job-1", "the client has no sidecar")

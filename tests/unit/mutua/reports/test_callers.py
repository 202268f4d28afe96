"""Who may call a workload, by service account and sidecar."""

from typing import Any

from mutua.api import decode
from mutua.api.kinds import AnyObject
from mutua.api.meshconfig import MeshConfig
from mutua.mesh import build
from mutua.mesh.objects import ObjectSet
from mutua.mesh.snapshot import MeshSnapshot
from mutua.reports import callers


def pod(name: str, address: str, account: str, *containers: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": "shop", "name": name, "labels": {"app": name}},
        "spec": {"serviceAccountName": account, "containers": [{"name": item} for item in containers]},
        "status": {
            "phase": "Running",
            "podIP": address,
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"namespace": "shop", "name": "web"},
    "spec": {"clusterIP": "10.96.0.9", "selector": {"app": "web"}, "ports": [{"name": "http", "port": 80}]},
}
SLICE = {
    "apiVersion": "discovery.k8s.io/v1",
    "kind": "EndpointSlice",
    "metadata": {"namespace": "shop", "name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
    "addressType": "IPv4",
    "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
    "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": True}}],
}
POLICY = {
    "apiVersion": "security.istio.io/v1",
    "kind": "AuthorizationPolicy",
    "metadata": {"namespace": "shop", "name": "friends"},
    "spec": {"rules": [{"from": [{"source": {"principals": ["cluster.local/ns/shop/sa/friend"]}}]}]},
}


def snapshot(*documents: dict[str, Any]) -> MeshSnapshot:
    objects: list[AnyObject] = []
    for document in documents:
        value = decode.any_from_mapping(document).value
        assert value is not None
        objects.append(value)
    return build.snapshot(ObjectSet.of(objects), MeshConfig())


def test_each_identity_gets_one_line_with_who_decided() -> None:
    mesh = snapshot(
        pod("web", "10.0.0.1", "web", "web", "istio-proxy"),
        pod("one", "10.0.0.2", "friend", "one", "istio-proxy"),
        pod("two", "10.0.0.3", "friend", "two", "istio-proxy"),
        pod("bare", "10.0.0.4", "friend", "bare"),
        pod("other", "10.0.0.5", "stranger", "other", "istio-proxy"),
        SERVICE,
        SLICE,
        POLICY,
    )
    server = mesh.workload("shop", "web")
    assert server is not None

    rows = [line.split()[:5] for line in callers.table(mesh, server, 0.0).splitlines()]

    assert rows == [
        ["CLIENT", "SIDECAR", "PORT", "VERDICT", "DECIDED"],
        ["shop/friend", "yes", "80", "allowed", "shop/friends"],
        ["shop/friend", "no", "80", "refused", "-"],
        ["shop/stranger", "yes", "80", "refused", "-"],
    ]

"""A pod and a Service in words, as istioctl's readers know them."""

from typing import Any

from mutua.api import decode
from mutua.api.kinds import AnyObject
from mutua.api.meshconfig import MeshConfig
from mutua.mesh import build
from mutua.mesh.objects import ObjectSet
from mutua.mesh.snapshot import MeshSnapshot
from mutua.reports import describe
from mutua.reports.authorization import NOTHING_MATCHES, InForce


def pod_document(name: str, *containers: str, **status: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": "shop", "name": name, "labels": {"app": "web"}},
        "spec": {"containers": [{"name": item, "ports": [{"containerPort": 80}]} for item in containers]},
        "status": {"phase": "Running", "podIP": "10.0.0.1", **status},
    }


SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"namespace": "shop", "name": "web"},
    "spec": {
        "clusterIP": "10.96.0.9",
        "selector": {"app": "web"},
        "ports": [{"name": "http", "port": 8000, "targetPort": 80}],
    },
}
POLICY = {
    "apiVersion": "security.istio.io/v1",
    "kind": "PeerAuthentication",
    "metadata": {"namespace": "shop", "name": "ports"},
    "spec": {
        "selector": {"matchLabels": {"app": "web"}},
        "mtls": {"mode": "STRICT"},
        "portLevelMtls": {"80": {"mode": "DISABLE"}},
    },
}


def of(*documents: dict[str, Any]) -> MeshSnapshot:
    objects: list[AnyObject] = []
    for document in documents:
        value = decode.any_from_mapping(document).value
        assert value is not None
        objects.append(value)
    return build.snapshot(ObjectSet.of(objects), MeshConfig())


WEB = pod_document("web-1", "web", "istio-proxy")


def test_a_pod_with_everything() -> None:
    policies = [InForce("ALLOW", "some.shop", 1, ("http",)), InForce("ALLOW", NOTHING_MATCHES, 1, ("tcp",))]

    assert describe.pod(WEB, of(WEB, SERVICE, POLICY), policies, "web-1.shop", unmeshed=False) == (
        "Pod: web-1.shop\n"
        "   Pod Revision: default\n"
        "   Pod Ports: 80 (web), 80 (istio-proxy)\n"
        "--------------------\n"
        "Service: web\n"
        "   Port: http 8000/HTTP targets pod port 80\n"
        "RBAC policies: some.shop\n"
        "--------------------\n"
        "Effective PeerAuthentication:\n"
        "   Workload mTLS mode: STRICT\n"
        "   Port Level mTLS mode:\n"
        "      80: DISABLE\n"
        "Applied PeerAuthentication:\n"
        "   ports.shop\n"
    )


def test_a_pod_outside_the_mesh_is_said_to_be_one_unless_that_is_known() -> None:
    bare = pod_document("web-1", "web")

    assert "WARNING: web-1 is not part of mesh" in describe.pod(bare, of(bare), [], "web-1", unmeshed=False)
    assert "not part of mesh" not in describe.pod(bare, of(bare), [], "web-1", unmeshed=True)
    assert "Warning: No Kubernetes Services select pod web-1" in describe.pod(
        bare, of(bare), [], "web-1", unmeshed=True
    )


def test_a_pod_that_waits_or_is_not_ready_says_so() -> None:
    pending = pod_document("web-1", "web", phase="Pending")
    unready = pod_document("web-1", "web", containerStatuses=[{"name": "web", "ready": False}])

    assert "   Pod is not Running (Pending)\n" in describe.pod(pending, of(pending), [], "web-1", unmeshed=True)
    assert "WARNING: Pod web-1 Container web NOT READY\n" in describe.pod(unready, of(unready), [], "x", unmeshed=True)


def test_a_service_names_what_is_not_guarded() -> None:
    snapshot = of(WEB, pod_document("web-2", "web", podIP="10.0.0.2"), SERVICE)
    found = snapshot.service("shop", "web")
    assert found is not None

    text = describe.service(found, snapshot)

    assert text.startswith("Service: web\n   Port: http 8000/HTTP targets pod port 80\n")
    assert text.endswith("WARNING: web-2 is not part of mesh; no Istio sidecar\n")


def test_a_service_without_pods() -> None:
    snapshot = of(SERVICE)
    found = snapshot.service("shop", "web")

    assert found is None or "no pods are behind" in describe.service(found, snapshot)


ENTRY = {
    "apiVersion": "networking.istio.io/v1",
    "kind": "ServiceEntry",
    "metadata": {"namespace": "shop", "name": "machines"},
    "spec": {
        "hosts": ["vm.test"],
        "location": "MESH_INTERNAL",
        "resolution": "STATIC",
        "addresses": ["240.0.0.1", "240.1.0.0/16"],
        "ports": [
            {"number": 80, "name": "http", "protocol": "HTTP"},
            {"number": 443, "name": "tls", "protocol": "TLS"},
        ],
        "endpoints": [{"address": "192.0.2.7", "serviceAccount": "vm", "ports": {"http": 8080}}],
    },
}
RULE = {
    "apiVersion": "networking.istio.io/v1",
    "kind": "DestinationRule",
    "metadata": {"namespace": "shop", "name": "vm"},
    "spec": {
        "host": "vm.test",
        "trafficPolicy": {"portLevelSettings": [{"port": {"number": 443}, "tls": {"mode": "SIMPLE"}}]},
    },
}


def test_a_host_of_a_service_entry() -> None:
    assert describe.entry("vm.test", "shop", of(ENTRY, RULE)) == (
        'ServiceEntry: machines.shop for "vm.test"\n'
        "   Endpoints: as written, or selected\n"
        "   Addresses: 240.0.0.1, 240.1.0.0/16\n"
        "   Port: http 80/HTTP, mutual TLS where it is taken\n"
        "      192.0.2.7:8080 takes mutual TLS\n"
        "   Port: tls 443/TLS, TLS (SIMPLE)\n"
        "      192.0.2.7:443 takes mutual TLS\n"
        'DestinationRule: vm.shop for "vm.test"\n'
        "   Traffic Policy TLS Mode: SIMPLE\n"
    )
    assert describe.entry("other.test", "shop", of(ENTRY)) == ""
    assert describe.entry("web.shop.svc.cluster.local", "shop", of(SERVICE)) == ""

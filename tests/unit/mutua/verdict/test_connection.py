"""Connections judged as they went in Istio's integration tests."""

from typing import Any

import pytest

from mutua.api import decode
from mutua.api.kinds import AnyObject
from mutua.api.meshconfig import MeshConfig
from mutua.mesh import build, view
from mutua.mesh.objects import ObjectSet
from mutua.mesh.proxy_view import Endpoint, ObjectRef
from mutua.verdict import connection, destination
from mutua.verdict.authorization import Authorization
from mutua.verdict.connection import Protection, Verdict
from mutua.verdict.request import Connection, HttpRequest


def read(manifest: dict[str, Any]) -> AnyObject:
    decoded = decode.any_from_mapping(manifest)
    assert decoded.value is not None, decoded.findings
    return decoded.value


def deployed(echo: dict[str, Any], number: int, port: dict[str, Any]) -> list[AnyObject]:
    """Pod, Service and slice of one echo deployment."""
    namespace, name, address = echo["namespace"], echo["name"], f"10.0.0.{number}"
    containers = [{"name": "app"}, *([{"name": "istio-proxy"}] if echo["sidecar"] else [])]
    metadata = {"namespace": namespace, "name": name}
    return [
        read(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {**metadata, "labels": echo["labels"]},
                "spec": {"containers": containers, "serviceAccountName": name},
                "status": {"phase": "Running", "podIP": address},
            }
        ),
        read(
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": metadata,
                "spec": {
                    "clusterIP": "None" if echo["headless"] else f"10.96.0.{number}",
                    "selector": echo["labels"],
                    "ports": [{"name": port["name"], "port": port["servicePort"], "targetPort": port["workloadPort"]}],
                },
            }
        ),
        read(
            {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {**metadata, "labels": {"kubernetes.io/service-name": name}},
                "addressType": "IPv4",
                "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
                "ports": [{"name": port["name"], "port": port["workloadPort"]}],
            }
        ),
    ]


def judged(
    config: list[dict[str, Any]], client: dict[str, Any], server: dict[str, Any], port: dict[str, Any]
) -> Verdict:
    objects = [*deployed(client, 1, port), *deployed(server, 2, port), *(read(manifest) for manifest in config)]
    snapshot = build.snapshot(ObjectSet.of(objects), MeshConfig())
    workload = snapshot.workload(client["namespace"], client["name"])
    assert workload is not None
    host = f"{server['name']}.{server['namespace']}.svc.cluster.local"
    (verdict,) = connection.judge(snapshot, workload, host, port["servicePort"])
    return verdict


@pytest.mark.vectors("reachability", kind="reachability")
def test_reachability_agrees_with_istio(vector: dict[str, Any]) -> None:
    if "subsets" in vector["server"]:
        pytest.skip("routes to subsets need VirtualService")
    verdict = judged(vector["config"], vector["client"], vector["server"], vector["port"])
    assert verdict.succeeds is (vector["expect"] == "success"), verdict.reason
    if verdict.succeeds:
        assert verdict.uses_mutual_tls is vector["expectMtls"], verdict.reason


@pytest.mark.vectors("reachability", kind="passthrough")
def test_ports_without_a_service_agree_with_istio(vector: dict[str, Any]) -> None:
    port = vector["port"] | {"servicePort": 1, "workloadPort": 1}
    decided = ("PeerAuthentication", "AuthorizationPolicy")
    policies = [read(manifest) for manifest in vector["config"] if manifest["kind"] in decided]
    snapshot = build.snapshot(ObjectSet.of([*deployed(vector["server"], 2, port), *policies]), MeshConfig())
    server = snapshot.workload(vector["server"]["namespace"], vector["server"]["name"])
    assert server is not None
    sent = Protection.MUTUAL_TLS if vector["clientSends"] == "mtls" else Protection.NONE
    number = vector["port"]["workloadPort"]
    verdict = connection.to_workload(snapshot, server, number, sent)
    inbound = snapshot.inbound(server.namespace).view(server)
    asked = Connection(source_ip="10.0.0.1", destination_ip="10.0.0.2", destination_port=number)
    request = HttpRequest() if vector["port"]["protocol"] == "HTTP" else None
    decision = Authorization(inbound.policies, inbound.trust).decide(asked, request)
    succeeds = verdict.succeeds and decision.allowed
    assert succeeds is (vector["expect"] == "success"), (verdict.reason, decision.reason)


@pytest.mark.vectors("reachability", kind="passthrough")
def test_what_is_sent_to_an_address_of_a_service_entry_agrees_with_istio(vector: dict[str, Any]) -> None:
    port = vector["port"] | {"servicePort": 1, "workloadPort": 1}
    config = [read(manifest) for manifest in vector["config"]]
    snapshot = build.snapshot(ObjectSet.of([*deployed(vector["client"], 1, port), *config]), MeshConfig())
    client = view.Proxy(vector["client"]["namespace"], vector["client"]["name"])
    called = (vector["server"]["podIP"], vector["port"]["workloadPort"])
    dialled = [
        item
        for service in view.for_proxy(snapshot, client).outbound.services
        for item in service.ports
        if (service.addresses, item.number) == ((called[0],), called[1]) and vector["client"]["sidecar"]
    ]
    sent = [connection.protection(item.tls, Endpoint(*called, False, "", "")) for item in dialled] or [Protection.NONE]
    assert (sent == [Protection.MUTUAL_TLS]) is (vector["clientSends"] == "mtls")
    workload = snapshot.workload(vector["client"]["namespace"], vector["client"]["name"])
    assert workload is not None
    port_at = destination.at_address(snapshot, workload, *called) if workload.has_sidecar else None
    assert port_at == (dialled[0] if dialled else None)


def echo(name: str, *, sidecar: bool = True) -> dict[str, Any]:
    return {"name": name, "namespace": "apps", "labels": {"app": name}, "sidecar": sidecar, "headless": False}


PORT = {"name": "http", "servicePort": 80, "workloadPort": 8080}
STRICT = {
    "apiVersion": "security.istio.io/v1",
    "kind": "PeerAuthentication",
    "metadata": {"namespace": "apps", "name": "strict-mtls"},
    "spec": {"mtls": {"mode": "STRICT"}},
}


def test_the_reason_names_the_policy() -> None:
    verdict = judged([STRICT], echo("naked", sidecar=False), echo("server"), PORT)
    assert (verdict.succeeds, verdict.protection) == (False, Protection.NONE)
    assert verdict.reason == "plaintext is refused: port 8080 is STRICT by PeerAuthentication apps/strict-mtls"
    assert verdict.server_policy == ObjectRef("PeerAuthentication", "apps", "strict-mtls")


@pytest.mark.parametrize(
    ("mode", "sidecar", "succeeds", "protection"),
    [
        ("ISTIO_MUTUAL", True, True, Protection.MUTUAL_TLS),
        ("ISTIO_MUTUAL", False, False, Protection.MUTUAL_TLS),
        ("DISABLE", True, False, Protection.NONE),
        ("DISABLE", False, True, Protection.NONE),
        ("SIMPLE", False, True, Protection.TLS),
        ("SIMPLE", True, False, Protection.TLS),
    ],
)
def test_destination_rules_against_strict(mode: str, sidecar: bool, succeeds: bool, protection: Protection) -> None:
    rule = {
        "apiVersion": "networking.istio.io/v1alpha3",
        "kind": "DestinationRule",
        "metadata": {"namespace": "apps", "name": "rule"},
        "spec": {"host": "server", "trafficPolicy": {"tls": {"mode": mode}}},
    }
    verdict = judged([STRICT, rule], echo("client"), echo("server", sidecar=sidecar), PORT)
    assert (verdict.succeeds, verdict.protection) == (succeeds, protection), verdict.reason
    assert verdict.client_rule == ObjectRef("DestinationRule", "apps", "rule")


def test_nothing_listens_nowhere() -> None:
    snapshot = build.snapshot(ObjectSet.of(deployed(echo("client"), 1, PORT)), MeshConfig())
    workload = snapshot.workload("apps", "client")
    assert workload is not None
    assert connection.judge(snapshot, workload, "absent.apps.svc.cluster.local", 80) == ()
    assert connection.judge(snapshot, workload, "client.apps.svc.cluster.local", 81) == ()

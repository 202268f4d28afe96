"""What a client's sidecar sends to an endpoint: DestinationRule, subset, port and the server's mode together."""

from typing import Any

import msgspec
import pytest

from mutua.api import decode, kinds
from mutua.api.kinds import Kind
from mutua.api.meshconfig import MeshConfig
from mutua.api.networking import ClientTlsSettings
from mutua.mesh import build, destination_rule, peer_authentication, view
from mutua.mesh.destination_rule import DestinationRules
from mutua.mesh.objects import ObjectSet
from mutua.mesh.proxy_view import ClientTls, ClientTlsMode, Endpoint, MtlsMode
from mutua.mesh.selectors import NO_LABELS, labels_of
from mutua.verdict.connection import Protection, protection

ROOT = "istio-system"
MODES = {
    "auto": ClientTlsMode.AUTO,
    "none": ClientTlsMode.DISABLE,
    "simple": ClientTlsMode.SIMPLE,
    "mutual": ClientTlsMode.MUTUAL,
    "istio-mtls": ClientTlsMode.ISTIO_MUTUAL,
}


def read(kind: Kind, manifest: dict[str, Any], namespace: str) -> Any:
    metadata = manifest["metadata"] | {"namespace": manifest["metadata"].get("namespace") or namespace}
    decoded = decode.from_mapping(kind, manifest | {"metadata": metadata})
    assert decoded.value is not None, decoded.findings
    return decoded.value


def dialled(vector: dict[str, Any], *, auto_mtls: bool) -> ClientTls:
    service = vector["service"]
    rules = DestinationRules(
        [read(kinds.DESTINATION_RULE, item, service["namespace"]) for item in vector["destinationRules"]],
        ROOT,
        "cluster.local",
    )
    namespaces = [item["metadata"].get("namespace") for item in vector["destinationRules"]]
    client = vector.get("client", {}).get("namespace") or next(filter(None, namespaces), service["namespace"])
    rule = rules.select(client, NO_LABELS, service["hostname"], service["namespace"])
    return destination_rule.tls_for(rule, vector["port"], auto_mtls=auto_mtls, subset=vector["subset"])


def names_at_server(vector: dict[str, Any]) -> tuple[str, ...]:
    """The names that a client of the vector's namespace expects behind a host of a Service and of ServiceEntries."""
    name, namespace = vector["service"]["hostname"].split(".")[:2]
    ports = [{"name": port["name"], "port": port["port"]} for port in vector["service"]["ports"]]
    service = {"metadata": {"name": name}, "spec": {"clusterIP": "10.96.0.1", "selector": {"app": "a"}, "ports": ports}}
    client = vector["client"]["namespace"]
    objects = [read(kinds.SERVICE, service, namespace)]
    objects += [read(kinds.SERVICE_ENTRY, item, client) for item in vector["serviceEntries"]]
    objects += [read(kinds.DESTINATION_RULE, item, client) for item in vector["destinationRules"]]
    made = build.snapshot(ObjectSet.of(objects), MeshConfig())
    found = view.for_proxy(made, view.Proxy(client)).outbound.find(vector["service"]["hostname"])
    assert found is not None
    return next(port.tls.subject_alt_names for port in found.ports if port.number == vector["port"])


@pytest.mark.vectors("client-tls", kind="cluster")
def test_the_settings_of_a_cluster_agree_with_istio(vector: dict[str, Any]) -> None:
    if "serviceEntries" in vector:
        assert names_at_server(vector) == tuple(sorted(vector["expect"]["san"]))
        return
    tls = dialled(vector, auto_mtls=vector.get("mesh", {}).get("enableAutoMtls", True))
    if vector.get("client", {}).get("proxyMetadata") and vector["expect"]["tls"] == "mutual":
        pytest.skip("certificate files of the proxy's own are not supported")
    assert tls.mode is MODES[vector["expect"]["tls"]]
    if tls.sni:
        assert tls.sni == vector["expect"]["sni"]


@pytest.mark.vectors("client-tls", kind="tls-settings")
def test_the_settings_and_the_server_decide_as_in_istio(vector: dict[str, Any]) -> None:
    if vector["client"]["proxyMetadata"]:
        pytest.skip("certificate files of the proxy's own are not supported")
    given, server = vector["destinationRuleTls"], vector["service"]
    settings = msgspec.convert(given, ClientTlsSettings) if given else None
    tls = destination_rule.client_tls(settings, auto_mtls=vector["mesh"]["enableAutoMtls"])
    takes = server["mtlsMode"] in ("STRICT", "PERMISSIVE") and not server["meshExternal"]
    sent = protection(tls, Endpoint("10.0.0.1", 80, takes, "default", "apps"))
    expected = {"istio-mtls": Protection.MUTUAL_TLS, "none": Protection.NONE}.get(
        vector["expect"]["tls"], Protection.TLS
    )
    assert sent is expected


@pytest.mark.vectors("client-tls", kind="endpoint")
def test_the_endpoints_that_get_mutual_tls_agree_with_istio(vector: dict[str, Any]) -> None:
    server = vector["endpoint"]
    policies = peer_authentication.policies_for(
        server["namespace"],
        vector["mesh"]["rootNamespace"],
        [read(kinds.PEER_AUTHENTICATION, item, ROOT) for item in vector["peerAuthentications"]],
    )
    mode = peer_authentication.effective(policies, labels_of(server["labels"])).on_port(server["port"])
    takes = server["tlsMode"] == "istio" and mode is not MtlsMode.DISABLE
    endpoint = Endpoint("10.0.0.1", server["port"], takes, "default", server["namespace"])
    sent = protection(dialled(vector, auto_mtls=True), endpoint)
    assert (sent is Protection.MUTUAL_TLS) is (vector["expect"]["endpointTlsModeMetadata"] == "istio")


@pytest.mark.vectors("mtls-mode", kind="endpoint")
def test_the_endpoints_without_mutual_tls_agree_with_istio(vector: dict[str, Any]) -> None:
    target = vector | {
        "peerAuthentications": vector["policies"],
        "endpoint": vector["workload"] | {"port": vector["port"]},
        "port": vector["service"]["port"],
        "expect": {"endpointTlsModeMetadata": "absent" if vector["expectEndpointMtlsDisabled"] else "istio"},
    }
    test_the_endpoints_that_get_mutual_tls_agree_with_istio(target)

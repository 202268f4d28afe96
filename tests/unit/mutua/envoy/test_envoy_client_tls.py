"""The TLS contexts of outbound clusters, as Istio makes them; where ours differ, the test says how and why."""

from typing import Any

import msgspec
import pytest
from envoy.config.cluster.v3 import cluster_pb2
from envoy.extensions.transport_sockets.tls.v3 import tls_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2
from google.protobuf import any_pb2

from mutua.api import decode
from mutua.api.networking import ClientTlsSettings
from mutua.envoy import clusters
from mutua.envoy.resource_set import Resource
from mutua.mesh import build, destination_rule
from mutua.mesh.proxy_view import (
    ClientTls,
    Discovery,
    Endpoint,
    MeshView,
    ObjectRef,
    OutboundPort,
    OutboundService,
    OutboundSubset,
    Protocol,
    Trust,
)
from mutua.mesh.snapshot import Settings

HOST = "foo.default.svc.cluster.local"


def client_tls(vector: dict[str, Any]) -> ClientTls:
    settings = vector.get("destinationRuleTls")
    return destination_rule.client_tls(
        msgspec.convert(settings, ClientTlsSettings) if settings else None,
        auto_mtls=vector.get("autoSettings") is not None,
        for_chosen_clients=vector.get("destinationRuleHasWorkloadSelector", False),
    )


def made(
    tls: ClientTls, protocol: Protocol, mesh: MeshView, discovery: Discovery = Discovery.PUSHED, subset: str = ""
) -> cluster_pb2.Cluster:
    rule = ObjectRef("DestinationRule", "default", "rule")
    named = (Endpoint("foo.example.com", 80, False, "", "default"),) if discovery is Discovery.DNS else ()
    subsets = (OutboundSubset(subset, frozenset(), tls),) if subset else ()
    plain = ClientTls() if subset else tls
    port = OutboundPort(80, "http", protocol, plain, rule, (), subsets=subsets, named_endpoints=named)
    service = OutboundService(HOST, "foo", "default", ("10.96.0.1",), (port,), discovery=discovery)
    return decoded(clusters.outbound(mesh, Trust(), service, port, subsets[0] if subsets else None))


def decoded(resource: Resource) -> cluster_pb2.Cluster:
    return cluster_pb2.Cluster.FromString(any_pb2.Any.FromString(resource.body).value)


def context_of(cluster: cluster_pb2.Cluster) -> tls_pb2.UpstreamTlsContext:
    socket = cluster.transport_socket or cluster.transport_socket_matches[0].transport_socket
    if cluster.transport_socket_matches:
        socket = cluster.transport_socket_matches[0].transport_socket
    return tls_pb2.UpstreamTlsContext.FromString(socket.typed_config.value)


def options_of(cluster: cluster_pb2.Cluster) -> http_protocol_options_pb2.HttpProtocolOptions:
    packed = cluster.typed_extension_protocol_options[clusters.HTTP_PROTOCOL_OPTIONS]
    return http_protocol_options_pb2.HttpProtocolOptions.FromString(packed.value)


def refuses(cluster: cluster_pb2.Cluster) -> bool:
    return cluster.type == cluster_pb2.Cluster.STATIC and not cluster.load_assignment.endpoints


@pytest.mark.vectors("client-tls", kind="tls-context")
def test_contexts_agree_with_istio(vector: dict[str, Any]) -> None:
    expect, tls = vector["expect"], client_tls(vector)
    if vector.get("client", {}).get("type") == "gateway":
        tls = msgspec.structs.replace(tls, credential_refused=False)  # a sidecar that a rule chooses is told the same
    protocol = Protocol.HTTP2 if vector.get("cluster", {}).get("http2") else Protocol.HTTP
    config, findings = decode.mesh_config(vector.get("mesh", {}))
    assert not findings
    mesh = build.mesh_view(Settings(config))
    # Istio makes a dynamic forward proxy of DYNAMIC_DNS, which is refused here; a host found by DNS is the nearest.
    discovery = Discovery.DNS if vector["id"].startswith("dfp/") else Discovery.PUSHED
    cluster = made(tls, protocol, mesh, discovery)
    if tls.credential_refused or expect.get("tls") == "error":
        # Istio sends plaintext for the one, and makes no cluster for the other.
        assert refuses(cluster)
        return
    assert not refuses(cluster)
    if "transportSocket" in expect:
        assert cluster.HasField("transport_socket") is expect["transportSocket"]
        assert bool(cluster.transport_socket_matches) is expect.get("transportSocketMatches", False)
    if expect.get("tls", "none") == "none":
        assert not (cluster.HasField("transport_socket") and "tls" not in expect and not expect["transportSocket"])
        return
    context = context_of(cluster)
    common = context.common_tls_context
    # Of the mesh's own kind we tell the server which protocol is inside; the user's own kind is as in Istio.
    if expect["tls"] in ("simple", "mutual"):
        assert list(common.alpn_protocols) == expect["alpn"]
    if "sni" in expect:
        assert context.sni == expect["sni"]
    if "autoSni" in expect:
        assert options_of(cluster).upstream_http_protocol_options.auto_sni is expect["autoSni"]
    default = list(MeshView().ecdh_curves)  # Istio leaves it to Envoy
    assert list(common.tls_params.ecdh_curves) == expect.get("ecdhCurves", default)
    names = [each.name for each in common.tls_certificate_sds_secret_configs]
    if "certificateSecret" in expect:
        assert names == ([expect["certificateSecret"]] if expect["certificateSecret"] else [])
    if expect.get("validationSecret"):
        validation = common.combined_validation_context
        wanted = expect["validationSecret"] + (f"~{expect['crl']}" if expect.get("crl") else "")
        assert validation.validation_context_sds_secret_config.name == wanted
        if "san" in expect:
            found = validation.default_validation_context.match_typed_subject_alt_names
            assert [each.matcher.exact for each in found] == expect["san"]
    elif "validation" in expect:
        assert not common.HasField("combined_validation_context")


@pytest.mark.vectors("client-tls", kind="metadata")
def test_a_server_outside_the_mesh_is_offered_no_protocol_of_the_mesh(vector: dict[str, Any]) -> None:
    """Istio marks such clusters, so that its filter does not overwrite their ALPN; ours has none to overwrite."""
    spec = vector["destinationRules"][0]["spec"]
    policy = spec.get("trafficPolicy") or spec["subsets"][0]["trafficPolicy"]
    tls = client_tls({"destinationRuleTls": policy["tls"] | {"clientCertificate": "a", "privateKey": "b"}})
    cluster = made(tls, Protocol.HTTP, MeshView(), subset=vector["subset"])
    assert not refuses(cluster) and list(context_of(cluster).common_tls_context.alpn_protocols) == []


@pytest.mark.vectors("client-tls", kind="transport-socket-matches")
def test_automatic_mutual_tls_is_chosen_endpoint_by_endpoint(vector: dict[str, Any]) -> None:
    """Without HBONE, which waypoints and ztunnels speak, the matches are Istio's."""
    expected = [
        (each["name"], each["socket"]["name"]) for each in vector["expect"]["matches"] if each["name"] != "hbone"
    ]
    matches = made(ClientTls(), Protocol.HTTP, MeshView()).transport_socket_matches
    assert [(each.name, each.transport_socket.name) for each in matches] == expected

"""Conformance vectors of AuthorizationPolicy as one Envoy: a filter chain per case, told apart by the client's port."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jwt
import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from envoy.config.bootstrap.v3 import bootstrap_pb2
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.endpoint.v3 import endpoint_components_pb2, endpoint_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_components_pb2, route_pb2
from envoy.extensions.filters.http.set_metadata.v3 import set_metadata_pb2
from envoy.extensions.filters.listener.proxy_protocol.v3 import proxy_protocol_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from envoy.extensions.transport_sockets.tls.v3 import common_pb2, tls_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2

from fakes.issuing_authority import Authority, Issued
from mutua.api.meshconfig import ExtensionProvider
from mutua.api.security import RequestAuthentication
from mutua.envoy import clusters, connections, listeners, names
from mutua.envoy.endpoints import socket_address
from mutua.envoy.filters import order
from mutua.envoy.pack import duration, packed
from mutua.envoy.telemetry import Served
from mutua.mesh import authorization_providers, request_authentication
from mutua.mesh.proxy_view import (
    AuthorizationAction,
    AuthorizationProvider,
    Condition,
    EffectivePolicy,
    InboundView,
    MeshView,
    MtlsMode,
    ObjectRef,
    Operation,
    Rule,
    Source,
    TokenRule,
    Trust,
)

FIRST_CLIENT_PORT = 10_000
PATIENCE_MS = 8_000
"""Some vectors give an authorizer two milliseconds, which a busy one in Python does not keep."""

PARTS = ("policies", "mesh", "workload", "requestAuthentications")
"""What a case's filter chain depends on, beside its request."""

TOKEN_HEADER = "x-test-token"
_KEY = ec.generate_private_key(ec.SECP256R1())
KEY_SET = json.dumps({"keys": [jwt.algorithms.ECAlgorithm.to_jwk(_KEY.public_key(), as_dict=True)]})
ECHO_PORT = 7
AUTHORIZERS = {
    ("allow", True): 21,
    ("deny", True): 22,
    ("unavailable", True): 29,
    ("allow", False): 31,
    ("deny", False): 32,
    ("unavailable", False): 39,
}
"""The ports of external authorizers, by what they answer and whether they are asked over HTTP."""

ECHO = "echo"
TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})

_FIELDS = {
    "principals": "principals",
    "requestPrincipals": "request_principals",
    "namespaces": "namespaces",
    "serviceAccounts": "service_accounts",
    "trustDomains": "trust_domains",
    "ipBlocks": "ip_blocks",
    "remoteIpBlocks": "remote_ip_blocks",
    "hosts": "hosts",
    "ports": "ports",
    "methods": "methods",
    "paths": "paths",
}


@dataclass(frozen=True)
class Case:
    """One vector, and from where and as whom to ask."""

    vector: Mapping[str, Any]
    client_port: int
    certificate: str  # path of the PEM with chain and key; "" = plaintext


def can_run(vector: Mapping[str, Any]) -> bool:
    """Whether the case needs no gateway, no switch of Istio's, and nothing that HTTP or bytes cannot carry."""
    request, mesh = vector["request"], vector["mesh"]
    return (
        vector.get("wire", True)
        and not {"numTrustedProxies", "features"} & mesh.keys()
        and (request["protocol"] == "http" or not request.get("envoy_metadata"))
    )


def bootstrap(
    vectors: Sequence[Mapping[str, Any]], authority: Authority, directory: Path
) -> tuple[bootstrap_pb2.Bootstrap, list[Case]]:
    """The Envoy that judges `vectors`, and how to ask it. The vectors are not to be changed meanwhile."""
    server = authority.issue(x509.UniformResourceIdentifier("spiffe://cluster.local/ns/foo/sa/httpbin"))
    certificates: dict[tuple[tuple[str, ...], str], str] = {}
    ports: dict[tuple[str, str], int] = {}
    parts: dict[tuple[int, ...], str] = {}
    chains: dict[int, list[Any]] = {}
    cases = []
    for vector in vectors:
        request = vector["request"]
        fixed = tuple(id(vector.get(name)) for name in PARTS)
        if fixed not in parts:
            parts[fixed] = json.dumps([vector.get(name) for name in PARTS])
        key = (parts[fixed], json.dumps(_setting(request)))
        if key not in ports:
            ports[key] = FIRST_CLIENT_PORT + len(ports)
            chain = _chain(vector, _tls(server, authority) if request["mtls"] else None)
            chain.filter_chain_match.source_ports.append(ports[key])
            chains.setdefault(request["destination_port"], []).append(chain)
        identity = _identity(request)
        if identity is not None and identity not in certificates:
            issued = authority.issue(*map(_name, identity[0]), organization=identity[1])
            path = directory / f"client-{len(certificates)}.pem"
            path.write_bytes(issued.key + issued.chain)
            certificates[identity] = str(path)
        cases.append(Case(vector, ports[key], certificates[identity] if identity else ""))
    made = bootstrap_pb2.Bootstrap()
    made.static_resources.listeners.extend(_listener(port, members) for port, members in chains.items())
    made.static_resources.clusters.append(_echo())
    made.static_resources.clusters.extend(_authorizer(*each) for each in AUTHORIZERS.items())
    return made, cases


def _identity(request: Mapping[str, Any]) -> tuple[tuple[str, ...], str] | None:
    """The names in the client's certificate, and its organization; None without mutual TLS."""
    if not request["mtls"]:
        return None
    names = request.get("cert_sans", [request["principal"]] if request["principal"] else [])
    return tuple(names), request.get("cert_subject", "").removeprefix("O=")


def _name(text: str) -> x509.GeneralName:
    kind, separator, rest = text.partition(":")
    return x509.DNSName(rest) if separator and kind == "dns" else x509.UniformResourceIdentifier(text)


def _setting(request: Mapping[str, Any]) -> list[Any]:
    names = ("protocol", "mtls", "destination_port", "envoy_metadata", "ext_authz")
    return [request.get(name) for name in names]


def _providers(vector: Mapping[str, Any]) -> tuple[AuthorizationProvider, ...]:
    """The providers of the vector's mesh, in the place of each an authorizer that answers as the vector says."""
    declared = msgspec.convert(vector["mesh"].get("extensionProviders", ()), tuple[ExtensionProvider, ...])
    answer = vector["request"].get("ext_authz", "allow")
    return tuple(
        msgspec.structs.replace(each, host=answer, port=AUTHORIZERS[answer, each.http], timeout_ms=PATIENCE_MS)
        for each in authorization_providers.of_mesh(declared)
    )


def _authorizer(key: tuple[str, bool], port: int) -> Any:
    answer, http = key
    cluster = _local(names.outbound_cluster(port, answer), port)
    if not http:
        options = http_protocol_options_pb2.HttpProtocolOptions()
        options.explicit_http_config.http2_protocol_options.SetInParent()
        cluster.typed_extension_protocol_options[clusters.HTTP_PROTOCOL_OPTIONS].CopyFrom(packed(options))
    return cluster


def _token_rules(vector: Mapping[str, Any]) -> tuple[TokenRule, ...]:
    """The vector's own rules, all issuers having our keys; or one that takes any issuer's token from a header."""
    documents = vector.get("requestAuthentications")
    if documents is None:
        return (TokenRule(ObjectRef("", "", ""), "", key_set=KEY_SET, from_headers=((TOKEN_HEADER, ""),)),)
    objects = [msgspec.convert(document, RequestAuthentication) for document in documents]
    key_sets = dict.fromkeys(request_authentication.key_set_locations(objects), KEY_SET)
    return request_authentication.selected(request_authentication.rules_of(objects, key_sets), frozenset())


def token(vector: Mapping[str, Any]) -> list[str]:
    """The header that brings a token with the vector's claims: name and value; [] if it has none."""
    claims = vector["request"]["jwt_claims"]
    if not claims:
        return []
    signed = _signed(json.dumps(claims))
    return ["authorization", f"Bearer {signed}"] if "requestAuthentications" in vector else [TOKEN_HEADER, signed]


@cache
def _signed(claims: str) -> str:
    return jwt.encode(json.loads(claims), _KEY, "ES256")


def policies(vector: Mapping[str, Any]) -> tuple[EffectivePolicy, ...]:
    """The policies that apply to the vector's workload."""
    root, workload = vector["mesh"]["rootNamespace"], vector["workload"]
    chosen = []
    for policy in vector["policies"]:
        namespace = policy["metadata"].get("namespace", "default")
        wanted = policy["spec"].get("selector", {}).get("matchLabels", {})
        if namespace in (root, workload["namespace"]) and wanted.items() <= workload.get("labels", {}).items():
            chosen.append(_policy(policy, namespace))
    return tuple(sorted(chosen, key=lambda each: (each.namespace != root, each.name)))


def _policy(policy: Mapping[str, Any], namespace: str) -> EffectivePolicy:
    spec, metadata = policy["spec"], policy["metadata"]
    return EffectivePolicy(
        namespace=namespace,
        name=metadata["name"],
        action=AuthorizationAction(spec.get("action", "ALLOW")),
        rules=tuple(_rule(rule) for rule in spec.get("rules") or ()),
        provider=(spec.get("provider") or {}).get("name", ""),
        dry_run=(metadata.get("annotations") or {}).get("istio.io/dry-run") in TRUE,
    )


def _rule(rule: Mapping[str, Any]) -> Rule:
    return Rule(
        sources=tuple(Source(**_values(each.get("source") or {})) for each in rule.get("from") or ()),
        operations=tuple(Operation(**_values(each.get("operation") or {})) for each in rule.get("to") or ()),
        conditions=tuple(
            Condition(each["key"], tuple(each.get("values") or ()), tuple(each.get("notValues") or ()))
            for each in rule.get("when") or ()
        ),
    )


def _values(fields: Mapping[str, list[str]]) -> dict[str, tuple[str, ...]]:
    found = {}
    for name, values in fields.items():
        if name in _FIELDS:
            found[_FIELDS[name]] = tuple(values or ())
        else:
            positive = name[3].lower() + name[4:]
            found[f"not_{_FIELDS[positive]}"] = tuple(values or ())
    return found


def _chain(vector: Mapping[str, Any], transport_socket: Any) -> Any:
    mesh, request = vector["mesh"], vector["request"]
    trust = Trust(domains=(mesh["trustDomain"], *mesh.get("trustDomainAliases", ())))
    view = InboundView(trust, MtlsMode.PERMISSIVE, (), (), policies(vector), _token_rules(vector))
    providers = _providers(vector)
    settings = MeshView(path_normalization=mesh.get("pathNormalization", "BASE"))
    if request["protocol"] == "http":
        filters = [*_metadata(request), *order.inbound_http(view, providers)]
        routes = _answer(order.inbound_route(view, providers))
        chain = [connections.inbound_requests(settings, "case", routes, filters, Served("", 0, mutual_tls=True))]
    else:
        chain = [
            *order.inbound_tcp(view, providers),
            connections.bytes_in(settings, ECHO, Served("", 0, mutual_tls=True)),
        ]
    return listeners.filter_chain("", chain, transport_socket=transport_socket, handshake_timeout=duration(5))


def _metadata(request: Mapping[str, Any]) -> list[Any]:
    """What an Envoy filter of somebody else's would have left."""
    if not request.get("envoy_metadata"):
        return []
    config = set_metadata_pb2.Config()
    entry = config.metadata.add(metadata_namespace="envoy.filters.a.b")
    entry.value.update({"c": request["envoy_metadata"]})
    return [http_connection_manager_pb2.HttpFilter(name="envoy.filters.http.set_metadata", typed_config=packed(config))]


def _answer(told: Mapping[str, Any]) -> Any:
    action = route_components_pb2.DirectResponseAction(status=200)
    route = route_components_pb2.Route(match=route_components_pb2.RouteMatch(prefix=""), direct_response=action)
    host = route_components_pb2.VirtualHost(name="any", domains=["*"], routes=[route])
    return route_pb2.RouteConfiguration(name="any", virtual_hosts=[host], typed_per_filter_config=told)


def _listener(port: int, chains: list[Any]) -> Any:
    return listener_pb2.Listener(
        name=str(port),
        address=socket_address("0.0.0.0", port),  # noqa: S104
        listener_filters=[_proxy_protocol(), listeners.tls_inspector()],
        filter_chains=chains,
    )


def _proxy_protocol() -> Any:
    """What is in front of the sidecar where a connection's first client is another than its peer."""
    settings = proxy_protocol_pb2.ProxyProtocol(allow_requests_without_proxy_protocol=True)
    return listener_pb2.Listener().listener_filters.add(
        name="envoy.filters.listener.proxy_protocol", typed_config=packed(settings)
    )


def _tls(server: Issued, authority: Authority) -> Any:
    """Mutual TLS without a look at the trust domain: the vectors say who got through the handshake."""
    certificate = common_pb2.TlsCertificate()
    certificate.certificate_chain.inline_bytes = server.chain
    certificate.private_key.inline_bytes = server.key
    common = tls_pb2.CommonTlsContext(tls_certificates=[certificate])
    common.validation_context.trusted_ca.inline_bytes = authority.root
    context = tls_pb2.DownstreamTlsContext(common_tls_context=common)
    context.require_client_certificate.value = True
    made = listener_pb2.Listener().filter_chains.add().transport_socket
    made.name = "envoy.transport_sockets.tls"
    made.typed_config.CopyFrom(packed(context))
    return made


def _echo() -> Any:
    return _local(ECHO, ECHO_PORT)


def _local(name: str, port: int) -> Any:
    endpoint = endpoint_components_pb2.LbEndpoint(
        endpoint=endpoint_components_pb2.Endpoint(address=socket_address("127.0.0.1", port))
    )
    assignment = endpoint_pb2.ClusterLoadAssignment(
        cluster_name=name, endpoints=[endpoint_components_pb2.LocalityLbEndpoints(lb_endpoints=[endpoint])]
    )
    return cluster_pb2.Cluster(name=name, type=cluster_pb2.Cluster.STATIC, load_assignment=assignment)

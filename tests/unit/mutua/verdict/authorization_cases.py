"""Conformance vectors of AuthorizationPolicy as values of ours."""

from collections.abc import Callable, Mapping
from typing import Any

from mutua.api import decode, kinds
from mutua.api.security import AuthorizationPolicy, RequestAuthentication
from mutua.mesh import authorization as selection
from mutua.mesh import authorization_providers
from mutua.mesh.authorization import SelectedPolicy
from mutua.mesh.proxy_view import AuthorizationProvider, EffectivePolicy, Trust
from mutua.mesh.selectors import labels_of
from mutua.verdict import tokens
from mutua.verdict.authorization import Answer, Authorization, Decision
from mutua.verdict.request import Connection, HttpRequest, Peer

Vector = Mapping[str, Any]
Reading = Callable[[AuthorizationPolicy], SelectedPolicy | None]


def decide(vector: Vector, instead: tuple[EffectivePolicy, ...] | None = None) -> Decision:
    """What the policies of the vector's workload, or others instead, say about its request."""
    mesh, request = vector["mesh"], vector["request"]
    authorization = Authorization(
        policies(vector) if instead is None else instead,
        Trust((mesh["trustDomain"], *mesh.get("trustDomainAliases", ()))),
        mesh.get("pathNormalization", "BASE"),
        providers(mesh),
    )
    answer = request.get("ext_authz")
    answers = {provider.name: Answer(answer) for provider in providers(mesh)} if answer else {}
    return authorization.decide(connection(vector), http_request(vector), claims(vector), answers)


def policies(vector: Vector, reading: Reading = selection.as_written) -> tuple[EffectivePolicy, ...]:
    """Those that apply; as written, what an admission webhook would refuse is among them."""
    root, workload = vector["mesh"]["rootNamespace"], vector["workload"]
    items = sorted(map(authorization_policy, vector["policies"]), key=lambda item: item.metadata.name)

    def of(namespace: str) -> tuple[SelectedPolicy, ...]:
        selected = (reading(item) for item in items if item.metadata.namespace == namespace)
        return tuple(policy for policy in selected if policy is not None)

    own = of(workload["namespace"]) if workload["namespace"] != root else ()
    return selection.applying(of(root), own, labels_of(workload.get("labels", {})))


def authorization_policy(manifest: Mapping[str, Any]) -> AuthorizationPolicy:
    """The typed object; without a namespace it is in `default`."""
    metadata = {"namespace": "default"} | manifest["metadata"]
    decoded = decode.from_mapping(kinds.AUTHORIZATION_POLICY, {**manifest, "metadata": metadata})
    assert isinstance(decoded.value, AuthorizationPolicy), decoded.findings
    return decoded.value


def providers(mesh: Mapping[str, Any]) -> tuple[AuthorizationProvider, ...]:
    """The providers that can be asked."""
    config, _ = decode.mesh_config({"extensionProviders": mesh.get("extensionProviders", [])})
    return authorization_providers.of_mesh(config.extension_providers)


def connection(vector: Vector) -> Connection:
    """The connection. What a PROXY header or a gateway found out about the client is taken as given."""
    request = vector["request"]
    knows_client = request["protocol"] == "tcp" or "numTrustedProxies" in vector["mesh"]
    metadata = request.get("envoy_metadata")
    return Connection(
        source_ip=request["source_ip"],
        destination_ip=request["destination_ip"],
        destination_port=request["destination_port"],
        peer=peer(request) if request["mtls"] else None,
        server_name=request["sni"] or "",
        client_ip=request.get("remote_ip") or "" if knows_client else "",
        metadata={"envoy.filters.a.b": {"c": metadata}} if metadata is not None else {},
    )


def peer(request: Mapping[str, Any]) -> Peer:
    """The client's certificate."""
    names = request.get("cert_sans")
    if names is None:
        return Peer((request["principal"],) if request["principal"] else ())
    return Peer(
        tuple(name for name in names if not name.startswith("dns:")),
        tuple(name.removeprefix("dns:") for name in names if name.startswith("dns:")),
        request.get("cert_subject") or "",
    )


def http_request(vector: Vector) -> HttpRequest | None:
    """The request; None for a connection without one."""
    request = vector["request"]
    if request["protocol"] == "tcp":
        return None
    headers = tuple(
        (name, line)
        for name, value in request["headers"].items()
        for line in (value if isinstance(value, list) else [value])
    )
    return HttpRequest(method=request["method"], target=request["path"], authority=request["host"], headers=headers)


def claims(vector: Vector) -> Mapping[str, Any] | None:
    """The payload as the token filter leaves it; None without a token."""
    given = vector["request"]["jwt_claims"]
    if not given:
        return None
    delimited = []
    for manifest in vector.get("requestAuthentications", ()):
        decoded = decode.from_mapping(kinds.REQUEST_AUTHENTICATION, manifest)
        assert isinstance(decoded.value, RequestAuthentication), decoded.findings
        delimited += [
            name
            for rule in decoded.value.spec.jwt_rules
            if rule.issuer == given.get("iss")
            for name in rule.space_delimited_claims
        ]
    return tokens.payload(given, delimited)

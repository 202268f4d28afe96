"""What a workload accepts: the chains of each mode as the conformance vectors say, and calls that they match."""

from typing import Any

import msgspec
import pytest
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2
from envoy.extensions.transport_sockets.tls.v3 import common_pb2, tls_pb2
from google.protobuf import any_pb2

from mutua.api import decode
from mutua.api.meshconfig import MeshConfig
from mutua.envoy import inbound, outbound, tls
from mutua.envoy.inbound import WAYS, Reading
from mutua.envoy.resource_set import LISTENER, ROUTE
from mutua.mesh import build
from mutua.mesh import view as view_of
from mutua.mesh.objects import ObjectSet
from mutua.mesh.proxy_view import (
    AuthorizationAction,
    EffectivePolicy,
    InboundPort,
    InboundView,
    MeshView,
    MtlsMode,
    Operation,
    Protocol,
    Rule,
    Trust,
)

TLS, PLAINTEXT = "tls", "raw_buffer"
PORTS = {70: Protocol.TCP, 80: Protocol.HTTP, 81: Protocol.AUTO, 82: None}


def view(mode: MtlsMode, ports: dict[int, Protocol | None] = PORTS, **more: Any) -> InboundView:
    """A workload with one mode for all its ports; a port without protocol is one that no service names."""
    named = tuple(InboundPort(number, protocol, mode, "foo.bar") for number, protocol in ports.items() if protocol)
    return InboundView(more.get("trust", Trust()), mode, more.get("port_modes", ()), named, ())


def listener(accepted: InboundView, mesh: MeshView = MeshView()) -> Any:  # noqa: B008
    """The virtualInbound listener."""
    return resources(accepted, LISTENER, listener_pb2.Listener, mesh)["virtualInbound"]


def resources(accepted: InboundView, type_url: str, kind: Any, mesh: MeshView = MeshView()) -> dict[str, Any]:  # noqa: B008
    """All resources of one type, by name."""
    section = inbound.fragment(mesh, accepted, ()).sections[type_url]
    return {name: unpacked(any_pb2.Any.FromString(each.body), kind) for name, each in section.resources.items()}


def unpacked(packed: Any, kind: Any) -> Any:
    made = kind()
    assert packed.Unpack(made)
    return made


def is_off(made: Any, inspector: str, port: int) -> bool:
    """Whether a listener filter is absent or disabled for connections to `port`."""
    found = next((each for each in made.listener_filters if each.name == f"envoy.filters.listener.{inspector}"), None)
    return found is None or (found.HasField("filter_disabled") and _matches(found.filter_disabled, port))


def _matches(predicate: Any, port: int) -> bool:
    match predicate.WhichOneof("rule"):
        case "or_match":
            return any(_matches(each, port) for each in predicate.or_match.rules)
        case "not_match":
            return not _matches(predicate.not_match, port)
        case _:
            return bool(predicate.destination_port_range.start <= port < predicate.destination_port_range.end)


def simulate(accepted: InboundView, call: dict[str, Any]) -> dict[str, Any]:
    """What Envoy does with one connection: which chain, which cluster, or which error."""
    made = listener(accepted)
    port, encrypted = call["port"], call["tls"] != "plaintext"
    speaks_http = call["protocol"] in ("http", "http2")
    transport = TLS if encrypted and not is_off(made, "tls_inspector", port) else PLAINTEXT
    offered = [call["alpn"]] if transport == TLS and call.get("alpn") else []
    if transport == PLAINTEXT and speaks_http and not encrypted and not is_off(made, "http_inspector", port):
        offered = ["h2c" if call["protocol"] == "http2" else "http/1.1"]
    chain = _chain(made, port, transport, offered)
    if chain is None:
        return {"error": "no-filter-chain", "ok": False}
    if chain.HasField("transport_socket") and call["tls"] != "mtls":
        return {"error": "mtls-error", "ok": False}
    last = chain.filters[-1]
    if last.name.endswith("tcp_proxy"):
        cluster = unpacked(last.typed_config, tcp_proxy_pb2.TcpProxy).cluster
        return {"clusterMatched": cluster, "filterChainMatched": chain.name, "ok": True}
    if not speaks_http or (encrypted and not chain.HasField("transport_socket")):
        return {"error": "protocol-error", "ok": False}
    manager = unpacked(last.typed_config, http_connection_manager_pb2.HttpConnectionManager)
    (host,) = resources(accepted, ROUTE, route_pb2.RouteConfiguration)[manager.rds.route_config_name].virtual_hosts
    return {
        "clusterMatched": host.routes[0].route.cluster,
        "virtualHostMatched": host.name,
        "filterChainMatched": chain.name,
        "ok": True,
    }


def _chain(made: Any, port: int, transport: str, offered: list[str]) -> Any:
    """Envoy's choice: by port, then by transport, then by the first protocol offered that a chain asks for."""
    chains = [each for each in made.filter_chains if each.filter_chain_match.destination_port.value == port]
    chains = chains or [each for each in made.filter_chains if not each.filter_chain_match.HasField("destination_port")]
    of_transport = [each for each in chains if each.filter_chain_match.transport_protocol == transport]
    chains = of_transport or [each for each in chains if not each.filter_chain_match.transport_protocol]
    for protocol in offered:
        for each in chains:
            if protocol in each.filter_chain_match.application_protocols:
                return each
    return next((each for each in chains if not each.filter_chain_match.application_protocols), None)


@pytest.mark.vectors("inbound-listeners", kind="filter-chains")
def test_the_chains_are_the_table_s(vector: dict[str, Any]) -> None:
    ways = WAYS[MtlsMode(vector["mode"]), Reading(vector["protocol"].lower())]

    assert [
        {
            "transportProtocol": way.transport,
            "applicationProtocols": list(way.application_protocols),
            "filter": "http_connection_manager" if way.http else "tcp_proxy",
            "terminatesMtls": way.mutual_tls,
        }
        for way in ways
    ] == vector["expect"]["chains"]
    alpn = vector["expect"]["mtlsServerAlpn"]
    assert (list(tls.HTTP_SERVER_ALPN), list(tls.TCP_SERVER_ALPN)) == (alpn["http"], alpn["tcp"])


@pytest.mark.vectors("inbound-listeners", kind="simulation", mode=frozenset(MtlsMode))
def test_calls_end_where_the_vectors_say(vector: dict[str, Any]) -> None:
    outcome = simulate(view(MtlsMode(vector["mode"])), vector["call"])

    checked = ("ok", "error", "clusterMatched", "virtualHostMatched", "filterChainMatched")
    expected = {key: value for key, value in vector["expect"].items() if key in checked}
    assert {key: outcome.get(key) for key in expected} == expected


@pytest.mark.vectors("inbound-listeners", kind="simulation", mode=None)
def test_calls_end_where_the_policies_of_the_vectors_say(vector: dict[str, Any]) -> None:
    if any(each["kind"] == "Sidecar" for each in vector["config"]):
        pytest.skip("the kind Sidecar is not served")
    objects = [_pod(vector["proxy"])]
    for manifest in vector["config"]:
        metadata = {"namespace": vector["proxy"]["namespace"], **manifest["metadata"]}
        decoded = decode.any_from_mapping(manifest | {"metadata": metadata})
        assert decoded.value is not None, decoded.findings
        objects.append(decoded.value)
    made = view_of.for_proxy(build.snapshot(ObjectSet.of(objects), MeshConfig()), view_of.Proxy("default", "it"))

    if vector["call"]["port"] == 15001:
        section = outbound.fragment(made.mesh, made.inbound.trust, made.outbound).sections[LISTENER]
        body = any_pb2.Any.FromString(section.resources["virtualOutbound"].body)
        _is_a_blackhole(unpacked(body, listener_pb2.Listener), 15001)
        return
    outcome = simulate(made.inbound, vector["call"])

    expected = {key: vector["expect"][key] for key in ("ok", "error", "clusterMatched") if key in vector["expect"]}
    named_by_entry = any(each["kind"] == "ServiceEntry" for each in vector["config"])
    if named_by_entry and expected.get("error") != "no-filter-chain":
        # A port that only a ServiceEntry names is at the workload like one that nobody names: bytes pass as bytes.
        expected = {"ok": True, "clusterMatched": "InboundPassthroughCluster"}
    assert {key: outcome.get(key) for key in expected} == expected


def _is_a_blackhole(made: Any, port: int) -> None:
    (chain,) = [each for each in made.filter_chains if each.filter_chain_match.destination_port.value == port]
    assert unpacked(chain.filters[-1].typed_config, tcp_proxy_pb2.TcpProxy).cluster == "BlackHoleCluster"


def _pod(proxy: dict[str, Any]) -> Any:
    metadata = {"namespace": proxy["namespace"], "name": "it", "labels": proxy["labels"]}
    spec = {"containers": [{"name": "istio-proxy"}]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
    return decode.any_from_mapping(pod | {"status": {"phase": "Running", "podIP": proxy["ip"]}}).value


@pytest.mark.vectors("inbound-listeners", kind="listener-filters")
def test_inspectors_are_off_where_nobody_asks(vector: dict[str, Any]) -> None:
    mode = vector["id"].removeprefix("inspectors/").upper()
    made = listener(view(MtlsMode(mode), {80: Protocol.HTTP, 81: Protocol.AUTO, 82: Protocol.TCP}))

    for inspector, key in (("http_inspector", "httpInspectorDisabled"), ("tls_inspector", "tlsInspectorDisabled")):
        for port, disabled in (vector["expect"][key] or {}).items():
            assert is_off(made, inspector, int(port)) == disabled, (inspector, port)


@pytest.mark.vectors("inbound-listeners", kind="virtual-inbound")
def test_the_listener_has_the_shape_that_tools_know(vector: dict[str, Any]) -> None:
    made = listener(view(MtlsMode(vector["mode"]), {8080: Protocol.HTTP}))
    names = [chain.name for chain in made.filter_chains]

    for name, count in vector["expect"].get("chainCountByName", {}).items():
        assert names.count(name) == count
    if "filterChains" in vector["expect"]:
        assert sorted(names) == sorted(each["name"] for each in vector["expect"]["filterChains"])
        assert [each.name for each in made.listener_filters] == vector["expect"]["listenerFilters"]


@pytest.mark.parametrize("mode", list(MtlsMode))
def test_a_port_that_no_service_names_keeps_its_own_mode(mode: MtlsMode) -> None:
    others = MtlsMode.DISABLE if mode is MtlsMode.STRICT else MtlsMode.STRICT
    accepted = view(others, port_modes=((9000, mode),))

    plain = simulate(accepted, {"port": 9000, "protocol": "http", "tls": "plaintext"})

    assert plain["ok"] == (mode is not MtlsMode.STRICT)
    assert plain.get("clusterMatched", "InboundPassthroughCluster") == "InboundPassthroughCluster"


def test_policies_about_requests_are_in_routes_so_that_no_connection_is_closed_for_them() -> None:
    """Envoy keeps the connections of a filter chain that a new listener holds unchanged."""
    rule = Rule(operations=(Operation(paths=("/private",)),))
    policy = EffectivePolicy("shop", "private", AuthorizationAction.DENY, (rule,))
    without = view(MtlsMode.STRICT)
    within = msgspec.structs.replace(without, policies=(policy,))

    before, after = listener(without).filter_chains, listener(within).filter_chains
    routes = resources(within, ROUTE, route_pb2.RouteConfiguration)

    for old, new in zip(before, after, strict=True):
        takes_requests = old.filters[-1].name.endswith("http_connection_manager")
        assert (old == new) == (takes_requests or "blackhole" in old.name)
    assert routes.keys() == {"inbound|80||", "inbound|81||", "InboundPassthroughCluster"}
    for route in routes.values():
        assert route.typed_per_filter_config.keys() == {"authorization.deny"}


def test_a_connection_to_the_sidecar_s_own_port_goes_nowhere() -> None:
    outcome = simulate(view(MtlsMode.PERMISSIVE), {"port": 15006, "protocol": "tcp", "tls": "plaintext"})

    assert outcome["clusterMatched"] == "BlackHoleCluster"


def test_callers_prove_an_identity_of_a_trusted_domain_with_every_connection() -> None:
    mesh = MeshView(min_tls_version="TLSV1_3", ecdh_curves=("P-256",), cipher_suites=("ECDHE-ECDSA-AES256-GCM-SHA384",))
    made = listener(view(MtlsMode.STRICT, trust=Trust(domains=("one.example", "two.example"))), mesh)

    for chain in made.filter_chains:
        if not chain.HasField("transport_socket"):
            continue
        context = unpacked(chain.transport_socket.typed_config, tls_pb2.DownstreamTlsContext)
        common = context.common_tls_context
        expected = common.combined_validation_context.default_validation_context.match_typed_subject_alt_names
        assert context.require_client_certificate.value
        assert context.disable_stateless_session_resumption
        assert context.disable_stateful_session_resumption
        assert [(each.san_type, each.matcher.safe_regex.regex) for each in expected] == [
            (common_pb2.SubjectAltNameMatcher.URI, r"spiffe://one\.example/[-_.a-zA-Z0-9/]+"),
            (common_pb2.SubjectAltNameMatcher.URI, r"spiffe://two\.example/[-_.a-zA-Z0-9/]+"),
        ]
        assert common.tls_params.tls_minimum_protocol_version == common_pb2.TlsParameters.TLSv1_3
        assert list(common.tls_params.ecdh_curves) == ["P-256"]
        assert list(common.tls_params.cipher_suites) == ["ECDHE-ECDSA-AES256-GCM-SHA384"]
    assert sum(chain.HasField("transport_socket") for chain in made.filter_chains) > 3

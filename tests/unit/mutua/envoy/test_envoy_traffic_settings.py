"""DestinationRules about load balancing, pools and outliers: what the client's Envoy is told."""

from typing import Any

import msgspec
import pytest
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2
from google.protobuf import any_pb2

from mutua.api.networking import DestinationRule
from mutua.envoy import outbound
from mutua.envoy.clusters import HTTP_PROTOCOL_OPTIONS
from mutua.envoy.resource_set import CLUSTER, LISTENER, ROUTE
from mutua.mesh import destination_rule
from mutua.mesh.destination_rule import DestinationRules
from mutua.mesh.proxy_view import (
    ClientTls,
    MeshView,
    OutboundPort,
    OutboundService,
    OutboundView,
    Protocol,
    TrafficSettings,
    Trust,
)

HOST = "backend.shop.svc.cluster.local"
KINDS = {CLUSTER: cluster_pb2.Cluster, LISTENER: listener_pb2.Listener, ROUTE: route_pb2.RouteConfiguration}


def settings(policy: dict[str, Any], port: int = 80) -> TrafficSettings:
    """What a rule with this traffic policy says about a port."""
    document = {"metadata": {"name": "rule", "namespace": "shop"}, "spec": {"host": HOST, "trafficPolicy": policy}}
    rules = DestinationRules([msgspec.convert(document, DestinationRule)], "istio-system", "cluster.local")
    return destination_rule.traffic_for(rules.select("shop", frozenset(), HOST, "shop"), port)


def told(policy: dict[str, Any], type_url: str, name: str, protocol: Protocol = Protocol.HTTP) -> Any:
    """One resource of a client under the policy."""
    port = OutboundPort(80, "", protocol, ClientTls(), None, (), settings(policy))
    service = OutboundService(HOST, "backend", "shop", ("10.96.0.1",), (port,))
    fragment = outbound.fragment(MeshView(), Trust(), OutboundView("shop", "cluster.local", (service,)))
    made = KINDS[type_url]()
    any_pb2.Any.FromString(fragment.sections[type_url].resources[name].body).Unpack(made)
    return made


def cluster(policy: dict[str, Any], protocol: Protocol = Protocol.HTTP) -> Any:
    """The cluster under the policy."""
    return told(policy, CLUSTER, f"outbound|80||{HOST}", protocol)


def options(made: Any) -> Any:
    """Its HTTP protocol options."""
    found = http_protocol_options_pb2.HttpProtocolOptions()
    made.typed_extension_protocol_options[HTTP_PROTOCOL_OPTIONS].Unpack(found)
    return found


@pytest.mark.parametrize(
    ("balancer", "policy"),
    [
        ({}, "LEAST_REQUEST"),
        ({"simple": "ROUND_ROBIN"}, "ROUND_ROBIN"),
        ({"simple": "RANDOM"}, "RANDOM"),
        ({"simple": "LEAST_CONN"}, "LEAST_REQUEST"),
        ({"simple": "PASSTHROUGH"}, "LEAST_REQUEST"),
        ({"consistentHash": {"useSourceIp": True}}, "RING_HASH"),
        ({"consistentHash": {"useSourceIp": True, "maglev": {"tableSize": 101}}}, "MAGLEV"),
    ],
)
def test_endpoints_are_chosen_as_the_rule_says(balancer: dict[str, Any], policy: str) -> None:
    made = cluster({"loadBalancer": balancer})

    assert cluster_pb2.Cluster.LbPolicy.Name(made.lb_policy) == policy
    if policy == "RING_HASH":
        assert made.ring_hash_lb_config.minimum_ring_size.value == 1024
    if policy == "MAGLEV":
        assert made.maglev_lb_config.table_size.value == 101


@pytest.mark.parametrize(
    ("hashing", "field", "value"),
    [
        ({"httpHeaderName": "x-user"}, "header", "x-user"),
        ({"httpCookie": {"name": "session", "ttl": "0s"}}, "cookie", "session"),
        ({"httpQueryParameterName": "user"}, "query_parameter", "user"),
        ({"useSourceIp": True}, "connection_properties", ""),
    ],
)
def test_what_is_hashed_is_said_by_the_route(hashing: dict[str, Any], field: str, value: str) -> None:
    routes = told({"loadBalancer": {"consistentHash": hashing}}, ROUTE, "80")
    host = next(each for each in routes.virtual_hosts if each.name.startswith(HOST))
    (policy,) = host.routes[0].route.hash_policy

    assert policy.WhichOneof("policy_specifier") == field
    assert value in (getattr(getattr(policy, field), name, "") for name in ("header_name", "name", "source_ip")) or (
        field == "connection_properties" and policy.connection_properties.source_ip
    )


def test_connections_of_bytes_are_told_apart_by_their_source() -> None:
    listener = told({"loadBalancer": {"consistentHash": {"useSourceIp": True}}}, LISTENER, "10.96.0.1_80", Protocol.TCP)
    proxy = tcp_proxy_pb2.TcpProxy()
    listener.filter_chains[0].filters[-1].typed_config.Unpack(proxy)

    assert [each.WhichOneof("policy_specifier") for each in proxy.hash_policy] == ["source_ip"]


def test_pools_are_limited() -> None:
    made = cluster(
        {
            "connectionPool": {
                "tcp": {
                    "maxConnections": 7,
                    "connectTimeout": "2s",
                    "maxConnectionDuration": "60s",
                    "tcpKeepalive": {"probes": 3, "time": "10s", "interval": "5s"},
                },
                "http": {
                    "http1MaxPendingRequests": 5,
                    "http2MaxRequests": 6,
                    "maxRetries": 2,
                    "maxRequestsPerConnection": 9,
                    "idleTimeout": "30s",
                    "maxConcurrentStreams": 11,
                },
            }
        },
        Protocol.GRPC,
    )
    limits, chosen = made.circuit_breakers.thresholds[0], options(made)

    assert (limits.max_connections.value, limits.max_pending_requests.value) == (7, 5)
    assert (limits.max_requests.value, limits.max_retries.value) == (6, 2)
    assert made.connect_timeout.seconds == 2
    assert made.upstream_connection_options.tcp_keepalive.keepalive_probes.value == 3
    common = chosen.common_http_protocol_options
    assert (common.max_requests_per_connection.value, common.idle_timeout.seconds) == (9, 30)
    assert common.max_connection_duration.seconds == 60
    assert chosen.explicit_http_config.http2_protocol_options.max_concurrent_streams.value == 11


def test_what_fails_is_left_out_for_a_while() -> None:
    made = cluster(
        {
            "outlierDetection": {
                "consecutive5xxErrors": 3,
                "consecutiveGatewayErrors": 0,
                "interval": "1s",
                "baseEjectionTime": "15s",
                "maxEjectionPercent": 100,
                "minHealthPercent": 30,
            }
        }
    )
    found = made.outlier_detection

    assert (found.consecutive_5xx.value, found.enforcing_consecutive_5xx.value) == (3, 100)
    assert (found.enforcing_consecutive_gateway_failure.value, found.enforcing_success_rate.value) == (0, 0)
    assert (found.interval.seconds, found.base_ejection_time.seconds, found.max_ejection_percent.value) == (1, 15, 100)
    assert made.common_lb_config.healthy_panic_threshold.value == 30
    assert not cluster({}).HasField("outlier_detection")


def test_port_level_settings_stand_alone() -> None:
    policy = {
        "connectionPool": {"tcp": {"maxConnections": 7}},
        "portLevelSettings": [{"port": {"number": 90}, "loadBalancer": {"simple": "RANDOM"}}],
    }

    assert settings(policy).connection_pool is not None
    assert settings(policy, 90).connection_pool is None
    assert settings(policy, 90).balancing == "RANDOM"


def test_what_should_go_through_a_tunnel_goes_nowhere() -> None:
    made = cluster({"tunnel": {"targetHost": "proxy.example", "targetPort": 443}})

    assert made.type == cluster_pb2.Cluster.STATIC
    assert not made.load_assignment.endpoints

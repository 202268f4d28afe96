"""What one Envoy is started with; the agent's tests start a real one with it."""

import json
from typing import Any

import msgspec
from envoy.config.bootstrap.v3 import bootstrap_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2  # noqa: F401
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2  # noqa: F401
from envoy.extensions.resource_monitors.downstream_connections.v3 import downstream_connections_pb2  # noqa: F401
from envoy.extensions.transport_sockets.tls.v3 import tls_pb2  # noqa: F401
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2  # noqa: F401
from google.protobuf import json_format

from mutua.envoy.bootstrap import Address, BootstrapSettings, bootstrap, node_id

SETTINGS = BootstrapSettings(
    node_id=node_id("10.1.2.3", "web-0", "shop"),
    node_cluster="web.shop",
    metadata={"NAMESPACE": "shop", "LABELS": {"app": "web"}},
    discovery=Address("istiod.istio-system.svc", 15012),
    discovery_name="istiod.istio-system.svc",
    sds_socket="/var/run/secrets/workload-spiffe-uds/socket",
)


def read(settings: BootstrapSettings) -> Any:
    """As plain JSON."""
    return json.loads(bootstrap(settings))


def test_every_field_is_one_that_envoy_knows() -> None:
    """Parsed strictly by Envoy's own message types, the extensions' too."""
    parsed = json_format.Parse(bootstrap(SETTINGS), bootstrap_pb2.Bootstrap())

    assert parsed.node.id == "sidecar~10.1.2.3~web-0.shop~shop.svc.cluster.local"
    assert {"prometheus_stats", "sds-grpc", "xds-grpc"} == {
        cluster.name for cluster in parsed.static_resources.clusters
    }


def test_equal_settings_give_equal_bytes() -> None:
    """Nothing of a clock or a dictionary's history is in it."""
    assert bootstrap(SETTINGS) == bootstrap(msgspec.structs.replace(SETTINGS))


def test_the_admin_interface_is_for_the_pod_itself() -> None:
    """On loopback, whatever address the other ports have."""
    admin = read(msgspec.structs.replace(SETTINGS, status_address="::"))["admin"]

    assert admin["address"]["socket_address"] == {"address": "127.0.0.1", "port_value": 15000}


def test_sockets_are_marked_only_on_request() -> None:
    """SO_MARK needs a right that a pod on Kubernetes does not have."""
    assert "upstream_bind_config" not in read(SETTINGS)["cluster_manager"]
    marked = read(msgspec.structs.replace(SETTINGS, mark=1337))["cluster_manager"]["upstream_bind_config"]
    assert marked["socket_options"] == [{"level": 1, "name": 36, "int_value": 1337, "state": "STATE_PREBIND"}]


def test_the_control_plane_must_have_its_name() -> None:
    """Any other certificate of the mesh is not enough to configure a proxy."""
    cluster = next(found for found in read(SETTINGS)["static_resources"]["clusters"] if found["name"] == "xds-grpc")
    validation = cluster["transport_socket"]["typed_config"]["common_tls_context"]["combined_validation_context"]

    assert (validation["default_validation_context"]["match_typed_subject_alt_names"]) == [
        {"san_type": "DNS", "matcher": {"exact": "istiod.istio-system.svc"}}
    ]
    assert validation["validation_context_sds_secret_config"]["name"] == "ROOTCA"


def test_without_configuration_envoy_is_not_ready() -> None:
    """It waits for clusters, listeners and certificates without limit."""
    text = bootstrap(SETTINGS).decode()

    assert text.count('"initial_fetch_timeout":"0s"') == 4


def test_a_locality_is_told_when_it_is_known() -> None:
    """Region, zone, subzone."""
    node = read(msgspec.structs.replace(SETTINGS, locality=("eu", "eu-1", "rack")))["node"]

    assert node["locality"] == {"region": "eu", "zone": "eu-1", "sub_zone": "rack"}
    assert "locality" not in read(SETTINGS)["node"]

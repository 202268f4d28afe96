"""Endpoints: where the connections of one cluster go, and which of them take mutual TLS."""

from collections.abc import Iterable
from typing import Any, Final

from envoy.config.core.v3 import address_pb2, base_pb2
from envoy.config.endpoint.v3 import endpoint_components_pb2, endpoint_pb2
from google.protobuf import wrappers_pb2

from mutua.envoy import names, telemetry
from mutua.envoy.memo import remembered
from mutua.envoy.pack import struct
from mutua.envoy.resource_set import ENDPOINT, Resource, resource
from mutua.envoy.telemetry_tags import Names
from mutua.mesh import owners
from mutua.mesh.proxy_view import Endpoint, LoadAssignment

TRANSPORT_SOCKET_MATCH: Final = "envoy.transport_socket_match"
LOAD_BALANCER: Final = "envoy.lb"
TLS_MODE_KEY: Final = "tlsMode"
TLS_MODE_ISTIO: Final = "istio"
ADDRESS_KEY: Final = "address"
"""The subset key by which a client that chose one pod of a headless service gets that pod."""

_MAX_WEIGHT: Final = 2**32 - 1


@remembered(limit=65536)
def load_assignment(assignment: LoadAssignment, addressable: bool) -> Resource:
    """The endpoints of one cluster. `addressable`: clients may also choose one of them by its address."""
    name = names.outbound_cluster(assignment.port, assignment.host, assignment.subset)
    return resource(name, ENDPOINT, of_cluster(name, assignment.endpoints, addressable=addressable))


def of_cluster(name: str, endpoints: Iterable[Endpoint], *, addressable: bool = False) -> Any:
    """The endpoints of one cluster, as a part of a resource."""
    message = endpoint_pb2.ClusterLoadAssignment(cluster_name=name)
    made = [_endpoint(each, addressable) for each in endpoints]
    if made:
        total = sum(each.load_balancing_weight.value for each in made)
        message.endpoints.append(
            endpoint_components_pb2.LocalityLbEndpoints(
                locality=base_pb2.Locality(),
                load_balancing_weight=wrappers_pb2.UInt32Value(value=min(total, _MAX_WEIGHT)),
                lb_endpoints=made,
            )
        )
    return message


def socket_address(address: str, port: int) -> address_pb2.Address:
    """An address as Envoy writes it."""
    return address_pb2.Address(socket_address=address_pb2.SocketAddress(address=address, port_value=port))


def _endpoint(endpoint: Endpoint, addressable: bool) -> Any:
    made = endpoint_components_pb2.LbEndpoint(
        endpoint=endpoint_components_pb2.Endpoint(address=socket_address(endpoint.address, endpoint.port)),
        load_balancing_weight=wrappers_pb2.UInt32Value(value=endpoint.weight),
    )
    metadata = made.metadata.filter_metadata
    labels = dict(endpoint.labels)
    service = owners.canonical_service(labels, endpoint.workload)
    metadata["istio"].CopyFrom(struct({"workload": f"{endpoint.workload};{endpoint.namespace};{service};;"}))
    if endpoint.workload:
        peer = Names(endpoint.workload, endpoint.namespace, owners.app(labels), service)
        metadata[telemetry.METADATA].CopyFrom(struct({"peer": peer.text}))
    if endpoint.mtls:
        # Here, and not on the cluster: a server's change of mode then touches endpoints only and drops no connection.
        metadata[TRANSPORT_SOCKET_MATCH].CopyFrom(struct({TLS_MODE_KEY: TLS_MODE_ISTIO}))
    if addressable:
        metadata[LOAD_BALANCER].CopyFrom(struct({ADDRESS_KEY: endpoint.address}))
    return made

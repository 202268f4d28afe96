"""Every Envoy resource name, written and parsed only here; the names are Istio's, so its tools and habits work."""

from typing import Final

import msgspec

VIRTUAL_INBOUND: Final = "virtualInbound"
VIRTUAL_INBOUND_HTTP: Final = "virtualInbound-catchall-http"
VIRTUAL_INBOUND_BLACKHOLE: Final = "virtualInbound-blackhole"
VIRTUAL_OUTBOUND: Final = "virtualOutbound"
VIRTUAL_OUTBOUND_TCP: Final = "virtualOutbound-catchall-tcp"
VIRTUAL_OUTBOUND_BLACKHOLE: Final = "virtualOutbound-blackhole"

PASSTHROUGH_CLUSTER: Final = "PassthroughCluster"
BLACKHOLE_CLUSTER: Final = "BlackHoleCluster"
INBOUND_PASSTHROUGH_CLUSTER: Final = "InboundPassthroughCluster"
EXTERNAL_AUTHORIZATION: Final = "authorization.external"
"""Begins the name of the filter that asks a provider; the provider's name follows."""

SDS_CLUSTER: Final = "sds-grpc"
"""The agent's socket; static, in the bootstrap."""

WORKLOAD_CERTIFICATE: Final = "default"
TRUST_BUNDLE: Final = "ROOTCA"

CREDENTIAL_SCHEME: Final = "kubernetes://"
AUTHORITIES_SUFFIX: Final = "-cacert"

INBOUND_PORT: Final = 15006
OUTBOUND_PORT: Final = 15001
ANY_ADDRESS: Final = "0.0.0.0"  # noqa: S104 (a listener for whatever was redirected to it)


class ClusterName(msgspec.Struct, frozen=True):
    """The parts of `direction|port|subset|host`."""

    direction: str
    port: int
    subset: str
    host: str


def outbound_cluster(port: int, host: str, subset: str = "") -> str:
    """The cluster of one port of a service, or of a subset of it, as its clients see it. `port` is the service's."""
    return f"outbound|{port}|{subset}|{host}"


def inbound_cluster(port: int) -> str:
    """The cluster of the application behind this sidecar. `port` is the workload's."""
    return f"inbound|{port}||"


def parse_cluster(name: str) -> ClusterName | None:
    """The parts of a cluster's name; None for one that is not made of them, such as PassthroughCluster."""
    parts = name.split("|")
    if len(parts) != 4 or not parts[1].isascii() or not parts[1].isdigit():
        return None
    return ClusterName(direction=parts[0], port=int(parts[1]), subset=parts[2], host=parts[3])


def server_name(port: int, host: str, subset: str = "") -> str:
    """The SNI by which a sidecar asks another for one port of a service."""
    return f"outbound_.{port}_.{subset}_.{host}"


def address_listener(address: str, port: int) -> str:
    """The listener, or filter chain, for one address and port."""
    return f"{address}_{port}"


def port_route(port: int) -> str:
    """The routes of all HTTP services with this port."""
    return str(port)


def service_route(host: str, port: int) -> str:
    """The routes of one service port whose protocol is found out on the wire."""
    return f"{host}:{port}"


def service_virtual_host(host: str, port: int) -> str:
    """The virtual host of one service port."""
    return f"{host}:{port}"


def inbound_virtual_host(port: int) -> str:
    """The one virtual host of an inbound port; 0 is any port that no service names."""
    return f"inbound|http|{port}"


def certificate_file(certificate: str, private_key: str) -> str:
    """The SDS name by which the agent serves a key pair from the pod's files."""
    return f"file-cert:{certificate}~{private_key}"


def authorities_file(path: str, revocation_list: str = "") -> str:
    """The SDS name by which the agent serves certificate authorities from a file; `system` is the host's own."""
    return f"file-root:{path}~{revocation_list}" if revocation_list else f"file-root:{path}"


def credential(secret: str) -> str:
    """The SDS name by which the control plane serves a key pair from a secret of the proxy's namespace."""
    return f"{CREDENTIAL_SCHEME}{secret}"


def credential_authorities(secret: str) -> str:
    """The same of the authorities beside that key pair."""
    return f"{CREDENTIAL_SCHEME}{secret}{AUTHORITIES_SUFFIX}"


def policy(namespace: str, name: str, rule: int) -> str:
    """One rule of an AuthorizationPolicy, as it appears in access logs and `authz check`."""
    return f"ns[{namespace}]-policy[{name}]-rule[{rule}]"


def custom_policy(provider: str, policy_name: str) -> str:
    """The same of a rule that asks an external authorizer."""
    return f"istio-ext-authz-{provider}-{policy_name}"


def destination_rule_path(namespace: str, name: str) -> str:
    """Where `proxy-config cluster` finds which DestinationRule shaped a cluster."""
    return f"/apis/networking.istio.io/v1/namespaces/{namespace}/destination-rule/{name}"

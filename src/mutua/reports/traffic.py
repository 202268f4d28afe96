"""Who talks to whom, how often and over what: the edges of a mesh, as its sidecars counted them."""

from enum import StrEnum

import msgspec


class Unit(StrEnum):
    """What an edge counts."""

    REQUESTS = "requests"
    CONNECTIONS = "connections"


class SeenBy(StrEnum):
    """Whose sidecar counted: the server's where it has one, else the client's."""

    SERVER = "server"
    CLIENT = "client"


class EdgeTraffic(msgspec.Struct, frozen=True):
    """One client and one server port, since the server's sidecar (or the client's) started.

    A client that is no pod has an address only; a server that is no workload has a service or nothing. Of `count`,
    `mutual_tls` came over the mesh's mutual TLS and `plaintext` did not, `errors` were answered with 5xx or not at all,
    `denied` by an authorization policy. `refused` are connections that the port's mode turned away: they are no part
    of `count`. What the client's sidecar sent and no server answered is an edge of its own, seen by the client.
    """

    source_namespace: str
    source_workload: str
    source_principal: str  # spiffe://…; "" unless proven
    source_address: str  # "" for a client that proved who it is
    destination_namespace: str
    destination_workload: str
    destination_service: str  # host; "" for a port that no service names
    destination_port: int  # the workload's if the server counted, the service's if the client did; 0 = not known
    protocol: str  # http, grpc, tcp
    unit: Unit
    seen_by: SeenBy
    count: int = 0
    mutual_tls: int = 0
    plaintext: int = 0
    errors: int = 0
    denied: int = 0
    refused: int = 0
    duration_sum_milliseconds: float = 0.0  # of all requests in `count`


class TrafficPage(msgspec.Struct, frozen=True):
    """What one replica of the control plane knows of the sidecars that are connected to it."""

    control_plane: str
    edges: tuple[EdgeTraffic, ...] = ()
    silent: tuple[str, ...] = ()  # "namespace/pod: why" of sidecars that did not answer

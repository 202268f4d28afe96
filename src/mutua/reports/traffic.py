"""Who called whom how often, as the control plane tells it: one line per client, server and port."""

import msgspec


class EdgeTraffic(msgspec.Struct, frozen=True):
    """Counters since the server's sidecars started. A client that is no workload has namespace "" and its address."""

    source_namespace: str
    source_workload: str
    source_principal: str
    destination_namespace: str
    destination_workload: str
    destination_service: str
    destination_port: int
    protocol: str
    unit: str
    mutual_tls: int = 0
    plaintext: int = 0
    errors: int = 0
    denied: int = 0
    refused: int = 0
    duration_ms: float = 0
    durations: int = 0

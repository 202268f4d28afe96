"""What an API server is started with."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field

from localcluster.paths import ClusterPaths
from localcluster.pki import ClusterPki


@dataclass(frozen=True, slots=True)
class Settings:
    """Where the cluster's files are, its keys, and its networks (docs/architecture.md has the addresses)."""

    paths: ClusterPaths
    pki: ClusterPki = field(repr=False)
    service_network: ipaddress.IPv4Network = field(default_factory=lambda: ipaddress.IPv4Network("10.96.0.0/16"))
    api_address: str = "10.96.0.1"
    first_node_port: int = 30000
    last_node_port: int = 32767

"""Tables of Services and of what stands behind and before them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from localcluster.apiserver.tables.cells import (
    AGE,
    NAME,
    NONE,
    UNSET,
    Cell,
    Column,
    Printer,
    age,
    labels,
    name_of,
    selector,
    shortened,
    wide,
)

Object = dict[str, Any]


def _service(item: Object, now: datetime) -> list[Cell]:
    spec = item.get("spec") or {}
    kind = spec.get("type") or "ClusterIP"
    ports = ",".join(
        f"{port['port']}:{port['nodePort']}/{port.get('protocol', 'TCP')}"
        if port.get("nodePort")
        else f"{port['port']}/{port.get('protocol', 'TCP')}"
        for port in spec.get("ports") or ()
    )
    return [
        name_of(item),
        kind,
        spec.get("clusterIP") or NONE,
        _external_address(item, kind),
        ports or NONE,
        age(item, now),
        labels(spec.get("selector")),
    ]


def _external_address(item: Object, kind: str) -> str:
    spec = item.get("spec") or {}
    if kind == "ExternalName":
        return str(spec.get("externalName") or "")
    given = list(spec.get("externalIPs") or ())
    if kind == "LoadBalancer":
        ingress = ((item.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
        given = [entry.get("ip") or entry.get("hostname") or "" for entry in ingress] + given
        return ",".join(given) or "<pending>"
    return ",".join(given) or NONE


def _endpoints(item: Object, now: datetime) -> list[Cell]:
    found: list[str] = []
    for subset in item.get("subsets") or ():
        addresses = [address.get("ip", "") for address in subset.get("addresses") or ()]
        ports = subset.get("ports") or ()
        if ports:
            found += [_host_and_port(address, port.get("port", 0)) for port in ports for address in addresses]
        else:
            found += addresses
    return [name_of(item), shortened(found), age(item, now)]


def _host_and_port(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _endpoint_slice(item: Object, now: datetime) -> list[Cell]:
    ports = [str(port["port"]) if port.get("port") else UNSET for port in item.get("ports") or ()]
    addresses = [address for endpoint in item.get("endpoints") or () for address in endpoint.get("addresses") or ()]
    return [
        name_of(item),
        item.get("addressType", ""),
        shortened(ports) if ports else UNSET,
        shortened(addresses) if addresses else UNSET,
        age(item, now),
    ]


def _ingress(item: Object, now: datetime) -> list[Cell]:
    spec = item.get("spec") or {}
    hosts = [rule["host"] for rule in spec.get("rules") or () if rule.get("host")]
    entries = ((item.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    addresses = ",".join(entry.get("ip") or entry.get("hostname") or "" for entry in entries)
    return [
        name_of(item),
        spec.get("ingressClassName") or NONE,
        shortened(hosts) if hosts else "*",
        addresses,
        "80, 443" if spec.get("tls") else "80",
        age(item, now),
    ]


def _network_policy(item: Object, now: datetime) -> list[Cell]:
    return [name_of(item), selector((item.get("spec") or {}).get("podSelector")), age(item, now)]


SERVICES = Printer(
    (
        NAME,
        Column("Type"),
        Column("Cluster-IP"),
        Column("External-IP"),
        Column("Port(s)"),
        AGE,
        wide("Selector"),
    ),
    _service,
)
ENDPOINTS = Printer((NAME, Column("Endpoints"), AGE), _endpoints)
ENDPOINT_SLICES = Printer((NAME, Column("AddressType"), Column("Ports"), Column("Endpoints"), AGE), _endpoint_slice)
INGRESSES = Printer(
    (NAME, Column("Class"), Column("Hosts"), Column("Address"), Column("Ports"), AGE),
    _ingress,
)
NETWORK_POLICIES = Printer((NAME, Column("Pod-Selector"), AGE), _network_policy)

"""The table of an Envoy's listeners: what arrives where, and where it goes."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from mutua.reports import routes
from mutua.reports.table import render

HEADER = ("ADDRESSES", "PORT", "MATCH", "DESTINATION")
SHORT_HEADER = ("ADDRESSES", "PORT", "TYPE")

_HTTP = "envoy.filters.network.http_connection_manager"
_TCP = "envoy.filters.network.tcp_proxy"
_PLAIN = ["http/1.0", "http/1.1", "h2c"]
_ISTIO_HTTP = ["istio-http/1.0", "istio-http/1.1", "istio-h2"]
# Lists of application protocols that have a name of their own. Source: Istio's listener table.
_APPLICATIONS = (
    (_PLAIN, "HTTP"),
    (["istio", *_ISTIO_HTTP], "Istio HTTP Plain"),
    ([*_PLAIN, *_ISTIO_HTTP], "HTTP TLS"),
    (["istio-peer-exchange", "istio"], "TCP TLS"),
)

Document = Mapping[str, Any]


class ListenerFilter(NamedTuple):
    """What to show; "" and 0 = all. `type` is HTTP, TCP, HTTP+TCP or UNKNOWN, in any case."""

    address: str = ""
    port: int = 0
    type: str = ""

    def accepts(self, listener: Document) -> bool:
        """Whether this listener is shown."""
        return (
            (not self.address or self.address in addresses(listener))
            and (not self.port or self.port == port(listener))
            and (not self.type or self.type.casefold() == kind(listener).casefold())
        )


def table(listeners: Iterable[Document], *, verbose: bool = True, prefix: str = "") -> str:
    """One row per filter chain, or with `verbose` off one per listener. With a prefix, a column names the listener."""
    ordered = sorted(listeners, key=lambda listener: (port(listener), addresses(listener), kind(listener)))
    rows: list[tuple[str, ...]] = []
    for listener in ordered:
        name = (prefix + str(listener.get("name", "")),) if prefix else ()
        place = (*name, ",".join(addresses(listener)), str(port(listener)))
        if not verbose:
            rows.append((*place, kind(listener)))
            continue
        chains = [(match(chain), destination(chain)) for chain in _chains(listener)]
        rows += [(*place, *chain) for chain in sorted(chains, key=lambda chain: chain[1], reverse=True)]
    header = HEADER if verbose else SHORT_HEADER
    return render(("NAME", *header) if prefix else header, rows, padding=1)


def addresses(listener: Document) -> list[str]:
    """All addresses that it listens on."""
    places = [listener.get("address") or {}]
    places += [extra.get("address") or {} for extra in listener.get("additional_addresses") or ()]
    return [_address(place) for place in places]


def port(listener: Document) -> int:
    """Its port; 0 for one without."""
    return int(((listener.get("address") or {}).get("socket_address") or {}).get("port_value", 0))


def kind(listener: Document) -> str:
    """HTTP, TCP, HTTP+TCP or UNKNOWN, by its filters."""
    found = {entry.get("name") for chain in _chains(listener) for entry in chain.get("filters") or ()}
    words = [word for name, word in ((_HTTP, "HTTP"), (_TCP, "TCP")) if name in found]
    return "+".join(words) or "UNKNOWN"


def match(chain: Document) -> str:
    """Which connections a filter chain takes, in words; `ALL` without conditions."""
    rule = chain.get("filter_chain_match") or {}
    parts = []
    if names := rule.get("server_names"):
        parts.append(f"SNI: {','.join(names)}")
    if transport := rule.get("transport_protocol"):
        parts.append(f"Trans: {transport}")
    if protocols := rule.get("application_protocols"):
        label = next((word for listed, word in _APPLICATIONS if listed == protocols), ",".join(protocols))
        parts.append(f"App: {label}")
    ranges = ",".join(
        f"{part['address_prefix']}/{part.get('prefix_len', 0)}" for part in rule.get("prefix_ranges") or ()
    )
    to_port = rule.get("destination_port")
    if ranges and to_port:
        parts.append(f"Addr: {ranges}:{to_port}")
    elif ranges:
        parts.append(f"Addr: {ranges}")
    elif to_port:
        parts.append(f"Addr: *:{to_port}")
    return "; ".join(parts) or "ALL"


def destination(chain: Document) -> str:
    """Where a filter chain leads: a cluster, a route, or nowhere that we know."""
    for entry in chain.get("filters") or ():
        config = entry.get("typed_config") or {}
        if entry.get("name") == _HTTP:
            return _http_destination(config)
        if entry.get("name") == _TCP:
            cluster = str(config.get("cluster", ""))
            if not cluster:
                weighted = (config.get("weighted_clusters") or {}).get("clusters") or ()
                cluster = ",".join(str(part.get("name", "")) for part in weighted)
            if "BlackHole" not in cluster:
                return _cluster(cluster)
    return "Non-HTTP/Non-TCP"


def _http_destination(config: Document) -> str:
    if "route_config" in config:
        hosts = config["route_config"].get("virtual_hosts") or ()
        only = _only_cluster(hosts)
        if only:
            return _cluster(only)
        return "Inline Route: " + "; ".join(_inline(host) for host in hosts)
    name = (config.get("rds") or {}).get("route_config_name")
    return f"Route: {name}" if name else "HTTP"


def _only_cluster(hosts: Iterable[Document]) -> str:
    """The cluster, if everything goes to one; else ""."""
    hosts = list(hosts)
    if len(hosts) != 1 or len(hosts[0].get("routes") or ()) != 1 or hosts[0].get("domains") != ["*"]:
        return ""
    route = hosts[0]["routes"][0]
    everything = (route.get("match") or {}).get("prefix") == "/"
    return str((route.get("route") or {}).get("cluster", "")) if everything else ""


def _inline(host: Document) -> str:
    names = list(host.get("domains") or ())
    paths = ", ".join(routes.match(route.get("match") or {}) for route in host.get("routes") or ())
    return paths if names == ["*"] else f"{','.join(names)} {paths}"


def _cluster(name: str) -> str:
    return name if "Cluster" in name else f"Cluster: {name}"


def _chains(listener: Document) -> list[Document]:
    chains = list(listener.get("filter_chains") or ())
    return [*chains, listener["default_filter_chain"]] if "default_filter_chain" in listener else chains


def _address(place: Document) -> str:
    if "pipe" in place:
        return f"unix://{place['pipe'].get('path', '')}"
    return str((place.get("socket_address") or {}).get("address", ""))

"""What each proxy has of what it should have: the tables of `proxy-status`, and what the control plane says of it."""

import re
from collections.abc import Iterable
from datetime import datetime

import msgspec

from mutua.mesh.proxy_view import MtlsMode
from mutua.reports.table import render
from mutua.xds.sync_state import SyncState

_HEADER = ("NAME", "CLUSTER", "ISTIOD", "VERSION", "SUBSCRIBED TYPES")
_POLICY = re.compile(r"ns\[([^]]*)\]-policy\[([^]]*)\]")


class Rejected(msgspec.Struct, frozen=True):
    """One resource that an Envoy refused: its words, and the object that the resource was made from, if known."""

    resource: str
    reason: str
    object: str = ""  # as in "DestinationRule shop/default"


class TypeState(msgspec.Struct, frozen=True):
    """One type of resource: CDS, EDS, LDS or RDS."""

    type: str
    state: SyncState
    rejected: tuple[Rejected, ...] = ()


class ProxyState(msgspec.Struct, frozen=True):
    """One connected proxy, as the control plane sees it."""

    pod: str
    namespace: str
    identity: str
    control_plane: str  # the pod that it is connected to
    version: str
    cluster: str
    types: tuple[TypeState, ...] = ()
    error: str = ""  # why its configuration cannot be made; "" = it can
    mode: MtlsMode | None = None  # what it was told last to accept, on ports that `port_modes` does not name
    port_modes: tuple[tuple[int, MtlsMode], ...] = ()  # ascending

    @property
    def name(self) -> str:
        """`pod.namespace`."""
        return f"{self.pod}.{self.namespace}"

    def accepts(self, port: int) -> MtlsMode | None:
        """What it was told last to accept on one of the workload's ports."""
        return next((mode for number, mode in self.port_modes if number == port), self.mode)

    @property
    def has_its_listeners(self) -> bool:
        """Whether Envoy has acknowledged what it was told last to accept."""
        return any(item.type == "LDS" and item.state is SyncState.SYNCED for item in self.types)


class PlaintextSeen(msgspec.Struct, frozen=True):
    """One client that speaks to one server's port without mutual TLS, as the control plane saw it.

    `dry_run` is the policy in dry run, namespace/name, that would have refused `would_refuse` of the connections.
    """

    client: str
    server: str
    port: int
    refused: bool
    connections: int
    reason: str
    dry_run: str = ""
    would_refuse: int = 0
    first_seen: datetime | None = None
    last_seen: datetime | None = None


def cause(resource: str, reason: str, rule: str = "") -> str:
    """The object behind a refused resource: a policy that Envoy's words name, or the rule that shaped a cluster."""
    if match := _POLICY.search(reason) or _POLICY.search(resource):
        return f"AuthorizationPolicy {match[1]}/{match[2]}"
    return rule


def table(proxies: Iterable[ProxyState]) -> str:
    """One row per proxy with the types that it subscribes to, by name."""
    rows = []
    for proxy in sorted(proxies, key=lambda item: item.name):
        types = [item.type for item in _in_order(proxy)]
        subscribed = f"{len(types)} ({','.join(types)})" if types else "0"
        rows.append((proxy.name, proxy.cluster, proxy.control_plane, proxy.version, subscribed))
    return render(_HEADER, rows, padding=5)


def verbose_table(proxies: Iterable[ProxyState]) -> str:
    """One row per proxy with the state of every type."""
    found = sorted(proxies, key=lambda item: item.name)
    types = ("CDS", "EDS", "LDS", "RDS")
    rows = []
    for proxy in found:
        states = {item.type: item.state.value for item in proxy.types}
        rows.append(
            (
                proxy.name,
                proxy.cluster,
                *(states.get(kind, SyncState.NOT_SENT.value) for kind in types),
                proxy.control_plane,
                proxy.version,
            )
        )
    return render(("NAME", "CLUSTER", *types, "ISTIOD", "VERSION"), rows, padding=5)


def troubles(proxies: Iterable[ProxyState]) -> list[str]:
    """A line per refused resource and per proxy without configuration, with the reason and the object behind it."""
    lines = []
    for proxy in sorted(proxies, key=lambda item: item.name):
        if proxy.error:
            lines.append(f"{proxy.name}: its configuration cannot be made: {proxy.error}")
        for kind in proxy.types:
            for item in kind.rejected:
                behind = f"; caused by {item.object}" if item.object else ""
                lines.append(f"{proxy.name}: refused {kind.type} {item.resource}: {item.reason}{behind}")
            if kind.state is SyncState.STALE:
                lines.append(f"{proxy.name}: has not acknowledged its newest {kind.type} yet")
    return lines


def refusals(proxies: Iterable[ProxyState]) -> list[str]:
    """What these proxies refused, in Envoy's words, with the object behind it."""
    return [
        f"{kind.type} {item.resource}: {item.reason}" + (f" (from {item.object})" if item.object else "")
        for proxy in proxies
        for kind in proxy.types
        for item in kind.rejected
    ]


def refused_objects(proxies: Iterable[ProxyState]) -> list[str]:
    """The objects behind what these proxies refused, each once."""
    found = (item.object for proxy in proxies for kind in proxy.types for item in kind.rejected)
    return list(dict.fromkeys(filter(None, found)))


def _in_order(proxy: ProxyState) -> list[TypeState]:
    order = ("CDS", "LDS", "EDS", "RDS")
    sent = [item for item in proxy.types if item.state is not SyncState.NOT_SENT]
    return sorted(sent, key=lambda item: order.index(item.type))

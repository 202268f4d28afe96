"""What clients can dial: the Services that a namespace sees, and how each port is dialled."""

import ipaddress
from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from mutua.mesh import destination_rule, visibility
from mutua.mesh.destination_rule import DestinationRules, MergedRule
from mutua.mesh.endpoints import Reachable
from mutua.mesh.proxy_view import (
    ClientTls,
    ClientTlsMode,
    Discovery,
    Endpoint,
    LoadAssignment,
    ObjectRef,
    OutboundPort,
    OutboundService,
    OutboundSubset,
    OutboundView,
)
from mutua.mesh.selectors import Labels, labels_of
from mutua.mesh.services import Service, ServicePort

Loads = Mapping[tuple[str, str], tuple[LoadAssignment, ...]]
"""Assignments of each host's ports, by (namespace of its Service or ServiceEntries, host)."""


class Claimed(msgspec.Struct, frozen=True, eq=False):
    """Addresses that belong to Services: a ServiceEntry of another namespace cannot take their connections."""

    addresses: frozenset[str] = frozenset()

    def has(self, address: str) -> bool:
        """Whether a Service has the address."""
        return address in self.addresses

    def meets(self, block: str) -> bool:
        """Whether a Service has an address of the block."""
        network = ipaddress.ip_network(block, strict=False)
        return any(ipaddress.ip_address(address) in network for address in self.addresses)


class Directory(msgspec.Struct, frozen=True, eq=False):
    """Every Service and every ServiceEntry's host as it can be dialled, ascending by host and rank."""

    entries: tuple[Reachable, ...]
    mentioned: frozenset[str]  # namespaces that do not see what all others see
    claimed: Claimed = Claimed()

    def seen_from(self, namespace: str) -> Iterator[Reachable]:
        """What clients of a namespace dial, ascending by host: of each host its own entry, else the first that it sees.

        A host that a Service has cannot be taken from it by an entry of another namespace.
        """
        chosen: Reachable | None = None
        for entry in self.entries:
            service = entry.service
            if not visibility.can_see(service.visible_to, namespace):
                continue
            if chosen is None or chosen.service.host != service.host:
                if chosen is not None:
                    yield chosen
                chosen = entry
            elif service.is_entry and service.namespace == namespace != chosen.service.namespace:
                chosen = entry
        if chosen is not None:
            yield chosen


class _Cell(msgspec.Struct, frozen=True, eq=False):
    """One Service as some clients dial it, with all that it was made of."""

    reachable: Reachable
    rule: MergedRule | None
    value: OutboundService


class _Audience(msgspec.Struct, frozen=True, eq=False):
    """The Services of clients that see and dial alike."""

    cells: Mapping[str, _Cell]
    services: tuple[OutboundService, ...]


_Key = tuple[str, tuple[ObjectRef, ...]]
"""(namespace, or "" for those that nothing mentions; rules that single the client out by its labels)."""


_EVERYBODY: Final[_Key] = ("", ())


class Outbound:
    """What every client can dial, made on demand and remembered; depends on nothing but what it was given."""

    __slots__ = (
        "_audiences",
        "_auto_mtls",
        "_cluster_domain",
        "_mentioned",
        "_prior",
        "_prior_views",
        "_rules",
        "_views",
        "directory",
    )

    def __init__(
        self,
        directory: Directory,
        rules: DestinationRules,
        *,
        cluster_domain: str,
        auto_mtls: bool,
        previous: "Outbound | None" = None,
    ) -> None:
        self.directory = directory
        self._rules = rules
        self._cluster_domain = cluster_domain
        self._auto_mtls = auto_mtls
        self._mentioned = directory.mentioned | rules.mentioned
        self._audiences: dict[_Key, _Audience] = {}
        self._views: dict[str, OutboundView] = {}
        # Earlier answers, only to keep the identity of what comes out equal. What nobody asked for is forgotten.
        self._prior: Mapping[_Key, _Audience] = (previous._audiences or previous._prior) if previous else {}
        self._prior_views: Mapping[str, OutboundView] = (previous._views or previous._prior_views) if previous else {}

    def view(self, namespace: str, labels: Labels) -> OutboundView:
        """What a client with these labels in this namespace can dial."""
        services = self._audience(namespace, labels).services
        for views in (self._views, self._prior_views):
            found = views.get(namespace)
            if found is not None and found.services is services:
                break
        else:
            found = OutboundView(namespace, self._cluster_domain, services)
        self._views[namespace] = found
        return found

    def rule(self, namespace: str, labels: Labels, reachable: Reachable) -> MergedRule | None:
        """The DestinationRule that the client follows for a Service."""
        return self._rules.select(namespace, labels, reachable.service.host, reachable.service.namespace)

    def rules_followed(self, namespace: str, labels: Labels) -> tuple[MergedRule, ...]:
        """Every DestinationRule that the client follows for some host."""
        cells = self._audience(namespace, labels).cells.values()
        return tuple({id(cell.rule): cell.rule for cell in cells if cell.rule is not None}.values())

    def _audience(self, namespace: str, labels: Labels) -> _Audience:
        singled_out = tuple(rule.source for rule in self._rules.selected_by(namespace, labels))
        key = (namespace if namespace in self._mentioned else "", singled_out)
        found = self._audiences.get(key)
        if found is None:
            found = self._audiences[key] = self._build(namespace, labels, self._similar(key))
        return found

    def _similar(self, key: _Key) -> _Audience | None:
        """An audience whose Services are probably the same ones: the same of before, or the one of everybody."""
        return self._prior.get(key) or self._audiences.get(_EVERYBODY) or self._prior.get(_EVERYBODY)

    def _build(self, namespace: str, labels: Labels, prior: _Audience | None) -> _Audience:
        old_cells: Mapping[str, _Cell] = prior.cells if prior else {}
        cells: dict[str, _Cell] = {}
        for reachable in self.directory.seen_from(namespace):
            service = reachable.service
            rule = self._rules.select(namespace, labels, service.host, service.namespace)
            old = old_cells.get(service.host)
            if old is not None and old.reachable is reachable and (old.rule is rule or old.rule == rule):
                cells[service.host] = old
                continue
            value = self._service(reachable, rule, namespace)
            if old is not None and old.value == value:
                value = old.value
            cells[service.host] = _Cell(reachable, rule, value)
        services = tuple(cell.value for cell in cells.values())
        if prior is not None and prior.services == services:
            services = prior.services
        return _Audience(cells, services)

    def _service(self, reachable: Reachable, rule: MergedRule | None, namespace: str) -> OutboundService:
        service = reachable.service
        named = {load.port: load.endpoints for load in reachable.named}
        addresses, blocks = service.addresses, service.blocks
        if service.is_entry and service.namespace != namespace:
            claimed = self.directory.claimed
            addresses = tuple(address for address in addresses if not claimed.has(address))
            blocks = tuple(block for block in blocks if not claimed.meets(block))
        return OutboundService(
            host=service.host,
            name=service.name,
            namespace=service.namespace,
            addresses=addresses,
            ports=tuple(self._port(reachable, port, rule, named.get(port.number, ())) for port in service.ports),
            headless_addresses=reachable.headless_addresses,
            is_entry=service.is_entry,
            blocks=blocks,
            discovery=service.discovery,
            takes_any_address=service.is_entry and not service.addresses and not service.blocks,
        )

    def _port(
        self, reachable: Reachable, port: ServicePort, rule: MergedRule | None, named: tuple[Endpoint, ...]
    ) -> OutboundPort:
        service = reachable.service
        # Where nobody tells which endpoints take mutual TLS, or none of them belongs to the mesh, it is not chosen.
        auto_mtls = self._auto_mtls and not service.is_external and service.discovery is not Discovery.ORIGINAL

        def tls(subset: str = "") -> ClientTls:
            chosen = destination_rule.tls_for(rule, port.number, auto_mtls=auto_mtls, subset=subset)
            return _with_names(chosen, reachable) if service.is_entry else chosen

        subsets = tuple(
            OutboundSubset(
                subset.name,
                labels_of(subset.labels),
                tls(subset.name),
                destination_rule.traffic_for(rule, port.number, subset.name),
            )
            for subset in (rule.subsets if rule is not None else ())
        )
        return OutboundPort(
            number=port.number,
            name=port.name,
            protocol=port.protocol,
            tls=tls(),
            destination_rule=rule.source if rule is not None else None,
            identities=reachable.identities,
            traffic=destination_rule.traffic_for(rule, port.number),
            subsets=subsets,
            named_endpoints=named,
            target=_target(service, port),
        )


def _with_names(tls: ClientTls, reachable: Reachable) -> ClientTls:
    """TLS of the user's own to a host of a ServiceEntry demands the entry's names, if the rule has none."""
    if tls.mode not in (ClientTlsMode.SIMPLE, ClientTlsMode.MUTUAL) or tls.subject_alt_names:
        return tls
    return msgspec.structs.replace(tls, subject_alt_names=() if tls.insecure_skip_verify else reachable.identities)


def _target(service: Service, port: ServicePort) -> int:
    """The port that is dialled in the place of the one that the client dialled, where it chose the address."""
    replaced = service.discovery is Discovery.ORIGINAL and port.target != port.number
    return port.target if replaced and isinstance(port.target, int) else 0

"""What clients can dial: the Services that a namespace sees, and how each port is dialled."""

from collections.abc import Mapping
from typing import Final

import msgspec

from mutua.mesh import destination_rule, visibility
from mutua.mesh.destination_rule import DestinationRules, MergedRule
from mutua.mesh.endpoints import Reachable
from mutua.mesh.proxy_view import LoadAssignment, ObjectRef, OutboundPort, OutboundService, OutboundView
from mutua.mesh.selectors import Labels

Loads = Mapping[str, tuple[LoadAssignment, ...]]
"""Assignments of each Service's ports, by host."""


class Directory(msgspec.Struct, frozen=True, eq=False):
    """Every Service as it can be dialled, ascending by host."""

    entries: tuple[Reachable, ...]
    mentioned: frozenset[str]  # namespaces that do not see what all others see


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
        for reachable in self.directory.entries:
            service = reachable.service
            if not visibility.can_see(service.visible_to, namespace):
                continue
            rule = self._rules.select(namespace, labels, service.host, service.namespace)
            old = old_cells.get(service.host)
            if old is not None and old.reachable is reachable and (old.rule is rule or old.rule == rule):
                cells[service.host] = old
                continue
            value = self._service(reachable, rule)
            if old is not None and old.value == value:
                value = old.value
            cells[service.host] = _Cell(reachable, rule, value)
        services = tuple(cell.value for cell in cells.values())
        if prior is not None and prior.services == services:
            services = prior.services
        return _Audience(cells, services)

    def _service(self, reachable: Reachable, rule: MergedRule | None) -> OutboundService:
        service = reachable.service
        source = rule.source if rule is not None else None
        ports = []
        for port in service.ports:
            tls = destination_rule.tls_for(rule, port.number, auto_mtls=self._auto_mtls)
            traffic = destination_rule.traffic_for(rule, port.number)
            ports.append(
                OutboundPort(port.number, port.name, port.protocol, tls, source, reachable.identities, traffic)
            )
        return OutboundService(
            host=service.host,
            name=service.name,
            namespace=service.namespace,
            addresses=service.addresses,
            ports=tuple(ports),
            headless_addresses=reachable.headless_addresses,
        )

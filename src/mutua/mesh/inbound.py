"""What the workloads of one namespace accept: ports, modes and policies."""

from mutua.mesh import authorization, peer_authentication, request_authentication
from mutua.mesh.authorization import SelectedPolicy
from mutua.mesh.peer_authentication import EffectiveMode, PeerPolicies
from mutua.mesh.proxy_view import InboundPort, InboundView, Trust
from mutua.mesh.request_authentication import SelectedTokens
from mutua.mesh.selectors import Labels, SelectorTable
from mutua.mesh.services import Service
from mutua.mesh.workloads import Workload

_NO_SERVICES: SelectorTable[Service] = SelectorTable(())


class NamespaceInbound:
    """All that decides what workloads of one namespace accept; remembers its answers, which depend on nothing else."""

    __slots__ = (
        "_modes",
        "_views",
        "name",
        "own_policies",
        "peer_policies",
        "root_policies",
        "services",
        "token_rules",
        "trust",
    )

    def __init__(
        self,
        name: str,
        trust: Trust,
        services: SelectorTable[Service] | None,
        peer_policies: PeerPolicies,
        root_policies: tuple[SelectedPolicy, ...],
        own_policies: tuple[SelectedPolicy, ...],
        token_rules: tuple[SelectedTokens, ...] = (),
    ) -> None:
        self.name = name
        self.trust = trust
        self.services = _NO_SERVICES if services is None else services
        self.peer_policies = peer_policies
        self.root_policies = root_policies
        self.own_policies = own_policies
        self.token_rules = token_rules
        self._modes: dict[Labels, EffectiveMode] = {}
        self._views: dict[tuple[Labels, tuple[tuple[str, int], ...]], InboundView] = {}

    def or_same(self, previous: "NamespaceInbound | None") -> "NamespaceInbound":
        """The previous one, with all its answers, if nothing that it depends on differs."""
        if (
            previous is not None
            and previous.services is self.services
            and previous.trust == self.trust
            and previous.peer_policies == self.peer_policies
            and previous.root_policies == self.root_policies
            and previous.own_policies == self.own_policies
            and previous.token_rules == self.token_rules
        ):
            return previous
        return self

    def mode(self, labels: Labels) -> EffectiveMode:
        """What a workload with these labels accepts."""
        found = self._modes.get(labels)
        if found is None:
            found = self._modes[labels] = peer_authentication.effective(self.peer_policies, labels)
        return found

    def services_of(self, labels: Labels) -> list[Service]:
        """The Services that select a workload with these labels, oldest first."""
        return sorted(self.services.matching(labels), key=lambda service: service.age)

    def view(self, workload: Workload) -> InboundView:
        """What the workload accepts; the same value for all replicas."""
        key = (workload.labels, workload.named_ports)
        found = self._views.get(key)
        if found is None:
            found = self._views[key] = self._build(workload)
        return found

    def _build(self, workload: Workload) -> InboundView:
        mode = self.mode(workload.labels)
        ports: dict[int, InboundPort] = {}
        for service in self.services_of(workload.labels):
            for port in service.ports:
                number = workload.port_number(port.target)
                if number is not None:
                    # Where two Services name one port, the oldest decides how its bytes are read.
                    ports.setdefault(number, InboundPort(number, port.protocol, mode.on_port(number), service.host))
        return InboundView(
            trust=self.trust,
            default_mode=mode.default,
            port_modes=tuple((number, port_mode) for number, port_mode in mode.ports if number not in ports),
            ports=tuple(ports[number] for number in sorted(ports)),
            policies=authorization.applying(self.root_policies, self.own_policies, workload.labels),
            token_rules=request_authentication.selected(self.token_rules, workload.labels),
        )

"""Service addresses: which packets go to which pods, as rules, and the steps from one set of rules to the next."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

SERVICE_NETWORK = "10.96.0.0/16"
DISPATCH = "dispatch"
REFUSE = "refuse"
_DEFAULT_STICKY_SECONDS = 10800  # of Kubernetes


@dataclass(frozen=True, slots=True, order=True)
class Frontend:
    """What clients dial. `protocol` is TCP or UDP."""

    address: str
    protocol: str
    port: int


@dataclass(frozen=True, slots=True, order=True)
class Backend:
    """What answers them."""

    address: str
    port: int


@dataclass(frozen=True, slots=True)
class ServicePort:
    """One port of one service.

    `sticky_seconds`: a client's connections all go to the same backend, until it has made none for so long.
    """

    frontend: Frontend
    backends: tuple[Backend, ...]
    sticky_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class Goto:
    """Go on in another chain, and do not come back."""

    chain: str


@dataclass(frozen=True, slots=True)
class Return:
    """Leave the chain."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """Tell the client that nobody answers: a reset for TCP, "port unreachable" for others."""

    reset: bool


@dataclass(frozen=True, slots=True)
class MarkForMasquerade:
    """The answers have to come back over the node: the packet's source will be rewritten."""


@dataclass(frozen=True, slots=True)
class Translate:
    """Rewrite the destination."""

    backend: Backend


Verdict = Goto | Return | Refuse | MarkForMasquerade | Translate


@dataclass(frozen=True, slots=True)
class Clients:
    """A set of senders' addresses in the kernel; each is forgotten after so many seconds."""

    name: str
    seconds: int


@dataclass(frozen=True, slots=True)
class Rule:
    """Matches, all of which must hold, and a verdict.

    `frontend`: the packet's destination; `destination`: only its address; `source`: its sender; `protocol`: TCP or UDP;
    `one_in`: by chance, one time in so many; `known`: its sender is among these. `remembered`: before the verdict, the
    sender is put among these, or its time begins anew.
    """

    verdict: Verdict
    frontend: Frontend | None = None
    destination: str | None = None
    source: str | None = None
    protocol: str | None = None
    one_in: int | None = None
    known: Clients | None = None
    remembered: Clients | None = None


Chains = dict[str, tuple[Rule, ...]]


def service_ports(
    service: Mapping[str, Any], slices: Iterable[Mapping[str, Any]], node_address: str = ""
) -> tuple[ServicePort, ...]:
    """The ports of a service with an address of its own, with the backends that are ready; node ports too.

    When none is ready, those that are shutting down but still serve take the traffic (KEP-1669).
    """
    spec = service.get("spec") or {}
    address = spec.get("clusterIP") or "None"
    if address == "None" or ":" in address or spec.get("type") == "ExternalName":
        return ()
    sticky = _sticky_seconds(spec)
    known = list(slices)
    ports = []
    for port in spec.get("ports") or ():
        protocol = port.get("protocol") or "TCP"
        if protocol in ("TCP", "UDP"):
            backends = _backends(known, port.get("name") or "", protocol)
            ports.append(ServicePort(Frontend(address, protocol, int(port["port"])), backends, sticky))
            if port.get("nodePort") and node_address:
                frontend = Frontend(node_address, protocol, int(port["nodePort"]))
                ports.append(ServicePort(frontend, backends, sticky))
    return tuple(ports)


def _sticky_seconds(spec: Mapping[str, Any]) -> int | None:
    if spec.get("sessionAffinity") != "ClientIP":
        return None
    configured = ((spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}).get("timeoutSeconds")
    return int(configured or _DEFAULT_STICKY_SECONDS)


def _backends(slices: list[Mapping[str, Any]], port_name: str, protocol: str) -> tuple[Backend, ...]:
    ready: set[Backend] = set()
    leaving: set[Backend] = set()
    for endpoint_slice in slices:
        if endpoint_slice.get("addressType", "IPv4") != "IPv4":
            continue
        numbers = [
            int(port["port"])
            for port in endpoint_slice.get("ports") or ()
            if (port.get("name") or "") == port_name
            and (port.get("protocol") or "TCP") == protocol
            and port.get("port")
        ]
        for endpoint in endpoint_slice.get("endpoints") or ():
            conditions = endpoint.get("conditions") or {}
            found = {Backend(address, number) for address in endpoint["addresses"] for number in numbers}
            if conditions.get("ready", True) is not False:
                ready |= found
            elif conditions.get("serving") and conditions.get("terminating"):
                leaving |= found
    return tuple(sorted(ready or leaving))


def chains(ports: Iterable[ServicePort], own_addresses: Iterable[str]) -> Chains:
    """All chains for these service ports. Packets to `own_addresses` are for the node's own servers, and left alone."""
    own = sorted(own_addresses)
    dispatch: list[Rule] = []
    refuse = [Rule(Return(), destination=address) for address in own]
    result: Chains = {}
    for port in sorted(ports, key=lambda item: item.frontend):
        frontend = port.frontend
        if frontend.address in own or not port.backends:
            continue
        name = f"svc-{frontend.address}-{frontend.protocol}-{frontend.port}"
        dispatch.append(Rule(Goto(name), frontend=frontend))
        refuse.append(Rule(Return(), frontend=frontend))
        count = len(port.backends)
        rules: list[Rule] = []
        known: list[Rule] = []
        for index, backend in enumerate(port.backends):
            endpoint = f"ep-{backend.address}-{frontend.protocol}-{backend.port}"
            result[endpoint] = (
                # A pod that reaches itself through its service would answer itself directly, with an address that
                # the connection does not know.
                Rule(MarkForMasquerade(), source=backend.address),
                Rule(Translate(backend), protocol=frontend.protocol),
            )
            if port.sticky_seconds is not None:
                remembering = f"{name}-to-{backend.address}-{backend.port}"
                clients = Clients(f"{remembering}-{port.sticky_seconds}", port.sticky_seconds)
                result[remembering] = (Rule(Goto(endpoint), remembered=clients),)
                known.append(Rule(Goto(remembering), known=clients))
                endpoint = remembering
            left = count - index
            rules.append(Rule(Goto(endpoint), one_in=left if left > 1 else None))
        result[name] = (*known, *rules)
    refuse += [Rule(Refuse(reset=True), protocol="TCP"), Rule(Refuse(reset=False))]
    result[DISPATCH] = tuple(dispatch)
    result[REFUSE] = tuple(refuse)
    return result


@dataclass(frozen=True, slots=True)
class Change:
    """One step of an update; all steps of an update are applied together or not at all."""

    action: str  # "add chain", "flush chain", "add rule", "delete chain", "add clients", "delete clients"
    chain: str = ""
    rule: Rule | None = None
    clients: Clients | None = None


def changes(old: Chains, new: Chains) -> list[Change]:
    """The steps from `old` to `new`; chains and clients that stay the same are not touched."""
    added = [name for name in new if name not in old]
    removed = [name for name in old if name not in new]
    changed = [name for name in new if name in old and new[name] != old[name]]
    before, after = _clients(old), _clients(new)
    steps = [Change("add clients", clients=clients) for clients in after if clients not in before]
    steps += [Change("add chain", name) for name in added]
    steps += [Change("flush chain", name) for name in (*changed, *removed)]
    steps += [Change("add rule", name, rule) for name in (*added, *changed) for rule in new[name]]
    steps += [Change("delete chain", name) for name in removed]
    return steps + [Change("delete clients", clients=clients) for clients in before if clients not in after]


def _clients(chains: Chains) -> list[Clients]:
    return [rule.remembered for rules in chains.values() for rule in rules if rule.remembered is not None]

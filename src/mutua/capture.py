"""Which packets go to Envoy: settings → rules, in the order in which the kernel must try them."""

from enum import StrEnum
from ipaddress import ip_network
from typing import TypeAlias

import msgspec

from mutua.errors import InvalidInputError, UnsupportedError

TABLE = "mutua"
PROXY_UID = 1337
PASSTHROUGH_SOURCE = {4: "127.0.0.6/32", 6: "::6/128"}
"""Envoy dials the application from here, so that its packets are told from those of the application. Source: Istio."""

LOCALHOST = {4: "127.0.0.1/32", 6: "::1/128"}


class Family(StrEnum):
    """One table for each, as address translation has."""

    IPV4 = "ip"
    IPV6 = "ip6"

    @property
    def version(self) -> int:
        """4 or 6."""
        return 4 if self is Family.IPV4 else 6


class OwnerKind(StrEnum):
    """What tells Envoy's packets from the application's; values as nft writes them."""

    UID = "skuid"
    GID = "skgid"
    MARK = "mark"


class Owner(msgspec.Struct, frozen=True):
    """Packets of sockets with this user, group or SO_MARK are Envoy's."""

    kind: OwnerKind
    value: int


class Ports(msgspec.Struct, frozen=True):
    """A choice of TCP ports: all of them, or the ones named."""

    every: bool = False
    numbers: tuple[int, ...] = ()


class Networks(msgspec.Struct, frozen=True):
    """A choice of addresses: all of them, or the ones in these networks, in canonical text form."""

    every: bool = False
    networks: tuple[str, ...] = ()


class CaptureSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What `istio-iptables` is told by its flags."""

    proxy_port: int = 15001
    inbound_port: int = 15006
    exempt: tuple[Owner, ...] = (Owner(OwnerKind.UID, PROXY_UID),)
    include_inbound_ports: Ports = Ports(every=True)
    exclude_inbound_ports: tuple[int, ...] = (15020, 15021, 15090)
    include_outbound_ports: tuple[int, ...] = ()  # captured whatever their address
    exclude_outbound_ports: tuple[int, ...] = ()
    include_outbound: Networks = Networks(every=True)
    exclude_outbound: tuple[str, ...] = ()


class Hook(StrEnum):
    """Where a rule is tried."""

    PREROUTING = "prerouting"  # packets that come in
    OUTPUT = "output"  # packets that a process of this pod sends


class ToLoopback(msgspec.Struct, frozen=True, tag=True):
    """Leaves by `lo`: to an address of the pod itself."""

    def __str__(self) -> str:
        return 'oifname "lo"'


class From(msgspec.Struct, frozen=True, tag=True):
    """Comes from this network."""

    network: str


class To(msgspec.Struct, frozen=True, tag=True):
    """Goes to this network, or to any other."""

    network: str
    negated: bool = False


class ToPort(msgspec.Struct, frozen=True, tag=True):
    """Goes to this TCP port."""

    number: int


class SentBy(msgspec.Struct, frozen=True, tag=True):
    """Sent by Envoy."""

    owner: Owner


Match: TypeAlias = ToLoopback | From | To | ToPort | SentBy


class Rule(msgspec.Struct, frozen=True):
    """All matches hold, and it is TCP: then the packet goes its own way, or to `redirect_to` on this host."""

    hook: Hook
    matches: tuple[Match, ...]
    redirect_to: int  # 0 = let it pass
    why: str


def rules(settings: CaptureSettings, family: Family) -> tuple[Rule, ...]:
    """The rules of one family. The first that matches decides; a packet that none matches passes.

    Source: Istio's iptables rules, with the same effect on every packet.
    """
    return (*_inbound(settings), *_outbound(settings, family))


def _inbound(settings: CaptureSettings) -> list[Rule]:
    def rule(matches: tuple[Match, ...], redirect_to: int, why: str) -> Rule:
        return Rule(Hook.PREROUTING, matches, redirect_to, why)

    wanted = settings.include_inbound_ports
    if not wanted.every:
        return [rule((ToPort(port),), settings.inbound_port, "inbound, named") for port in wanted.numbers]
    return [
        *(rule((ToPort(port),), 0, "inbound, excluded") for port in settings.exclude_inbound_ports),
        rule((), settings.inbound_port, "inbound"),
    ]


def _outbound(settings: CaptureSettings, family: Family) -> list[Rule]:
    def rule(matches: tuple[Match, ...], redirect_to: int, why: str) -> Rule:
        return Rule(Hook.OUTPUT, matches, redirect_to, why)

    def of_family(networks: tuple[str, ...]) -> list[str]:
        return [network for network in networks if ip_network(network).version == family.version]

    version = family.version
    found = [
        *(rule((ToPort(port),), 0, "outbound port, excluded") for port in settings.exclude_outbound_ports),
        rule((ToLoopback(), From(PASSTHROUGH_SOURCE[version])), 0, "Envoy to its application"),
        # A Service may pick the client's own pod: Envoy then dials the pod's address, and mutual TLS must end there.
        *(
            rule(
                (ToLoopback(), To(LOCALHOST[version], negated=True), SentBy(owner)),
                settings.inbound_port,
                "Envoy to its own pod",
            )
            for owner in settings.exempt
        ),
        rule((ToLoopback(),), 0, "within the pod"),
        *(rule((SentBy(owner),), 0, "Envoy's own") for owner in settings.exempt),
        *(rule((To(network),), 0, "outbound network, excluded") for network in of_family(settings.exclude_outbound)),
        *(rule((ToPort(port),), settings.proxy_port, "outbound port") for port in settings.include_outbound_ports),
    ]
    if settings.include_outbound.every:
        return [*found, rule((), settings.proxy_port, "outbound")]
    named = of_family(settings.include_outbound.networks)
    return [*found, *(rule((To(network),), settings.proxy_port, "outbound network") for network in named)]


def as_text(rules_of_family: tuple[Rule, ...], family: Family) -> str:
    """The rules as `nft -f` would read them; for people."""
    lines = [f"table {family} {TABLE} {{"]
    for hook in Hook:
        lines += [f"    chain {hook} {{", f"        type nat hook {hook} priority dstnat; policy accept;"]
        for rule in rules_of_family:
            if rule.hook is hook:
                words = ["meta l4proto tcp", *(_match_text(match, family) for match in rule.matches)]
                words.append(f"redirect to :{rule.redirect_to}" if rule.redirect_to else "accept")
                lines.append(f'        {" ".join(words)} comment "{rule.why}"')
        lines.append("    }")
    return "\n".join([*lines, "}"])


def _match_text(match: Match, family: Family) -> str:
    match match:
        case ToLoopback():
            return str(match)
        case From(network):
            return f"{family} saddr {network}"
        case To(network, negated):
            return f"{family} daddr {'!= ' if negated else ''}{network}"
        case ToPort(number):
            return f"tcp dport {number}"
        case SentBy(owner):
            return f"meta {owner.kind} {owner.value}"


def parse_ports(flag: str, text: str) -> Ports:
    """`*`, or numbers separated by commas, or nothing. Raises InvalidInputError with the flag's name."""
    if text.strip() == "*":
        return Ports(every=True)
    return Ports(numbers=parse_port_list(flag, text))


def parse_port_list(flag: str, text: str) -> tuple[int, ...]:
    """Port numbers separated by commas, without duplicates. Raises InvalidInputError with the flag's name."""
    numbers: dict[int, None] = {}
    for part in _parts(text):
        if not part.isascii() or not part.isdecimal() or not 0 < int(part) < 65536:
            raise InvalidInputError(
                f"{flag}: {part!r} is not a port", "use numbers from 1 to 65535, separated by commas"
            )
        numbers[int(part)] = None
    return tuple(numbers)


def parse_networks(flag: str, text: str) -> Networks:
    """`*`, or networks separated by commas, or nothing. Raises InvalidInputError with the flag's name."""
    if text.strip() == "*":
        return Networks(every=True)
    return Networks(networks=parse_network_list(flag, text))


def parse_network_list(flag: str, text: str) -> tuple[str, ...]:
    """Networks or addresses separated by commas, in canonical form. Raises InvalidInputError with the flag's name."""
    networks: dict[str, None] = {}
    for part in _parts(text):
        try:
            networks[str(ip_network(part, strict=False))] = None
        except ValueError as error:
            raise InvalidInputError(f"{flag}: {error}", "for example 10.96.0.0/16") from error
    return tuple(networks)


def require_redirect(mode: str) -> None:
    """Refuse what is not built. Raises UnsupportedError."""
    if mode != "REDIRECT":
        raise UnsupportedError(f"interception mode {mode!r} is not supported", "use REDIRECT")


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]

"""Which packets go to Envoy, as questions about single packets: the kernel's walk through the rules is simulated."""

from dataclasses import dataclass
from ipaddress import ip_address, ip_network

import pytest

from mutua import capture
from mutua.capture import (
    CaptureSettings,
    Family,
    From,
    Hook,
    Networks,
    Owner,
    OwnerKind,
    Ports,
    SentBy,
    To,
    ToLoopback,
    ToPort,
)
from mutua.errors import InvalidInputError, UnsupportedError

UID = Owner(OwnerKind.UID, 1337)
MARK = Owner(OwnerKind.MARK, 1337)
POD = "10.244.0.5"
OTHER = "10.244.0.9"
SERVICE = "10.96.0.20"


@dataclass(frozen=True)
class Packet:
    """The first packet of a TCP connection."""

    destination: str = OTHER
    port: int = 80
    source: str = POD
    loopback: bool = False
    owner: Owner | None = None


def goes_to(packet: Packet, hook: Hook, settings: CaptureSettings, family: Family = Family.IPV4) -> int:
    """The local port that the packet is redirected to, or 0 where it goes its own way."""
    for rule in capture.rules(settings, family):
        if rule.hook is hook and all(_matches(match, packet) for match in rule.matches):
            return rule.redirect_to
    return 0


def _matches(match: capture.Match, packet: Packet) -> bool:
    match match:
        case ToLoopback():
            return packet.loopback
        case From(network):
            return ip_address(packet.source) in ip_network(network)
        case To(network, negated):
            return (ip_address(packet.destination) in ip_network(network)) is not negated
        case ToPort(number):
            return packet.port == number
        case SentBy(owner):
            return packet.owner == owner


DEFAULT = CaptureSettings()
BY_MARK = CaptureSettings(exempt=(MARK,), exclude_outbound_ports=(15012, 15013))


@pytest.mark.parametrize(("settings", "envoy"), [(DEFAULT, UID), (BY_MARK, MARK)], ids=["by user", "by mark"])
@pytest.mark.parametrize(
    ("packet", "to"),
    [
        (Packet(SERVICE), 15001),
        (Packet(OTHER, 5432), 15001),
        (Packet("1.1.1.1", 443), 15001),
        (Packet("127.0.0.1", 8080, "127.0.0.1", loopback=True), 0),
        (Packet(POD, 8080, POD, loopback=True), 0),
    ],
    ids=["a service", "a pod", "the internet", "itself by localhost", "itself by its address"],
)
def test_what_an_application_sends(packet: Packet, to: int, settings: CaptureSettings, envoy: Owner) -> None:
    """Everything that leaves the pod goes to Envoy first."""
    assert to == goes_to(packet, Hook.OUTPUT, settings)


@pytest.mark.parametrize(("settings", "envoy"), [(DEFAULT, UID), (BY_MARK, MARK)], ids=["by user", "by mark"])
@pytest.mark.parametrize(
    ("packet", "to"),
    [
        (Packet(OTHER), 0),
        (Packet("127.0.0.1", 8080, "127.0.0.1", loopback=True), 0),
        (Packet(POD, 8080, "127.0.0.6", loopback=True), 0),
        (Packet(POD, 8080, POD, loopback=True), 15006),
    ],
    ids=["to a peer", "to localhost", "to its application", "to its own pod's address"],
)
def test_what_envoy_sends(packet: Packet, to: int, settings: CaptureSettings, envoy: Owner) -> None:
    """Nothing comes back to it, but for what it sends to its own pod through a Service: there is a server side too."""
    sent = Packet(packet.destination, packet.port, packet.source, packet.loopback, envoy)

    assert to == goes_to(sent, Hook.OUTPUT, settings)


@pytest.mark.parametrize(("port", "to"), [(80, 15006), (22, 15006), (15006, 15006), (15021, 0), (15090, 0), (15020, 0)])
def test_what_comes_in(port: int, to: int) -> None:
    """Every port but those that the node and Prometheus ask without a certificate."""
    assert to == goes_to(Packet(POD, port, OTHER), Hook.PREROUTING, DEFAULT)


def test_named_inbound_ports() -> None:
    """`-b 80,81` captures these only; empty captures nothing."""
    some = CaptureSettings(include_inbound_ports=Ports(numbers=(80, 81)))
    none = CaptureSettings(include_inbound_ports=Ports())

    assert [goes_to(Packet(POD, port, OTHER), Hook.PREROUTING, some) for port in (80, 81, 82)] == [15006, 15006, 0]
    assert goes_to(Packet(POD, 80, OTHER), Hook.PREROUTING, none) == 0


def test_outbound_networks_and_ports() -> None:
    """Excluded ports win, then excluded networks, then included ports, then included networks."""
    settings = CaptureSettings(
        include_outbound=Networks(networks=("10.96.0.0/16",)),
        exclude_outbound=("10.96.7.0/24",),
        include_outbound_ports=(3306,),
        exclude_outbound_ports=(53,),
    )
    packets = {
        Packet(SERVICE): 15001,
        Packet("10.96.7.1"): 0,
        Packet(OTHER): 0,
        Packet(OTHER, 3306): 15001,
        Packet("10.96.7.1", 3306): 0,
        Packet(SERVICE, 53): 0,
    }

    assert packets == {packet: goes_to(packet, Hook.OUTPUT, settings) for packet in packets}


def test_the_control_plane_where_the_agent_has_no_mark() -> None:
    """Its ports are excluded, since the agent's own sockets look like the application's."""
    assert [goes_to(Packet(SERVICE, port), Hook.OUTPUT, BY_MARK) for port in (15012, 15013, 15014)] == [0, 0, 15001]


def test_ipv6_has_the_same_rules() -> None:
    """With its own loopback and pass-through source, and without the networks of the other family."""
    settings = CaptureSettings(exclude_outbound=("10.0.0.0/8", "fd00:1::/64"))
    pod, other = "fd00::5", "fd00::9"

    def out(packet: Packet) -> int:
        return goes_to(packet, Hook.OUTPUT, settings, Family.IPV6)

    assert out(Packet(other, source=pod)) == 15001
    assert out(Packet("fd00:1::1", source=pod)) == 0
    assert out(Packet(pod, source="::6", loopback=True, owner=UID)) == 0
    assert out(Packet(pod, source=pod, loopback=True, owner=UID)) == 15006
    assert out(Packet("::1", source="::1", loopback=True, owner=UID)) == 0


def test_the_text_is_what_nft_would_read() -> None:
    """One table, two chains, each rule with its reason."""
    text = capture.as_text(capture.rules(DEFAULT, Family.IPV4), Family.IPV4)

    assert text.startswith(
        "table ip mutua {\n    chain prerouting {\n        type nat hook prerouting priority dstnat;"
    )
    assert '        meta l4proto tcp redirect to :15001 comment "outbound"\n' in text
    assert 'oifname "lo" ip daddr != 127.0.0.1/32 meta skuid 1337 redirect to :15006' in text


@pytest.mark.parametrize("text", ["0", "65536", "http", "80-90", "-1", "80;81", "٨٠"])
def test_ports_that_are_none(text: str) -> None:
    """The flag is in the message."""
    with pytest.raises(InvalidInputError, match="-d"):
        capture.parse_port_list("-d", text)


@pytest.mark.parametrize("text", ["10.0.0.0/33", "example.com", "10.0.0", "*,10.0.0.0/8"])
def test_networks_that_are_none(text: str) -> None:
    """The flag is in the message."""
    with pytest.raises(InvalidInputError, match="-x"):
        capture.parse_networks("-x", text)


def test_lists_are_read_leniently() -> None:
    """Spaces, empty parts, duplicates and host bits do no harm."""
    assert capture.parse_port_list("-d", " 80, 81,,80,") == (80, 81)
    assert capture.parse_network_list("-x", "10.1.2.3/8, 10.1.2.3") == ("10.0.0.0/8", "10.1.2.3/32")
    assert Ports(every=True) == capture.parse_ports("-b", "*")
    assert Ports() == capture.parse_ports("-b", "")
    assert Networks(every=True) == capture.parse_networks("-i", " * ")


def test_transparent_proxying_is_said_to_be_missing() -> None:
    """Rather than silently redirecting."""
    with pytest.raises(UnsupportedError, match="TPROXY"):
        capture.require_redirect("TPROXY")

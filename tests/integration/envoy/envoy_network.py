"""Network namespaces on a bridge, captured as in production. A program of its own: netlink forks, and gRPC minds.

envoy_network.py create <bridge>
envoy_network.py add <bridge> <name> <address> <number> <mark or 0>
envoy_network.py alone <name> <address>...
envoy_network.py remove <name>...
"""

import sys

from pyroute2 import NetNS, netns

from mutua.capture import CaptureSettings, Family, Owner, OwnerKind, rules
from mutua.system import netfilter

NOWHERE = "10.9.255.254"
"""Services have addresses that nobody holds: packets to them need a way out, where capture takes them."""


def create(bridge: str) -> None:
    """A namespace with nothing but a bridge."""
    netns.create(bridge)
    with NetNS(bridge) as switch:
        switch.link("add", ifname="br0", kind="bridge")
        switch.link("set", index=_index(switch, "br0"), state="up")


def add(bridge: str, name: str, address: str, number: str, mark: str) -> None:
    """A pod's namespace with `address` on the bridge; captured if `mark` says how to tell Envoy's packets."""
    netns.create(name)
    with NetNS(bridge) as switch, NetNS(name) as inside:
        switch.link("add", ifname=f"v{number}", kind="veth", peer={"ifname": "eth0", "net_ns_fd": name})
        switch.link("set", index=_index(switch, f"v{number}"), master=_index(switch, "br0"), state="up")
        inside.link("set", index=_index(inside, "lo"), state="up")
        inside.addr("add", index=_index(inside, "eth0"), address=address, prefixlen=16)
        inside.link("set", index=_index(inside, "eth0"), state="up")
        inside.route("add", dst="default", gateway=NOWHERE, oif=_index(inside, "eth0"))
    if int(mark):
        netns.setns(name)
        settings = CaptureSettings(exempt=(Owner(OwnerKind.MARK, int(mark)),))
        netfilter.apply({Family.IPV4: rules(settings, Family.IPV4)})


def alone(name: str, *addresses: str) -> None:
    """A namespace with nothing but itself, under several addresses."""
    netns.create(name)
    with NetNS(name) as inside:
        inside.link("set", index=_index(inside, "lo"), state="up")
        for address in addresses:
            inside.addr("add", index=_index(inside, "lo"), address=address, prefixlen=32)


def remove(*names: str) -> None:
    """Remove namespaces, and with them all that is in them."""
    for name in names:
        netns.remove(name)


def _index(network: NetNS, name: str) -> int:
    return int(network.link_lookup(ifname=name)[0])


if __name__ == "__main__":
    {"create": create, "add": add, "alone": alone, "remove": remove}[sys.argv[1]](*sys.argv[2:])

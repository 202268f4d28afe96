"""The node's network: a bridge, and for each pod a network namespace whose traffic the node routes."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import os
import socket
import struct
from collections.abc import Container as Membership
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyroute2.netlink import NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NLMSG_ERROR
from pyroute2.netlink.rtnl import (
    RTM_DELLINK,
    RTM_NEWADDR,
    RTM_NEWLINK,
    RTM_NEWNEIGH,
    RTM_NEWROUTE,
    ifaddrmsg,
    ifinfmsg,
    ndmsg,
    rtmsg,
)

from localcluster import linux

BRIDGE = "cluster0"
POD_NETWORK = ipaddress.IPv4Network("10.244.0.0/16")
NODE_ADDRESS = ipaddress.IPv4Address("10.244.0.1")
SERVICE_ADDRESSES = ("10.96.0.1", "10.96.0.10")
POD_INTERFACE = "eth0"

_LOOPBACK_INDEX = 1
_BRIDGE_INDEX = 2
_POD_INTERFACE_INDEX = 2
_IFF_UP = 0x1
_NUD_PERMANENT = 0x80
_RTNH_F_ONLINK = 0x4
_RT_TABLE_MAIN = 254
_RTPROT_STATIC = 4
_RT_SCOPE_UNIVERSE = 0
_RTN_UNICAST = 1
_HEADER = struct.Struct("=LHHLL")

# The node routes between pods: it answers for their gateway, never tells them of a shorter way (a redirect would
# take traffic past address translation), and takes replies on the way they come.
_NODE_SETTINGS = {
    "ipv4/ip_forward": "1",
    "ipv4/conf/all/send_redirects": "0",
    "ipv4/conf/default/send_redirects": "0",
    "ipv4/conf/all/rp_filter": "0",
    "ipv4/conf/default/rp_filter": "2",
    "ipv6/conf/default/disable_ipv6": "1",
    # Where the host has br_netfilter, translated packets would take a short way over the bridge, past the node.
    "bridge/bridge-nf-call-iptables": "0",
}
# As containers have it on Kubernetes: port 80 needs no privilege. Without IPv6 there is no link-local noise.
_POD_SETTINGS = {
    "ipv4/ip_unprivileged_port_start": "0",
    "ipv4/ip_local_port_range": "32768 60999",
    "ipv4/ping_group_range": "0 0",
    "ipv6/conf/default/disable_ipv6": "1",
}


@dataclass(frozen=True)
class PodNamespace:
    """A pod's network: its IPv4 address, its network namespace, and its interface on the node's side."""

    address: str
    namespace_fd: int
    interface: str


class AddressPool:
    """Addresses of pods, each given out again only after all others were: nobody talks to a pod's successor."""

    def __init__(self, network: ipaddress.IPv4Network = POD_NETWORK, reserved: Membership[str] = (str(NODE_ADDRESS),)):
        self._addresses = _cycle(network)
        self._size = network.num_addresses - 2
        self._reserved = reserved
        self._taken: set[str] = set()

    def take(self) -> str:
        """The next free address. Raises OSError (EADDRNOTAVAIL) if none is free."""
        for _ in range(self._size):
            address = next(self._addresses)
            if address not in self._taken and address not in self._reserved:
                self._taken.add(address)
                return address
        raise OSError(errno.EADDRNOTAVAIL, "every pod address is in use")

    def give_back(self, address: str) -> None:
        """The address is free again."""
        self._taken.discard(address)


def _cycle(network: ipaddress.IPv4Network) -> Iterator[str]:
    while True:
        for address in network.hosts():
            yield str(address)


def hardware_address(address: str) -> str:
    """The MAC address that belongs to a pod's IPv4 address: locally administered, so that nobody has to ask (ARP)."""
    return "0a:58:" + ":".join(f"{octet:02x}" for octet in ipaddress.IPv4Address(address).packed)


class RouteSocket:
    """A netlink socket for links, addresses and routes of the network namespace it was made in."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._socket.bind((0, 0))
        self._sequence = 0

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def execute(self, *messages: Any) -> None:
        """Send requests (`pyroute2` messages) in one go. Raises OSError for the first that the kernel refuses.

        The kernel works on requests while they are sent, so there is nothing to wait for.
        """
        buffer = bytearray()
        for message in messages:
            self._sequence += 1
            message["header"]["sequence_number"] = self._sequence
            message["header"]["flags"] |= NLM_F_REQUEST | NLM_F_ACK
            message.encode()
            buffer += message.data
        self._socket.send(buffer)
        answers = len(messages)
        refusal: OSError | None = None
        while answers:
            for number in _errors(self._socket.recv(1 << 16)):
                answers -= 1
                if number and refusal is None:
                    refusal = OSError(number, f"the kernel refused a change of the network: {os.strerror(number)}")
        if refusal is not None:
            raise refusal


def _errors(answer: bytes) -> Iterator[int]:
    offset = 0
    while offset < len(answer):
        length, kind, *_ = _HEADER.unpack_from(answer, offset)
        if kind == NLMSG_ERROR:
            yield -struct.unpack_from("=i", answer, offset + _HEADER.size)[0]
        offset += (length + 3) & ~3


class BridgeNetwork:
    """The network of the node this process is; it must be in the node's own network namespace."""

    def __init__(self) -> None:
        self._route = RouteSocket()
        self._home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self._pool = AddressPool()
        self._pods: dict[str, PodNamespace] = {}
        self._count = 0

    async def setup_node(self) -> None:
        """Make the bridge, the node's and the services' own addresses, and the routing. Raises OSError."""
        _write_settings(_NODE_SETTINGS)
        bridge = _link(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, index=_BRIDGE_INDEX, up=True)
        bridge["attrs"] = [
            ("IFLA_IFNAME", BRIDGE),
            ("IFLA_ADDRESS", hardware_address(str(NODE_ADDRESS))),
            ("IFLA_LINKINFO", {"attrs": [("IFLA_INFO_KIND", "bridge")]}),
        ]
        self._route.execute(
            _link(RTM_NEWLINK, 0, index=_LOOPBACK_INDEX, up=True),
            bridge,
            _address(_BRIDGE_INDEX, str(NODE_ADDRESS), POD_NETWORK.prefixlen),
            *(_address(_LOOPBACK_INDEX, address, 32) for address in SERVICE_ADDRESSES),
        )

    async def create(self, pod_uid: str) -> PodNamespace:
        """A network namespace with an address for the pod; the same pod gets the same again. Raises OSError."""
        existing = self._pods.get(pod_uid)
        if existing is not None:
            return existing
        address = self._pool.take()
        namespace = -1
        try:
            namespace, route = self._new_namespace()
            with contextlib.closing(route):
                self._count += 1
                interface = f"pod{self._count:x}"
                self._connect(interface, address, namespace, route)
        except BaseException:
            self._pool.give_back(address)
            if namespace >= 0:
                os.close(namespace)
            raise
        pod = self._pods[pod_uid] = PodNamespace(address, namespace, interface)
        return pod

    async def delete(self, pod_uid: str) -> None:
        """Remove the pod's network; nothing to remove is no error."""
        pod = self._pods.pop(pod_uid, None)
        if pod is None:
            return
        self._pool.give_back(pod.address)
        os.close(pod.namespace_fd)
        # The kernel waits for readers of the link's tables: tens of milliseconds in which the node must go on.
        await asyncio.to_thread(_delete_link, pod.interface)

    def _new_namespace(self) -> tuple[int, RouteSocket]:
        # Namespaces belong to the thread, and nothing here awaits: no other work of the loop runs meanwhile.
        linux.unshare(linux.CLONE_NEWNET)
        try:
            namespace = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            try:
                _write_settings(_POD_SETTINGS)
                return namespace, RouteSocket()
            except BaseException:
                os.close(namespace)
                raise
        finally:
            linux.setns(self._home, linux.CLONE_NEWNET)

    def _connect(self, interface: str, address: str, namespace: int, route: RouteSocket) -> None:
        peer = {
            "index": _POD_INTERFACE_INDEX,
            "attrs": [
                ("IFLA_IFNAME", POD_INTERFACE),
                ("IFLA_ADDRESS", hardware_address(address)),
                ("IFLA_NET_NS_FD", namespace),
            ],
        }
        link = _link(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, index=0, up=True)
        link["attrs"] = [
            ("IFLA_IFNAME", interface),
            ("IFLA_MASTER", _BRIDGE_INDEX),
            (
                "IFLA_LINKINFO",
                {
                    "attrs": [
                        ("IFLA_INFO_KIND", "veth"),
                        ("IFLA_INFO_DATA", {"attrs": [("VETH_INFO_PEER", peer)]}),
                    ]
                },
            ),
        ]
        self._route.execute(link, _neighbour(_BRIDGE_INDEX, address, hardware_address(address)))
        gateway = str(NODE_ADDRESS)
        route.execute(
            _link(RTM_NEWLINK, 0, index=_LOOPBACK_INDEX, up=True),
            _link(RTM_NEWLINK, 0, index=_POD_INTERFACE_INDEX, up=True),
            _address(_POD_INTERFACE_INDEX, address, 32),
            _neighbour(_POD_INTERFACE_INDEX, gateway, hardware_address(gateway)),
            _default_route(_POD_INTERFACE_INDEX, gateway),
        )


def _delete_link(name: str) -> None:
    with contextlib.closing(RouteSocket()) as route:
        link = _link(RTM_DELLINK, 0, index=0, up=False)
        link["attrs"] = [("IFLA_IFNAME", name)]
        try:
            route.execute(link)
        except OSError as error:
            if error.errno != errno.ENODEV:  # gone with its namespace
                raise


def _write_settings(settings: Mapping[str, str]) -> None:
    for name, value in settings.items():
        # A kernel without IPv6 or br_netfilter lacks their files.
        with contextlib.suppress(FileNotFoundError):
            Path("/proc/sys/net", name).write_text(value)


def _link(kind: int, flags: int, *, index: int, up: bool) -> Any:
    message = ifinfmsg.ifinfmsg()
    message["header"]["type"] = kind
    message["header"]["flags"] = flags
    message["index"] = index
    if up:
        message["flags"] = message["change"] = _IFF_UP
    return message


def _address(index: int, address: str, prefix_length: int) -> Any:
    message = ifaddrmsg.ifaddrmsg()
    message["header"]["type"] = RTM_NEWADDR
    message["header"]["flags"] = NLM_F_CREATE | NLM_F_REPLACE
    message["family"] = socket.AF_INET
    message["prefixlen"] = prefix_length
    message["index"] = index
    message["attrs"] = [("IFA_LOCAL", address), ("IFA_ADDRESS", address)]
    return message


def _neighbour(index: int, address: str, hardware: str) -> Any:
    message = ndmsg.ndmsg()
    message["header"]["type"] = RTM_NEWNEIGH
    message["header"]["flags"] = NLM_F_CREATE | NLM_F_REPLACE
    message["family"] = socket.AF_INET
    message["ifindex"] = index
    message["state"] = _NUD_PERMANENT
    message["attrs"] = [("NDA_DST", address), ("NDA_LLADDR", hardware)]
    return message


def _default_route(index: int, gateway: str) -> Any:
    message = rtmsg.rtmsg()
    message["header"]["type"] = RTM_NEWROUTE
    message["header"]["flags"] = NLM_F_CREATE | NLM_F_EXCL
    message["family"] = socket.AF_INET
    message["table"] = _RT_TABLE_MAIN
    message["proto"] = _RTPROT_STATIC
    message["scope"] = _RT_SCOPE_UNIVERSE
    message["type"] = _RTN_UNICAST
    message["flags"] = _RTNH_F_ONLINK
    message["attrs"] = [("RTA_GATEWAY", gateway), ("RTA_OIF", index)]
    return message

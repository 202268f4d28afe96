"""Run by the capture tests: makes a pod and a peer, applies rules, dials in every direction, prints who answered."""

import ctypes
import json
import os
import select
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from pyroute2 import IPRoute

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
SO_ORIGINAL_DST = 80
NO_NAMESPACES = 77  # exit code
SO_MARK = 36
PR_CAPBSET_DROP, CAP_NET_ADMIN = 24, 12
MARK = 1337

POD, PEER, SERVICE = "10.9.0.1", "10.9.0.2", "10.96.0.20"
POD_PORTS = (15001, 15006, 8080, 15021)
PEER_PORTS = (9000, 15012)

LIBC = ctypes.CDLL(None, use_errno=True)


def unshare() -> None:
    """Into a new network, as root of a new user namespace where we are not root."""
    user, group = os.geteuid(), os.getegid()
    flags = CLONE_NEWNET if user == 0 else CLONE_NEWNET | CLONE_NEWUSER
    if LIBC.unshare(flags):
        sys.exit(NO_NAMESPACES)
    if user:
        for name, text in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
            with open(f"/proc/self/{name}", "w") as file:  # noqa: PTH123
                file.write(text)


def listen(ports: tuple[int, ...]) -> list[socket.socket]:
    """Servers on every address."""
    return [socket.create_server(("0.0.0.0", port)) for port in ports]  # noqa: S104


def accept(servers: list[socket.socket]) -> dict[str, Any]:
    """Which of the servers got the next connection, and what its client had wanted."""
    ready, _, _ = select.select(servers, [], [], 5)
    if not ready:
        return {"by": 0, "wanted": None}
    connection, _ = ready[0].accept()
    with connection:
        port = connection.getsockname()[1]
        try:
            raw = connection.getsockopt(socket.SOL_IP, SO_ORIGINAL_DST, 16)
        except OSError:
            return {"by": port, "wanted": None}
        wanted = [socket.inet_ntoa(raw[4:8]), struct.unpack("!H", raw[2:4])[0]]
        return {"by": port, "wanted": wanted if wanted != list(connection.getsockname()) else None}


def dial(address: str, port: int, *, mark: int = 0, source: str = "") -> None:
    """Open a connection and close it."""
    with socket.socket() as client:
        client.settimeout(5)
        if mark:
            client.setsockopt(socket.SOL_SOCKET, SO_MARK, mark)
        if source:
            client.bind((source, 0))
        client.connect((address, port))


def in_child(action: Callable[[], Any], *, user: int = 0) -> Any:
    """Run in a forked child, maybe as another user; its result."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        try:
            if user:
                os.setgroups([])
                os.setresgid(user, user, user)
                os.setresuid(user, user, user)
            os.write(writer, json.dumps(action()).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        text = pipe.read()
    os.waitpid(pid, 0)
    return json.loads(text) if text else None


class Peer:
    """A process in a network namespace of its own, at the other end of the pod's cable; does what lines tell it."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self.pid = os.fork()
        if self.pid == 0:
            ours.close()
            self._serve(theirs)
            os._exit(0)
        theirs.close()
        self.channel = ours.makefile("rw")
        self.channel.readline()  # it has its namespace

    def ask(self, *words: Any) -> Any:
        """Send a command, get its answer."""
        self.tell(*words)
        return json.loads(self.channel.readline())

    def tell(self, *words: Any) -> None:
        """Send a command whose answer is read later."""
        self.channel.write(json.dumps(words) + "\n")
        self.channel.flush()

    def answer(self) -> Any:
        """Of the last command that was told."""
        return json.loads(self.channel.readline())

    def end(self) -> None:
        """Close the channel, which ends it."""
        self.channel.close()
        os.waitpid(self.pid, 0)

    @staticmethod
    def _serve(connection: socket.socket) -> None:
        if LIBC.unshare(CLONE_NEWNET):
            os._exit(NO_NAMESPACES)
        channel = connection.makefile("rw")
        channel.write("ready\n")
        channel.flush()
        servers: list[socket.socket] = []
        udp = socket.socket(type=socket.SOCK_DGRAM)
        for line in channel:
            match json.loads(line):
                case ["up"]:
                    with IPRoute() as links:
                        index = links.link_lookup(ifname="peer0")[0]
                        links.addr("add", index=index, address=PEER, prefixlen=24)
                        links.link("set", index=index, state="up")
                    servers = listen(PEER_PORTS)
                    udp.bind((PEER, 5353))
                    result: Any = None
                case ["accept"]:
                    result = accept(servers)
                case ["dial", address, port]:
                    result = dial(address, port)
                case ["udp"]:
                    udp.settimeout(5)
                    content, sender = udp.recvfrom(100)
                    udp.sendto(content, sender)
                    result = None
            channel.write(json.dumps(result) + "\n")
            channel.flush()


def rules_held() -> int:
    """How many rules the kernel has in our table."""
    from pyroute2.nftables.main import NFTables

    with NFTables(nfgen_family=2) as tables:
        return sum(1 for rule in tables.get_rules() if rule.get_attr("NFTA_RULE_TABLE") == "mutua")


def init(arguments: list[str]) -> int:
    """Run mutua-init."""
    return subprocess.run([sys.executable, "-m", "mutua.programs.init", *arguments], check=False).returncode


def main(user: str, arguments: list[str]) -> None:
    """Build, dial in every direction, print."""
    unshare()
    if user == "--powerless":
        LIBC.prctl(PR_CAPBSET_DROP, CAP_NET_ADMIN, 0, 0, 0)  # the next program has it no more
        os.execv(sys.executable, [sys.executable, "-m", "mutua.programs.init"])  # noqa: S606
    peer = Peer()
    with IPRoute() as links:
        links.link("add", ifname="eth0", kind="veth", peer={"ifname": "peer0", "net_ns_fd": f"/proc/{peer.pid}/ns/net"})
        for name, address, length in (("lo", "", 0), ("eth0", POD, 24)):
            index = links.link_lookup(ifname=name)[0]
            if address:
                links.addr("add", index=index, address=address, prefixlen=length)
            links.link("set", index=index, state="up")
        peer.ask("up")
        links.route("add", dst="default", gateway=PEER)
    codes, held = [init(arguments)], [rules_held()]
    codes.append(init(arguments))
    held.append(rules_held())
    servers = listen(POD_PORTS)

    def ours(**how: Any) -> dict[str, Any]:
        dial(**how)
        return accept(servers)

    def theirs(**how: Any) -> dict[str, Any]:
        """A connection that should reach the peer; where our own servers get it, that is what is seen."""
        dial(**how)
        ready, _, _ = select.select(servers, [], [], 0)
        return accept(servers) if ready else peer.ask("accept")

    seen: dict[str, Any] = {"exit codes": codes, "rules": held}
    seen["application to a service"] = ours(address=SERVICE, port=80)
    seen["application to the peer"] = theirs(address=PEER, port=9000)
    seen["application to localhost"] = ours(address="127.0.0.1", port=8080)
    seen["application to its own address"] = ours(address=POD, port=8080)
    if "--exempt-mark" in arguments:
        seen["application to the control plane"] = theirs(address=PEER, port=15012)
        seen["envoy to the peer"] = theirs(address=PEER, port=9000, mark=MARK)
        seen["envoy to its application"] = ours(address=POD, port=8080, mark=MARK, source="127.0.0.6")
        seen["envoy to its own address"] = ours(address=POD, port=8080, mark=MARK)
    else:
        in_child(lambda: dial(PEER, 9000), user=1337)
        seen["envoy user to the peer"] = peer.ask("accept")
        in_child(lambda: dial(POD, 8080), user=1337)
        seen["envoy user to its own address"] = accept(servers)
    for name, port in (("peer to the application", 8080), ("peer to the probe port", 15021)):
        peer.ask("dial", POD, port)
        seen[name] = accept(servers)
    peer.tell("udp")
    with socket.socket(type=socket.SOCK_DGRAM) as client:
        client.settimeout(5)
        client.sendto(b"question", (PEER, 5353))
        seen["application over UDP"] = "answered" if client.recv(100) == b"question" else "lost"
    peer.answer()
    peer.end()
    print(json.dumps(seen))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])

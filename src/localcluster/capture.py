"""What crosses the wire between pods: a capture on the cluster's bridge, from the host, without privileges.

A child process (`python -m localcluster.capture`) enters the cluster's namespaces and sends back what it sees.
"""

from __future__ import annotations

import argparse
import contextlib
import ipaddress
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

from localcluster import linux
from localcluster.lifecycle import Cluster, ClusterError

BRIDGE = "cluster0"

# Only who asks for every protocol is shown what goes out (packet(7)).
_EVERY_PROTOCOL = 0x0003
_ETHERTYPE_IPV4 = 0x0800
_PACKET_OUTGOING = 4
_PROTOCOL_TCP = 6
_SHORTEST_IPV4, _SHORTEST_TCP = 20, 20
_LARGEST_PACKET = 1 << 17
_RECEIVE_BUFFER = 16 << 20
_RECORD = struct.Struct("!dI")
_READY = b"R"
_TLS_RECORD_TYPES = range(20, 24)  # RFC 8446, 5.1: change_cipher_spec, alert, handshake, application_data
_TLS_MAJOR_VERSION = 3


@dataclass(frozen=True)
class Packet:
    """One TCP segment between pods, as the receiver gets it: after the translation of service addresses.

    `at` is seconds since 1970. `payload` is empty for segments that only acknowledge.
    """

    at: float
    source: str
    source_port: int
    destination: str
    destination_port: int
    payload: bytes

    @property
    def starts_tls_record(self) -> bool:
        """Whether the payload begins with a header of a TLS record (RFC 8446, 5.1)."""
        return len(self.payload) > 1 and self.payload[0] in _TLS_RECORD_TYPES and self.payload[1] == _TLS_MAJOR_VERSION


class Recording:
    """A capture that is going on; `packets` holds what was seen once it has ended."""

    def __init__(self) -> None:
        self.packets: list[Packet] = []


@contextlib.contextmanager
def recording(cluster: Cluster, *, port: int | None = None) -> Iterator[Recording]:
    """Capture while the `with` block runs; `port` (source or destination) limits what is kept.

    On entry the capture is on; after the block `packets` is complete. Raises ClusterError.
    """
    command = [sys.executable, "-P", "-m", "localcluster.capture", "--pid", str(cluster.pid)]
    command += [] if port is None else ["--port", str(port)]
    result = Recording()
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd="/"
    ) as process:
        if process.stdin is None or process.stdout is None or process.stderr is None:  # for the type checker: PIPE
            raise AssertionError
        try:
            if process.stdout.read(1) != _READY:
                reason = process.stderr.read().decode(errors="replace").strip().splitlines()
                raise ClusterError(
                    f"cannot capture in cluster {cluster.name}: {reason[-1] if reason else 'the capture ended'}",
                    "only the user who started the cluster can, while it is running",
                )
            yield result
            process.stdin.close()
            result.packets = list(_records(process.stdout.read()))
        finally:
            process.kill()


def packets(cluster: Cluster, *, seconds: float, port: int | None = None) -> list[Packet]:
    """The TCP segments between pods during the next `seconds`. Raises ClusterError."""
    with recording(cluster, port=port) as result:
        time.sleep(seconds)
    return result.packets


def parse(at: float, datagram: bytes) -> Packet | None:
    """The TCP segment in an IPv4 datagram, None for anything else (RFC 791, 3.1; RFC 9293, 3.1)."""
    if len(datagram) < _SHORTEST_IPV4 or datagram[0] >> 4 != 4 or datagram[9] != _PROTOCOL_TCP:
        return None
    header = (datagram[0] & 0xF) * 4
    total = int.from_bytes(datagram[2:4], "big") or len(datagram)  # 0: longer than 64 KiB, put together by the kernel
    segment = datagram[header:total]
    if len(segment) < _SHORTEST_TCP:
        return None
    return Packet(
        at,
        str(ipaddress.IPv4Address(datagram[12:16])),
        int.from_bytes(segment[0:2], "big"),
        str(ipaddress.IPv4Address(datagram[16:20])),
        int.from_bytes(segment[2:4], "big"),
        segment[(segment[12] >> 4) * 4 :],
    )


def _records(content: bytes) -> Iterator[Packet]:
    offset = 0
    while offset < len(content):
        at, length = _RECORD.unpack_from(content, offset)
        offset += _RECORD.size
        packet = parse(at, content[offset : offset + length])
        if packet is not None:
            yield packet
        offset += length


def main() -> None:
    """Enter the cluster, capture until standard input ends, then write everything."""
    arguments = argparse.ArgumentParser(prog="localcluster.capture")
    arguments.add_argument("--pid", type=int, required=True)
    arguments.add_argument("--port", type=int)
    options = arguments.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when it ends
    process = os.pidfd_open(options.pid)
    linux.setns(process, linux.CLONE_NEWUSER | linux.CLONE_NEWNET)
    os.close(process)
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_EVERY_PROTOCOL)) as wire:
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        wire.bind((BRIDGE, _EVERY_PROTOCOL))
        wire.setblocking(False)
        _capture(wire, options.port)


def _capture(wire: socket.socket, port: int | None) -> None:
    """Everything is kept until the end: whoever captures reads when it is done, and a full pipe would lose packets."""
    seen: list[bytes] = []
    out = sys.stdout.buffer
    out.write(_READY)
    out.flush()
    ended = False
    while not ended:
        readable, _, _ = select.select([wire, sys.stdin], [], [])
        ended = sys.stdin in readable
        with contextlib.suppress(BlockingIOError):
            while True:
                datagram, (_, protocol, kind, *_) = wire.recvfrom(_LARGEST_PACKET)
                # The node routes: what enters the bridge from one pod leaves it towards another, and is seen twice.
                if kind == _PACKET_OUTGOING and protocol == _ETHERTYPE_IPV4 and _is_wanted(datagram, port):
                    seen.append(_RECORD.pack(time.time(), len(datagram)) + datagram)
    out.writelines(seen)
    out.flush()


def _is_wanted(datagram: bytes, port: int | None) -> bool:
    if port is None:
        return True
    packet = parse(0, datagram)
    return packet is not None and port in {packet.source_port, packet.destination_port}


if __name__ == "__main__":
    main()

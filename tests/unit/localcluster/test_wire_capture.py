"""Datagrams in, TCP segments out."""

import struct

from hypothesis import given
from hypothesis import strategies as some

from localcluster.capture import Packet, parse


def datagram(payload: bytes, *, options: bytes = b"", protocol: int = 6, padding: bytes = b"") -> bytes:
    tcp = struct.pack("!HHIIBBHHH", 40000, 80, 1, 1, 5 << 4, 0x18, 1024, 0, 0) + payload
    words = 5 + len(options) // 4
    total = words * 4 + len(tcp)
    address = bytes([10, 244, 0, 2]), bytes([10, 244, 0, 3])
    ip = struct.pack("!BBHHHBBH4s4s", 0x40 | words, 0, total, 0, 0, 64, protocol, 0, *address) + options
    return ip + tcp + padding


def test_a_segment_has_addresses_ports_and_payload() -> None:
    packet = parse(1.5, datagram(b"GET / HTTP/1.1\r\n"))

    assert packet == Packet(1.5, "10.244.0.2", 40000, "10.244.0.3", 80, b"GET / HTTP/1.1\r\n")
    assert not packet.starts_tls_record


def test_options_and_padding_are_no_payload() -> None:
    packet = parse(0, datagram(b"x", options=b"\x01\x01\x01\x00", padding=b"\0" * 6))

    assert packet is not None
    assert packet.payload == b"x"


def test_tls_records_are_recognised() -> None:
    handshake = parse(0, datagram(bytes.fromhex("1603010200")))
    data = parse(0, datagram(bytes.fromhex("1703030020")))

    assert handshake is not None
    assert handshake.starts_tls_record
    assert data is not None
    assert data.starts_tls_record


def test_other_protocols_are_not_segments() -> None:
    assert parse(0, datagram(b"x", protocol=17)) is None


@given(some.binary(max_size=120))
def test_no_bytes_break_it(content: bytes) -> None:
    parse(0, content)
    parse(0, b"\x45" + content)

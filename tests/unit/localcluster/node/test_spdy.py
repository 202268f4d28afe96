"""SPDY as kubectl's client sends it: frames in any pieces become the same events."""

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localcluster.node import spdy


class Client:
    """The other side of a connection, written from the protocol's text."""

    def __init__(self) -> None:
        self._deflate = zlib.compressobj(zdict=spdy.DICTIONARY)

    def open(self, stream: int, **headers: str) -> bytes:
        plain = struct.pack("!I", len(headers))
        for name, value in headers.items():
            plain += struct.pack("!I", len(name)) + name.encode() + struct.pack("!I", len(value)) + value.encode()
        block = self._deflate.compress(plain) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
        return control(1, struct.pack("!IIH", stream, 0, 0) + block)


def control(kind: int, payload: bytes, version: int = 3) -> bytes:
    return struct.pack("!HHI", 0x8000 | version, kind, len(payload)) + payload


def data(stream: int, content: bytes, *, end: bool = False) -> bytes:
    return struct.pack("!II", stream, (1 << 24 if end else 0) | len(content)) + content


def test_the_dictionary_is_that_of_the_protocol() -> None:
    # Every zlib stream of SPDY/3 names its dictionary by this number.
    assert (len(spdy.DICTIONARY), zlib.adler32(spdy.DICTIONARY)) == (1423, 0xE3C6A7C2)


@given(st.lists(st.integers(1, 60), max_size=10))
def test_frames_arrive_in_any_pieces(cuts: list[int]) -> None:
    client = Client()
    sent = client.open(1, StreamType="error", Port="80") + data(1, b"", end=True)
    sent += client.open(3, streamtype="data", port="80") + data(3, b"hello") + control(3, struct.pack("!II", 3, 5))
    connection, events, start = spdy.Connection(), [], 0
    for cut in [*cuts, len(sent)]:
        events += connection.receive(sent[start : start + cut])
        start += cut

    assert events == [
        spdy.Opened(1, {"streamtype": "error", "port": "80"}, False),
        spdy.Received(1, b"", True),
        spdy.Opened(3, {"streamtype": "data", "port": "80"}, False),
        spdy.Received(3, b"hello", False),
        spdy.Reset(3),
    ]


def test_pings_come_back_and_the_rest_changes_nothing() -> None:
    connection = spdy.Connection()
    ping, window, goodbye = control(6, b"\0\0\0\7"), control(9, bytes(8)), control(7, bytes(8))

    assert connection.receive(ping + window + goodbye) == [spdy.Answer(ping), spdy.Finished()]


def test_the_server_speaks_as_the_client_reads() -> None:
    connection = spdy.Connection()
    reply, refusal, last = connection.accept(5), connection.refuse(7), connection.send(5, b"bye", end=True)

    assert reply[:4] == b"\x80\x03\x00\x02"
    assert zlib.decompressobj(zdict=spdy.DICTIONARY).decompress(reply[12:]) == bytes(4)
    assert refusal == control(3, struct.pack("!II", 7, 3))
    assert last == data(5, b"bye", end=True)


@pytest.mark.parametrize(
    "sent",
    [
        control(1, bytes(10), version=2),
        control(1, bytes(3)),
        control(1, bytes(10) + b"not compressed"),
        control(1, bytes(1 << 17)),
    ],
)
def test_what_is_no_spdy_ends_the_connection(sent: bytes) -> None:
    with pytest.raises(spdy.SpdyError):
        spdy.Connection().receive(sent)


def test_headers_that_grow_without_end_are_refused() -> None:
    with pytest.raises(spdy.SpdyError, match="too long"):
        spdy.Connection().receive(Client().open(1, filler="x" * (1 << 18)))

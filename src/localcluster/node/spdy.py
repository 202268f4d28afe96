"""The part of SPDY/3.1 that Kubernetes' clients speak: framing, header compression, streams. No input or output.

Source: the SPDY protocol, draft 3.1, as github.com/moby/spdystream implements it: without flow control.
"""

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

_VERSION = 3
_SYN_STREAM, _SYN_REPLY, _RST_STREAM, _PING, _GOAWAY = 1, 2, 3, 6, 7
_FIN = 1
_HEAD = struct.Struct("!II")
_CONTROL = 1 << 31
_STREAM_ID = _CONTROL - 1
_REFUSED_STREAM = 3
_LONGEST_HEADERS = 1 << 16
_LONGEST_CONTROL_FRAME = 1 << 16

# Section 2.6.10.1: both sides' compressors begin with this text. Words of HTTP, each after its length, and then more.
_WORDS = (
    "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age allow "
    "authorization cache-control connection content-base content-encoding content-language content-length "
    "content-location content-md5 content-range content-type date etag expect expires from host if-match "
    "if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma "
    "proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade "
    "user-agent vary via warning www-authenticate method get status 200_OK version HTTP/1.1 url public set-cookie "
    "keep-alive origin"
)
_TEXT = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden"
    "404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable"
    "Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT"
    "chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,"
    "publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)
DICTIONARY = (
    b"".join(len(word).to_bytes(4, "big") + word.replace("_", " ").encode() for word in _WORDS.split()) + _TEXT.encode()
)


class SpdyError(Exception):
    """The peer does not speak SPDY/3.1; the connection cannot go on."""


@dataclass(frozen=True, slots=True)
class Opened:
    """The peer has opened a stream; `ended`: it will send nothing on it."""

    stream: int
    headers: Mapping[str, str]
    ended: bool


@dataclass(frozen=True, slots=True)
class Received:
    """Bytes of a stream; `ended`: the peer sends no more on it."""

    stream: int
    data: bytes
    ended: bool


@dataclass(frozen=True, slots=True)
class Reset:
    """The peer has given up a stream."""

    stream: int


@dataclass(frozen=True, slots=True)
class Answer:
    """Bytes to send to the peer at once."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Finished:
    """The peer opens no more streams."""


Event = Opened | Received | Reset | Answer | Finished


class Connection:
    """The server's side of one connection: bytes in, events out; and the bytes of what the server wants to say."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._inflate = zlib.decompressobj(zdict=DICTIONARY)
        self._deflate = zlib.compressobj(zdict=DICTIONARY)

    def receive(self, data: bytes) -> list[Event]:
        """What `data`, after all that came before, means. Raises SpdyError."""
        self._buffer += data
        events: list[Event] = []
        while len(self._buffer) >= _HEAD.size:
            first, second = _HEAD.unpack_from(self._buffer)
            flags, length = second >> 24, second & 0xFFFFFF
            if first & _CONTROL and length > _LONGEST_CONTROL_FRAME:
                raise SpdyError(f"a control frame of {length} bytes is too long")
            if len(self._buffer) < _HEAD.size + length:
                break
            payload = bytes(self._buffer[_HEAD.size : _HEAD.size + length])
            del self._buffer[: _HEAD.size + length]
            if first & _CONTROL:
                events += self._control(first, flags, payload)
            else:
                events.append(Received(first, payload, bool(flags & _FIN)))
        return events

    def accept(self, stream: int) -> bytes:
        """The reply that opens a stream for its peer."""
        block = self._deflate.compress(b"\0\0\0\0") + self._deflate.flush(zlib.Z_SYNC_FLUSH)
        return _control_frame(_SYN_REPLY, stream.to_bytes(4, "big") + block)

    def send(self, stream: int, data: bytes, *, end: bool = False) -> bytes:
        """A data frame (less than 16 MiB); `end`: the last one of the stream."""
        return _HEAD.pack(stream, (_FIN if end else 0) << 24 | len(data)) + data

    def refuse(self, stream: int) -> bytes:
        """The frame that refuses a stream."""
        return _control_frame(_RST_STREAM, struct.pack("!II", stream, _REFUSED_STREAM))

    def _control(self, first: int, flags: int, payload: bytes) -> list[Event]:
        version, kind = first >> 16 & 0x7FFF, first & 0xFFFF
        if version != _VERSION:
            raise SpdyError(f"SPDY version {version} is not spoken here")
        try:
            if kind == _SYN_STREAM:
                (stream,) = struct.unpack_from("!I", payload)
                return [Opened(stream & _STREAM_ID, self._headers(payload[10:]), bool(flags & _FIN))]
            if kind == _RST_STREAM:
                (stream,) = struct.unpack_from("!I", payload)
                return [Reset(stream & _STREAM_ID)]
        except (struct.error, zlib.error) as error:
            raise SpdyError(f"a frame cannot be read: {error}") from error
        if kind == _PING:
            return [Answer(_control_frame(_PING, payload))]
        # Settings, headers and window updates change nothing here.
        return [Finished()] if kind == _GOAWAY else []

    def _headers(self, block: bytes) -> dict[str, str]:
        plain = self._inflate.decompress(block, _LONGEST_HEADERS)
        if self._inflate.unconsumed_tail:
            raise SpdyError("a stream's headers are too long")
        (count,), position = struct.unpack_from("!I", plain), 4
        headers: dict[str, str] = {}
        for _ in range(count):
            pair = []
            for _ in range(2):
                (length,) = struct.unpack_from("!I", plain, position)
                pair.append(plain[position + 4 : position + 4 + length].decode("latin-1"))
                position += 4 + length
            headers[pair[0].lower()] = pair[1]
        return headers


def _control_frame(kind: int, payload: bytes) -> bytes:
    return _HEAD.pack(_CONTROL | _VERSION << 16 | kind, len(payload)) + payload

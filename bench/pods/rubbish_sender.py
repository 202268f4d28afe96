"""Sends rubbish; runs in a pod: python - ADDRESS MESSAGES SEED < this file. Prints how many went to which port."""

import asyncio
import json
import random
import ssl
import struct
import sys

PORTS = (15012, 15013, 15017)
AT_ONCE = 64
EACH_CONNECTION = 20
"""Messages on one connection, where the other side does not end it before."""

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
PATHS = (b"/istio.v1.auth.IstioCertificateService/CreateCertificate", b"/mutua.v1.IdentityService/Report", b"/x", b"")


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """One frame of HTTP/2."""
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def literal(name: bytes, value: bytes) -> bytes:
    """A header without compression (RFC 7541, 6.2.2); lengths below 127 only."""
    return b"\x00" + bytes((len(name),)) + name + bytes((min(len(value), 126),)) + value[:126]


def tls_rubbish(drawn: random.Random) -> bytes:
    """Bytes, a record cut off, a record that promises more, or a ClientHello with noise in it."""
    noise = drawn.randbytes(drawn.choice((0, 1, 5, 64, 512, 4096)))
    match drawn.randrange(5):
        case 0:
            return noise
        case 1:
            return b"\x16\x03\x01" + struct.pack(">H", drawn.randrange(65536)) + noise
        case 2:
            body = b"\x01" + struct.pack(">I", len(noise))[1:] + noise
            return b"\x16\x03\x01" + struct.pack(">H", len(body) & 0xFFFF) + body
        case 3:
            return PREFACE + noise
        case _:
            return b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999\r\n\r\n" + noise


def grpc_rubbish(drawn: random.Random, stream: int) -> bytes:
    """Frames of HTTP/2: calls with rubbish in them, header blocks that cannot be read, frames of any kind."""
    noise = drawn.randbytes(drawn.choice((0, 1, 16, 256, 2048)))
    match drawn.randrange(6):
        case 0:
            return frame(drawn.randrange(256), drawn.randrange(256), drawn.randrange(2**31), noise)
        case 1:
            return frame(1, 4, stream, noise)
        case 2:
            return frame(4, 0, 0, noise) + frame(8, 0, stream, struct.pack(">I", drawn.randrange(2**31)))
        case 3:
            return frame(3, 0, stream, struct.pack(">I", drawn.randrange(2**32)))
        case _:
            headers = b"".join(
                (
                    literal(b":method", b"POST"),
                    literal(b":scheme", b"https"),
                    literal(b":path", drawn.choice(PATHS)),
                    literal(b":authority", b"istiod.istio-system.svc"),
                    literal(b"te", b"trailers"),
                    literal(b"content-type", b"application/grpc"),
                    literal(b"authorization", b"Bearer " + drawn.randbytes(40).hex().encode()),
                )
            )
            message = b"\x00" + struct.pack(">I", drawn.choice((len(noise), 2**31, 0))) + noise
            return frame(1, 4, stream, headers) + frame(0, 1, stream, message)


def http_rubbish(drawn: random.Random) -> bytes:
    """Requests for the webhooks' paths: JSON that is none, lengths that lie, lines without end."""
    noise = drawn.randbytes(drawn.choice((0, 1, 64, 1024)))
    path = drawn.choice(("/inject", "/validate", "/debug/syncz", "/" + noise[:20].hex()))
    body = drawn.choice((b"{}", b"[" * 500, b'{"kind":"AdmissionReview","request":' + noise, noise))
    length = drawn.choice((len(body), len(body) + 1000, 2**40, -1))
    line = drawn.choice((f"POST {path} HTTP/1.1", "GET " + "x" * 9000, "\x00"))
    return (
        f"{line}\r\nhost: istiod\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n".encode() + body
    )


async def connection(address: str, drawn: random.Random, sent: dict[str, int], limit: int) -> None:
    """Some messages on one connection."""
    port = drawn.choice(PORTS)
    inside = port != 15012 and drawn.random() < 0.7
    context = None
    if inside:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["h2"] if port == 15013 else ["http/1.1"])
    try:
        async with asyncio.timeout(5):
            _, writer = await asyncio.open_connection(address, port, ssl=context)
    except (OSError, TimeoutError):
        return
    try:
        if inside and port == 15013:
            writer.write(PREFACE + frame(4, 0, 0, b""))
        for number in range(min(EACH_CONNECTION, limit)):
            if not inside:
                writer.write(tls_rubbish(drawn))
            elif port == 15013:
                writer.write(grpc_rubbish(drawn, 2 * number + 1))
            else:
                writer.write(http_rubbish(drawn))
            sent[str(port)] += 1
            async with asyncio.timeout(5):
                await writer.drain()
            if writer.is_closing():
                break
    except (OSError, TimeoutError):
        pass
    finally:
        writer.transport.abort()


async def main(address: str, messages: int, seed: int) -> None:
    """Connections side by side until enough was sent."""
    sent = {str(port): 0 for port in PORTS}

    async def lane(number: int) -> None:
        own = random.Random(seed * 1000 + number)  # noqa: S311 - repeatable, not secret
        while (left := messages - sum(sent.values())) > 0:
            await connection(address, own, sent, left)

    await asyncio.gather(*(lane(number) for number in range(AT_ONCE)))
    print(json.dumps(sent))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))

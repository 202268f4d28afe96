"""Asks the Envoy of the authorization cases from within its network: cases on stdin, decisions on stdout, as JSON."""

import asyncio
import contextlib
import json
import re
import socket
import ssl
import struct
import sys
from collections import defaultdict
from functools import cache, partial
from itertools import takewhile
from typing import Any

import grpc
import grpc.aio
from envoy.service.auth.v3 import external_auth_pb2

AT_ONCE = 50
LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n")
ECHO_PORT = 7
BYTES = b"more bytes than a TLS record needs to be told apart"
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""A closed connection leaves nothing behind, so that the next case can use the same port."""


@cache
def tls(certificate: str) -> ssl.SSLContext:
    """The client's side of mutual TLS; who the server is does not matter here."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.load_cert_chain(certificate)
    return context


def same_connection(cases: list[dict[str, Any]], first: int, second: int) -> bool:
    """Whether two cases can be put over one connection, one after the other."""
    one, other = cases[first], cases[second]
    return one["request"]["protocol"] == other["request"]["protocol"] == "http" and _caller(one) == _caller(other)


def _caller(case: dict[str, Any]) -> tuple[Any, ...]:
    request = case["request"]
    names = ("source_ip", "destination_ip", "destination_port", "sni")
    return (case["client_port"], case["certificate"], *(request.get(name) for name in names))


async def ask(cases: list[dict[str, Any]]) -> list[str]:
    """The decisions about cases of one connection: `allow`, `deny`, or what else happened.

    Shorter than the cases if the connection ended on the way: the rest needs another.
    """
    first = cases[0]
    request = first["request"]
    connection = socket.socket()
    connection.setblocking(False)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    connection.bind((request["source_ip"], first["client_port"]))
    writer = None
    decisions: list[str] = []
    try:
        destination = (request["destination_ip"], request["destination_port"])
        await asyncio.get_running_loop().sock_connect(connection, destination)
        if request["protocol"] != "http" and request.get("remote_ip"):
            addresses = f"{request['remote_ip']} {request['destination_ip']}"
            line = f"PROXY TCP4 {addresses} {first['client_port']} {request['destination_port']}\r\n"
            await asyncio.get_running_loop().sock_sendall(connection, line.encode())
        context = tls(first["certificate"]) if first["certificate"] else None
        name = {"server_hostname": request["sni"] or ""} if context else {}
        reader, writer = await asyncio.open_connection(sock=connection, ssl=context, **name)
        if request["protocol"] != "http":
            writer.write(BYTES)
            return ["allow" if await reader.read(1) else "deny"]
        for case in cases:
            writer.write(head(case["request"], case["token"]))
            decision, goes_on = await answered(reader, case["request"]["method"])
            decisions.append(decision)
            if not goes_on:
                break
        return decisions
    except (ConnectionError, ssl.SSLError, asyncio.IncompleteReadError) as error:
        return decisions or ["deny" if request["protocol"] != "http" else repr(error)]
    finally:
        if writer is not None:
            writer.transport.abort()
        connection.close()


async def answered(reader: asyncio.StreamReader, method: str) -> tuple[str, bool]:
    """What the next answer says, and whether another may follow on its connection."""
    answer = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = LENGTH.search(answer)
    if length and method != "HEAD":
        await reader.readexactly(int(length[1]))
    goes_on = length is not None and b"connection: close" not in answer
    if b"grpc-status: 7" in answer:  # a call is refused within an answer of 200
        return "deny", goes_on
    code = answer[9:12].decode()
    return {"200": "allow", "403": "deny"}.get(code, code), goes_on


def head(request: dict[str, Any], token: list[str]) -> bytes:
    """The request as it goes over the wire."""
    lines = [f"{request['method']} {request['path']} HTTP/1.1", f"host: {request['host']}"]
    lines += [": ".join(token)] if token else []
    for name, value in request["headers"].items():
        if name.lower() != "host":
            lines += [f"{name}: {each}" for each in (value if isinstance(value, list) else [value])]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


async def listening(destinations: set[tuple[str, int]]) -> None:
    """Wait until Envoy takes connections."""
    async with asyncio.timeout(120):
        for address, port in destinations:
            while True:
                with contextlib.suppress(ConnectionRefusedError):
                    _, writer = await asyncio.open_connection(address, port)
                    writer.transport.abort()
                    break
                await asyncio.sleep(0.02)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """What a connection that was let through reaches."""
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(4096):
            writer.write(data)
    writer.close()


class Authorizer(grpc.GenericRpcHandler):
    """An external authorizer over gRPC that always answers the same."""

    def __init__(self, status: int) -> None:
        answer = external_auth_pb2.CheckResponse()
        answer.status.code = status
        self._answer = answer.SerializeToString()

    def service(self, handler_call_details: object) -> Any:
        async def check(request: bytes, context: object) -> bytes:
            return self._answer

        return grpc.unary_unary_rpc_method_handler(check)


async def authorizers() -> list[Any]:
    """All external authorizers; the one that is not available is not there."""
    running: list[Any] = []
    for port, status in ((21, b"200 OK"), (22, b"403 Forbidden")):

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, status: bytes = status) -> None:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                while await reader.readuntil(b"\r\n\r\n"):
                    writer.write(b"HTTP/1.1 " + status + b"\r\ncontent-length: 0\r\n\r\n")
                    await writer.drain()

        running.append(await asyncio.start_server(answer, "127.0.0.1", port))
    for port, code in ((31, 0), (32, 7)):
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((Authorizer(code),))
        server.add_insecure_port(f"127.0.0.1:{port}")
        await server.start()
        running.append(server)
    return running


async def main() -> None:
    """All cases; those of one client port one after the other."""
    cases = json.load(sys.stdin)
    authorizing = await authorizers()
    await asyncio.start_server(echo, "127.0.0.1", ECHO_PORT)
    await listening({(case["request"]["destination_ip"], case["request"]["destination_port"]) for case in cases})
    groups = defaultdict(list)
    for index, case in enumerate(cases):
        groups[case["client_port"]].append(index)
    decisions: list[str] = [""] * len(cases)
    slots = asyncio.Semaphore(AT_ONCE)

    async def run(indexes: list[int]) -> None:
        async with slots:
            while indexes:
                first, *others = indexes
                asked = [first, *takewhile(partial(same_connection, cases, first), others)]
                try:
                    async with asyncio.timeout(10):
                        found = await ask([cases[index] for index in asked])
                except Exception as error:
                    found = [repr(error)]
                for index, decision in zip(asked, found, strict=False):
                    decisions[index] = decision
                indexes = indexes[len(found) :]

    await asyncio.gather(*map(run, groups.values()))
    json.dump(decisions, sys.stdout)
    for each in authorizing:
        if isinstance(each, grpc.aio.Server):
            await each.stop(None)


asyncio.run(main())

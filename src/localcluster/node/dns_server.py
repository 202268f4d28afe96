"""The cluster's resolver on the wire: UDP and TCP on one address."""

import asyncio
from contextlib import AsyncExitStack, suppress
from typing import cast

from localcluster.node.dns import ClusterNames, answer_wire

# A client that opens a TCP connection and says nothing must not hold it for ever (RFC 7766, 6.2.3).
_IDLE_SECONDS = 10.0


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, names: ClusterNames) -> None:
        self._names = names
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not every Python's datagram transport is a subclass of the type that says so.
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        response = answer_wire(data, self._names, over_udp=True)
        if response is not None and self._transport is not None:
            self._transport.sendto(response, addr)


class DnsServer:
    """Answers from `names` on `address`:`port` (0: chosen by the kernel, the same for UDP and TCP)."""

    def __init__(self, names: ClusterNames, address: str, port: int = 53) -> None:
        self._names = names
        self._address = address
        self.port = port
        self._exits = AsyncExitStack()

    async def start(self) -> None:
        """Bind both sockets. Raises OSError if the address is taken or not there."""
        loop = asyncio.get_running_loop()
        server = await asyncio.start_server(self._serve, self._address, self.port)
        self._exits.callback(server.close)
        self.port = server.sockets[0].getsockname()[1]
        transport, _ = await loop.create_datagram_endpoint(
            lambda: _Datagrams(self._names), local_addr=(self._address, self.port)
        )
        self._exits.callback(transport.close)

    async def close(self) -> None:
        """Close both sockets."""
        await self._exits.aclose()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(asyncio.IncompleteReadError, ConnectionError, TimeoutError):
                while True:
                    async with asyncio.timeout(_IDLE_SECONDS):
                        length = int.from_bytes(await reader.readexactly(2), "big")
                        request = await reader.readexactly(length)
                    response = answer_wire(request, self._names, over_udp=False)
                    if response is None:
                        return
                    writer.write(len(response).to_bytes(2, "big") + response)
                    await writer.drain()
        finally:
            writer.close()

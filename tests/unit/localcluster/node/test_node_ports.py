"""Node ports: which there are, and real connections through real sockets of the helper's."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from localcluster.host_ports import HostPorts, start_helper
from localcluster.node.node_ports import NodePorts, wanted_ports
from localcluster.node.services import service_ports

Object = dict[str, Any]


def service(node_port: int, port: int, **spec: Any) -> Object:
    ports = [{"port": port, "nodePort": node_port}]
    return {"metadata": {"name": "web"}, "spec": {"type": "NodePort", "clusterIP": "127.0.0.1", "ports": ports, **spec}}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_only_services_of_the_type_with_an_address_have_node_ports() -> None:
    assert {port: target for port, (target, _) in wanted_ports([service(30000, 80)]).items()} == {
        30000: ("127.0.0.1", 80)
    }
    assert wanted_ports([service(30000, 80, type="ClusterIP"), service(30001, 80, clusterIP="None")]) == {}


def test_pods_reach_node_ports_on_the_nodes_address() -> None:
    found = service_ports(service(30000, 80), [], "10.244.0.1")

    assert [(port.frontend.address, port.frontend.port) for port in found] == [("127.0.0.1", 80), ("10.244.0.1", 30000)]


@pytest.fixture
async def host() -> AsyncIterator[HostPorts]:
    found = HostPorts(start_helper())
    yield found
    found.close()


async def test_a_port_that_is_taken_is_refused_and_the_next_one_is_not(host: HostPorts) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        await host.listen(taken.getsockname()[1])
    with contextlib.closing(await host.listen(free_port())) as listener:
        assert listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1


async def test_without_its_helper_the_node_says_so() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    host = HostPorts(ours)
    theirs.close()

    with pytest.raises(OSError):
        await host.listen(free_port())
    host.close()


async def test_connections_are_passed_on_while_the_service_is_there(host: HostPorts) -> None:
    async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.read()).upper())  # the client's end of input comes through as well
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(shout, "127.0.0.1", 0) as backend:
        port = free_port()
        services = {("demo", "web"): service(port, backend.sockets[0].getsockname()[1])}
        ports = NodePorts(host, services, lambda service, message: None)
        running = asyncio.create_task(ports.run())
        ports.changed()
        reader, writer = await connected(port)
        writer.write(b"hello")
        writer.write_eof()
        assert await reader.read() == b"HELLO"
        writer.close()
        await writer.wait_closed()

        services.clear()
        ports.changed()
        await refused(port)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_service_without_backends_resets_its_clients(host: HostPorts) -> None:
    port = free_port()
    ports = NodePorts(host, {("demo", "web"): service(port, free_port())}, lambda service, message: None)
    running = asyncio.create_task(ports.run())
    ports.changed()
    loop = asyncio.get_running_loop()
    _, writer = await connected(port)  # once it is open: the reset may come before this client has looked
    writer.transport.abort()
    with socket.socket() as client:
        client.setblocking(False)
        with pytest.raises(ConnectionResetError):
            await loop.sock_connect(client, ("127.0.0.1", port))
            await loop.sock_recv(client, 1)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def connected(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    async with asyncio.timeout(10):
        while True:
            try:
                return await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                await asyncio.sleep(0)


async def refused(port: int) -> None:
    async with asyncio.timeout(10):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                return
            except ConnectionResetError:  # it was just being closed
                continue
            writer.close()
            await asyncio.gather(writer.wait_closed(), return_exceptions=True)

"""The secret service over a real unix socket, asked as Envoy asks, in both protocols."""

import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
import pytest_asyncio
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2
from envoy.service.discovery.v3 import discovery_pb2

from mutua.errors import UnavailableError
from mutua.secret import Secret
from mutua.servers.sds import SERVICE, TYPE_URL, SecretService

DELTA = (discovery_pb2.DeltaDiscoveryRequest, discovery_pb2.DeltaDiscoveryResponse)
STATE = (discovery_pb2.DiscoveryRequest, discovery_pb2.DiscoveryResponse)


@pytest_asyncio.fixture
async def service(tmp_path: Path) -> AsyncIterator[SecretService]:
    """Listening on `socket` in the test's folder."""
    running = SecretService()
    await running.start(tmp_path / "socket")
    yield running
    await running.stop()


@pytest_asyncio.fixture
async def channel(service: SecretService, tmp_path: Path) -> AsyncIterator[grpc.aio.Channel]:
    """A connection to it."""
    async with grpc.aio.insecure_channel(f"unix:{tmp_path / 'socket'}") as opened:
        yield opened


def stream(channel: grpc.aio.Channel, method: str, types: tuple[Any, Any]) -> Any:
    """One open stream."""
    request, response = types
    return channel.stream_stream(f"/{SERVICE}/{method}", request.SerializeToString, response.FromString)(timeout=5)


def secret(packed: Any) -> secret_pb2.Secret:
    """The secret inside a resource."""
    assert packed.type_url == TYPE_URL
    return secret_pb2.Secret.FromString(packed.value)


async def test_state_of_the_world(service: SecretService, channel: grpc.aio.Channel) -> None:
    """An early request waits; a rotation is pushed; an unchanged root is not; an ACK is not answered."""
    certificates = stream(channel, "StreamSecrets", STATE)
    roots = stream(channel, "StreamSecrets", STATE)
    await certificates.write(discovery_pb2.DiscoveryRequest(resource_names=["default"], type_url=TYPE_URL))
    await roots.write(discovery_pb2.DiscoveryRequest(resource_names=["ROOTCA"], type_url=TYPE_URL))
    service.publish(b"chain 1", Secret(b"key 1"), b"roots")

    first = await certificates.read()
    pair = secret(first.resources[0]).tls_certificate
    assert (pair.certificate_chain.inline_bytes, pair.private_key.inline_bytes) == (b"chain 1", b"key 1")
    assert secret((await roots.read()).resources[0]).validation_context.trusted_ca.inline_bytes == b"roots"

    await certificates.write(
        discovery_pb2.DiscoveryRequest(
            resource_names=["default"], response_nonce=first.nonce, version_info=first.version_info
        )
    )
    service.publish(b"chain 2", Secret(b"key 2"), b"roots")
    second = await certificates.read()
    assert secret(second.resources[0]).tls_certificate.certificate_chain.inline_bytes == b"chain 2"
    assert (first.nonce, first.version_info) != (second.nonce, second.version_info)

    service.publish(b"chain 2", Secret(b"key 2"), b"roots 2")
    assert secret((await roots.read()).resources[0]).validation_context.trusted_ca.inline_bytes == b"roots 2"
    certificates.cancel()
    roots.cancel()


async def test_delta(service: SecretService, channel: grpc.aio.Channel) -> None:
    """Both names on one stream: only what changed comes."""
    service.publish(b"chain 1", Secret(b"key 1"), b"roots")
    both = stream(channel, "DeltaSecrets", DELTA)
    await both.write(discovery_pb2.DeltaDiscoveryRequest(resource_names_subscribe=["default", "ROOTCA"]))
    first = await both.read()
    assert [resource.name for resource in first.resources] == ["default", "ROOTCA"]

    await both.write(discovery_pb2.DeltaDiscoveryRequest(response_nonce=first.nonce))
    service.publish(b"chain 2", Secret(b"key 2"), b"roots")
    second = await both.read()
    assert [(resource.name, resource.version) for resource in second.resources] == [("default", "2")]

    await both.write(discovery_pb2.DeltaDiscoveryRequest(resource_names_unsubscribe=["default"]))
    await both.write(discovery_pb2.DeltaDiscoveryRequest(resource_names_subscribe=["ROOTCA"]))
    assert [resource.name for resource in (await both.read()).resources] == ["ROOTCA"]
    service.publish(b"chain 3", Secret(b"key 3"), b"roots 3")
    assert [resource.name for resource in (await both.read()).resources] == ["ROOTCA"]
    both.cancel()


@pytest.mark.parametrize(
    "name",
    [
        "default2",
        "",
        "kubernetes://other",
        "ROOTCA ",
        "file-cert:/does/not~/exist",
        "file-cert:/etc/hosts",
        "file-cert:/etc/hosts~/etc/hosts~/etc/hosts",
        "file-root:etc/hosts",
        "file-root:/etc",
        "file-root:/dev/zero",
    ],
)
async def test_unknown_names_are_refused_at_once(channel: grpc.aio.Channel, name: str) -> None:
    """Even before there is any secret, and in both protocols."""
    one = stream(channel, "StreamSecrets", STATE)
    await one.write(discovery_pb2.DiscoveryRequest(resource_names=["default", name]))
    assert await one.code() is grpc.StatusCode.NOT_FOUND
    other = stream(channel, "DeltaSecrets", DELTA)
    await other.write(discovery_pb2.DeltaDiscoveryRequest(resource_names_subscribe=[name]))
    assert await other.code() is grpc.StatusCode.NOT_FOUND


async def test_secrets_from_files_follow_their_files(tmp_path: Path) -> None:
    """A DestinationRule's own certificate and roots; a file that is replaced is pushed, one that vanishes is kept."""
    for name in ("cert", "key", "root"):
        (tmp_path / name).write_text(f"{name} 1")
    service = SecretService(poll_seconds=0.01)
    await service.start(tmp_path / "socket")
    async with grpc.aio.insecure_channel(f"unix:{tmp_path / 'socket'}") as channel:
        one = stream(channel, "DeltaSecrets", DELTA)
        pair, root = f"file-cert:{tmp_path}/cert~{tmp_path}/key", f"file-root:{tmp_path}/root"
        await one.write(discovery_pb2.DeltaDiscoveryRequest(resource_names_subscribe=[pair, root]))
        first = {resource.name: secret(resource.resource) for resource in (await one.read()).resources}
        assert first[pair].tls_certificate.private_key.inline_bytes == b"key 1"
        assert first[root].validation_context.trusted_ca.inline_bytes == b"root 1"

        (tmp_path / "root").unlink()
        (tmp_path / "cert").write_text("cert 2")
        second = (await one.read()).resources
        assert [pair] == [resource.name for resource in second]
        assert secret(second[0].resource).tls_certificate.certificate_chain.inline_bytes == b"cert 2"
        one.cancel()
    await service.stop()


async def test_a_rejected_secret_is_logged_and_not_sent_again(
    service: SecretService, channel: grpc.aio.Channel, caplog: pytest.LogCaptureFixture
) -> None:
    """The same bytes would be refused again; the next certificate is sent."""
    service.publish(b"chain 1", Secret(b"key 1"), b"roots")
    one = stream(channel, "StreamSecrets", STATE)
    await one.write(discovery_pb2.DiscoveryRequest(resource_names=["default"]))
    first = await one.read()
    rejection = discovery_pb2.DiscoveryRequest(resource_names=["default"], response_nonce=first.nonce)
    rejection.error_detail.code = 13
    rejection.error_detail.message = "Failed to load certificate chain"
    await one.write(rejection)
    service.publish(b"chain 2", Secret(b"key 2"), b"roots")

    second = await one.read()
    assert secret(second.resources[0]).tls_certificate.certificate_chain.inline_bytes == b"chain 2"
    assert any("Failed to load" in str(vars(record)) for record in caplog.records)
    one.cancel()


async def test_a_path_that_cannot_be_listened_on(tmp_path: Path) -> None:
    """One error with the path, not a traceback of gRPC's."""
    service = SecretService()

    with pytest.raises(UnavailableError, match="cannot listen on"):
        await service.start(tmp_path / ("x" * 120))
    await service.stop()


async def test_a_socket_that_is_left_over_is_replaced(tmp_path: Path) -> None:
    """As an agent that was killed leaves it."""
    with socket.socket(socket.AF_UNIX) as left_over:
        left_over.bind(str(tmp_path / "other"))
    again = SecretService()
    await again.start(tmp_path / "other")
    again.publish(b"chain", Secret(b"key"), b"roots")
    async with grpc.aio.insecure_channel(f"unix:{tmp_path / 'other'}") as channel:
        one = stream(channel, "StreamSecrets", STATE)
        await one.write(discovery_pb2.DiscoveryRequest(resource_names=["default"]))
        assert len((await one.read()).resources) == 1
        one.cancel()
    await again.stop()

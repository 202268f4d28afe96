"""Who is answered by the discovery service, and who is not; over real gRPC and mutual TLS."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import envoy_views as views
import grpc.aio
import msgspec
import pytest
from cryptography import x509
from envoy.config.listener.v3 import listener_pb2
from envoy.service.discovery.v3 import discovery_pb2
from envoy_pods import DISCOVERY_NAME
from google.protobuf import any_pb2

from fakes.issuing_authority import Authority
from mutua.envoy import inbound
from mutua.envoy.resource_set import CLUSTER, ENDPOINT, LISTENER
from mutua.errors import NotFoundError, RefusedError
from mutua.mesh.proxy_view import MtlsMode, ProxyView
from mutua.secret import Secret
from mutua.servers.credentials import ServingTls, TlsMaterial
from mutua.servers.xds import SERVER_OPTIONS, SERVICE, XdsServer
from mutua.spiffe import SpiffeId
from mutua.xds import rollout
from mutua.xds.node import Node

NODE = "sidecar~10.9.0.2~backend.shop~shop.svc.cluster.local"
METHOD = f"/{SERVICE}/DeltaAggregatedResources"


class Service:
    """The server, and clients with whatever certificate."""

    def __init__(self, directory: Path) -> None:
        self.authority = Authority()
        self.address = f"unix:{directory}/xds.sock"
        self.answer: ProxyView | Exception = views.server(MtlsMode.STRICT)
        self.clients_answer: ProxyView | None = None  # for frontends; None = the same
        self.xds = XdsServer(self._lookup, stranger_patience_seconds=0.2)
        self._server = grpc.aio.server(options=SERVER_OPTIONS)

    async def start(self) -> None:
        issued = self.authority.issue(x509.DNSName(DISCOVERY_NAME))
        material = TlsMaterial(issued.chain, Secret(issued.key), self.authority.root)
        self.xds.add_to(self._server)
        self._server.add_secure_port(self.address, ServingTls(material).client_certificate_required())
        await self._server.start()

    async def stop(self) -> None:
        await self._server.stop(None)

    @contextlib.asynccontextmanager
    async def stream(self, *identities: str) -> AsyncIterator[Any]:
        """A stream of a client with a certificate for `identities`."""
        names = [x509.UniformResourceIdentifier(identity) for identity in identities] or [x509.DNSName("someone")]
        issued = self.authority.issue(*names)
        credentials = grpc.ssl_channel_credentials(self.authority.root, issued.key, issued.chain)
        options = (("grpc.ssl_target_name_override", DISCOVERY_NAME),)
        async with grpc.aio.secure_channel(self.address, credentials, options=options) as channel:
            call = channel.stream_stream(METHOD)()
            yield call
            call.cancel()

    def _lookup(self, node: Node, identity: SpiffeId) -> ProxyView:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.clients_answer if self.clients_answer and node.pod == "frontend" else self.answer


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    made = Service(tmp_path)
    await made.start()
    yield made
    await made.stop()


def request(type_url: str = CLUSTER, *, node: str = NODE, nonce: str = "", names: tuple[str, ...] = ()) -> bytes:
    made = discovery_pb2.DeltaDiscoveryRequest(type_url=type_url, response_nonce=nonce, resource_names_subscribe=names)
    made.node.id = node
    return bytes(made.SerializeToString())


async def received(call: Any) -> discovery_pb2.DeltaDiscoveryResponse:
    async with asyncio.timeout(5):
        message = await call.read()
    assert message is not grpc.aio.EOF
    return discovery_pb2.DeltaDiscoveryResponse.FromString(message)


async def refusal(call: Any) -> grpc.StatusCode:
    async with asyncio.timeout(5):
        with contextlib.suppress(grpc.aio.AioRpcError):
            while await call.read() is not grpc.aio.EOF:
                pass
        return await call.code()


async def test_a_proven_proxy_is_answered(service: Service) -> None:
    async with service.stream(views.BACKEND) as call:
        await call.write(request())
        names = {each.name for each in (await received(call)).resources}

    assert {"inbound|8080||", "outbound|80||named.shop.svc.cluster.local", "BlackHoleCluster"} <= names


@pytest.mark.parametrize(
    ("identities", "node", "code"),
    [
        ((), NODE, grpc.StatusCode.PERMISSION_DENIED),
        (("spiffe://cluster.local/ns/other/sa/backend",), NODE, grpc.StatusCode.PERMISSION_DENIED),
        ((views.BACKEND, views.FRONTEND), NODE, grpc.StatusCode.PERMISSION_DENIED),
        (("spiffe://cluster.local/odd",), NODE, grpc.StatusCode.PERMISSION_DENIED),
        ((views.BACKEND,), "", grpc.StatusCode.INVALID_ARGUMENT),
        ((views.BACKEND,), "router~1~2~3", grpc.StatusCode.INVALID_ARGUMENT),
    ],
)
async def test_who_is_not_who_it_says_is_refused(
    service: Service, identities: tuple[str, ...], node: str, code: grpc.StatusCode
) -> None:
    async with service.stream(*identities) as call:
        await call.write(request(node=node))

        assert await refusal(call) == code
    assert service.xds.status() == ()


@pytest.mark.parametrize("error", [RefusedError("another account"), NotFoundError("no such pod")])
async def test_whom_the_mesh_does_not_know_is_refused(service: Service, error: Exception) -> None:
    service.answer = error
    async with service.stream(views.BACKEND) as call:
        await call.write(request())

        assert await refusal(call) == grpc.StatusCode.PERMISSION_DENIED


async def test_a_proxy_may_be_faster_than_the_news_of_its_pod(service: Service) -> None:
    service.answer, view = NotFoundError("no such pod yet"), service.answer
    async with service.stream(views.BACKEND) as call:
        await call.write(request())
        await asyncio.sleep(0)
        service.answer = view
        await service.xds.publish()

        assert (await received(call)).type_url == CLUSTER


async def test_a_fault_of_ours_tells_the_peer_nothing(service: Service) -> None:
    service.answer = ZeroDivisionError("secret detail")
    async with service.stream(views.BACKEND) as call:
        await call.write(request())

        assert await refusal(call) == grpc.StatusCode.INTERNAL
        assert "secret" not in await call.details()


async def test_what_is_no_request_ends_the_stream_and_nothing_else(service: Service) -> None:
    async with service.stream(views.BACKEND) as good, service.stream(views.BACKEND) as bad:
        await good.write(request())
        await received(good)
        await bad.write(request())
        await received(bad)
        await bad.write(b"\xff\xff\xff")

        assert await refusal(bad) == grpc.StatusCode.INVALID_ARGUMENT
        await good.write(request(LISTENER))
        assert (await received(good)).type_url == LISTENER


async def test_a_stream_cannot_change_its_node(service: Service) -> None:
    async with service.stream(views.BACKEND) as call:
        await call.write(request())
        await received(call)
        await call.write(request(node=NODE.replace("backend", "frontend")))

        assert await refusal(call) == grpc.StatusCode.PERMISSION_DENIED


async def test_a_proxy_that_is_refused_later_loses_its_stream(service: Service) -> None:
    async with service.stream(views.BACKEND) as call:
        await call.write(request())
        await received(call)
        service.answer = RefusedError("its pod has another service account now")
        await service.xds.publish()

        assert await refusal(call) == grpc.StatusCode.PERMISSION_DENIED


async def test_a_change_reaches_only_what_it_changes(service: Service) -> None:
    async with service.stream(views.BACKEND) as call:
        for type_url in (CLUSTER, LISTENER):
            await call.write(request(type_url))
            answer = await received(call)
            await call.write(request(type_url, nonce=answer.nonce))
        await service.xds.publish()  # equal: nothing may follow
        service.answer = views.server(MtlsMode.PERMISSIVE)
        await service.xds.publish()

        answer = await received(call)
        assert (answer.type_url, [each.name for each in answer.resources]) == (LISTENER, ["virtualInbound"])


async def test_a_client_that_does_not_read_holds_up_nobody(service: Service) -> None:
    async with service.stream(views.BACKEND) as stuck, service.stream(views.BACKEND) as quick:
        await stuck.write(request(LISTENER))
        await quick.write(request(LISTENER))
        nonce = (await received(quick)).nonce
        for mode in (MtlsMode.PERMISSIVE, MtlsMode.DISABLE, MtlsMode.STRICT, MtlsMode.PERMISSIVE):
            await quick.write(request(LISTENER, nonce=nonce))
            await asyncio.sleep(0)
            service.answer = views.server(mode)
            await service.xds.publish()
            nonce = (await received(quick)).nonce

    assert int(nonce) == 5


async def test_servers_take_the_new_before_clients_dial_it_and_refuse_the_old_only_then(service: Service) -> None:
    service.answer, service.clients_answer = views.server(MtlsMode.DISABLE), views.client(mtls=False)
    async with service.stream(views.BACKEND) as backend, service.stream(views.FRONTEND) as frontend:
        await backend.write(request(LISTENER))
        nonce = (await received(backend)).nonce
        await backend.write(request(LISTENER, nonce=nonce))
        name = "outbound|80||named.shop.svc.cluster.local"
        await frontend.write(request(ENDPOINT, node=NODE.replace("backend", "frontend"), names=(name,)))
        nonce = (await received(frontend)).nonce
        await frontend.write(request(ENDPOINT, nonce=nonce, node=""))

        service.answer, service.clients_answer = views.server(MtlsMode.STRICT), views.client(mtls=True)
        await service.xds.publish()
        moved = asyncio.create_task(received(frontend))
        wide = await received(backend)
        await service.xds.publish()  # whatever else happens meanwhile changes nothing about the order
        assert not moved.done()
        await backend.write(request(LISTENER, nonce=wide.nonce))
        nonce = (await moved).nonce
        narrow = asyncio.create_task(received(backend))
        assert not narrow.done()
        await frontend.write(request(ENDPOINT, nonce=nonce, node=""))

        modes = [len(_listener(answer).filter_chains) for answer in (wide, await narrow)]
    assert modes == [len(_chains(mode)) for mode in (MtlsMode.PERMISSIVE, MtlsMode.STRICT)]


async def test_a_proxy_that_acknowledges_nothing_holds_up_a_policy_for_a_bounded_time(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollout, "BOUND_SECONDS", 0.3)
    service.answer = views.server(MtlsMode.DISABLE)
    async with service.stream(views.BACKEND) as server, service.stream(views.BACKEND) as silent:
        for call in (server, silent):
            await call.write(request(LISTENER))
            await received(call)
        await server.write(request(LISTENER, nonce="1"))
        service.answer = msgspec.structs.replace(views.server(MtlsMode.STRICT), endpoints=views.endpoints(mtls=False))
        await service.xds.publish()
        wide = await received(server)
        await server.write(request(LISTENER, nonce=wide.nonce))

        narrow = await received(server)

    assert len(_listener(narrow).filter_chains) == len(_chains(MtlsMode.STRICT))


def _listener(answer: discovery_pb2.DeltaDiscoveryResponse) -> listener_pb2.Listener:
    made = listener_pb2.Listener()
    (found,) = (each for each in answer.resources if each.name == "virtualInbound")
    assert found.resource.Unpack(made)
    return made


def _chains(mode: MtlsMode) -> list[object]:
    fragment = inbound.fragment(views.MESH, views.inbound(mode), ())
    made = listener_pb2.Listener()
    any_pb2.Any.FromString(fragment.sections[LISTENER].resources["virtualInbound"].body).Unpack(made)
    return list(made.filter_chains)

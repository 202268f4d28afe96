"""CVE-2021-34824: keys that DestinationRules name reach those who may read them, and nobody else, cold or warm."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
import pytest_asyncio
from cryptography import x509
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2
from envoy.service.discovery.v3 import discovery_pb2

from fakes.issuing_authority import Authority
from mutua.secret import Secret
from mutua.servers.credentials import ServingTls, TlsMaterial
from mutua.servers.named_secrets import NamedSecretService
from mutua.servers.sds import SERVICE, TYPE_URL
from mutua.sources.credentials import Credentials
from mutua.spiffe import SpiffeId
from mutua.system import kube_reviews
from mutua.system.kube import KubeClient
from mutua.system.kube_resources import SECRETS, PatchType, Resource
from mutua.system.kube_reviews import SecretReaders
from mutua.xds.node import Node

NAMESPACES = Resource("", "v1", "namespaces")
ROLES = Resource("rbac.authorization.k8s.io", "v1", "roles")
ROLE_BINDINGS = Resource("rbac.authorization.k8s.io", "v1", "rolebindings")
USED = frozenset({"api", "broken", "nowhere"})
SERVER = "istiod.test"
AUTHORITY = Authority()


@dataclass
class World:
    """The service between an API server and proxies."""

    kube: KubeClient
    socket: Path
    service: NamedSecretService

    async def secret(self, namespace: str, name: str, **data: bytes) -> None:
        """The namespace's secret from now on; `tls_crt` stands for `tls.crt`."""
        encoded = {key.replace("_", "."): base64.b64encode(value).decode() for key, value in data.items()}
        body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": namespace}}
        await self.kube.apply(SECRETS, body | {"data": encoded}, namespace)

    async def allow(self, namespace: str, account: str, verb: str = "list") -> None:
        """Let an account read secrets of its namespace."""
        rules = [{"apiGroups": [""], "resources": ["secrets"], "verbs": [verb]}]
        head = {"metadata": {"name": f"{account}-{verb}", "namespace": namespace}}
        group = "rbac.authorization.k8s.io"
        await self.kube.apply(ROLES, {"apiVersion": f"{group}/v1", "kind": "Role", "rules": rules} | head, namespace)
        subject = {"kind": "ServiceAccount", "name": account, "namespace": namespace}
        reference = {"apiGroup": group, "kind": "Role", "name": f"{account}-{verb}"}
        binding = {"apiVersion": f"{group}/v1", "kind": "RoleBinding", "subjects": [subject], "roleRef": reference}
        await self.kube.apply(ROLE_BINDINGS, binding | head, namespace)

    @asynccontextmanager
    async def asking(
        self, namespace: str, account: str, resource: str, *, node_namespace: str = ""
    ) -> AsyncIterator["Asked"]:
        """A stream of a proxy that proves to be an account."""
        identity = f"spiffe://cluster.local/ns/{namespace}/sa/{account}"
        issued = AUTHORITY.issue(x509.UniformResourceIdentifier(identity))
        credentials = grpc.ssl_channel_credentials(AUTHORITY.root, issued.key, issued.chain)
        options = (("grpc.ssl_target_name_override", SERVER),)
        async with grpc.aio.secure_channel(f"unix:{self.socket}", credentials, options) as channel:
            call = channel.stream_stream(
                f"/{SERVICE}/StreamSecrets",
                discovery_pb2.DiscoveryRequest.SerializeToString,
                discovery_pb2.DiscoveryResponse.FromString,
            )(timeout=20)
            request = discovery_pb2.DiscoveryRequest(type_url=TYPE_URL, resource_names=[resource])
            where = node_namespace or namespace
            request.node.id = f"sidecar~10.0.0.1~pod.{where}~{where}.svc.cluster.local"
            await call.write(request)
            yield Asked(call)


@dataclass
class Asked:
    """One open stream."""

    call: Any

    async def answer(self) -> secret_pb2.Secret:
        """The next secret; AioRpcError if the stream is refused."""
        response = await self.call.read()
        return secret_pb2.Secret.FromString(response.resources[0].value)

    async def refused(self, code: grpc.StatusCode) -> str:
        """Waits for the end of the stream; why it ended."""
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await self.call.read()
        assert raised.value.code() is code
        return str(raised.value.details())

    async def nothing(self, seconds: float = 0.5) -> bool:
        """Whether there is no answer for a while."""
        reading = asyncio.ensure_future(self.call.read())
        done, _ = await asyncio.wait([reading], timeout=seconds)
        reading.cancel()
        return not done


@pytest_asyncio.fixture
async def world(kube: KubeClient, tmp_path: Path) -> AsyncIterator[World]:
    for name in ("shop", "evil"):
        await kube.apply(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})

    def uses(_node: Node, _identity: SpiffeId) -> frozenset[str]:
        return USED

    service = NamedSecretService(uses, SecretReaders(kube), Credentials(kube, "role"), review_seconds=0.5)
    server = grpc.aio.server()
    service.add_to(server)
    issued = AUTHORITY.issue(x509.DNSName(SERVER))
    material = TlsMaterial(certificate_chain=issued.chain, key=Secret(issued.key), client_roots=AUTHORITY.root)
    server.add_secure_port(f"unix:{tmp_path}/socket", ServingTls(material).client_certificate_required())
    await server.start()
    made = World(kube, tmp_path / "socket", service)
    yield made
    await server.stop(None)
    for namespace in ("shop", "evil"):
        for resource in (SECRETS, ROLES, ROLE_BINDINGS):
            for item in await kube.list(resource, namespace):
                await kube.delete(resource, item["metadata"]["name"], namespace)


def pair() -> dict[str, bytes]:
    issued = AUTHORITY.issue(x509.DNSName("client"))
    return {"tls_crt": issued.chain, "tls_key": issued.key}


async def test_each_namespace_gets_its_own_secret_cold_and_warm(world: World) -> None:
    own, other = pair(), pair()
    await world.secret("shop", "api", **own, ca_crt=AUTHORITY.root)
    await world.secret("evil", "api", **other)
    await world.allow("shop", "client")
    await world.allow("evil", "client", "get")
    async with world.asking("shop", "client", "kubernetes://api") as first:
        assert (await first.answer()).tls_certificate.private_key.inline_bytes == own["tls_key"]
        # The secret of shop is held at this moment; the same name from elsewhere means another secret.
        async with world.asking("evil", "client", "kubernetes://api") as second:
            assert (await second.answer()).tls_certificate.private_key.inline_bytes == other["tls_key"]
        async with world.asking("shop", "client", "kubernetes://api-cacert") as authorities:
            assert (await authorities.answer()).validation_context.trusted_ca.inline_bytes == AUTHORITY.root


@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize(
    "resource",
    [
        "kubernetes://shop/api",
        "kubernetes://../shop/api",
        "kubernetes-gateway://shop/api",
        "builtin://",
        "api",
        "default",
    ],
)
async def test_no_name_reaches_into_another_namespace(world: World, warm: bool, resource: str) -> None:
    await world.secret("shop", "api", **pair())
    await world.allow("shop", "client")
    await world.allow("evil", "client")
    async with world.asking("shop", "client", "kubernetes://api") as own:
        if warm:
            await own.answer()
        async with world.asking("evil", "client", resource) as asked:
            await asked.refused(grpc.StatusCode.INVALID_ARGUMENT)
        # Nor does a node id that says so.
        async with world.asking("evil", "client", "kubernetes://api", node_namespace="shop") as asked:
            await asked.refused(grpc.StatusCode.PERMISSION_DENIED)


@pytest.mark.parametrize("warm", [False, True])
async def test_who_may_not_read_the_secret_does_not_get_it(world: World, warm: bool) -> None:
    await world.secret("shop", "api", **pair())
    await world.allow("shop", "client")
    async with world.asking("shop", "client", "kubernetes://api") as own:
        if warm:
            await own.answer()
        async with world.asking("shop", "stranger", "kubernetes://api") as asked:
            words = await asked.refused(grpc.StatusCode.PERMISSION_DENIED)
            assert words == "service account shop/stranger may not read secret 'api'"


async def test_a_secret_that_no_rule_gives_is_not_even_looked_for(world: World) -> None:
    await world.secret("shop", "private", **pair())
    await world.allow("shop", "client")
    async with world.asking("shop", "client", "kubernetes://private") as asked:
        await asked.refused(grpc.StatusCode.PERMISSION_DENIED)


async def test_a_key_is_replaced_where_it_is_used(world: World) -> None:
    old, new = pair(), pair()
    await world.secret("shop", "api", **old)
    await world.allow("shop", "client")
    async with world.asking("shop", "client", "kubernetes://api") as asked:
        assert (await asked.answer()).tls_certificate.certificate_chain.inline_bytes == old["tls_crt"]
        await world.secret("shop", "api", tls_crt=old["tls_crt"], tls_key=new["tls_key"])  # half of it
        await world.secret("shop", "api", **new)
        assert (await asked.answer()).tls_certificate.certificate_chain.inline_bytes == new["tls_crt"]


async def test_who_loses_the_right_loses_the_stream(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kube_reviews, "REMEMBERED_SECONDS", 0.2)
    await world.secret("shop", "api", **pair())
    await world.allow("shop", "client")
    async with world.asking("shop", "client", "kubernetes://api") as asked:
        await asked.answer()
        await world.kube.delete(ROLE_BINDINGS, "client-list", "shop")
        await asked.refused(grpc.StatusCode.PERMISSION_DENIED)


async def test_what_is_missing_or_broken_is_given_as_soon_as_it_is_whole(world: World) -> None:
    await world.secret("shop", "broken", tls_crt=b"no certificate", tls_key=b"no key")
    await world.allow("shop", "client")
    async with (
        world.asking("shop", "client", "kubernetes://nowhere") as missing,
        world.asking("shop", "client", "kubernetes://broken") as broken,
    ):
        assert await missing.nothing() and await broken.nothing(0)
    async with world.asking("shop", "client", "kubernetes://broken") as broken:
        whole = pair()
        await world.secret("shop", "broken", **whole)
        assert (await broken.answer()).tls_certificate.private_key.inline_bytes == whole["tls_key"]


async def test_authorities_may_lie_apart_from_the_key(world: World) -> None:
    other = Authority("another")
    await world.secret("shop", "api", cert=pair()["tls_crt"], key=b"", cacert=AUTHORITY.root)
    await world.allow("shop", "client")
    async with world.asking("shop", "client", "kubernetes://api-cacert") as asked:
        assert (await asked.answer()).validation_context.trusted_ca.inline_bytes == AUTHORITY.root
        await world.secret("shop", "api-cacert", cacert=other.root)
        assert (await asked.answer()).validation_context.trusted_ca.inline_bytes == other.root
        await world.kube.patch(SECRETS, "api-cacert", {"data": {"cacert": ""}}, "shop", patch_type=PatchType.MERGE)
        assert await asked.nothing()


async def test_many_at_once_are_one_question_and_another_account_is_another(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.allow("shop", "client")
    asked: list[str] = []
    create = world.kube.create

    async def counted(resource: Resource, body: dict[str, Any], *rest: Any) -> Any:
        asked.append(body["spec"]["user"])
        return await create(resource, body, *rest)

    monkeypatch.setattr(world.kube, "create", counted)
    readers = kube_reviews.SecretReaders(world.kube)
    client = SpiffeId.parse("spiffe://cluster.local/ns/shop/sa/client")
    assert all(await asyncio.gather(*(readers(client, "api") for _ in range(50))))
    assert await readers(client, "api")
    assert asked == ["system:serviceaccount:shop:client"]
    for namespace, account in (("shop", "other"), ("evil", "client")):
        assert not await readers(SpiffeId.parse(f"spiffe://cluster.local/ns/{namespace}/sa/{account}"), "api")

"""Tokens at the certificate service, reviewed by a real API server: whose, from where, and until when."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import grpc.aio
import jwt
import pytest
from cryptography import x509

from fakes.certificates import signing_request
from fakes.mesh_control_plane import NAME, ControlPlane
from localcluster.paths import ClusterPaths
from mutua.ca.caller import TokenReviewStatus, token_review_status
from mutua.protos import istio_ca_pb2 as protos
from mutua.system import keys
from mutua.system.ca_client import METHOD
from mutua.system.kube import KubeClient
from mutua.system.kube_resources import NAMESPACES, PODS, SERVICE_ACCOUNTS

REFUSED = grpc.StatusCode.UNAUTHENTICATED
HERE, ELSEWHERE = "127.0.0.1", "10.244.0.9"


class Mesh:
    """A namespace with accounts and pods, and a control plane that asks the API server about every token."""

    def __init__(self, kube: KubeClient, namespace: str) -> None:
        self.kube, self.namespace = kube, namespace
        self.addresses: dict[tuple[str, str], tuple[str, ...]] = {}
        self.control_plane = ControlPlane(
            review=self._review, addresses_of=lambda namespace, pod: self.addresses.get((namespace, pod), ())
        )

    async def _review(self, token: str, audiences: tuple[str, ...]) -> TokenReviewStatus:
        return token_review_status(await self.kube.token_review(token, audiences))

    async def pod(self, name: str, address: str, account: str = "web") -> dict[str, Any]:
        """A pod that is said to be at an address; its object."""
        spec = {"serviceAccountName": account, "containers": [{"name": "app", "image": "nginx"}]}
        body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
        self.addresses[self.namespace, name] = (address,)
        return await self.kube.create(PODS, body, self.namespace)

    async def token(
        self, pod: dict[str, Any] | None, *, account: str = "web", audience: str = "istio-ca", seconds: int = 3600
    ) -> str:
        """As the kubelet asks for it; without a pod, as `kubectl create token` does."""
        spec: dict[str, Any] = {"audiences": [audience], "expirationSeconds": seconds}
        if pod is not None:
            about = pod["metadata"]
            spec["boundObjectRef"] = {"apiVersion": "v1", "kind": "Pod", "name": about["name"], "uid": about["uid"]}
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "metadata": {"name": account},
            "spec": spec,
        }
        answered = await self.kube.create(SERVICE_ACCOUNTS, body, self.namespace, "token")
        return str(answered["status"]["token"])

    async def ask(self, token: str) -> tuple[str, ...] | grpc.StatusCode:
        """A certificate from this machine's loopback, or the refusal's code."""
        credentials = grpc.ssl_channel_credentials(self.control_plane.roots)
        options = (("grpc.ssl_target_name_override", NAME), ("grpc.use_local_subchannel_pool", 1))
        address = f"{HERE}:{self.control_plane.token_port}"
        async with grpc.aio.secure_channel(address, credentials, options) as channel:
            method = channel.unary_unary(
                METHOD, protos.IstioCertificateRequest.SerializeToString, protos.IstioCertificateResponse.FromString
            )
            request = protos.IstioCertificateRequest(csr=signing_request(keys.generate()))
            try:
                answer = await method(request, metadata=(("authorization", f"Bearer {token}"),), timeout=10)
            except grpc.aio.AioRpcError as error:
                return error.code()
        return tuple(answer.cert_chain)


@pytest.fixture
async def mesh(kube: KubeClient) -> AsyncIterator[Mesh]:
    name = f"tokens-{uuid4()}"
    await kube.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "web"}}
    await kube.create(SERVICE_ACCOUNTS, account, name)
    made = Mesh(kube, name)
    await made.control_plane.start()
    yield made
    await made.control_plane.stop()


async def test_a_pod_s_own_token_from_its_own_address(mesh: Mesh) -> None:
    token = await mesh.token(await mesh.pod("web-0", HERE))
    chain = await mesh.ask(token)
    assert isinstance(chain, tuple)
    names = x509.load_pem_x509_certificate(chain[0].encode()).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    assert [name.value for name in names.value] == [f"spiffe://cluster.local/ns/{mesh.namespace}/sa/web"]


async def test_a_token_that_is_replayed_from_another_pod(mesh: Mesh) -> None:
    """Stolen from web-1, used where web-0 is; its owner goes on using it."""
    await mesh.pod("web-0", HERE)
    assert await mesh.ask(await mesh.token(await mesh.pod("web-1", ELSEWHERE))) is REFUSED


async def test_a_pod_whose_address_is_not_known_yet_comes_again(mesh: Mesh) -> None:
    """The agent may be faster than the news of its pod: the code is one that it retries."""
    token = await mesh.token(await mesh.pod("web-0", HERE))
    mesh.addresses.clear()
    assert await mesh.ask(token) is grpc.StatusCode.UNAVAILABLE
    mesh.addresses[mesh.namespace, "web-0"] = (HERE,)
    assert isinstance(await mesh.ask(token), tuple)


async def test_a_token_that_is_bound_to_no_pod(mesh: Mesh) -> None:
    """As whoever may create tokens gets one by kubectl."""
    await mesh.pod("web-0", HERE)
    assert await mesh.ask(await mesh.token(None)) is REFUSED


@pytest.mark.parametrize("audience", ["https://kubernetes.default.svc.cluster.local", "vault", "istio-ca2"])
async def test_a_token_for_another_audience(mesh: Mesh, audience: str) -> None:
    assert await mesh.ask(await mesh.token(await mesh.pod("web-0", HERE), audience=audience)) is REFUSED


async def test_a_token_of_a_deleted_pod_or_account(mesh: Mesh) -> None:
    """Both are valid for an hour by what stands in them."""
    first, second = await mesh.pod("web-0", HERE), await mesh.pod("web-1", HERE)
    of_pod, of_account = await mesh.token(first), await mesh.token(second)
    assert isinstance(await mesh.ask(of_pod), tuple)

    await mesh.kube.delete(PODS, "web-0", mesh.namespace)
    assert await mesh.ask(of_pod) is REFUSED
    await mesh.pod("web-0", HERE)  # a new pod of that name is another pod
    assert await mesh.ask(of_pod) is REFUSED

    assert isinstance(await mesh.ask(of_account), tuple)
    await mesh.kube.delete(SERVICE_ACCOUNTS, "web", mesh.namespace)
    assert await mesh.ask(of_account) is REFUSED


async def test_a_token_that_has_expired_or_was_changed(mesh: Mesh, api_server: Path) -> None:
    """By one second; signed by the cluster's own key, by another key, and by none."""
    paths = ClusterPaths(api_server.parent)
    good = await mesh.token(await mesh.pod("web-0", HERE))
    claims = jwt.decode(good, options={"verify_signature": False})
    header = jwt.get_unverified_header(good)
    key = paths.service_account_key.read_bytes()

    def signed(changes: dict[str, Any], with_key: Any = key) -> str:
        return jwt.encode(claims | changes, with_key, algorithm="ES256", headers={"kid": header["kid"]})

    assert isinstance(await mesh.ask(signed({})), tuple)
    assert await mesh.ask(signed({"exp": claims["iat"] - 1})) is REFUSED
    assert await mesh.ask(signed({}, keys.generate())) is REFUSED
    assert await mesh.ask(jwt.encode(claims, None, algorithm="none")) is REFUSED
    head, body, signature = good.split(".")
    assert await mesh.ask(f"{head}.{body}.{signature[:-4]}AAAA") is REFUSED
    assert await mesh.ask(f"{head}.{body}.") is REFUSED

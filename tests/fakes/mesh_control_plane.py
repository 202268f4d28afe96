"""The control plane's certificate service on loopback with a real authority; only Kubernetes' token review is faked."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from cryptography import x509
from envoy.service.discovery.v3 import discovery_pb2

from mutua.ca import issue, self_signed
from mutua.ca.authority import Authority
from mutua.ca.caller import TokenReviewStatus, TokenReviewUser
from mutua.ca.limits import Limits
from mutua.servers.ca import CertificateService, TokenReviewer
from mutua.servers.credentials import ServingTls, TlsMaterial
from mutua.servers.identity import IdentityService, Report
from mutua.spiffe import TrustDomain
from mutua.system import clock, keys

NAME = "istiod.istio-system.svc"
DOMAIN = TrustDomain("cluster.local")


class FakeTokenReview:
    """The API server's answers, by token."""

    def __init__(self) -> None:
        self.statuses: dict[str, TokenReviewStatus] = {}
        self.failure: Exception | None = None
        self.calls = 0

    def allow(self, token: str, namespace: str, account: str, **changes: Any) -> None:
        """Let a token stand for a service account."""
        fields: dict[str, Any] = {
            "authenticated": True,
            "audiences": ("istio-ca",),
            "user": TokenReviewUser(
                username=f"system:serviceaccount:{namespace}:{account}", groups=("system:serviceaccounts",)
            ),
        }
        self.statuses[token] = TokenReviewStatus(**(fields | changes))

    async def __call__(self, token: str, audiences: tuple[str, ...]) -> TokenReviewStatus:
        """As the service calls it."""
        assert audiences == ("istio-ca",)
        self.calls += 1
        if self.failure is not None:
            raise self.failure
        return self.statuses.get(token, TokenReviewStatus(error="invalid bearer token"))


class ControlPlane:
    """One running server with both ports."""

    def __init__(
        self,
        *,
        now: Callable[[], datetime] = clock.now,
        limits: Limits | None = None,
        authority: Authority | None = None,
        review: TokenReviewer | None = None,
        addresses_of: Callable[[str, str], tuple[str, ...]] | None = None,
    ) -> None:
        """`review` asks a real API server in the fake's place; `addresses_of` says where pods are."""
        self.authority: Authority | None = authority or self_signed.authority(
            keys.generate(), "cluster.local", clock.now(), x509.random_serial_number()
        )
        self.review = FakeTokenReview()
        self.tls = ServingTls(self.material(self.authority))
        self.renewal_port = 0
        self.token_port = 0
        self.plain_port = 0
        self._service = CertificateService(
            lambda: self.authority,
            review or self.review,
            DOMAIN,
            limits=limits or Limits(),
            addresses_of=addresses_of,
            now=now,
        )
        self.accounts: dict[tuple[str, str], str] = {("shop", "web-0"): "web"}
        self.reports: list[Report] = []
        self._identities = IdentityService(
            DOMAIN, lambda namespace, pod: self.accounts.get((namespace, pod)), self.reports.append, now=now
        )
        self._server: grpc.aio.Server | None = None

    @property
    def roots(self) -> bytes:
        """What clients must believe."""
        assert self.authority is not None
        return self.authority.root_bundle.encode()

    def use(self, authority: Authority) -> None:
        """Sign and serve under another authority from now on."""
        self.authority = authority
        self.tls.replace(self.material(authority))

    @staticmethod
    def material(authority: Authority) -> TlsMaterial:
        """A server certificate of this authority."""
        key = keys.generate()
        issued = issue.server_certificate(
            (NAME,), key.public_key(), authority, clock.now(), x509.random_serial_number(), timedelta(days=1)
        )
        return TlsMaterial(
            certificate_chain="".join(issued.chain[:-1]).encode(),
            key=keys.to_pem(key),
            client_roots=authority.root_bundle.encode(),
        )

    async def start(self) -> None:
        """Listen; on the ports of before, if there were any."""
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        self._service.add_to(server)
        self._identities.add_to(server)
        handler = grpc.stream_stream_rpc_method_handler(
            _empty_configuration,
            request_deserializer=discovery_pb2.DeltaDiscoveryRequest.FromString,
            response_serializer=discovery_pb2.DeltaDiscoveryResponse.SerializeToString,
        )
        server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler(
                    "envoy.service.discovery.v3.AggregatedDiscoveryService", {"DeltaAggregatedResources": handler}
                ),
            )
        )
        address = "127.0.0.1:{}".format
        self.renewal_port = server.add_secure_port(address(self.renewal_port), self.tls.client_certificate_required())
        self.token_port = server.add_secure_port(address(self.token_port), self.tls.server_only())
        self.plain_port = server.add_insecure_port(address(self.plain_port))
        await server.start()
        self._server = server

    async def stop(self) -> None:
        """Gone at once, as after SIGKILL."""
        if self._server is not None:
            await self._server.stop(None)
            self._server = None

    def write_pod_files(self, root: Path, token: str) -> None:
        """What the kubelet mounts into a pod."""
        for folder in ("var/run/secrets/istio", "var/run/secrets/tokens", "etc/istio/pod"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        (root / "var/run/secrets/istio/root-cert.pem").write_bytes(self.roots)
        (root / "var/run/secrets/tokens/istio-token").write_text(token)
        (root / "etc/istio/pod/labels").write_text('app="web"\nversion="v1"\n')


async def _empty_configuration(requests: Any, context: Any) -> None:
    """Delta xDS without any resource: enough for an Envoy to become ready."""
    nonce = 0
    answered: set[str] = set()
    async for request in requests:
        if request.type_url not in answered:
            answered.add(request.type_url)
            nonce += 1
            await context.write(discovery_pb2.DeltaDiscoveryResponse(type_url=request.type_url, nonce=str(nonce)))
    await asyncio.Event().wait()

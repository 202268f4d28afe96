"""The certificate service over gRPC: agents that come all at once. Run: python bench/ca_service.py [agents]

Control plane, API server and agents are processes of their own; TLS, CSRs, checks and answers are real. What is printed
for the control plane is its CPU time. Tokens are reviewed by a real API server (the local cluster's), once with its
answers given from memory to see what the review costs; connections are fresh, as agents make them, or kept. The floor
is a call of the same size that does nothing: what gRPC and TLS take before any work of ours. "By hand" is what
`bench/ca.py` makes at that moment: how fast the machine is beside whatever else it does.
"""

import asyncio
import multiprocessing
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeAlias

import grpc.aio
import uvloop
from ca import issued_per_second
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from localcluster import kubeconfig, pki
from localcluster.paths import ClusterPaths
from mutua.ca import issue, self_signed
from mutua.ca.caller import TokenReviewStatus, TokenReviewUser, token_review_status
from mutua.protos import istio_ca_pb2 as protos
from mutua.servers.ca import CertificateService
from mutua.servers.credentials import ServingTls, TlsMaterial
from mutua.servers.identity import IdentityService
from mutua.servers.xds import SERVER_OPTIONS
from mutua.spiffe import SpiffeId, TrustDomain
from mutua.system import clock, files, keys, logs
from mutua.system.ca_client import METHOD, CaClient, CaClientSettings, IdentityStatement, WorkloadCertificate
from mutua.system.keys import KeyAlgorithm
from mutua.system.kube import KubeClient
from mutua.system.kube_resources import NAMESPACES, SERVICE_ACCOUNTS

NAME = "istiod.istio-system.svc"
DOMAIN = TrustDomain("cluster.local")
WEB = SpiffeId("cluster.local", "shop", "web")
AT_ONCE = 200
"""Connections that one process of agents opens at a time; a real fleet has a machine for each few."""

FROM_MEMORY = "from-memory"
FLOOR = "bench.Floor"
FLOOR_METHOD = f"/{FLOOR}/Call"
ASKED, ANSWERED = b"x" * 700, b"x" * 1600
"""As long as a request for a certificate and its answer."""

Methods: TypeAlias = list[Callable[..., Awaitable[object]]]


def serve(pipe: Connection, configuration: str) -> None:
    """The control plane's two ports; tells ports and roots, then answers each message with CPU seconds and memory."""
    # As it is installed: each certificate has its line in the audit log.
    with Path(os.devnull).open("w", buffering=1) as nowhere:
        logs.configure(stream=nowhere)
        uvloop.run(_serve(pipe, configuration))


async def _nothing(_request: bytes, _context: object) -> bytes:
    return ANSWERED


async def _serve(pipe: Connection, configuration: str) -> None:
    now = clock.now()
    authority = self_signed.authority(keys.generate(), "cluster.local", now, x509.random_serial_number())
    key = keys.generate()
    issued = issue.server_certificate(
        (NAME,), key.public_key(), authority, now, x509.random_serial_number(), timedelta(days=1)
    )
    roots = authority.root_bundle.encode()
    tls = ServingTls(TlsMaterial("".join(issued.chain[:-1]).encode(), keys.to_pem(key), roots))
    server = grpc.aio.server(options=SERVER_OPTIONS)
    async with KubeClient.connect(configuration) as kube:

        async def review(token: str, audiences: tuple[str, ...]) -> TokenReviewStatus:
            if token == FROM_MEMORY:
                user = TokenReviewUser("system:serviceaccount:shop:web", groups=("system:serviceaccounts",))
                return TokenReviewStatus(authenticated=True, user=user, audiences=audiences)
            return token_review_status(await kube.token_review(token, audiences))

        CertificateService(lambda: authority, review, DOMAIN).add_to(server)
        IdentityService(DOMAIN, lambda namespace, pod: "web", lambda report: None).add_to(server)
        floor = {"Call": grpc.unary_unary_rpc_method_handler(_nothing)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(FLOOR, floor),))
        renewal = server.add_secure_port("127.0.0.1:0", tls.client_certificate_required())
        token = server.add_secure_port("127.0.0.1:0", tls.server_only())
        await server.start()
        pipe.send((renewal, token, roots))
        while await asyncio.to_thread(pipe.recv):
            pipe.send((time.process_time(), _resident_megabytes()))
        await server.stop(None)


class Bench:
    """One control plane, seen from the agents."""

    def __init__(self, pipe: Connection, agents: int) -> None:
        self._pipe = pipe
        self.agents = agents

    def used(self) -> tuple[float, float]:
        """The control plane's CPU seconds and megabytes."""
        self._pipe.send(True)
        found: tuple[float, float] = self._pipe.recv()
        return found

    async def phase(self, name: str, work: Callable[[int], Awaitable[None]], count: int) -> None:
        """Do `work` for each number, `AT_ONCE` of them at a time; print what it took."""
        latencies: list[float] = []
        gate = asyncio.Semaphore(AT_ONCE)

        async def timed(number: int) -> None:
            async with gate:
                begin = time.perf_counter()
                await work(number)
                latencies.append(time.perf_counter() - begin)

        yardstick = issued_per_second(KeyAlgorithm.P256, KeyAlgorithm.P256, seconds=0.5)
        before, _ = self.used()
        await asyncio.gather(*(timed(number) for number in range(count)))
        after, memory = self.used()
        latencies.sort()
        used = after - before
        print(
            f"{name:38} {count:5}  {used:5.2f} CPU s = {count / used:5.0f}/s/core, {yardstick:.0f} by hand"
            f"  p50 {latencies[count // 2] * 1000:4.0f} ms  p99 {latencies[int(count * 0.99) - 1] * 1000:5.0f} ms"
            f"  {memory:.0f} MB",
            flush=True,
        )


async def crowd(pipe: Connection, agents: int, token: str) -> None:
    """First certificates, renewals and reports of all agents; prints a line for each."""
    renewal_port, token_port, roots = pipe.recv()
    bench = Bench(pipe, agents)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files.write_atomically(folder / "root-cert.pem", roots)

        def client(secret: str) -> CaClient:
            files.write_atomically(folder / secret[:20], secret.encode())
            return CaClient(
                CaClientSettings(
                    identity=WEB,
                    token_address=f"127.0.0.1:{token_port}",
                    renewal_address=f"127.0.0.1:{renewal_port}",
                    server_name=NAME,
                    token_path=folder / secret[:20],
                    root_path=folder / "root-cert.pem",
                    ttl=timedelta(hours=24),
                    call_timeout=timedelta(seconds=60),
                )
            )

        real, remembered = client(token), client(FROM_MEMORY)
        held: dict[int, WorkloadCertificate] = {}

        async def first(number: int) -> None:
            held[number] = await real.certificate()

        async def first_from_memory(number: int) -> None:
            held[number] = await remembered.certificate()

        async def again(number: int) -> None:
            held[number] = await real.certificate(held[number])

        async def report(number: int) -> None:
            await real.report(held[number], IdentityStatement("web-0", "digest", clock.now()))

        await first(0)  # the first review of all loads the client that makes it
        token_address, renewal_address = f"127.0.0.1:{token_port}", f"127.0.0.1:{renewal_port}"
        await _floor(bench, "floor: TLS, a call of nothing", token_address, grpc.ssl_channel_credentials(roots))
        await bench.phase("by token", first, agents)
        await bench.phase("by token, its review from memory", first_from_memory, agents)
        proof = grpc.ssl_channel_credentials(roots, held[0].key.reveal(), held[0].chain)
        await _floor(bench, "floor: mutual TLS, a call of nothing", renewal_address, proof)
        await bench.phase("renewed by certificate", again, agents)
        await bench.phase("reports", report, agents)
        await _kept(bench, renewal_address, held[0], roots)
    pipe.send(False)


async def _floor(bench: Bench, name: str, address: str, credentials: grpc.ChannelCredentials) -> None:
    """What a connection and a call cost that do nothing."""

    async def call(_number: int) -> None:
        async with _channels(address, credentials, 1, FLOOR_METHOD, bytes) as methods:
            await methods[0](ASKED, timeout=60)

    await bench.phase(name, call, bench.agents)


async def _kept(bench: Bench, address: str, current: WorkloadCertificate, roots: bytes) -> None:
    """Renewals over connections that stay, ten on each; and what such a connection costs the control plane."""
    key = keys.generate()
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(str(WEB))])
    builder = x509.CertificateSigningRequestBuilder(x509.Name([])).add_extension(names, critical=True)
    csr = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()
    request = protos.IstioCertificateRequest(csr=csr, validity_duration=3600)
    credentials = grpc.ssl_channel_credentials(roots, current.key.reveal(), current.chain)
    _, before = bench.used()
    serializer = protos.IstioCertificateRequest.SerializeToString
    async with _channels(address, credentials, bench.agents, METHOD, serializer) as methods:

        async def call(number: int) -> None:
            await methods[number % len(methods)](request, timeout=60)

        await bench.phase("connections by certificate, kept", call, bench.agents)
        _, after = bench.used()
        await bench.phase("renewed over kept connections", call, bench.agents * 10)
    async with _channels(address, credentials, bench.agents, FLOOR_METHOD, bytes) as methods:

        async def nothing(number: int) -> None:
            await methods[number % len(methods)](ASKED, timeout=60)

        for number in range(len(methods)):
            await nothing(number)
        await bench.phase("floor: kept, a call of nothing", nothing, bench.agents * 10)
    print(f"{'memory for each kept connection':38} {(after - before) * 1000 / bench.agents:.0f} KB")


@asynccontextmanager
async def _channels(
    address: str,
    credentials: grpc.ChannelCredentials,
    count: int,
    method: str,
    serializer: Callable[[Any], bytes],
) -> AsyncIterator[Methods]:
    options = (("grpc.ssl_target_name_override", NAME), ("grpc.use_local_subchannel_pool", 1))
    channels = [grpc.aio.secure_channel(address, credentials, options=options) for _ in range(count)]
    yield [channel.unary_unary(method, request_serializer=serializer) for channel in channels]
    await asyncio.gather(*(channel.close() for channel in channels))


def _resident_megabytes() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


async def _token(configuration: str) -> str:
    """A token of shop/web for the audience istio-ca, from the API server."""
    async with KubeClient.connect(configuration) as kube:
        await kube.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}})
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "web"}}
        await kube.create(SERVICE_ACCOUNTS, account, "shop")
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "metadata": {"name": "web"},
            "spec": {"audiences": ["istio-ca"], "expirationSeconds": 3600},
        }
        answered = await kube.create(SERVICE_ACCOUNTS, body, "shop", "token")
        return str(answered["status"]["token"])


def main() -> None:
    """One API server, one control plane, one crowd."""
    agents = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as listener:
        paths = ClusterPaths(Path(folder))
        pki.ensure(paths, (), (), datetime.now(UTC))
        configuration = str(kubeconfig.write(paths, listener.getsockname()[1]))
        descriptor = listener.fileno()
        command = [sys.executable, "-m", "localcluster.apiserver", "--directory", folder, "--listen-fd"]
        api_server = subprocess.Popen([*command, str(descriptor)], pass_fds=(descriptor,))
        try:
            token = asyncio.run(_token(configuration))
            ours, theirs = context.Pipe()
            server = context.Process(target=serve, args=(theirs, configuration))
            server.start()
            asyncio.run(crowd(ours, agents, token))
            server.join(10)
        finally:
            api_server.terminate()
            api_server.wait()


if __name__ == "__main__":
    main()

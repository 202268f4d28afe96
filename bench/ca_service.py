"""The certificate service over gRPC: agents that come all at once. Run: python bench/ca_service.py [agents]

Server and agents are processes of their own; TLS, CSRs, checks and answers are real, and only the API server's answer
about a token is given from memory. What is printed for the control plane is its CPU time.
"""

import asyncio
import multiprocessing
import os
import sys
import tempfile
import time
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path

import grpc.aio
from cryptography import x509

from mutua.ca import issue, self_signed
from mutua.ca.caller import TokenReviewStatus, TokenReviewUser
from mutua.servers.ca import CertificateService
from mutua.servers.credentials import ServingTls, TlsMaterial
from mutua.servers.identity import IdentityService
from mutua.spiffe import SpiffeId, TrustDomain
from mutua.system import clock, files, keys
from mutua.system.ca_client import CaClient, CaClientSettings, IdentityStatement, WorkloadCertificate

NAME = "istiod.istio-system.svc"
DOMAIN = TrustDomain("cluster.local")
AT_ONCE = 200
"""Connections that one process of agents opens at a time; a real fleet has a machine for each few."""


async def review(token: str, audiences: tuple[str, ...]) -> TokenReviewStatus:
    """Every token is the one of shop/web."""
    user = TokenReviewUser("system:serviceaccount:shop:web", groups=("system:serviceaccounts",))
    return TokenReviewStatus(authenticated=True, user=user, audiences=audiences)


def serve(pipe: Connection) -> None:
    """The control plane's two ports; tells ports and roots, then answers each message with CPU seconds and memory."""
    asyncio.run(_serve(pipe))


async def _serve(pipe: Connection) -> None:
    now = clock.now()
    authority = self_signed.authority(keys.generate(), "cluster.local", now, x509.random_serial_number())
    key = keys.generate()
    issued = issue.server_certificate(
        (NAME,), key.public_key(), authority, now, x509.random_serial_number(), timedelta(days=1)
    )
    roots = authority.root_bundle.encode()
    tls = ServingTls(TlsMaterial("".join(issued.chain[:-1]).encode(), keys.to_pem(key), roots))
    server = grpc.aio.server()
    CertificateService(lambda: authority, review, DOMAIN).add_to(server)
    IdentityService(DOMAIN, lambda namespace, pod: "web", lambda report: None).add_to(server)
    renewal = server.add_secure_port("127.0.0.1:0", tls.client_certificate_required())
    token = server.add_secure_port("127.0.0.1:0", tls.server_only())
    await server.start()
    pipe.send((renewal, token, roots))
    while await asyncio.to_thread(pipe.recv):
        pipe.send((time.process_time(), _resident_megabytes()))
    await server.stop(None)


async def crowd(pipe: Connection, agents: int) -> None:
    """First certificates, renewals and reports of all agents; prints a line for each."""
    renewal, token, roots = pipe.recv()
    with tempfile.TemporaryDirectory() as folder:
        root_path, token_path = Path(folder, "root-cert.pem"), Path(folder, "token")
        files.write_atomically(root_path, roots)
        files.write_atomically(token_path, b"token")
        settings = CaClientSettings(
            identity=SpiffeId("cluster.local", "shop", "web"),
            token_address=f"127.0.0.1:{token}",
            renewal_address=f"127.0.0.1:{renewal}",
            server_name=NAME,
            token_path=token_path,
            root_path=root_path,
            ttl=timedelta(hours=24),
            call_timeout=timedelta(seconds=60),
        )
        clients = [CaClient(settings) for _ in range(agents)]
        held: dict[int, WorkloadCertificate] = {}
        gate = asyncio.Semaphore(AT_ONCE)

        async def first(number: int) -> None:
            held[number] = await clients[number].certificate()

        async def again(number: int) -> None:
            held[number] = await clients[number].certificate(held[number])

        async def report(number: int) -> None:
            await clients[number].report(held[number], IdentityStatement("web-0", "digest", clock.now()))

        for name, work in (("by token", first), ("renewed by certificate", again), ("reports", report)):
            latencies: list[float] = []

            async def timed(number: int, work=work, latencies=latencies) -> None:  # type: ignore[no-untyped-def]
                async with gate:
                    begin = time.perf_counter()
                    await work(number)
                    latencies.append(time.perf_counter() - begin)

            pipe.send(True)
            before, _ = pipe.recv()
            begin = time.perf_counter()
            await asyncio.gather(*(timed(number) for number in range(agents)))
            wall = time.perf_counter() - begin
            pipe.send(True)
            after, memory = pipe.recv()
            latencies.sort()
            used = after - before
            print(
                f"{name:24} {agents} agents  control plane {used:5.2f} CPU s = {agents / used:5.0f}/s/core"
                f"  wall {wall:5.2f} s  p99 {latencies[int(agents * 0.99) - 1] * 1000:5.0f} ms  {memory:.0f} MB"
            )
    pipe.send(False)


def _resident_megabytes() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def main() -> None:
    """One server, one crowd."""
    agents = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    server = context.Process(target=serve, args=(theirs,))
    server.start()
    asyncio.run(crowd(ours, agents))
    server.join(10)


if __name__ == "__main__":
    main()

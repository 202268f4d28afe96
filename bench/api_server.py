"""The local cluster's API server: tables of thousands of pods, writes a second, memory, and what kill -9 leaves.

python bench/api_server.py [--pods 5000] [--kills 20]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import resource
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2

from localcluster import pki
from localcluster.paths import ClusterPaths

CONNECTIONS = 32
CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"
PODS = "/api/v1/namespaces/default/pods"
TABLE = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}


class Server:
    """An API server's process on a socket that outlives it."""

    def __init__(self, directory: Path) -> None:
        self.paths = ClusterPaths(directory)
        pki.ensure(self.paths, (), (), datetime.now(UTC))
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process; requests wait in the socket's queue until it is there."""
        number = self.listener.fileno()
        command = [sys.executable, "-m", "localcluster.apiserver", "--directory", str(self.paths.directory)]
        with (self.paths.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--listen-fd", str(number)], pass_fds=[number], stdout=log, stderr=log
            )

    def stop(self, number: int) -> None:
        """End the process with a signal."""
        assert self.process is not None
        self.process.send_signal(number)
        self.process.wait(timeout=20)

    @property
    def memory_mib(self) -> float:
        """Resident memory."""
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    def client(self) -> httpx2.AsyncClient:
        """A connection pool as the administrator."""
        return httpx2.AsyncClient(
            base_url=f"https://127.0.0.1:{self.listener.getsockname()[1]}",
            headers={"Authorization": f"Bearer {self.paths.admin_token.read_text()}"},
            verify=ssl.create_default_context(cafile=str(self.paths.ca_certificate)),
            limits=httpx2.Limits(max_connections=CONNECTIONS),
            timeout=60,
            trust_env=False,
        )


def pod(number: int) -> dict[str, Any]:
    """A pod that no node runs."""
    return {
        "metadata": {"name": f"pod-{number}", "labels": {"app": f"a{number % 50}"}},
        "spec": {"nodeName": "nowhere", "containers": [{"name": "main", "image": "nginx"}]},
    }


async def post_all(client: httpx2.AsyncClient, path: str, bodies: list[dict[str, Any]]) -> float:
    """Seconds to create all, through one pool."""
    waiting = iter(bodies)

    async def work() -> None:
        for body in waiting:
            answer = await client.post(path, json=body)
            assert answer.status_code == 201, answer.text

    began = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(CONNECTIONS)))
    return time.perf_counter() - began


async def kill_once(server: Server, round_: int) -> tuple[int, int]:
    """Kill the server while clients write: how many writes were acknowledged, and how many of those are lost."""
    acknowledged: set[str] = set()
    begun = asyncio.Event()

    async with server.client() as client:

        async def work(worker: int) -> None:
            for number in range(10_000):
                name = f"k{round_}-{worker}-{number}"
                answer = await client.post(CONFIG_MAPS, json={"metadata": {"name": name, "labels": {"killed": "yes"}}})
                if answer.status_code == 201:
                    acknowledged.add(name)
                    begun.set()

        workers = [asyncio.create_task(work(worker)) for worker in range(4)]
        # A machine with much else to do may need longer than any moment below for its first answer.
        await begun.wait()
        await asyncio.sleep(random.uniform(0.0, 0.4))  # noqa: S311 - any moment will do
        server.stop(signal.SIGKILL)
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
    server.start()
    async with server.client() as client:
        items = (await client.get(CONFIG_MAPS, params={"labelSelector": "killed"})).json()["items"]
        # What was checked goes, so that a thousand rounds are as quick as ten.
        await client.delete(CONFIG_MAPS, params={"labelSelector": "killed"})
    return len(acknowledged), len(acknowledged - {item["metadata"]["name"] for item in items})


async def measure(server: Server, pods: int, kills: int) -> None:
    """Print everything."""
    async with server.client() as client:
        assert (await client.get("/readyz")).status_code == 200
        account = {"metadata": {"name": "default"}}
        with contextlib.suppress(httpx2.HTTPError):
            await client.post("/api/v1/namespaces/default/serviceaccounts", json=account)
        seconds = await post_all(client, PODS, [pod(number) for number in range(pods)])
        print(f"create {pods} pods: {seconds:.1f} s, {pods / seconds:.0f}/s")
        bodies = [{"metadata": {"name": f"m{number}"}, "data": {"a": "b"}} for number in range(2000)]
        seconds = await post_all(client, CONFIG_MAPS, bodies)
        print(f"create 2000 config maps over {CONNECTIONS} connections: {2000 / seconds:.0f}/s")
        for what, headers in (("as a table", TABLE), ("whole", {})):
            began = time.perf_counter()
            size = len((await client.get(PODS, headers=headers)).content)
            print(f"get {pods} pods {what}: {time.perf_counter() - began:.2f} s, {size / 2**20:.1f} MiB")
        print(f"memory of the server: {server.memory_mib:.0f} MiB")
    outcomes = [await kill_once(server, round_) for round_ in range(kills)]
    acknowledged, lost = (sum(column) for column in zip(*outcomes, strict=True)) if outcomes else (0, 0)
    print(f"{kills} times kill -9: {acknowledged} acknowledged writes, {lost} lost")


def main() -> int:
    """Run it all on a cluster of its own."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pods", type=int, default=5000)
    parser.add_argument("--kills", type=int, default=20)
    arguments = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder))
        server.start()
        try:
            asyncio.run(measure(server, arguments.pods, arguments.kills))
        finally:
            server.stop(signal.SIGTERM)
    return 0


if __name__ == "__main__":
    sys.exit(main())

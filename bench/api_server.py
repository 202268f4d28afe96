"""The local cluster's API server: tables of thousands of pods, writes a second, memory, and what kill -9 leaves.

python bench/api_server.py [--pods 5000] [--config-maps 5000] [--kills 20]
"""

from __future__ import annotations

import argparse
import asyncio
import os
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

import aiohttp

from localcluster import pki
from localcluster.paths import ClusterPaths

CONNECTIONS = 32
CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"
PODS = "/api/v1/namespaces/default/pods"
MEDIA_TYPES = {"POST": "application/json", "PUT": "application/json", "PATCH": "application/merge-patch+json"}
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

    def memory_mib(self, what: str = "VmRSS") -> float:
        """Resident memory now; the most that it ever was with `VmHWM`."""
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split(f"{what}:")[1].split()[0]) / 1024

    @property
    def processor_seconds(self) -> float:
        """What the process has used."""
        assert self.process is not None
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def client(self) -> aiohttp.ClientSession:
        """A connection pool as the administrator; a client that costs more than the server would be measured itself."""
        trusted = ssl.create_default_context(cafile=str(self.paths.ca_certificate))
        return aiohttp.ClientSession(
            f"https://127.0.0.1:{self.listener.getsockname()[1]}",
            headers={"Authorization": f"Bearer {self.paths.admin_token.read_text()}"},
            connector=aiohttp.TCPConnector(limit=CONNECTIONS, ssl=trusted),
            timeout=aiohttp.ClientTimeout(total=60),
        )


def pod(number: int) -> dict[str, Any]:
    """A pod that no node runs."""
    return {
        "metadata": {"name": f"pod-{number}", "labels": {"app": f"a{number % 50}"}},
        "spec": {"nodeName": "nowhere", "containers": [{"name": "main", "image": "nginx"}]},
    }


async def write_all(
    server: Server, client: aiohttp.ClientSession, what: str, method: str, requests: list[tuple[str, dict[str, Any]]]
) -> None:
    """Send every body to its path, through one pool; print how many a second, and what they cost the server."""
    waiting, headers = iter(requests), {"Content-Type": MEDIA_TYPES[method]}

    async def work() -> None:
        for path, body in waiting:
            async with client.request(method, path, json=body, headers=headers) as answer:
                text = await answer.text()
                assert answer.status in (200, 201), text

    began, used = time.perf_counter(), server.processor_seconds
    await asyncio.gather(*(work() for _ in range(CONNECTIONS)))
    seconds, used = time.perf_counter() - began, server.processor_seconds - used
    each = used / len(requests) * 1000
    print(f"{what}: {len(requests) / seconds:.0f}/s, {each:.2f} CPU seconds of the server per 1,000", flush=True)


async def kill_once(server: Server, round_: int) -> tuple[int, int]:
    """Kill the server while clients write: how many writes were acknowledged, and how many of those are lost."""
    acknowledged: set[str] = set()
    begun = asyncio.Event()

    async with server.client() as client:

        async def work(worker: int) -> None:
            for number in range(10_000):
                name = f"k{round_}-{worker}-{number}"
                body = {"metadata": {"name": name, "labels": {"killed": "yes"}}}
                async with client.post(CONFIG_MAPS, json=body) as answer:
                    if answer.status == 201:
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
        async with client.get(CONFIG_MAPS, params={"labelSelector": "killed"}) as answer:
            items = (await answer.json())["items"]
        # What was checked goes, so that a thousand rounds are as quick as ten.
        async with client.delete(CONFIG_MAPS, params={"labelSelector": "killed"}) as answer:
            assert answer.status == 200, await answer.text()
    return len(acknowledged), len(acknowledged - {item["metadata"]["name"] for item in items})


async def measure(server: Server, pods: int, config_maps: int) -> None:
    """Print what writes and reads cost, and what it takes to hold everything."""
    async with server.client() as client:
        async with client.get("/readyz") as answer:
            assert answer.status == 200
        # Controllers make it too, at about the same time.
        async with client.post("/api/v1/namespaces/default/serviceaccounts", json={"metadata": {"name": "default"}}):
            pass
        maps = [{"metadata": {"name": f"m{number}"}, "data": {"a": "b"}} for number in range(config_maps)]
        named = [(f"{CONFIG_MAPS}/{body['metadata']['name']}", {**body, "data": {"a": "c"}}) for body in maps]
        posted = [(PODS, pod(number)) for number in range(pods)]
        status = {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}
        reported = [(f"{PODS}/pod-{number}/status", status) for number in range(pods)]
        await write_all(server, client, f"create {config_maps} config maps", "POST", [(CONFIG_MAPS, b) for b in maps])
        await write_all(server, client, f"replace {config_maps} config maps", "PUT", named)
        await write_all(server, client, f"create {pods} pods", "POST", posted)
        await write_all(server, client, f"patch the status of {pods} pods", "PATCH", reported)
        print(f"memory of the server: {server.memory_mib():.0f} MiB")
        for what, headers in (("as a table", TABLE), ("whole", {})):
            began = time.perf_counter()
            async with client.get(PODS, headers=headers) as answer:
                size = len(await answer.read())
            print(f"get {pods} pods {what}: {time.perf_counter() - began:.2f} s, {size / 2**20:.1f} MiB")
        print(f"memory of the server at most: {server.memory_mib('VmHWM'):.0f} MiB", flush=True)


async def kill(server: Server, kills: int) -> None:
    """Kill it so many times, and print what was lost; a line every hundred, for those who wait."""
    acknowledged = lost = 0
    for round_ in range(1, kills + 1):
        written, missing = await kill_once(server, round_)
        acknowledged, lost = acknowledged + written, lost + missing
        if round_ % 100 == 0 or round_ == kills:
            print(f"{round_} times kill -9: {acknowledged} acknowledged writes, {lost} lost", flush=True)


def main() -> int:
    """Run it all on a cluster of its own."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pods", type=int, default=5000)
    parser.add_argument("--config-maps", type=int, default=5000)
    parser.add_argument("--kills", type=int, default=20)
    arguments = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder))
        server.start()
        try:
            asyncio.run(measure(server, arguments.pods, arguments.config_maps))
            asyncio.run(kill(server, arguments.kills))
        finally:
            server.stop(signal.SIGTERM)
    return 0


if __name__ == "__main__":
    sys.exit(main())

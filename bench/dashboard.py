"""What a watched dashboard costs the control plane: fifty pods under steady loads, by turns watched and not.

Prints one table. On a cluster of its own: `python bench/dashboard.py [--rates 0 250 1000] [--seconds 20] [--rounds 2]`.
"""

import argparse
import asyncio
import contextlib
import os
import statistics
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from local_mesh import TICKS, processes

from localcluster import lifecycle
from localcluster.lifecycle import Cluster
from mutua.programs import local_mesh
from mutua.programs.demo.stage import resource_of
from mutua.reports.table import render
from mutua.system.kube import KubeClient
from mutua.system.kube_resources import PODS
from mutua.system.kube_streams import execute

NAME = f"bench-{os.getpid()}"
NAMESPACE = "load"
CLIENTS, SERVERS, REPLICAS = 10, 4, 10
EDGES = CLIENTS * SERVERS
SETTLE_SECONDS = 15.0
"""Until what a watcher reads once at its beginning is over, or until the reading has ended after it left."""
LOAD = """
import asyncio, sys, time
seconds, rate, hosts = float(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]
sent = 0

async def client(number, host):
    global sent
    interval = len(hosts) / rate
    due = time.monotonic() + number * interval / len(hosts)
    request = f"GET / HTTP/1.1\\r\\nhost: {host}\\r\\n\\r\\n".encode()
    writer = None
    while True:
        await asyncio.sleep(max(0, due - time.monotonic()))
        due = max(due + interval, time.monotonic() - 1)
        if writer is None:
            reader, writer = await asyncio.open_connection(host, 80)
        writer.write(request)
        head = (await reader.readuntil(b"\\r\\n\\r\\n")).lower()
        await reader.readexactly(int(head.split(b"content-length:")[1].split(b"\\r\\n")[0]))
        assert b" 200" in head.split(b"\\r\\n")[0], head
        sent += 1
        if b"connection: close" in head:
            writer.close()
            writer = None

async def main():
    tasks = [asyncio.create_task(client(number, host)) for number, host in enumerate(hosts)]
    done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for each in done:
        each.result()
    print(sent)

asyncio.run(main())
"""


def main() -> None:
    """Measures on a cluster of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rates", type=float, nargs="+", default=[0, 250, 1000], help="requests per second")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rounds", type=int, default=2)
    try:
        asyncio.run(measure(local_mesh.start(NAME, lambda _: None), parser.parse_args()))
    finally:
        lifecycle.down(NAME)


async def measure(cluster: Cluster, options: argparse.Namespace) -> None:
    """All figures, printed."""
    await local_mesh.install_into(cluster, ("profile=default",), lambda _: None)
    rows = []
    async with KubeClient.connect(str(cluster.kubeconfig)) as kube:
        await deploy(kube)
        for rate in options.rates:
            used: dict[bool, list[float]] = {False: [], True: []}
            reached, edges = [], 0
            for watched in (True, False, False, True) * options.rounds:
                load = asyncio.create_task(send(kube, rate, SETTLE_SECONDS + options.seconds))
                async with watcher(cluster) if watched else contextlib.nullcontext() as seen:
                    await asyncio.sleep(SETTLE_SECONDS)
                    before = ticks(cluster)
                    await asyncio.sleep(options.seconds)
                    used[watched].append((ticks(cluster) - before) / TICKS / options.seconds)
                    edges = len(seen["graph"]["edges"]) if seen else edges
                reached.append(await load)
            without, watched_cost = (statistics.mean(used[each]) for each in (False, True))
            rows.append(
                (
                    f"{statistics.mean(reached):.0f}/s",
                    str(edges),
                    f"{without:.2%}",
                    f"{watched_cost:.2%}",
                    f"{watched_cost - without:+.2%}",
                )
            )
    print(render(("REQUESTS", "EDGES", "UNWATCHED", "WATCHED", "DIFFERENCE"), rows), end="")
    print(f"of a core, the control plane's; {CLIENTS + SERVERS * REPLICAS} pods with sidecars")


async def deploy(kube: KubeClient) -> None:
    """Every pod, ready."""
    labels = {"istio-injection": "enabled"}
    documents: list[dict[str, Any]] = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}}
    ]
    for number in range(SERVERS):
        documents += [deployment(f"server-{number}", REPLICAS, "nginx"), service(f"server-{number}")]
    documents += [deployment(f"client-{number}", 1, "curlimages/curl") for number in range(CLIENTS)]
    for document in documents:
        await kube.apply(resource_of(document), document, document["metadata"].get("namespace", ""))
    wanted = CLIENTS + SERVERS * REPLICAS
    while len(await ready(kube)) < wanted:  # noqa: ASYNC110 - the cluster is what is waited for
        await asyncio.sleep(0.5)


async def ready(kube: KubeClient) -> dict[str, str]:
    """The name of each ready pod → of its application."""
    return {
        pod["metadata"]["name"]: pod["metadata"]["labels"]["app"]
        for pod in await kube.list(PODS, NAMESPACE)
        if any(each["type"] == "Ready" and each["status"] == "True" for each in pod["status"].get("conditions", ()))
    }


def deployment(name: str, replicas: int, image: str) -> dict[str, Any]:
    """Pods that serve a page, or wait for a command."""
    container: dict[str, Any] = {"name": "main", "image": image}
    if image == "nginx":
        container["ports"] = [{"containerPort": 80}]
    else:
        container["command"] = ["sleep", "infinity"]
    template = {
        "metadata": {"labels": {"app": name}},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 0},
    }
    spec = {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template}
    metadata = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}


def service(name: str) -> dict[str, Any]:
    """Of the pods of that name."""
    spec = {"selector": {"app": name}, "ports": [{"name": "http", "port": 80}]}
    metadata = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


async def send(kube: KubeClient, rate: float, seconds: float) -> float:
    """A steady load from every client to every server; the requests per second that were answered."""
    if not rate:
        return 0.0
    clients = [name for name, app in (await ready(kube)).items() if app.startswith("client-")]
    hosts = [f"server-{number}" for number in range(SERVERS)]
    argv = ["python3", "-I", "-c", LOAD, str(seconds), str(rate / CLIENTS), *hosts]
    done = await asyncio.gather(*(execute(kube, NAMESPACE, pod, "main", argv) for pod in clients))
    for each in done:
        if each.code:
            raise RuntimeError(each.stderr.decode())
    return sum(int(each.stdout) for each in done) / seconds


@contextlib.asynccontextmanager
async def watcher(cluster: Cluster) -> AsyncIterator[dict[str, Any]]:
    """The command, and a client that reads its events as a browser does; what it was told last."""
    program = Path(sys.executable).with_name("mutua")
    words = ("dashboard", "--no-browser", "--kubeconfig", str(cluster.kubeconfig))
    pipe = asyncio.subprocess.PIPE
    command = await asyncio.create_subprocess_exec(program, *words, stdout=pipe, stderr=pipe)
    seen: dict[str, Any] = {}

    async def read() -> None:
        assert command.stdout is not None
        address = (await command.stdout.readline()).decode().strip()
        timeout = aiohttp.ClientTimeout(total=None)
        async with (
            aiohttp.ClientSession(timeout=timeout, read_bufsize=2**24) as session,
            session.get(f"{address}events") as answer,
        ):
            async for line in answer.content:
                if line.startswith(b"data: {"):
                    seen.update(msgspec.json.decode(line.removeprefix(b"data: ")))

    reading = asyncio.create_task(read())
    try:
        yield seen
        if reading.done():
            reading.result()
    finally:
        reading.cancel()
        command.terminate()
        await asyncio.gather(reading, return_exceptions=True)
        await command.wait()


def ticks(cluster: Cluster) -> int:
    """What the control plane's processes have used."""
    return sum(used for used, _, command in processes(cluster).values() if "control_plane" in command)


if __name__ == "__main__":
    main()

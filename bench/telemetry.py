"""What metrics cost a sidecar: processor time of two Envoys under a steady load, with telemetry and without, by turns.

Prints one table. Needs root, for network namespaces. `python bench/telemetry.py [--rate 1000] [--seconds 10]`.
"""

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
from pathlib import Path

import msgspec

TESTS = Path(__file__).resolve().parent.parent / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "integration" / "envoy")]

import envoy_views as views  # noqa: E402 - from the tests' folder
from envoy_pods import Mesh, Pod, mesh  # noqa: E402

from mutua.mesh.proxy_view import MeshView, MtlsMode  # noqa: E402
from mutua.reports.exposition import samples  # noqa: E402
from mutua.reports.table import render  # noqa: E402

TICKS = os.sysconf("SC_CLK_TCK")
LOAD = """
import asyncio, sys, time
address, rate, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
REQUEST = b"GET /bench HTTP/1.1\\r\\nhost: named\\r\\n\\r\\n"

async def client(number, clients):
    reader, writer = await asyncio.open_connection(address, 80)
    begin = time.monotonic() + number / rate
    sent = 0
    while time.monotonic() < begin + seconds:
        await asyncio.sleep(max(0, begin + sent * clients / rate - time.monotonic()))
        writer.write(REQUEST)
        head = await reader.readuntil(b"\\r\\n\\r\\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\\r\\n")[0])
        await reader.readexactly(length)
        assert head.startswith(b"HTTP/1.1 200"), head
        sent += 1
    writer.close()
    return sent

async def main():
    print(sum(await asyncio.gather(*(client(number, 20) for number in range(20)))))

asyncio.run(main())
"""


def main() -> None:
    """Measures in a mesh of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=int, default=1000, help="requests per second")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    asyncio.run(measure(parser.parse_args()))


async def measure(options: argparse.Namespace) -> None:
    """All figures, printed."""
    quiet = MeshView(upstream_mark=views.MESH.upstream_mark)
    settings = {name: msgspec.structs.replace(quiet, telemetry=name == "on") for name in ("off", "on")}
    costs: dict[tuple[str, str], list[float]] = {}
    with tempfile.TemporaryDirectory() as directory:
        async with mesh(Path(directory)) as made:
            server = views.server(MtlsMode.STRICT, mesh=settings["off"])
            backend = await made.pod("backend", views.BACKEND_ADDRESS, server, account="backend")
            client = views.client(mesh=settings["off"])
            frontend = await made.pod("frontend", views.FRONTEND_ADDRESS, client, account="frontend")
            for _ in range(options.rounds):
                for name in ("on", "off", "off", "on"):
                    await made.update(backend, views.server(MtlsMode.STRICT, mesh=settings[name]))
                    await made.update(frontend, views.client(mesh=settings[name]))
                    await load(frontend, options.rate, 1.0)
                    before = {pod.name: cpu_seconds(made, pod) for pod in (backend, frontend)}
                    sent = await load(frontend, options.rate, options.seconds)
                    for pod in (backend, frontend):
                        microseconds = (cpu_seconds(made, pod) - before[pod.name]) / sent * 1e6
                        costs.setdefault((pod.name, name), []).append(microseconds)
            counted = sum(
                each.value
                for each in samples(
                    (await backend.curl("http://127.0.0.1:15090/stats/traffic")).body.encode(), backend.names
                )
                if each.name == "istio_requests_total"
            )
    rows = []
    for pod, what in (("frontend", "client's sidecar"), ("backend", "server's sidecar")):
        off, on = (statistics.median(costs[pod, name]) for name in ("off", "on"))
        rows.append((what, f"{off:.1f} µs", f"{on:.1f} µs", f"{(on / off - 1) * 100:+.1f} %"))
    print(render(("PROCESSOR TIME PER REQUEST", "OFF", "ON", "DIFFERENCE"), rows), end="")
    print(f"{counted:.0f} requests were counted since telemetry was turned on last")


async def load(pod: Pod, rate: int, seconds: float) -> int:
    """Requests over mutual TLS at a steady rate; how many were answered."""
    process = await asyncio.create_subprocess_exec(
        *pod._inside,
        *(sys.executable, "-c", LOAD, views.NAMED, str(rate), str(seconds)),
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    return int(output)


def cpu_seconds(made: Mesh, pod: Pod) -> float:
    """What the pod's Envoy has used."""
    for process in made._processes:
        words = Path(f"/proc/{process.pid}/cmdline").read_bytes().split(b"\0")
        if str(pod.directory / "bootstrap.json").encode() in words:
            fields = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
            return (int(fields[11]) + int(fields[12])) / TICKS
    raise LookupError(pod.name)


if __name__ == "__main__":
    main()

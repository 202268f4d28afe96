"""From nothing to the first answer over mutual TLS, the time until a policy works everywhere, and what idling costs.

Prints one table; run it on a quiet machine: `python bench/local_mesh.py [--changes 50]`.
"""

import argparse
import asyncio
import os
import statistics
import time
from pathlib import Path
from typing import Any

from localcluster import lifecycle
from localcluster.lifecycle import Cluster
from mutua.programs import local_mesh
from mutua.programs.demo import setting
from mutua.programs.demo.narrator import Narrator
from mutua.programs.demo.stage import NAMESPACE, Stage, manifest, resource_of
from mutua.reports.table import render
from mutua.sources import kubernetes  # noqa: F401 - imported before the clock starts, as an installed command has it
from mutua.system.kube import KubeClient
from mutua.system.kube_streams import execute

NAME = f"bench-{os.getpid()}"
IDLE_SECONDS = 20
TICKS = os.sysconf("SC_CLK_TCK")


class Quiet(Narrator):
    """Keeps the steps, and prints nothing."""

    def step(self, text: str) -> None:
        now = time.monotonic()
        self.steps.append((text, now - self._last))
        self._last = now

    def note(self, text: str) -> None:
        return


def main() -> None:
    """Measures on a cluster of its own."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--changes", type=int, default=50)
    options = arguments.parse_args()
    narrator = Quiet()
    try:
        cluster = local_mesh.start(NAME, narrator.note)
        narrator.step("local cluster is up")
        asyncio.run(measure(cluster, narrator, options.changes))
    finally:
        lifecycle.down(NAME)


async def measure(cluster: Cluster, narrator: Quiet, changes: int) -> None:
    """All figures, printed."""
    await local_mesh.install_into(cluster, ("profile=demo",), narrator.note)
    narrator.step("mesh is installed")
    async with KubeClient.connect(str(cluster.kubeconfig)) as kube:
        stage = Stage(kube, narrator)
        await setting.prepare(stage)
        rows = [(f"start: {text}", f"{seconds:.2f} s") for text, seconds in narrator.steps]
        rows.append(("start: in all", f"{sum(seconds for _, seconds in narrator.steps):.2f} s"))
        for kind, measured in (("PeerAuthentication", mode_effect), ("AuthorizationPolicy", authorization_effect)):
            delays = sorted([await measured(stage, number) for number in range(changes)])
            rows += [
                (f"{kind} to effect on four pods: median", f"{statistics.median(delays) * 1000:.0f} ms"),
                (f"{kind} to effect on four pods: p99", f"{delays[int(len(delays) * 0.99)] * 1000:.0f} ms"),
            ]
    rows += idle(cluster)
    print(render(("WHAT", "MEASURED"), rows), end="")


async def mode_effect(stage: Stage, number: int) -> float:
    """Seconds from the apply of a mode, by turns STRICT and PERMISSIVE, until plaintext connections behave so."""
    document = manifest("strict")[0]
    strict = number % 2 == 0
    document["spec"]["mtls"]["mode"] = "STRICT" if strict else "PERMISSIVE"
    return await effect(stage, document, "refused" if strict else "open")


async def authorization_effect(stage: Stage, number: int) -> float:
    """Seconds from the apply of a policy, by turns one that denies and one that allows all, until requests see it."""
    deny = number % 2 == 0
    document = {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": "everybody", "namespace": NAMESPACE},
        "spec": {"action": "DENY" if deny else "ALLOW", "rules": [{}]},
    }
    return await effect(stage, document, "denied" if deny else "open")


async def effect(stage: Stage, document: dict[str, Any], wanted: str) -> float:
    """Seconds from the apply of a policy until a plaintext connection to each of the four pods behaves as `wanted`.

    Each pod is asked in a loop by one process in the client's pod, so that starting processes is not measured.
    """
    pods = [*await stage.pods("frontend"), *await stage.pods("backend")]
    addresses = " ".join(pod["status"]["podIP"] for pod in pods)
    probe = (
        "import http.client,sys,time\n"
        f"for address in '{addresses}'.split():\n"
        "  while True:\n"
        "    try:\n"
        "      c=http.client.HTTPConnection(address,80,timeout=2); c.request('GET','/')\n"
        "      seen='denied' if c.getresponse().status==403 else 'open'\n"
        "    except OSError: seen='refused'\n"
        f"    if seen=='{wanted}': break\n"
        "print(time.time())\n"
    )
    waiting = asyncio.create_task(
        execute(stage.kube, NAMESPACE, "legacy-client", "legacy-client", ["python3", "-I", "-c", probe])
    )
    await asyncio.sleep(0.3)  # the probe runs by then, and sees what was before the change
    started = time.time()
    await stage.kube.apply(resource_of(document), document, NAMESPACE)
    done = await waiting
    if done.code:
        raise RuntimeError(f"the probe for {wanted!r} failed: {done.stderr.decode()}")
    return max(0.0, float(done.stdout) - started)


def idle(cluster: Cluster) -> list[tuple[str, str]]:
    """Processor and memory of every process of the cluster while nothing happens."""
    before = processes(cluster)
    time.sleep(IDLE_SECONDS)
    after = processes(cluster)
    used = sum(after[pid][0] - before[pid][0] for pid in after.keys() & before.keys()) / TICKS / IDLE_SECONDS
    plane = next(memory for _, memory, command in after.values() if "control_plane" in command)
    agents = [memory for _, memory, command in after.values() if "mutua.programs.agent" in command]
    return [
        ("idle: processor, everything", f"{used:.1%} of a core"),
        ("memory: control plane", f"{plane / 1024:.0f} MB"),
        ("memory: one agent", f"{statistics.mean(agents) / 1024:.0f} MB"),
        ("memory: everything", f"{sum(memory for _, memory, _ in after.values()) / 1024:.0f} MB"),
    ]


def processes(cluster: Cluster) -> dict[int, tuple[int, int, str]]:
    """Ticks used, resident KiB and command line of each process in the cluster's user namespace."""
    home = Path(f"/proc/{cluster.pid}/ns/user").readlink()
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if (entry / "ns/user").readlink() != home:
                continue
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            memory = int((entry / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024
            found[int(entry.name)] = (int(fields[11]) + int(fields[12]), memory, (entry / "cmdline").read_text())
        except OSError:
            continue
    return found


if __name__ == "__main__":
    main()

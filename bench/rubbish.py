"""Rubbish at the control plane's ports, without any credential. Run: python bench/rubbish.py [messages] [--seed 1]

A mesh on a local cluster; the messages come from a pod without a sidecar, to ports 15012, 15013 and 15017: random
bytes, TLS records cut off, ClientHellos, and over TLS to 15013 and 15017 random and half-right gRPC and HTTP. Prints
how many were sent to which port, the control plane's memory before and after, how much it logged, and whether it is the
same process that still signs.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COMMAND = Path(sys.executable).parent / "mutua"
SENDER = Path(__file__).parent / "pods" / "rubbish_sender.py"
NAME = f"rubbish-{os.getpid()}"
PODS = """
apiVersion: v1
kind: Namespace
metadata: {name: load, labels: {istio-injection: enabled}}
---
apiVersion: v1
kind: Pod
metadata: {name: sender, namespace: load, labels: {sidecar.istio.io/inject: "false"}}
spec:
  containers: [{name: sender, image: python, command: [sleep, infinity]}]
---
apiVersion: v1
kind: Pod
metadata:
  name: witness
  namespace: load
  annotations: {proxy.istio.io/config: '{"proxyMetadata": {"SECRET_TTL": "30s"}}'}
spec:
  containers: [{name: witness, image: python, command: [sleep, infinity]}]
"""


class Bench:
    """One cluster."""

    def __init__(self, folder: Path) -> None:
        self.environment = os.environ | {"NO_COLOR": "1", "MUTUA_HOME": str(folder / "home")}

    def run(self, *words: str, stdin: str = "", seconds: float = 120) -> str:
        """A command that has to succeed; what it printed."""
        done = subprocess.run(
            words, env=self.environment, input=stdin, capture_output=True, text=True, timeout=seconds, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(words[:6])}: {done.stderr.strip()[-500:]}")
        return done.stdout

    def kubectl(self, *words: str, stdin: str = "", seconds: float = 120) -> str:
        """As `run`."""
        return self.run("kubectl", *words, stdin=stdin, seconds=seconds)

    def start(self) -> None:
        """Cluster, mesh, a sender, and a workload whose certificate is renewed all the time."""
        said = self.run(str(COMMAND), "up", "--name", NAME)
        self.environment["KUBECONFIG"] = said.strip().splitlines()[-1].removeprefix("export KUBECONFIG=")
        self.kubectl("apply", "-f", "-", stdin=PODS)
        self.kubectl("wait", "--for=condition=Ready", "pod", "--all", "-n", "load", "--timeout=60s")

    def control_plane(self) -> dict[str, int]:
        """Process id, megabytes, restarts, and lines in the log."""
        pod = json.loads(self.kubectl("get", "pods", "-n", "istio-system", "-l", "app=istiod", "-o", "json"))["items"][
            0
        ]
        name = pod["metadata"]["name"]
        status = self.kubectl("exec", "-n", "istio-system", name, "--", "cat", "/proc/1/status")
        memory = next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))
        threads = next(line.split()[1] for line in status.splitlines() if line.startswith("Threads"))
        descriptors = self.kubectl("exec", "-n", "istio-system", name, "--", "ls", "/proc/1/fd")
        return {
            "restarts": pod["status"]["containerStatuses"][0]["restartCount"],
            "megabytes": int(memory) // 1024,
            "threads": int(threads),
            "descriptors": len(descriptors.split()),
            "log_bytes": len(self.kubectl("logs", "-n", "istio-system", name)),
        }

    def serial(self) -> str:
        """Of the witness's certificate."""
        table = self.run(str(COMMAND), "proxy-config", "secret", "witness", "-n", "load")
        return next(line.split()[5] for line in table.splitlines() if line.startswith("default "))


def main() -> int:
    """0 if the control plane lives, signs, and has not grown by a quarter."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("messages", type=int, nargs="?", default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="rubbish-"))
    bench = Bench(folder)
    try:
        bench.start()
        time.sleep(3)
        before, serial = bench.control_plane(), bench.serial()
        address = bench.kubectl(
            "get", "pods", "-n", "istio-system", "-l", "app=istiod", "-o", "jsonpath={.items[0].status.podIP}"
        )
        words = ("exec", "-i", "sender", "-n", "load", "--", "python3", "-", address, str(options.messages))
        begin = time.monotonic()
        said = bench.kubectl(*words, str(options.seed), stdin=SENDER.read_text(), seconds=7200)
        seconds = time.monotonic() - begin
        after = bench.control_plane()
        time.sleep(30)
        rests, renewed = bench.control_plane(), bench.serial()
        print(f"seed {options.seed}, {options.messages} messages in {seconds:.0f} s, of these {said.strip()}")
        for name in before:
            print(f"{name:12} before {before[name]}, after {after[name]}, 30 s later {rests[name]}")
        print(f"the witness's certificate was renewed: {renewed != serial}")
        grown = rests["megabytes"] > 1.25 * before["megabytes"]
        return 1 if rests["restarts"] or renewed == serial or grown else 0
    finally:
        subprocess.run([COMMAND, "down", "--name", NAME], env=bench.environment, check=False, capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())

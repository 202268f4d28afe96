"""How long the commands take that look at a live cluster, as a person waits for them.

Needs a cluster with the mesh and one workload with a sidecar: `python bench/look_ups.py deploy/backend secure-apps`.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

COMMAND = Path(sys.executable).parent / "mutua"
LOOK_UPS = (
    "--help",
    "version",
    "verify-install",
    "proxy-status",
    "proxy-status {workload} -n {namespace}",
    *(
        f"proxy-config {page} {{workload}} -n {{namespace}}"
        for page in ("all", "bootstrap", "cluster", "ecds", "endpoint", "listener", "log", "route", "secret")
    ),
    "x authz check {workload} -n {namespace}",
    "x authz check {workload} -n {namespace} -o wide",
    "x check-inject {workload} -n {namespace}",
    "x precheck",
    "describe pod {workload} -n {namespace}",
    "check {workload} {workload} -n {namespace}",
    "certs",
    "ca status",
    "analyze -n {namespace}",
    "diagnose {workload} -n {namespace}",
)


def main() -> None:
    """Print a line per command: median and best time, processor time, exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workload")
    parser.add_argument("namespace")
    parser.add_argument("--times", type=int, default=5)
    options = parser.parse_args()
    print(f"{'median':>7} {'best':>6} {'CPU':>6}  exit  command")
    for line in LOOK_UPS:
        words = line.format(workload=options.workload, namespace=options.namespace).split()
        waited, used, code = [], [], 0
        for _ in range(options.times):
            before, begin = os.times(), time.monotonic()
            code = subprocess.run([COMMAND, *words], capture_output=True, check=False).returncode
            after = os.times()
            waited.append(time.monotonic() - begin)
            used.append(after.children_user + after.children_system - before.children_user - before.children_system)
        figures = f"{statistics.median(waited):7.2f} {min(waited):6.2f} {statistics.median(used):6.2f}"
        print(f"{figures}  {code:4}  mutua {' '.join(words)}", flush=True)


if __name__ == "__main__":
    main()

"""Certificates of sixty seconds under a steady load, while everything that can happen to their authority happens.

Two real Envoys, STRICT, 200 requests a second, each a TLS handshake of its own. Meanwhile, in an order that a seed
draws: the control plane killed, the root rotated, `cacerts` added, its intermediate and its root replaced, all of it
removed, and the authority away for 0.15 of a certificate's life. Prints what happened when, and how many requests had
which outcome.

    python bench/rotation_under_load.py [--seconds 600] [--rate 200] [--seed 1] [--preferred]

A load that the machine cannot carry beside others' work fails for that reason: `--preferred` (as root) lets the
cluster's processes go before others.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
COMMAND = Path(sys.executable).parent / "mutua"
LOAD = ROOT / "tests" / "journey" / "steady_load.py"
NAME = f"rotation-{os.getpid()}"
LIFETIME_SECONDS = 60
SYSTEM = ("-n", "istio-system")

WORKLOADS = """
apiVersion: v1
kind: Namespace
metadata: {name: load, labels: {istio-injection: enabled}}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: load}
spec: {mtls: {mode: STRICT}}
""" + "".join(
    f"""
---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: load}}
spec: {{selector: {{app: {name}}}, ports: [{{name: tcp, port: 80}}]}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: load}}
spec:
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata:
      labels: {{app: {name}}}
      annotations:
        proxy.istio.io/config: '{{"proxyMetadata": {{"SECRET_TTL": "{LIFETIME_SECONDS}s"}}}}'
    spec:
      containers: [{container}]
"""
    for name, container in (
        ("server", "{name: server, image: nginx, ports: [{containerPort: 80}]}"),
        ("client", "{name: client, image: python, command: [sleep, infinity]}"),
    )
)


class Bench:
    """One cluster, and what is done to its authority."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = os.environ | {"NO_COLOR": "1", "MUTUA_HOME": str(folder / "home")}
        self.began = time.monotonic()
        self.serials: dict[str, set[str]] = {"server": set(), "client": set()}
        self.plugged_in = 0

    def run(self, *words: str, stdin: str = "") -> str:
        """A command that has to succeed; what it printed."""
        done = subprocess.run(
            words, env=self.environment, input=stdin, capture_output=True, text=True, timeout=180, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip()}")
        return done.stdout

    def kubectl(self, *words: str, stdin: str = "") -> str:
        """As `run`."""
        return self.run("kubectl", *words, stdin=stdin)

    def mutua(self, *words: str) -> str:
        """As `run`."""
        return self.run(str(COMMAND), *words)

    def say(self, text: str) -> None:
        """One line, with the seconds since the load began."""
        print(f"{time.monotonic() - self.began:6.1f} s  {text}", flush=True)

    def start(self) -> None:
        """Cluster, mesh and workloads."""
        said = self.mutua("up", "--name", NAME)
        self.environment["KUBECONFIG"] = said.strip().splitlines()[-1].removeprefix("export KUBECONFIG=")
        self.kubectl("apply", "-f", "-", stdin=WORKLOADS)
        self.kubectl("wait", "--for=condition=Available", "deployment", "--all", "-n", "load", "--timeout=120s")

    def load(self, seconds: float, rate: float) -> "subprocess.Popen[str]":
        """The steady load, from the client's pod."""
        words = ["kubectl", "exec", "-i", "deploy/client", "-n", "load", "-c", "client", "--", "python3", "-"]
        with LOAD.open() as script:
            return subprocess.Popen(
                [*words, "server", str(seconds), str(rate)],
                env=self.environment,
                stdin=script,
                stdout=subprocess.PIPE,
                text=True,
            )

    def settled(self) -> dict[str, str]:
        """The authority's state once no rotation is under way."""
        end = time.monotonic() + 120
        while time.monotonic() < end:
            said = self.kubectl("get", "configmap", "istio-ca-rotation", *SYSTEM, "-o", "jsonpath={.data}")
            data = json.loads(said)
            state: dict[str, str] = json.loads(data["state"])
            if "stage" not in state and not data.get("request"):
                return state
            time.sleep(0.5)
        raise RuntimeError(f"the rotation does not end: {self.mutua('ca', 'status')}")

    def changed(self, before: str) -> None:
        """Wait until another authority is settled."""
        end = time.monotonic() + 120
        while self.settled()["issuer"] == before:
            if time.monotonic() > end:
                raise RuntimeError("the authority did not change")
            time.sleep(0.5)

    def kill(self) -> None:
        """The control plane dies without a word; its Deployment starts another."""
        self.kubectl("delete", "pod", *SYSTEM, "-l", "app=istiod", "--force", "--grace-period=0")

    def rotate(self) -> None:
        """A new self-signed root."""
        self.mutua("ca", "rotate", "--wait", "120")

    def rotate_and_kill(self) -> None:
        """A new self-signed root, and the control plane dies on the way."""
        before = self.settled()["issuer"]
        self.mutua("ca", "rotate")
        time.sleep(1)
        self.kill()
        self.changed(before)

    def plug_in(self, *, killed: bool = False, same_root: bool = False) -> None:
        """`cacerts` with a new authority or a new intermediate; the control plane dies on the way if `killed`."""
        before = self.settled()["issuer"]
        self.plugged_in += 1
        made = self.folder / f"authority-{self.plugged_in}"
        below = ("--root", str(self.folder / "authority-1")) if same_root else ()
        self.mutua("ca", "init", str(made), "--organization", f"authority {self.plugged_in}", *below)
        files = [
            f"--from-file={made / name}" for name in ("ca-cert.pem", "ca-key.pem", "root-cert.pem", "cert-chain.pem")
        ]
        words = ("create", "secret", "generic", "cacerts", *SYSTEM, *files, "--dry-run=client", "-o", "yaml")
        self.kubectl("apply", "-f", "-", stdin=self.kubectl(*words))
        if killed:
            time.sleep(2)
            self.kill()
        self.changed(before)

    def remove(self) -> None:
        """`cacerts` goes, and the mesh is led to a root of its own."""
        before = self.settled()["issuer"]
        self.kubectl("delete", "secret", "cacerts", *SYSTEM)
        self.mutua("ca", "rotate", "--wait", "120")
        self.changed(before)

    def away(self) -> None:
        """Nobody reaches the authority for 0.15 of a certificate's life: its service has no pods.

        Exactly so long: what is renewed at 80 % of its life has no more than a fifth left.
        """
        for app, seconds in (("nobody", 0.15 * LIFETIME_SECONDS), ("istiod", 0.0)):
            self.kubectl("patch", "service", "istiod", *SYSTEM, "-p", f'{{"spec":{{"selector":{{"app":"{app}"}}}}}}')
            time.sleep(seconds)

    def prefer(self, ended: threading.Event) -> None:
        """Let the scheduler prefer the cluster's processes; each session is a group with a weight of its own."""
        while not ended.wait(1):
            for pid in descendants(NAME):
                with contextlib.suppress(OSError):
                    Path(f"/proc/{pid}/autogroup").write_text("-15")

    def note_serials(self, ended: threading.Event) -> None:
        """Every certificate that either Envoy holds; looks a few times in each certificate's life."""
        while not ended.wait(LIFETIME_SECONDS / 10):
            for name, found in self.serials.items():
                done = subprocess.run(
                    [COMMAND, "proxy-config", "secret", f"deploy/{name}", "-n", "load"],
                    env=self.environment, capture_output=True, text=True, timeout=60, check=False,
                )  # fmt: skip
                found |= {line.split()[5] for line in done.stdout.splitlines() if line.startswith("default ")}


def descendants(name: str) -> set[int]:
    """The processes whose command names the cluster, and all below them."""
    parents: dict[int, int] = {}
    found: set[int] = set()
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            with contextlib.suppress(OSError, IndexError, ValueError):
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                if name in (folder / "cmdline").read_text():
                    found.add(int(folder.name))
    found.discard(os.getpid())
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def events(bench: Bench, seed: int) -> list[tuple[str, Callable[[], None]]]:
    """What happens, in an order that the seed draws; an authority is plugged in before it is replaced and removed."""
    drawn = random.Random(seed)  # noqa: S311 - repeatable, not secret
    custom: list[tuple[str, Callable[[], None]]] = [
        ("cacerts added", bench.plug_in),
        ("cacerts replaced: a new intermediate below the same root", lambda: bench.plug_in(same_root=True)),
        ("cacerts replaced, control plane killed on the way", lambda: bench.plug_in(killed=True)),
        ("cacerts removed, and a new self-signed root", bench.remove),
    ]
    any_time: list[tuple[str, Callable[[], None]]] = [
        ("control plane killed", bench.kill),
        ("control plane killed", bench.kill),
        ("authority away for 0.15 of a lifetime", bench.away),
        ("authority away for 0.15 of a lifetime", bench.away),
    ]
    self_signed: list[tuple[str, Callable[[], None]]] = [
        ("new self-signed root", bench.rotate),
        ("new self-signed root, control plane killed on the way", bench.rotate_and_kill),
    ]
    drawn.shuffle(any_time)
    order = [*self_signed, *custom]
    for event in any_time:
        order.insert(drawn.randrange(len(order) + 1), event)
    return order


def main() -> int:
    """0 if every request was answered."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--rate", type=float, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--preferred", action="store_true")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="rotation-"))
    bench = Bench(folder)
    try:
        bench.start()
        ended = threading.Event()
        preferring = threading.Thread(target=bench.prefer, args=(ended,), daemon=True)
        if options.preferred:
            preferring.start()
        load = bench.load(options.seconds, options.rate)
        bench.began = time.monotonic()
        looking = threading.Thread(target=bench.note_serials, args=(ended,), daemon=True)
        looking.start()
        planned = events(bench, options.seed)
        for index, (name, event) in enumerate(planned):
            due = options.seconds * (index + 0.5) / len(planned)
            time.sleep(max(0.0, bench.began + due - time.monotonic()))
            bench.say(name)
            event()
            bench.say("  done")
        out, _ = load.communicate(timeout=options.seconds + 120)
        ended.set()
        looking.join()
        outcomes: dict[str, int] = json.loads(out.strip().splitlines()[-1])
        certificates = {name: len(found) for name, found in bench.serials.items()}
        print(f"seed {options.seed}, {options.seconds:g} s, {options.rate:g} requests/s")
        print(f"certificates seen in the Envoys: {certificates}")
        print(f"requests: {sum(outcomes.values())}, outcomes: {outcomes}")
        return 0 if set(outcomes) == {"200"} else 1
    finally:
        subprocess.run([COMMAND, "down", "--name", NAME], env=bench.environment, check=False, capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())

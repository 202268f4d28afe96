"""A rude life for a local cluster: objects and pods come and go while its processes are killed at random.

Every write that was acknowledged must be there afterwards, the pods must run, their addresses must be their own, the
kernel must have an interface and a process for each of them and no more, a service must answer, and nothing may be left
over in the end. Exits with 1 otherwise: `python bench/local_cluster_soak.py [--seconds 600]`.
"""

import argparse
import http.client
import json
import os
import random
import select
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from local_cluster import NAMESPACE, Api, is_ready, own_processes, pod

from localcluster import lifecycle

NAME = "soak"
PODS = 12
Object = dict[str, Any]
BROKEN = (OSError, http.client.HTTPException, AssertionError, ssl.SSLError, ValueError)


class Ledger:
    """What the API has acknowledged: config map name to its last value; None: deleted. Unknown ones are left out."""

    def __init__(self) -> None:
        self.known: dict[str, str | None] = {}
        self.writes = 0

    def attempt(self, api: Api, rng: random.Random) -> None:
        """One write. If its answer is lost, nobody knows whether it happened."""
        name, value = f"entry-{rng.randrange(200)}", str(rng.random())
        present = self.known.pop(name, None)
        path = f"{NAMESPACE}/configmaps"
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"value": value}}
        if present is None:
            api.request("POST", path, body)
            self.known[name] = value
        elif rng.random() < 0.5:
            api.request("PUT", f"{path}/{name}", body)
            self.known[name] = value
        else:
            api.request("DELETE", f"{path}/{name}")
        self.writes += 1

    def wrong(self, api: Api) -> list[str]:
        """Acknowledged values that are not there."""
        items = api.request("GET", f"{NAMESPACE}/configmaps")["items"]
        held = {item["metadata"]["name"]: (item.get("data") or {}).get("value") for item in items}
        return [f"{name}: {held.get(name)} in the place of {value}" for name, value in self.known.items()
                if value is not None and held.get(name) != value]  # fmt: skip


def main() -> None:
    """Lives rudely, and judges."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seconds", type=float, default=600.0)
    arguments.add_argument("--seed", type=int, default=int(time.time()))
    options = arguments.parse_args()
    print(f"seed {options.seed}", file=sys.stderr)
    rng = random.Random(options.seed)  # noqa: S311 - repeatable on purpose
    root = Path(tempfile.mkdtemp(prefix="soak-"))
    try:
        problems = live(root, options.seconds, rng)
    except BaseException:
        kept = tempfile.mkdtemp(prefix="soak-logs-")
        shutil.copytree(root / "clusters" / NAME / "logs", kept, dirs_exist_ok=True)
        print(f"what the cluster's processes wrote is in {kept}", file=sys.stderr)
        raise
    finally:
        lifecycle.down(NAME, root=root)
        left = subprocess.run(["pgrep", "-af", str(root)], capture_output=True, text=True, check=False).stdout
    problems += [f"left over: {line}" for line in left.splitlines()]
    problems += [f"left over: {path}" for path in root.glob("clusters/*/*")]
    shutil.rmtree(root, ignore_errors=True)
    for problem in problems:
        print(problem)
    sys.exit(1 if problems else 0)


def live(root: Path, seconds: float, rng: random.Random) -> list[str]:
    """Churn and kill for so long; then what is wrong."""
    cluster = lifecycle.up(NAME, images={}, root=root)
    port = serve(Api(cluster))
    end, ledger, kills = time.monotonic() + seconds, Ledger(), 0
    while time.monotonic() < end:
        stop = threading.Event()
        own = random.Random(rng.random())  # noqa: S311
        writer = threading.Thread(target=churn, args=(cluster, ledger, own, stop))
        writer.start()
        time.sleep(rng.uniform(0.2, 4.0))
        whole = rng.random() < 0.4
        victims = [cluster.pid] if whole else own_processes(cluster)[1:]
        for victim in victims:
            kill(victim)
            kills += 1
        stop.set()
        writer.join()
        if whole:
            cluster = lifecycle.up(NAME, images={}, root=root)
        else:
            available(Api(cluster))
        if wrong := ledger.wrong(Api(cluster)):
            return wrong
    print(f"{ledger.writes} acknowledged writes, {kills} kills")
    return settled(cluster) or unanswered(port)


def serve(api: Api) -> int:
    """Three web servers behind a service; the port of this machine that leads to them."""
    container = {"name": "main", "image": "nginx"}
    template = {
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 0},
    }
    selector = {"matchLabels": {"app": "web"}}
    deployment = {"metadata": {"name": "web"}, "spec": {"replicas": 3, "selector": selector, "template": template}}
    api.request("POST", "/apis/apps/v1/namespaces/default/deployments", deployment)
    service = {"type": "NodePort", "selector": {"app": "web"}, "ports": [{"port": 80}]}
    made = api.request("POST", f"{NAMESPACE}/services", {"metadata": {"name": "web"}, "spec": service})
    return int(made["spec"]["ports"][0]["nodePort"])


def unanswered(port: int) -> list[str]:
    """What a hundred connections to the service come to, if it is not a hundred answers."""
    codes: Counter[str] = Counter()
    for _ in range(100):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/")
            codes[str(connection.getresponse().status)] += 1
        except BROKEN as error:
            codes[repr(error)] += 1
        finally:
            connection.close()
    return [] if codes == {"200": 100} else [f"requests through the service: {dict(codes)}"]


def kill(process: int) -> None:
    """End a process at once, and wait for its end: until then it may still answer."""
    handle = os.pidfd_open(process)
    try:
        signal.pidfd_send_signal(handle, signal.SIGKILL)
        select.select([handle], [], [])
    finally:
        os.close(handle)


def churn(cluster: lifecycle.Cluster, ledger: Ledger, rng: random.Random, stop: threading.Event) -> None:
    """Write config maps, and make and delete pods, until told to stop or cut off."""
    try:
        api = Api(cluster)
        while not stop.is_set():
            ledger.attempt(api, rng)
            if rng.random() < 0.1:
                name = f"pod-{rng.randrange(PODS)}"
                names = {item["metadata"]["name"] for item in api.request("GET", f"{NAMESPACE}/pods")["items"]}
                if name in names:
                    api.request("DELETE", f"{NAMESPACE}/pods/{name}?gracePeriodSeconds={rng.randrange(2)}")
                else:
                    api.request("POST", f"{NAMESPACE}/pods", pod(name))
    except BROKEN:
        return


def available(api: Api) -> None:
    """Wait until the API answers again."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            api.request("GET", f"{NAMESPACE}/configmaps")
        except BROKEN:
            api = Api.again(api)
            time.sleep(0.05)
        else:
            return
    raise RuntimeError("the API did not come back within 30 s")


def settled(cluster: lifecycle.Cluster) -> list[str]:
    """Wait until the API, the processes and the network agree; in what they still do not after a minute."""
    api, deadline = Api(cluster), time.monotonic() + 60
    while True:
        items: list[Object] = api.request("GET", f"{NAMESPACE}/pods")["items"]
        addresses = [item["status"].get("podIP") for item in items]
        found = {
            "not ready": [item["metadata"]["name"] for item in items if not is_ready(item)],
            "addresses of several pods": sorted({str(each) for each in addresses if addresses.count(each) > 1}),
            "interfaces of no pod, or missing": interfaces(cluster) - len(items),
            "containers of no pod, or missing": containers(cluster) - len(items),
        }
        if not any(found.values()):
            print(f"{len(items)} pods are ready, each with an address, an interface and a process of its own")
            return []
        if time.monotonic() > deadline:
            return [json.dumps(found)]
        time.sleep(0.1)


def interfaces(cluster: lifecycle.Cluster) -> int:
    """How many pods have a cable to the node's bridge."""
    lines = Path(f"/proc/{cluster.pid}/net/dev").read_text().splitlines()[2:]
    return sum(line.split(":")[0].strip() not in ("lo", "cluster0") for line in lines)


def containers(cluster: lifecycle.Cluster) -> int:
    """How many processes the node has besides the API server: each pod here has one container, with one process."""
    children = Path(f"/proc/{cluster.pid}/task/{cluster.pid}/children").read_text().split()
    return len(children) - len(own_processes(cluster)[1:])


if __name__ == "__main__":
    main()

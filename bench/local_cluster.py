"""How quick a local cluster is: up, one pod, fifty pods, a Job, down; what it takes to be idle.

Prints one table; run it on a quiet machine: `python bench/local_cluster.py [--pods 50] [--rounds 10]`.
"""

import argparse
import http.client
import json
import os
import shutil
import ssl
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from localcluster import lifecycle
from localcluster.lifecycle import Cluster
from localcluster.paths import ClusterPaths

NAMESPACE = "/api/v1/namespaces/default"
TICKS = os.sysconf("SC_CLK_TCK")
IDLE_SECONDS = 10
SETTLING_SECONDS = 2
Object = dict[str, Any]


class Api:
    """The cluster's API over kept connections, as a client library has it."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        paths = ClusterPaths(cluster.directory)
        self._context = ssl.create_default_context(cafile=str(paths.ca_certificate))
        self._headers = {"Authorization": f"Bearer {paths.admin_token.read_text()}", "Content-Type": "application/json"}
        self._port = cluster.api_port
        self._connection = self._connect()

    @classmethod
    def again(cls, broken: "Api") -> "Api":
        """The same, with a new connection."""
        return cls(broken.cluster)

    def _connect(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection("127.0.0.1", self._port, context=self._context, timeout=60)

    def request(self, method: str, path: str, body: Object | None = None) -> Object:
        """One request; it has to succeed."""
        self._connection.request(method, path, json.dumps(body) if body else None, self._headers)
        response = self._connection.getresponse()
        content = response.read()
        assert response.status < 300, content
        return dict(json.loads(content))

    def watch(self, path: str) -> Iterator[Object]:
        """Events from now on, over a connection of its own."""
        version = self.request("GET", path)["metadata"]["resourceVersion"]
        connection = self._connect()
        connection.request("GET", f"{path}?watch=true&resourceVersion={version}", None, self._headers)
        response = connection.getresponse()
        try:
            while line := response.readline():
                yield json.loads(line)
        finally:
            connection.close()


def pod(name: str) -> Object:
    """A pod that only waits."""
    container = {"name": "main", "image": "registry.k8s.io/pause"}
    spec = {"containers": [container], "terminationGracePeriodSeconds": 0}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "bench"}}, "spec": spec}


def is_ready(item: Object) -> bool:
    """Whether its Ready condition is true."""
    conditions = (item.get("status") or {}).get("conditions") or ()
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def until(api: Api, count: int, does: Callable[[Object], bool], begin: Callable[[], object], path: str) -> float:
    """Seconds from `begin` until `count` different objects at `path` are as they should be."""
    events = api.watch(path)
    started = time.perf_counter()
    begin()
    seen: set[str] = set()
    for event in events:
        if does(event["object"]):
            seen.add(event["object"]["metadata"]["name"])
        if len(seen) == count:
            return time.perf_counter() - started
    raise RuntimeError("the watch ended")


def one_pod(api: Api, name: str) -> float:
    """Seconds from the request until the pod is Ready."""
    seconds = until(api, 1, is_ready, lambda: api.request("POST", f"{NAMESPACE}/pods", pod(name)), f"{NAMESPACE}/pods")
    api.request("DELETE", f"{NAMESPACE}/pods/{name}?gracePeriodSeconds=0")
    return seconds


def deployment(replicas: int) -> Object:
    """A Deployment of pods that only wait."""
    template = {"metadata": {"labels": {"app": "bench"}}, "spec": pod("x")["spec"]}
    spec = {"replicas": replicas, "selector": {"matchLabels": {"app": "bench"}}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "bench"}, "spec": spec}


def job() -> Object:
    """A Job that does nothing."""
    run = {"restartPolicy": "Never", "containers": [{"name": "main", "image": "busybox", "command": ["true"]}]}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "bench"}, "spec": {"template": {"spec": run}}}


def is_complete(item: Object) -> bool:
    """Whether a Job is done."""
    return any(condition["type"] == "Complete" for condition in (item.get("status") or {}).get("conditions") or ())


def processor_seconds(pids: list[int]) -> float:
    """What these processes have used."""
    fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    return sum(int(each[11]) + int(each[12]) for each in fields) / TICKS


def own_processes(cluster: Cluster) -> list[int]:
    """The node and its API server, by the host's numbers."""
    children = Path(f"/proc/{cluster.pid}/task/{cluster.pid}/children").read_text().split()
    servers = [int(pid) for pid in children if b"localcluster.apiserver" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    return [cluster.pid, *servers]


def main() -> None:
    """Measures on a cluster of its own."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--pods", type=int, default=50)
    arguments.add_argument("--rounds", type=int, default=10)
    options = arguments.parse_args()
    root = Path(tempfile.mkdtemp(prefix="bench-"))
    rows: list[tuple[str, str]] = []
    try:
        started = time.perf_counter()
        cluster = lifecycle.up("bench", images={}, root=root)
        rows.append(("up", f"{time.perf_counter() - started:.2f} s"))
        api = Api(cluster)
        times = [one_pod(api, f"single-{number}") for number in range(options.rounds)]
        rows.append(
            ("a pod is Ready (median, worst)", f"{statistics.median(times) * 1e3:.0f} ms, {max(times) * 1e3:.0f} ms")
        )
        deployments = "/apis/apps/v1/namespaces/default/deployments"
        seconds = until(
            api,
            options.pods,
            is_ready,
            lambda: api.request("POST", deployments, deployment(options.pods)),
            f"{NAMESPACE}/pods",
        )
        rows.append((f"{options.pods} pods of a Deployment are Ready", f"{seconds:.2f} s"))
        jobs = "/apis/batch/v1/namespaces/default/jobs"
        seconds = until(api, 1, is_complete, lambda: api.request("POST", jobs, job()), jobs)
        rows.append(("a Job is Complete beside them", f"{seconds * 1e3:.0f} ms"))
        processes = own_processes(cluster)
        # The last pods' events are written behind everything else.
        time.sleep(SETTLING_SECONDS)
        before = processor_seconds(processes)
        time.sleep(IDLE_SECONDS)
        share = (processor_seconds(processes) - before) / IDLE_SECONDS
        rows.append((f"idle with {options.pods} pods: node and API server", f"{share:.1%} of a core"))
        started = time.perf_counter()
        lifecycle.down("bench", root=root)
        rows.append((f"down, with {options.pods} pods", f"{time.perf_counter() - started:.2f} s"))
    finally:
        lifecycle.down("bench", root=root)
        shutil.rmtree(root, ignore_errors=True)
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:<{width}}  {value}")


if __name__ == "__main__":
    main()

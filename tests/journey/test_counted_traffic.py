"""What the mesh says of its traffic is what was sent: in the control plane's edges, the table and the metrics."""

import asyncio
import json
from collections.abc import Callable, Iterator

import pytest
from journey_shell import Journey

from mutua.programs.cli import control_plane
from mutua.programs.cli.main import Options
from mutua.reports.traffic import EdgeTraffic
from mutua.system.kube import KubeClient

pytestmark = pytest.mark.cluster

Eventually = Callable[[Callable[[], bool], float], None]
NAMESPACE = "counted"
BY_SIDECAR, IN_PLAINTEXT, REFUSED = 30, 7, 3


def _pod(name: str, image: str, inject: str, port: int = 0) -> str:
    command = "" if port else ", command: [sleep, infinity]"
    ports = f", ports: [{{containerPort: {port}}}]" if port else ""
    return f"""
apiVersion: v1
kind: Pod
metadata:
  name: {name}
  namespace: {NAMESPACE}
  labels: {{app: {name}}}
  annotations: {{sidecar.istio.io/inject: "{inject}"}}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{{name: {name}, image: {image}{command}{ports}}}]
---"""


MANIFEST = f"""
apiVersion: v1
kind: Namespace
metadata: {{name: {NAMESPACE}, labels: {{istio-injection: enabled}}}}
---
apiVersion: v1
kind: Service
metadata: {{name: store, namespace: {NAMESPACE}}}
spec: {{selector: {{app: store}}, ports: [{{name: http, port: 80}}]}}
---{_pod("store", "nginx", "true", 80)}{_pod("web", "curlimages/curl", "true")}
{_pod("legacy", "curlimages/curl", "false")}
"""
STRICT = f"""
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: strict, namespace: {NAMESPACE}}}
spec: {{mtls: {{mode: STRICT}}}}
"""


@pytest.fixture(scope="module")
def counted(journey: Journey) -> Iterator[Journey]:
    journey.must("apply", "-f", "-", stdin=MANIFEST)
    for pod in ("store", "web", "legacy"):
        journey.must("wait", "--for=condition=Ready", f"pod/{pod}", "-n", NAMESPACE, "--timeout=60s")
    yield journey
    journey.must("delete", "namespace", NAMESPACE, "--wait=false")


def edges(shell: Journey) -> list[EdgeTraffic]:
    """The namespace's edges, as the dashboard reads them."""

    async def read() -> control_plane.Traffic:
        async with KubeClient.connect(str(shell.kubeconfig)) as kube:
            return await control_plane.traffic(kube, Options(), NAMESPACE)

    found = asyncio.run(read())
    assert not [each for each in found.silent if each.startswith(f"{NAMESPACE}/")]
    return list(found.edges)


def send(shell: Journey, pod: str, times: int) -> None:
    """So many requests, each over a connection of its own."""
    loop = f"for number in $(seq {times}); do curl -s -o /dev/null http://store; done"
    shell.must("exec", pod, "-n", NAMESPACE, "-c", pod, "--", "sh", "-c", loop)


def seen(shell: Journey) -> dict[tuple[str, bool], int]:
    """(client, refused) → connections, from `mutua plaintext`."""
    done = shell.mutua("plaintext", "-n", NAMESPACE, "-o", "json", "--since", "10m")
    assert done.returncode == 0, done.stderr
    return {(each["client"], each["refused"]): each["connections"] for each in json.loads(done.stdout)["plaintext"]}


def test_what_was_sent_is_what_is_told(counted: Journey, eventually: Eventually) -> None:
    send(counted, "web", BY_SIDECAR)
    send(counted, "legacy", IN_PLAINTEXT)

    found = {each.source_workload: each for each in edges(counted) if each.destination_workload == "store"}
    assert set(found) == {"web", "legacy"}
    web, legacy = found["web"], found["legacy"]
    assert (web.count, web.mutual_tls, web.plaintext, web.errors) == (BY_SIDECAR, BY_SIDECAR, 0, 0)
    assert web.source_principal == f"spiffe://cluster.local/ns/{NAMESPACE}/sa/default"
    assert (legacy.count, legacy.mutual_tls, legacy.plaintext) == (IN_PLAINTEXT, 0, IN_PLAINTEXT)
    assert legacy.duration_sum_milliseconds > 0
    eventually(lambda: seen(counted) == {(f"{NAMESPACE}/legacy", False): IN_PLAINTEXT}, 10)

    table = counted.mutua("plaintext", "-n", NAMESPACE).stdout
    assert f"{NAMESPACE}/legacy" in table
    assert "the client has no sidecar:" in table
    assert all(len(line) <= 80 for line in table.splitlines()), table


@pytest.mark.parametrize("port", [15020, 15090])
def test_a_scraper_reads_the_same_numbers(counted: Journey, port: int) -> None:
    address = counted.must("get", "pod", "store", "-n", NAMESPACE, "-o", "jsonpath={.status.podIP}")
    page = counted.must(
        "exec", "legacy", "-n", NAMESPACE, "--", "curl", "-sf", f"http://{address}:{port}/stats/prometheus"
    )
    lines = [line for line in page.splitlines() if line.startswith("istio_requests_total{")]
    by_policy = {
        policy: sum(int(line.rsplit(" ", 1)[1]) for line in lines if f'connection_security_policy="{policy}"' in line)
        for policy in ("mutual_tls", "none")
    }
    assert by_policy == {"mutual_tls": BY_SIDECAR, "none": IN_PLAINTEXT}
    assert ("istio_agent_cert_expiry_seconds" in page) == (port == 15020)


def test_who_is_refused_is_told_too(counted: Journey, eventually: Eventually) -> None:
    counted.must("apply", "-f", "-", stdin=STRICT)
    refused = (f"{NAMESPACE}/legacy", True)

    def turned_away() -> bool:
        return counted.kube("exec", "legacy", "-n", NAMESPACE, "--", "curl", "-s", "http://store").returncode != 0

    eventually(turned_away, 20)
    eventually(lambda: seen(counted).get(refused, 0) > 0, 10)
    before = seen(counted)[refused]
    for _ in range(REFUSED):
        assert turned_away()

    eventually(lambda: seen(counted)[refused] == before + REFUSED, 10)
    (edge,) = (each for each in edges(counted) if each.refused)
    assert (edge.source_workload, edge.destination_workload, edge.destination_port) == ("legacy", "store", 80)
    assert edge.refused == before + REFUSED

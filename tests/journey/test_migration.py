"""A namespace with a forgotten plaintext client, a probe and a scraper is brought to STRICT; nobody else notices."""

import contextlib
import json
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from journey_shell import Journey

pytestmark = pytest.mark.cluster

Eventually = Callable[[Callable[[], bool], float], None]
NAMESPACE = "story"
LOAD = Path(__file__).parent / "steady_load.py"
RATE = 15
NOT_INJECTED = {"sidecar.istio.io/inject": "false"}
NOT_REWRITTEN = {"sidecar.istio.io/rewriteAppHTTPProbers": "false"}
SCRAPED = {
    "prometheus.io/scrape": "true",
    "prometheus.io/port": "9090",
    "prometheus.istio.io/merge-metrics": "false",
}


def deployment(
    name: str, containers: list[dict[str, Any]], replicas: int = 1, annotations: dict[str, str] | None = None
) -> dict[str, Any]:
    template = {
        "metadata": {"labels": {"app": name}, "annotations": annotations or {}},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": containers},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template},
    }


def service(name: str, app: str, port: int) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"selector": {"app": app}, "ports": [{"name": "http", "port": port}]},
    }


def calling(url: str) -> list[dict[str, Any]]:
    """A container that asks for a page twice a second."""
    loop = f"while true; do curl -s -m 2 -o /dev/null {url}; sleep 0.5; done"
    return [{"name": "caller", "image": "curlimages/curl", "command": ["sh", "-c", loop]}]


def web(annotations: dict[str, str]) -> dict[str, Any]:
    """The server: a page that the kubelet probes, and metrics that are scraped."""
    page = {
        "name": "web",
        "image": "nginx",
        "ports": [{"containerPort": 80}],
        "readinessProbe": {"httpGet": {"port": 80, "path": "/"}, "periodSeconds": 1, "failureThreshold": 30},
    }
    metrics = {"name": "metrics", "image": "python", "command": ["python3", "-m", "http.server", "9090"]}
    return deployment("web", [page, metrics], 2, annotations)


SCRAPER = "http://web-metrics:9090/"
SCENE = (
    {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": NAMESPACE, "labels": {"istio-injection": "enabled"}},
    },
    web({**NOT_REWRITTEN, **SCRAPED}),
    service("web", "web", 80),
    service("web-metrics", "web", 9090),
    deployment("load", [{"name": "load", "image": "python", "command": ["sleep", "infinity"]}]),
    deployment("legacy", calling("http://web"), annotations=NOT_INJECTED),
    deployment("prometheus", calling(SCRAPER), annotations=NOT_INJECTED),
)


@pytest.fixture(scope="module")
def story(journey: Journey) -> Iterator[Journey]:
    """The namespace, in PERMISSIVE as every namespace begins."""
    apply(journey, *SCENE)
    yield journey
    journey.must("delete", "namespace", NAMESPACE, "--wait=false")


def apply(shell: Journey, *documents: dict[str, Any]) -> None:
    shell.must("apply", "-f", "-", stdin=yaml.safe_dump_all(documents))
    for document in documents:
        if document["kind"] == "Deployment":
            name = document["metadata"]["name"]
            shell.must("rollout", "status", f"deployment/{name}", "-n", NAMESPACE, "--timeout=60s")


def plan(shell: Journey, *words: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """Exit code, and who blocks."""
    done = shell.mutua("migrate", "plan", "-n", NAMESPACE, "-o", "json", *words)
    return done.returncode, {item["client"]: item for item in json.loads(done.stdout)["obstacles"] if item["blocks"]}


def record(shell: Journey) -> dict[str, Any]:
    """What the cluster keeps of the last run."""
    path = r"jsonpath={.data.record\.json}"
    text = shell.must("get", "configmap", "mutua-migrate", "-n", NAMESPACE, "-o", path)
    state: dict[str, Any] = json.loads(text)["state"]
    return state


def modes(shell: Journey) -> dict[str, str]:
    """The namespace's PeerAuthentications by name."""
    listed = json.loads(shell.must("get", "peerauthentication", "-n", NAMESPACE, "-o", "json"))["items"]
    return {item["metadata"]["name"]: item["spec"]["mtls"]["mode"] for item in listed}


def slowest_switch(said: str) -> float:
    """The longest that a workload took to become STRICT, by the times in front of the lines of a run."""
    times: dict[str, dict[str, float]] = {}
    for moment, name, word in re.findall(r"^ *([0-9.]+)s  (\S+): (STRICT|live)", said, re.MULTILINE):
        times.setdefault(name, {})[word] = float(moment)
    return max(each["live"] - each["STRICT"] for each in times.values() if len(each) == 2)


@contextlib.contextmanager
def load(shell: Journey, seconds: int) -> Iterator[Callable[[], dict[str, int]]]:
    """Requests between two sidecars, each on a connection of its own; gives what became of them, once they are done."""
    words = [str(shell.kubectl), "exec", "-i", "deployment/load", "-n", NAMESPACE, "-c", "load", "--"]
    words += ["python3", "-", "web", str(seconds), str(RATE)]
    with (
        LOAD.open() as source,
        subprocess.Popen(
            words, env=shell.environment, stdin=source, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process,
    ):

        def outcomes() -> dict[str, int]:
            out, errors = process.communicate(timeout=seconds + 60)
            assert process.returncode == 0, errors
            counted: dict[str, int] = json.loads(out)
            return counted

        try:
            yield outcomes
        finally:
            process.kill()


def run(shell: Journey, *words: str) -> subprocess.CompletedProcess[str]:
    return shell.mutua("migrate", "run", "-n", NAMESPACE, *words, timeout=180)


def status(shell: Journey) -> tuple[int, str]:
    """The exit code of `mutua migrate status`, and what it says beside its table."""
    done = shell.mutua("migrate", "status", "-n", NAMESPACE)
    return done.returncode, done.stderr


def test_the_plan_names_all_three_and_why(story: Journey, eventually: Eventually) -> None:
    def seen() -> bool:
        _, found = plan(story)
        return all(item["connections"] for item in found.values()) and len(found) == 3

    eventually(seen, 60)
    code, found = plan(story)
    assert code == 2
    assert {client: (item["server"], item["port"], item["evidence"]) for client, item in found.items()} == {
        f"{NAMESPACE}/legacy": ("web", 80, "seen"),
        f"{NAMESPACE}/prometheus": ("web", 9090, "configured"),
        "the kubelet": ("web", 80, "configured"),
    }
    assert found[f"{NAMESPACE}/legacy"]["why"] == "the client has no sidecar"
    assert found["the kubelet"]["why"].startswith("the readiness probe of container web (HTTP GET /)")
    refused = run(story)
    assert (refused.returncode, modes(story)) == (2, {})
    assert "nothing is begun while that is so" in refused.stderr


def test_the_log_the_ledger_and_the_metrics_tell_the_same_numbers(story: Journey, eventually: Eventually) -> None:
    """What one client sent, once it sends no more: each request was a connection of its own."""
    client = story.pod("legacy", NAMESPACE)
    address = story.must("get", "pod", client, "-n", NAMESPACE, "-o", "jsonpath={.status.podIP}")
    servers = story.must("get", "pods", "-n", NAMESPACE, "-l", "app=web", "-o", "jsonpath={.items[*].metadata.name}")
    story.must("scale", "deployment/legacy", "-n", NAMESPACE, "--replicas=0")
    story.must("wait", "--for=delete", f"pod/{client}", "-n", NAMESPACE, "--timeout=60s")

    def in_log() -> int:
        log = story.must("logs", "-n", "istio-system", "-l", "app=istiod", "--tail=-1")
        told = re.findall(rf"client={NAMESPACE}/{client} server=(\S+) port=80 .*connections=(\d+)", log)
        return sum(int(last) for last in dict(told).values())

    def in_ledger() -> int:
        return sum(item["connections"] for item in plan(story)[1].values() if f"{NAMESPACE}/legacy" in item["client"])

    def in_metrics() -> int:
        page = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:15020/stats/prometheus').read().decode())"
        told = [
            story.must("exec", name, "-n", NAMESPACE, "-c", "istio-proxy", "--", "python3", "-c", page)
            for name in servers.split()
        ]
        mine = [line for text in told for line in text.splitlines() if f'source_address="{address}"' in line]
        return sum(int(line.rsplit(" ", 1)[1]) for line in mine if line.startswith("mutua_plaintext_requests_total"))

    eventually(lambda: 0 < in_ledger() == in_metrics(), 20)
    # The log tells an edge again once a minute.
    eventually(lambda: in_log() == in_ledger(), 100)
    story.must("scale", "deployment/legacy", "-n", NAMESPACE, "--replicas=1")
    story.must("rollout", "status", "deployment/legacy", "-n", NAMESPACE, "--timeout=60s")
    rows = json.loads(story.mutua("migrate", "status", "-n", NAMESPACE, "-o", "json").stdout)["workloads"]
    (web_row,) = (row for row in rows if row["workload"] == "web")
    assert web_row["plaintext"] >= in_metrics()


def test_the_forgotten_client_rolls_the_run_back_and_no_other_request_is_lost(story: Journey) -> None:
    apply(story, web(SCRAPED), deployment("prometheus", calling(SCRAPER)))
    code, found = plan(story)
    assert (code, set(found)) == (2, {f"{NAMESPACE}/legacy"})

    with load(story, 30) as outcomes:
        done = run(story, "--soak", "3s", "--despite-blockers")
        assert set(outcomes()) == {"200"}
    assert done.returncode == 3, done.stderr
    state = record(story)
    (refusal,) = state["refusals"]
    assert refusal["client"].startswith(f"{NAMESPACE}/legacy-")
    progress = {step["name"]: step["progress"] for step in state["steps"]}
    assert progress == {"load": "PROVEN", "prometheus": "PROVEN", "web": "UNDONE"}
    assert modes(story) == {"mutua-migrate-load": "STRICT", "mutua-migrate-prometheus": "STRICT"}
    seconds = datetime.fromisoformat(state["ended"]) - datetime.fromisoformat(refusal["seen"])
    # Two seconds on a machine that has nothing else to do; so much more as changes of modes took in this very run.
    assert seconds.total_seconds() < 2 + 4 * slowest_switch(done.stderr)
    assert story.curl(story.pod("legacy", NAMESPACE), "http://web", namespace=NAMESPACE) == (0, 200)
    log = story.must("logs", "-n", "istio-system", "-l", "app=istiod", "--tail=-1")
    told = [line for line in log.splitlines() if f"client={refusal['client']} server={refusal['server']}" in line]
    assert any("outcome=refused" in line for line in told)


def test_once_it_is_injected_the_run_ends_in_strict_and_everything_is_encrypted(
    story: Journey, eventually: Eventually
) -> None:
    apply(story, deployment("legacy", calling("http://web")))
    code, found = plan(story)
    assert (code, found) == (0, {})

    with load(story, 30) as outcomes:
        done = run(story, "--soak", "3s")
        assert done.returncode == 0, done.stderr
        assert set(outcomes()) == {"200"}
    assert (record(story)["stage"], modes(story)) == ("DONE", {"default": "STRICT"})
    assert run(story).returncode == 0

    def verified() -> bool:
        return story.mutua("verify-mtls", "-n", NAMESPACE, "--since", "5s", timeout=120).returncode == 0

    eventually(verified, 60)
    done = story.mutua("verify-mtls", "deployment/legacy", "svc/web:80", "-n", NAMESPACE, "-o", "json")
    assert done.returncode == 0, done.stderr
    (edge,) = json.loads(done.stdout)["edges"]
    identity = f"spiffe://cluster.local/ns/{NAMESPACE}/sa/default"
    assert (edge["state"], edge["client_certificate"]["identity"]) == ("mutual TLS", identity)
    assert set(edge["handshakes"]["versions"]) == {"TLSv1.3"}
    assert (edge["sample"]["is_tls"], edge["sample"]["readable"]) == (True, False)
    (policy,) = json.loads(done.stdout)["policies"]
    assert (policy["name"], policy["spec"]) == ("default", {"mtls": {"mode": "STRICT"}})


def test_a_client_without_sidecar_is_refused_and_readable_where_it_is_not(story: Journey) -> None:
    apply(story, deployment("bare", calling("http://nowhere"), annotations=NOT_INJECTED))
    words = ("verify-mtls", "deployment/bare", "svc/web:80", "-n", NAMESPACE, "-o", "json")
    strict = story.mutua(*words)
    assert run(story, "--to", "PERMISSIVE").returncode == 0
    assert modes(story) == {"default": "PERMISSIVE"}
    permissive = story.mutua(*words)
    (refused,), (answered,) = (json.loads(done.stdout)["edges"] for done in (strict, permissive))

    assert (strict.returncode, refused["state"]) == (0, "refused")
    assert (permissive.returncode, answered["state"]) == (1, "PLAINTEXT")
    assert answered["sample"]["readable"] is True


def test_a_run_that_is_killed_goes_on_and_one_that_is_interrupted_goes_back(
    story: Journey, eventually: Eventually
) -> None:
    words = [str(story.command), "migrate", "run", "-n", NAMESPACE, "--soak", "60s", "--despite-blockers"]
    before = modes(story)

    def started() -> "subprocess.Popen[str]":
        return subprocess.Popen(words, env=story.environment, stderr=subprocess.PIPE, text=True)

    with started() as first:
        eventually(lambda: len(modes(story)) > len(before), 60)
        second = run(story, "--despite-blockers")
        assert (second.returncode, "another run of `mutua migrate` is under way" in second.stderr) == (1, True)
        watched_code, watched = status(story)
        first.kill()
    assert len(modes(story)) == len(before) + 1
    left_code, left = status(story)
    assert ("UNWATCHED" in watched, "UNWATCHED" in left, "Ctrl-C" in left) == (False, True, True), left
    assert (watched_code, left_code) == (0, 4)
    with started() as again:
        assert again.stderr is not None
        said = ""
        while "going on with" not in said:
            said = again.stderr.readline()
            assert said
        again.send_signal(signal.SIGINT)
        rest = again.stderr.read()
        assert (again.wait(30), modes(story)) == (130, before), rest
    assert (record(story)["cause"], record(story)["stage"]) == ("INTERRUPTED", "STOPPED")

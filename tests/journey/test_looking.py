"""Commands that look at the live mesh, and what they say when there is nothing to look at."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from journey_shell import Journey

pytestmark = pytest.mark.cluster

Eventually = Callable[[Callable[[], bool], float], None]
NAMESPACE = "looked-at"
MANIFEST = f"""
apiVersion: v1
kind: Namespace
metadata: {{name: {NAMESPACE}, labels: {{istio-injection: enabled}}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web, namespace: {NAMESPACE}}}
spec:
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{{name: web, image: nginx, ports: [{{containerPort: 80}}]}}]
---
apiVersion: v1
kind: Service
metadata: {{name: web, namespace: {NAMESPACE}}}
spec: {{selector: {{app: web}}, ports: [{{name: http, port: 80}}]}}
---
apiVersion: v1
kind: Pod
metadata: {{name: plain, namespace: {NAMESPACE}, annotations: {{sidecar.istio.io/inject: "false"}}}}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{{name: plain, image: curlimages/curl, command: [sleep, infinity]}}]
"""


@pytest.fixture(scope="module")
def looked_at(journey: Journey) -> Iterator[Journey]:
    """A deployment with its Service, and a pod without sidecar."""
    journey.must("apply", "-f", "-", stdin=MANIFEST)
    journey.must("wait", "--for=condition=Available", "deployment/web", "-n", NAMESPACE, "--timeout=60s")
    journey.must("wait", "--for=condition=Ready", "pod/plain", "-n", NAMESPACE, "--timeout=60s")
    yield journey
    journey.must("delete", "namespace", NAMESPACE, "--wait=false")


def said(shell: Journey, *words: str) -> str:
    """What a command that has to succeed prints."""
    done = shell.mutua(*words, "-n", NAMESPACE)
    assert done.returncode == 0, done
    return done.stdout


def test_every_proxy_is_in_step(looked_at: Journey, eventually: Eventually) -> None:
    eventually(lambda: said(looked_at, "proxy-status", "-v", "1").count("SYNCED") == 4, 5)
    (state,) = json.loads(said(looked_at, "ps", "deploy/web", "-o", "json"))
    assert state["identity"] == f"spiffe://cluster.local/ns/{NAMESPACE}/sa/default"
    assert re.search(r"^web-\S+\.looked-at .* 4 \(CDS,LDS,EDS,RDS\)$", said(looked_at, "ps"), re.MULTILINE)


# Istio's rules and ours let this pass, and Envoy does not: its ring has 8,388,608 places at most.
REFUSED = f"""
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: too-large-a-ring, namespace: {NAMESPACE}}}
spec:
  host: web
  trafficPolicy: {{loadBalancer: {{consistentHash: {{httpHeaderName: x, ringHash: {{minimumRingSize: 99999999}}}}}}}}
---
apiVersion: v1
kind: Service
metadata: {{name: another, namespace: {NAMESPACE}}}
spec: {{selector: {{app: web}}, ports: [{{name: http, port: 80}}]}}
"""


def test_what_an_envoy_refuses_is_said_in_its_words_and_costs_nothing_else(
    looked_at: Journey, eventually: Eventually
) -> None:
    """The refused cluster stays as it was, what changed beside it lands, and the difference is shown."""
    assert said(looked_at, "ps", "deploy/web").count(" Match") == 3
    looked_at.must("apply", "-f", "-", stdin=REFUSED)
    try:
        eventually(lambda: "ERROR" in said(looked_at, "ps", "-v", "1"), 10)
        shown = looked_at.mutua("ps", "deploy/web", "-n", NAMESPACE)
        assert (
            "refused CDS outbound|80||web.looked-at.svc.cluster.local: Proto constraint validation failed"
            in shown.stderr
        )
        assert "value must be less than or equal to 8388608" in shown.stderr
        assert "caused by DestinationRule looked-at/too-large-a-ring\n" in shown.stderr
        assert "Clusters Don't Match\n--- Istiod Clusters\n+++ Envoy Clusters\n" in shown.stdout
        assert '\n-    "minimumRingSize": "99999999"\n' in shown.stdout
        assert "Listeners Match" in shown.stdout
        clusters = said(looked_at, "pc", "cluster", "deploy/web", "--fqdn", "looked-at")
        assert re.search(r"^web\.looked-at\S+ +80 .* EDS +$", clusters, re.MULTILINE)  # as it was, without the rule
        assert re.search(r"^another\.looked-at\S+ +80 ", clusters, re.MULTILINE)
        for host in ("web", "another"):
            assert looked_at.curl("deploy/web", f"http://{host}", namespace=NAMESPACE) == (0, 200)
    finally:
        looked_at.must("delete", "-f", "-", stdin=REFUSED)
    eventually(lambda: said(looked_at, "ps", "deploy/web").count(" Match") == 3, 10)


def test_pages_of_the_control_plane_answer_nobody_without_a_token(looked_at: Journey) -> None:
    pod = looked_at.must("get", "pods", "-n", "istio-system", "-l", "app=istiod", "-o", "name").strip()
    address = looked_at.must("get", pod, "-n", "istio-system", "-o", "jsonpath={.status.podIP}")
    words = ("curl", "-sk", "-o", "/dev/null", "-w", "%{http_code}", f"https://{address}:15017/debug/syncz")
    assert looked_at.must("exec", "plain", "-n", NAMESPACE, "--", *words) == "401"


def test_a_level_changes_in_the_live_envoy(looked_at: Journey) -> None:
    assert "  rbac: debug\n" in said(looked_at, "pc", "log", "deploy/web", "--level", "rbac:debug")
    assert "  rbac: warning\n" in said(looked_at, "pc", "log", "deploy/web", "--reset")


def test_two_pods_of_a_mesh_trust_one_root(looked_at: Journey) -> None:
    assert "have the identical ROOTCA" in said(looked_at, "pc", "rootca-compare", "deploy/web", "svc/web")


def test_a_saved_dump_is_read_like_a_live_envoy(looked_at: Journey, tmp_path: Path) -> None:
    dump = tmp_path / "dump.json"
    dump.write_text(said(looked_at, "pc", "all", "deploy/web", "-o", "json"))
    for what in ("cluster", "listener", "route", "secret"):
        assert said(looked_at, "pc", what, "-f", str(dump)) == said(looked_at, "pc", what, "deploy/web"), what


def test_a_pod_is_described(looked_at: Journey) -> None:
    text = said(looked_at, "x", "describe", "pod", "deploy/web")
    for line in (
        "   Pod Ports: 80 (web), 15090 (istio-proxy)",
        "Service: web",
        "   Port: http 80/HTTP targets pod port 80",
        "   Workload mTLS mode: PERMISSIVE",
    ):
        assert line in text.splitlines(), text


def test_injection_is_explained(looked_at: Journey) -> None:
    assert re.search(r"✔\s+Namespace label istio-injection=enabled", said(looked_at, "x", "check-inject", "svc/web"))
    assert re.search(r"✘\s+the pod's annotation sidecar.istio.io/inject", said(looked_at, "x", "check-inject", "plain"))


@pytest.mark.parametrize(
    "words",
    [
        ["pc", "secret"],
        ["pc", "cluster"],
        ["pc", "log"],
        ["pc", "eds"],
        ["x", "authz", "check"],
        ["ps"],
        ["diagnose"],
        ["x", "describe", "pod"],
        ["x", "check-inject"],
    ],
    ids=" ".join,
)
def test_a_pod_that_does_not_exist_is_named(looked_at: Journey, words: list[str]) -> None:
    done = looked_at.mutua(*words, "nobody", "-n", NAMESPACE)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[0] == (
        'Error: unable to retrieve Pod: pods "nobody" not found in namespace looked-at'
    )
    assert done.stderr.splitlines()[1].startswith("hint: ")


DOTTED = f"""
apiVersion: v1
kind: Pod
metadata: {{name: dotted.name, namespace: {NAMESPACE}}}
spec: {{containers: [{{name: curl, image: curlimages/curl, command: [sleep, "9"]}}]}}
"""


def test_what_is_behind_a_dot_is_a_namespace_unless_the_name_has_it(looked_at: Journey) -> None:
    elsewhere = looked_at.mutua("pc", "secret", f"deploy/web.{NAMESPACE}", "-n", "default")
    assert elsewhere.stdout == said(looked_at, "pc", "secret", "deploy/web")
    looked_at.must("apply", "-f", "-", stdin=DOTTED)
    found = said(looked_at, "x", "check-inject", "dotted.name")
    looked_at.must("delete", "pod", "dotted.name", "-n", NAMESPACE, "--wait=false")
    assert re.search(r"✔\s+Namespace label istio-injection=enabled", found)


@pytest.mark.parametrize("words", [["pc", "secret"], ["pc", "log"], ["x", "authz", "check"]], ids=" ".join)
def test_a_pod_without_a_sidecar_is_said_to_be_one(looked_at: Journey, words: list[str]) -> None:
    done = looked_at.mutua(*words, "plain", "-n", NAMESPACE)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: pod looked-at/plain has no sidecar\nhint: ")


LOOK_UPS = (
    "verify-install",
    "ps",
    "ps deploy/web",
    "pc secret deploy/web",
    "pc log deploy/web",
    "pc rootca-compare deploy/web deploy/web",
    "x authz check deploy/web",
    "x check-inject deploy/web",
    "x precheck",
    "describe pod deploy/web",
    "describe service web",
    "diagnose deploy/web",
    "certs",
    "ca status",
    "analyze",
    "upgrade -y",
    "plaintext",
    "dashboard",
)


@pytest.fixture(scope="module")
def kubeconfigs(looked_at: Journey, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Each cause of trouble with the cluster, as a kubeconfig that has it; the cause in words is the key."""
    assert looked_at.kubeconfig is not None
    folder = tmp_path_factory.mktemp("kubeconfigs")
    good = json.loads(looked_at.must("config", "view", "--raw", "-o", "json"))
    looked_at.must("create", "serviceaccount", "nobody", "-n", NAMESPACE)
    token = looked_at.must("create", "token", "nobody", "-n", NAMESPACE).strip()

    def written(name: str, text: str) -> Path:
        (folder / name).write_text(text)
        return folder / name

    def with_token(value: str) -> str:
        return json.dumps(good | {"users": [good["users"][0] | {"user": {"token": value}}]})

    return {
        "does not exist": folder / "none",
        "is no file": folder,
        "line 1 is no YAML": written("garbage", "{{{"),
        "clusters is no list": written("text", "clusters: elsewhere"),
        "which is not there": written("empty", json.dumps(good | {"clusters": []})),
        "cannot reach the Kubernetes API": written(
            "gone", re.sub(r'https://[^\s"]+', "https://127.0.0.1:1", json.dumps(good))
        ),
        "does not accept our credentials": written("stranger", with_token("nonsense")),
        "forbidden|you may not": written("nobody", with_token(token)),
    }


@pytest.mark.parametrize("line", LOOK_UPS)
def test_trouble_with_the_cluster_is_one_line_of_cause_and_one_of_what_to_do(
    looked_at: Journey, kubeconfigs: dict[str, Path], line: str
) -> None:
    """Wrong kubeconfig, no cluster, no such user, no rights: on stderr, with nothing on stdout for a pipe."""
    # Reading the file is the same for all commands: one of them tries every kind of broken one.
    causes = list(kubeconfigs) if line == "ps" else ["cannot reach the Kubernetes API", "forbidden|you may not"]
    for cause in causes:
        done = looked_at.mutua(*line.split(), "-c", str(kubeconfigs[cause]), "-n", NAMESPACE)
        assert done.returncode == 1, done
        assert "Traceback" not in done.stderr
        assert re.search(cause, done.stdout + done.stderr), done
        *_, first, second = done.stderr.splitlines()
        assert first.startswith("Error: "), done
        assert second.startswith("hint: "), done
        assert done.stdout == "" or line == "x precheck", done


@pytest.mark.parametrize(
    "line",
    [
        "version -o json",
        "ps -o json",
        "pc cluster deploy/web -o json",
        "pc secret deploy/web -o json",
        "analyze -o json",
        "certs -o json",
        "diagnose deploy/web -o json",
    ],
)
def test_what_goes_into_a_pipe_is_json_and_nothing_else(looked_at: Journey, line: str) -> None:
    """Without a terminal: no colour, no progress, and whatever is said to a person is on stderr."""
    done = looked_at.mutua(*line.split(), "-n", NAMESPACE)
    json.loads(done.stdout)
    assert "\x1b" not in done.stdout + done.stderr


def test_a_broken_file_is_named(looked_at: Journey, tmp_path: Path) -> None:
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    done = looked_at.mutua("pc", "secret", "-f", str(broken))
    assert (done.returncode, done.stdout) == (1, "")
    assert f"{broken} is not JSON" in done.stderr


def test_an_upgrade_keeps_what_was_chosen_at_the_installation(looked_at: Journey) -> None:
    """The cluster was made with access logs on; an upgrade that speaks of something else leaves them on."""
    upgraded = looked_at.mutua("upgrade", "-y", "--set", "values.global.proxy.componentLogLevel=misc:warning")
    assert upgraded.returncode == 0, upgraded
    assert upgraded.stderr.splitlines()[0].startswith("Revision default in namespace istio-system: ")
    assert upgraded.stderr.splitlines()[-1] == "✔ Installation complete"
    mesh = looked_at.must("get", "configmap", "istio", "-n", "istio-system", "-o", "jsonpath={.data.mesh}")
    assert "accessLogFile: /dev/stdout" in mesh
    values = looked_at.must("get", "configmap", "istio-sidecar-injector", "-n", "istio-system", "-o", "yaml")
    assert "misc:warning" in values
    assert looked_at.mutua("upgrade", "-y", "--set", "values.global.proxy.componentLogLevel=misc:error").returncode == 0
    assert looked_at.mutua("verify-install").returncode == 0


# As Istio installs it; mutua reads it for its references only.
VIRTUAL_SERVICES = f"""
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {{name: virtualservices.networking.istio.io}}
spec:
  group: networking.istio.io
  scope: Namespaced
  names: {{kind: VirtualService, listKind: VirtualServiceList, plural: virtualservices, singular: virtualservice}}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {{openAPIV3Schema: {{type: object, x-kubernetes-preserve-unknown-fields: true}}}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: web, namespace: {NAMESPACE}}}
spec: {{hosts: [web], http: [{{route: [{{destination: {{host: web}}}}]}}]}}
"""


def test_who_comes_from_istio_learns_what_nobody_acts_on_any_more(looked_at: Journey, eventually: Eventually) -> None:
    definition, _, rule = VIRTUAL_SERVICES.partition("---")
    looked_at.must("apply", "-f", "-", stdin=definition)
    try:
        looked_at.must("wait", "--for=condition=Established", "crd/virtualservices.networking.istio.io")
        looked_at.must("apply", "-f", "-", stdin=rule)
        checked = looked_at.mutua("x", "precheck", "--from-version", "1.20")
        assert "Warning: 1 virtualservices.networking.istio.io: Istio 1.20 acts on them" in checked.stdout
        assert checked.returncode == 1
        assert "virtualservices" not in looked_at.mutua("x", "precheck", "--from-version", "0.1.0").stdout
    finally:
        looked_at.must("delete", "crd", "virtualservices.networking.istio.io")

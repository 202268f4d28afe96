"""The guide's journey with real kubectl and real Envoys; tests lean on the cluster, not on each other."""

import json
import re
import time
from collections.abc import Callable

import manifests
import pytest
from journey_shell import Journey

pytestmark = pytest.mark.cluster

Eventually = Callable[[Callable[[], bool], float], None]


@pytest.fixture(scope="module")
def applications(journey: Journey) -> Journey:
    """The guide's namespace, frontend, backend and its client without a sidecar."""
    journey.must("apply", "-f", "-", stdin=manifests.NAMESPACE)
    for account in ("frontend", "backend"):
        journey.must("create", "serviceaccount", account, "-n", "secure-apps")
        journey.must("apply", "-f", "-", stdin=manifests.application(account, account))
    overrides = json.dumps({"metadata": {"annotations": {"sidecar.istio.io/inject": "false"}}})
    journey.must(
        "run", "test-pod", "--image=curlimages/curl", "-n", "secure-apps", f"--overrides={overrides}",
        "--command", "--", "sleep", "infinity",
    )  # fmt: skip
    for what in ("deployment/frontend", "deployment/backend"):
        journey.must("wait", "--for=condition=Available", what, "-n", "secure-apps", "--timeout=60s")
    journey.must("wait", "--for=condition=Ready", "pod", "--all", "-n", "secure-apps", "--timeout=60s")
    return journey


@pytest.fixture
def applied(applications: Journey) -> Callable[[str], None]:
    """Applies a manifest; deletes it after the test."""
    done: list[str] = []

    def apply(manifest: str) -> None:
        applications.must("apply", "-f", "-", stdin=manifest)
        done.append(manifest)

    yield apply
    for manifest in reversed(done):
        applications.must("delete", "--ignore-not-found", "-f", "-", stdin=manifest)


def test_the_prerequisites_answer(journey: Journey) -> None:
    """`kubectl cluster-info`, `mutua version`, `kubectl get pods -n istio-system`."""
    assert "is running at" in journey.must("cluster-info")
    version = journey.mutua("version")
    assert re.search(r"client version: .+\ncontrol plane version: .+\n", version.stdout), version
    assert re.search(r"istiod-\S+\s+1/1\s+Running", journey.must("get", "pods", "-n", "istio-system"))


def test_pods_are_injected(applications: Journey) -> None:
    """Each pod of a labelled namespace holds istio-proxy, except those that refuse."""
    path = "{range .items[*]}{.metadata.name} {.spec.containers[*].name}{'\\n'}{end}"
    listed = applications.must("get", "pods", "-n", "secure-apps", "-o", f"jsonpath={path}").splitlines()
    injected = {line.split()[0].split("-")[0]: "istio-proxy" in line for line in listed}
    assert injected == {"frontend": True, "backend": True, "test": False}


def test_frontend_reaches_backend_as_itself(applications: Journey, eventually: Eventually) -> None:
    """A request between sidecars is answered, and the server's sidecar logs the client's identity."""
    assert applications.curl("deploy/frontend", "http://backend/") == (0, 200)

    def logged() -> bool:
        log = applications.must("logs", "-n", "secure-apps", "-l", "app=backend", "-c", "istio-proxy", "--tail=100")
        return "peer=spiffe://cluster.local/ns/secure-apps/sa/frontend tls=TLSv1.3" in log

    eventually(logged, 5)


@pytest.mark.parametrize("client", ["test-pod", "deploy/frontend"])
def test_strict_refuses_only_who_has_no_certificate(
    applications: Journey, applied: Callable[[str], None], eventually: Eventually, client: str
) -> None:
    """STRICT resets a plaintext client within a second of the apply; mutual TLS goes on."""
    assert applications.curl(client, "http://backend") == (0, 200)
    applied(manifests.peer_authentication("STRICT"))
    applied(manifests.DESTINATION_RULE)
    if client == "test-pod":
        eventually(lambda: applications.curl(client, "http://backend")[0] in (52, 56), 1.5)
        verbose = applications.kube("exec", "test-pod", "-n", "secure-apps", "--", "curl", "-v", "http://backend")
        assert re.search("reset|Empty reply", verbose.stderr)
    else:
        assert applications.curl(client, "http://backend") == (0, 200)


def test_authorization_by_identity(
    applications: Journey, applied: Callable[[str], None], eventually: Eventually
) -> None:
    """`backend-access` lets through what it names, refuses the rest with 403; `deny-all` refuses everything."""
    applied(manifests.BACKEND_ACCESS)
    eventually(lambda: applications.curl("deploy/frontend", "http://backend/other") == (0, 403), 2)
    assert applications.curl("deploy/frontend", "-X", "DELETE", "http://backend/api/x") == (0, 403)
    # The web server has no such page; what matters is that the request reached it.
    assert applications.curl("deploy/frontend", "http://backend/api/x") == (0, 404)
    assert applications.curl("test-pod", "http://backend/api/x") == (0, 403)
    applied(manifests.DENY_ALL)
    eventually(lambda: applications.curl("deploy/backend", "http://frontend/") == (0, 403), 2)


def test_kubectl_shows_policies_in_columns(applications: Journey, applied: Callable[[str], None]) -> None:
    """`kubectl get` has the columns that Istio's users know, and both API versions name one object."""
    applied(manifests.peer_authentication("STRICT"))
    applied(manifests.DESTINATION_RULE)
    shown = applications.must("get", "peerauthentication", "--all-namespaces")
    assert re.match(r"NAMESPACE\s+NAME\s+MODE\s+AGE\n", shown)
    assert re.search(r"^secure-apps\s+strict-mtls\s+STRICT\s+\S+", shown, re.MULTILINE)
    rules = applications.must("get", "destinationrule", "-n", "secure-apps", "-o", "wide")
    assert re.search(
        r"NAME\s+HOST\s+AGE\s+PROXIES\s+EFFECTIVE\nmtls-destination\s+\*\.secure-apps\.svc\.cluster\.local", rules
    )
    described = applications.must("describe", "peerauthentication", "strict-mtls", "-n", "secure-apps")
    assert re.search(r"Mtls:\s+Mode:\s+STRICT", described)
    stable = applications.must("get", "peerauthentications.v1.security.istio.io", "-n", "secure-apps", "-o", "yaml")
    assert "apiVersion: security.istio.io/v1\n" in stable


def test_the_secret_table_has_the_guides_columns(applications: Journey) -> None:
    """`mutua proxy-config secret` on the live Envoy, as a table and as JSON that openssl's users can take apart."""
    pod = applications.pod("backend")
    table = applications.mutua("proxy-config", "secret", pod, "-n", "secure-apps").stdout
    assert re.match(r"RESOURCE NAME\s+TYPE\s+STATUS\s+VALID CERT\s+SERIAL NUMBER\s+NOT AFTER", table), table
    assert re.search(r"^default\s+Cert Chain\s+ACTIVE\s+true\s+[0-9a-f]{32,}\s+\d{4}-", table, re.MULTILINE)
    assert re.search(r"^ROOTCA\s+CA\s+ACTIVE\s+true\s+[0-9a-f]{32,}\s+\d{4}-", table, re.MULTILINE)
    dump = json.loads(applications.mutua("proxy-config", "secret", f"{pod}.secure-apps", "-o", "json").stdout)
    assert "inlineBytes" in dump["dynamicActiveSecrets"][0]["secret"]["tlsCertificate"]["certificateChain"]
    assert "BEGIN" not in json.dumps(dump).replace("BEGIN CERTIFICATE", "")


@pytest.mark.parametrize("what", ["cluster", "listener", "endpoint", "route"])
def test_proxy_config_shows_the_live_envoy(applications: Journey, what: str) -> None:
    """The other tables name the backend; JSON is JSON."""
    table = applications.mutua("proxy-config", what, "deploy/frontend", "-n", "secure-apps")
    assert "backend.secure-apps.svc.cluster.local" in table.stdout, table
    dump = applications.mutua("proxy-config", what, "deploy/frontend", "-n", "secure-apps", "-o", "json")
    assert json.loads(dump.stdout)


def test_a_wrong_policy_is_refused_with_its_field(applications: Journey) -> None:
    """The validating webhook names field and reason, and nothing is stored."""
    wrong = manifests.peer_authentication("STRONG", "wrong")
    refused = applications.kube("apply", "-f", "-", stdin=wrong)
    assert refused.returncode == 1
    assert re.search(r"mtls\.mode.*STRONG", refused.stderr, re.DOTALL), refused.stderr
    assert applications.kube("get", "peerauthentication", "wrong", "-n", "secure-apps").returncode == 1


def test_an_unknown_image_waits_and_says_how_to_add_it(journey: Journey, eventually: Eventually) -> None:
    """The pod is not lost: it waits, and its status tells what to do."""
    journey.must("run", "stranger", "--image=example.com/no/such:1")
    path = "jsonpath={.status.containerStatuses[0].state.waiting}"
    eventually(lambda: "images.json" in journey.must("get", "pod", "stranger", "-o", path), 5)
    assert re.search("ErrImagePull|ImagePullBackOff", journey.must("get", "pod", "stranger"))
    journey.must("delete", "pod", "stranger", "--now")


def test_traffic_survives_the_control_plane(applications: Journey, eventually: Eventually) -> None:
    """The control plane is deleted: requests go on, a new one comes, and policies take effect again."""
    applications.must("delete", "pod", "-n", "istio-system", "-l", "app=istiod", "--now", "--wait=false")
    for _ in range(10):
        assert applications.curl("deploy/frontend", "http://backend/") == (0, 200)
    applications.must("wait", "--for=condition=Available", "deployment/istiod", "-n", "istio-system", "--timeout=30s")
    applications.must("apply", "-f", "-", stdin=manifests.peer_authentication("STRICT"))
    eventually(lambda: applications.curl("test-pod", "http://backend")[0] in (52, 56), 10)
    applications.must("delete", "-f", "-", stdin=manifests.peer_authentication("STRICT"))
    eventually(lambda: applications.curl("test-pod", "http://backend") == (0, 200), 10)


def test_a_killed_envoy_comes_back(applications: Journey, eventually: Eventually) -> None:
    """Envoy is killed: its container restarts, and the pod serves again."""
    pod = applications.pod("backend")
    restarts = "jsonpath={.status.containerStatuses[?(@.name=='istio-proxy')].restartCount}"
    before = int(applications.must("get", "pod", pod, "-n", "secure-apps", "-o", restarts))
    applications.kube(
        "exec", pod, "-n", "secure-apps", "-c", "istio-proxy", "--",
        "sh", "-c", "kill -9 $(grep -l envoy /proc/[0-9]*/comm | cut -d/ -f3)",
    )  # fmt: skip
    eventually(lambda: int(applications.must("get", "pod", pod, "-n", "secure-apps", "-o", restarts)) > before, 20)
    applications.must("wait", "--for=condition=Ready", f"pod/{pod}", "-n", "secure-apps", "--timeout=30s")
    eventually(lambda: applications.curl("deploy/frontend", "http://backend/") == (0, 200), 5)


def test_up_again_is_quick_and_changes_nothing(applications: Journey) -> None:
    """`mutua up` on a running cluster returns the same kubeconfig."""
    started = time.monotonic()
    again = applications.mutua("up")
    assert f"export KUBECONFIG={applications.kubeconfig}" == again.stdout.strip().splitlines()[-1]
    assert time.monotonic() - started < 15

"""One test per cause: it is brought about for real, seen to hurt, and `mutua diagnose` has to name it."""

import dataclasses
import json
import re
from collections.abc import Callable, Iterator

import pytest
from journey_shell import Journey

import faketime

pytestmark = pytest.mark.cluster

Eventually = Callable[[Callable[[], bool], float], None]
Apply = Callable[[str], None]
NAMESPACE = "ailing"
CAUSE_FOUND = 79

SERVER = "python3 -m http.server 80 & python3 -m http.server --bind 127.0.0.1 8081 & wait"


def deployment(name: str, command: str, *ports: int, annotations: str = "{}") -> str:
    """A Deployment and, if it has ports, its Service."""
    container = f'{{name: {name}, image: curlimages/curl, command: [sh, -c, "{command}"]}}'
    made = f"""
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: {NAMESPACE}}}
spec:
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}, annotations: {annotations}}}
    spec: {{terminationGracePeriodSeconds: 0, containers: [{container}]}}
"""
    listed = ", ".join(f"{{name: http-{port}, port: {port}}}" for port in ports)
    return made + (
        f"""---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: {NAMESPACE}}}
spec: {{selector: {{app: {name}}}, ports: [{listed}]}}
"""
        if ports
        else ""
    )


def pod(name: str, *, annotations: str = "{}", **sidecar: str) -> str:
    """A pod whose sidecar has other environment variables than the injector gives it."""
    variables = ", ".join(f"{{name: {key}, value: {json.dumps(value)}}}" for key, value in sidecar.items())
    return f"""
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: {NAMESPACE}, labels: {{app: {name}}}, annotations: {annotations}}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {{name: {name}, image: curlimages/curl, command: [sleep, infinity]}}
  - {{name: istio-proxy, image: auto, env: [{variables}]}}
"""


NO_SIDECAR = "{sidecar.istio.io/inject: 'false'}"
STRICT = f"""
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: only-mutual, namespace: {NAMESPACE}}}
spec: {{mtls: {{mode: STRICT}}}}
"""


def destination_rule(host: str, mode: str) -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: the-rule, namespace: {NAMESPACE}}}
spec: {{host: {host}, trafficPolicy: {{tls: {{mode: {mode}}}}}}}
"""


@pytest.fixture(scope="module")
def ailing(journey: Journey) -> Iterator[Journey]:
    """A namespace with a client, a plain client, a server, and a server without sidecar."""
    labels = "{istio-injection: enabled}"
    namespace = f"{{apiVersion: v1, kind: Namespace, metadata: {{name: {NAMESPACE}, labels: {labels}}}}}"
    journey.must("apply", "-f", "-", stdin=namespace)
    for manifest in (
        deployment("client", "sleep infinity"),
        deployment("plain", "sleep infinity", annotations=NO_SIDECAR),
        deployment("server", SERVER, 80, 8081, 8082),
        deployment("legacy", SERVER, 80, annotations=NO_SIDECAR),
    ):
        journey.must("apply", "-f", "-", stdin=manifest)
    journey.must("wait", "--for=condition=Available", "deployment", "--all", "-n", NAMESPACE, "--timeout=60s")
    yield journey
    journey.must("delete", "namespace", NAMESPACE, "--wait=false")


@pytest.fixture
def applied(ailing: Journey) -> Iterator[Apply]:
    """Applies a manifest; deletes it after the test."""
    done: list[str] = []

    def apply(manifest: str) -> None:
        ailing.must("apply", "-f", "-", stdin=manifest)
        done.append(manifest)

    yield apply
    for manifest in reversed(done):
        ailing.must("delete", "--ignore-not-found", "-f", "-", stdin=manifest)


def cause(shell: Journey, *words: str) -> str:
    """The cause that is named, "" for none; its sentence ends the text."""
    done = shell.mutua("diagnose", *words, "-n", NAMESPACE, "-o", "json")
    assert done.returncode in (0, CAUSE_FOUND), done
    found = str(json.loads(done.stdout)["cause"])
    assert bool(found) == (done.returncode == CAUSE_FOUND)
    return found


def curl(shell: Journey, client: str, address: str) -> tuple[int, int]:
    return shell.curl(f"deploy/{client}", f"http://{address}", namespace=NAMESPACE)


def test_what_works_has_no_cause(ailing: Journey, eventually: Eventually) -> None:
    eventually(lambda: curl(ailing, "client", "server") == (0, 200), 5)
    done = ailing.mutua("diagnose", "deploy/client", "svc/server:80", "-n", NAMESPACE)

    assert done.returncode == 0
    assert "✘" not in done.stdout
    assert done.stdout.rstrip().splitlines()[-1].startswith("Nothing is wrong with ailing/client-")


def test_plaintext_to_strict(ailing: Journey, applied: Apply, eventually: Eventually) -> None:
    applied(STRICT)
    eventually(lambda: curl(ailing, "plain", "server")[0] in (52, 56), 5)
    done = ailing.mutua("diagnose", "deploy/plain", "svc/server", "-n", NAMESPACE)

    assert done.returncode == CAUSE_FOUND
    assert "Cause: plaintext-to-strict: " in done.stdout
    assert "PeerAuthentication ailing/only-mutual" in done.stdout
    assert "kubectl patch deployment plain -n ailing" in done.stdout


def test_a_missing_sidecar(ailing: Journey) -> None:
    assert cause(ailing, "deploy/plain") == "sidecar-missing"


def test_a_destination_rule_against_the_policy_and_its_cure(
    ailing: Journey, applied: Apply, eventually: Eventually
) -> None:
    applied(STRICT)
    applied(destination_rule("server", "DISABLE"))
    eventually(lambda: curl(ailing, "client", "server") == (0, 503), 5)

    assert cause(ailing, "deploy/client", "svc/server") == "destination-rule-disables-mtls"

    cured = ailing.mutua("diagnose", "deploy/client", "svc/server", "-n", NAMESPACE, "--apply")
    assert "✔ DestinationRule ailing/the-rule changed" in cured.stderr
    eventually(lambda: curl(ailing, "client", "server") == (0, 200), 5)
    assert cause(ailing, "deploy/client", "svc/server") == ""


def test_mutual_tls_to_a_server_without_sidecar(ailing: Journey, applied: Apply, eventually: Eventually) -> None:
    applied(destination_rule("legacy", "ISTIO_MUTUAL"))
    eventually(lambda: curl(ailing, "client", "legacy") == (0, 503), 5)

    assert cause(ailing, "deploy/client", "svc/legacy") == "mtls-to-plaintext"


def test_a_policy_that_refuses(ailing: Journey, applied: Apply, eventually: Eventually) -> None:
    applied(
        f"""
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: nobody, namespace: {NAMESPACE}}}
spec: {{selector: {{matchLabels: {{app: server}}}}}}
"""
    )
    eventually(lambda: curl(ailing, "client", "server") == (0, 403), 5)
    done = ailing.mutua("diagnose", "deploy/client", "svc/server", "-n", NAMESPACE)

    assert "Cause: authorization-denied: " in done.stdout
    assert "kind: AuthorizationPolicy" in done.stdout  # the cure, ready to be applied


@pytest.mark.parametrize(("port", "expected"), [(8082, "application-not-listening"), (8081, "application-on-loopback")])
def test_an_application_that_does_not_wait(ailing: Journey, eventually: Eventually, port: int, expected: str) -> None:
    eventually(lambda: curl(ailing, "client", f"server:{port}") == (0, 503), 5)

    assert cause(ailing, "deploy/client", f"svc/server:{port}") == expected


def test_a_service_that_selects_nobody(ailing: Journey, applied: Apply) -> None:
    applied(
        f"{{apiVersion: v1, kind: Service, metadata: {{name: lost, namespace: {NAMESPACE}}}, "
        "spec: {selector: {app: typo}, ports: [{port: 80}]}}"
    )

    assert cause(ailing, "deploy/client", "svc/lost") == "no-endpoints"


def test_a_pod_that_does_not_run(ailing: Journey, applied: Apply, eventually: Eventually) -> None:
    applied(
        f"{{apiVersion: v1, kind: Pod, metadata: {{name: stuck, namespace: {NAMESPACE}}}, "
        "spec: {containers: [{name: a, image: example.com/no/such:1}]}}"
    )
    eventually(lambda: "stuck" in ailing.must("get", "pods", "-n", NAMESPACE), 5)

    assert cause(ailing, "stuck") == "pod-not-running"


NOWHERE = "127.0.0.1:9"
LOST = f"{{proxy.istio.io/config: '{{discoveryAddress: \"{NOWHERE}\"}}'}}"
RARELY_READY = (
    "{readiness.status.sidecar.istio.io/periodSeconds: '1', readiness.status.sidecar.istio.io/failureThreshold: '1'}"
)


def test_a_sidecar_without_a_certificate(ailing: Journey, applied: Apply, eventually: Eventually) -> None:
    """It asks for one where no authority is."""
    applied(pod("uncertified", CA_ADDR=NOWHERE))

    eventually(lambda: cause(ailing, "uncertified") == "no-certificate", 30)


def test_a_sidecar_that_has_lost_the_control_plane(ailing: Journey, applied: Apply, eventually: Eventually) -> None:
    """It has a certificate, and is told nothing."""
    applied(pod("unconnected", annotations=LOST, ISTIOD_SAN="istiod.istio-system.svc"))

    eventually(lambda: cause(ailing, "unconnected") == "not-connected", 30)


def test_a_sidecar_that_is_not_ready(ailing: Journey, applied: Apply, eventually: Eventually) -> None:
    """Somebody told it to fail its health checks, as before a shutdown."""
    applied(pod("unready", annotations=RARELY_READY))
    ailing.must("wait", "--for=condition=Ready", "pod/unready", "-n", NAMESPACE, "--timeout=60s")
    request = ("mutua-agent", "request", "POST", "healthcheck/fail")
    ailing.must("exec", "unready", "-n", NAMESPACE, "-c", "istio-proxy", "--", *request)

    eventually(lambda: cause(ailing, "unready") == "proxy-not-ready", 30)


def test_a_wrong_clock(ailing: Journey) -> None:
    """Whoever looks lives in an hour: the sidecar's own answer tells that one of the two is wrong."""
    future = {"LD_PRELOAD": str(faketime.find()), "FAKETIME": "+1h"}
    late = dataclasses.replace(ailing, extra=future)

    assert cause(late, "deploy/client") == "clock-skew"
    sentence = late.mutua("diagnose", "deploy/client", "-n", NAMESPACE).stdout
    assert re.search(r"The clock of ailing/client-\S+ is 36\d\d s behind this machine's", sentence)


def test_what_an_envoy_refuses(ailing: Journey, applied: Apply, eventually: Eventually) -> None:
    """Envoy's ring has 8,388,608 places at most; nobody else knows."""
    ring = "{consistentHash: {httpHeaderName: x, ringHash: {minimumRingSize: 99999999}}}"
    applied(destination_rule("server", "ISTIO_MUTUAL").replace("{tls:", f"{{loadBalancer: {ring}, tls:"))

    eventually(lambda: cause(ailing, "deploy/client") == "configuration-refused", 20)
    told = ailing.mutua("diagnose", "deploy/client", "-n", NAMESPACE).stdout
    assert "value must be less than or equal to 8388608" in told
    assert told.endswith("Fix:\n  kubectl edit destinationrule the-rule -n ailing\n")
    assert curl(ailing, "client", "server") == (0, 200)  # by the last good configuration


def test_a_client_that_cannot_dial(ailing: Journey, applied: Apply, eventually: Eventually) -> None:
    """Its rule names a credential that sidecars are not given."""
    applied(destination_rule("server", "SIMPLE, credentialName: elsewhere"))
    eventually(lambda: curl(ailing, "client", "server") == (0, 503), 5)

    assert cause(ailing, "deploy/client", "svc/server") == "client-cannot-dial"


def test_a_server_that_is_not_believed(ailing: Journey, applied: Apply, eventually: Eventually) -> None:
    """Its certificate names another account than the client's rule expects."""
    expected = "[spiffe://cluster.local/ns/ailing/sa/somebody-else]"
    applied(destination_rule("server", f"ISTIO_MUTUAL, subjectAltNames: {expected}"))
    eventually(lambda: curl(ailing, "client", "server") == (0, 503), 5)

    assert cause(ailing, "deploy/client", "svc/server") == "server-not-believed"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["none"], 'pods "none" not found in namespace ailing'),
        (["deploy/client", "svc/none"], "there is no Service ailing/none"),
        (["deploy/client", "svc/server:x"], '"x" is no port'),
    ],
)
def test_names_that_mean_nothing(ailing: Journey, words: list[str], said: str) -> None:
    done = ailing.mutua("diagnose", *words, "-n", NAMESPACE)

    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("Error: ")
    assert said in done.stderr
    assert "\nhint: " in done.stderr

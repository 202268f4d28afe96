"""Policies tell on themselves what became of them, as kubectl shows it."""

from collections.abc import Callable, Iterator

import pytest
from journey_shell import Journey

pytestmark = pytest.mark.cluster

Eventually = Callable[[Callable[[], bool], float], None]
NAMESPACE = "told"
APPLICATION = f"""
apiVersion: v1
kind: Namespace
metadata: {{name: {NAMESPACE}, labels: {{istio-injection: enabled}}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web, namespace: {NAMESPACE}}}
spec:
  replicas: 2
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
POLICIES = f"""
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: strict, namespace: {NAMESPACE}}}
spec: {{mtls: {{mode: STRICT}}}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: readers, namespace: {NAMESPACE}}}
spec: {{selector: {{matchLabels: {{app: web}}}}, rules: [{{to: [{{operation: {{methods: [GET]}}}}]}}]}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: web, namespace: {NAMESPACE}}}
spec: {{host: web, exportTo: [.], trafficPolicy: {{tls: {{mode: ISTIO_MUTUAL}}}}}}
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: tokens, namespace: {NAMESPACE}}}
spec: {{jwtRules: [{{issuer: somebody, jwksUri: "https://127.0.0.1:9/keys"}}]}}
"""
YOUNGER = f"""
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: younger, namespace: {NAMESPACE}}}
spec: {{mtls: {{mode: PERMISSIVE}}}}
"""


@pytest.fixture(scope="module")
def told(journey: Journey) -> Iterator[Journey]:
    """Two pods with sidecars, one without, and a policy of each kind."""
    journey.must("apply", "-f", "-", stdin=APPLICATION)
    journey.must("wait", "--for=condition=Available", "deployment/web", "-n", NAMESPACE, "--timeout=90s")
    journey.must("wait", "--for=condition=Ready", "pod/plain", "-n", NAMESPACE, "--timeout=60s")
    journey.must("apply", "-f", "-", stdin=POLICIES)
    yield journey
    journey.must("delete", "namespace", NAMESPACE, "--timeout=90s")


@pytest.mark.parametrize(
    ("policy", "proxies"),
    [
        ("peerauthentication/strict", "2/2"),
        ("authorizationpolicy/readers", "2/2"),
        ("destinationrule/web", "2/2"),
        ("requestauthentication/tokens", "2/2"),
    ],
)
def test_each_kind_says_that_it_is_live(told: Journey, policy: str, proxies: str) -> None:
    told.must("wait", f"--for=jsonpath={{.status.proxies}}={proxies}", policy, "-n", NAMESPACE, "--timeout=30s")
    told.must("wait", "--for=condition=Reconciled", policy, "-n", NAMESPACE, "--timeout=30s")

    header, row = told.must("get", policy, "-n", NAMESPACE, "-o", "wide").splitlines()
    assert header.split()[-2:] == ["PROXIES", "EFFECTIVE"]
    assert row.split()[-2:] == [proxies, "True"]


def test_who_cannot_follow_is_named(told: Journey) -> None:
    told.must("wait", "--for=condition=ClientsReady=false", "pa/strict", "-n", NAMESPACE, "--timeout=30s")

    described = told.must("describe", "peerauthentication", "strict", "-n", NAMESPACE)
    assert f"cannot call where this policy is STRICT: {NAMESPACE}/plain" in described


def test_keys_that_cannot_be_had_are_told(told: Journey) -> None:
    told.must("wait", "--for=condition=KeysReady=false", "ra/tokens", "-n", NAMESPACE, "--timeout=30s")

    assert "tokens of somebody are refused" in told.must("describe", "requestauthentication", "tokens", "-n", NAMESPACE)


def test_a_policy_that_an_older_one_shadows_says_by_which(told: Journey, eventually: Eventually) -> None:
    told.must("apply", "-f", "-", stdin=YOUNGER)
    told.must("wait", "--for=condition=Effective=false", "pa/younger", "-n", NAMESPACE, "--timeout=30s")
    assert f"{NAMESPACE}/strict (STRICT) is older" in told.must("describe", "pa", "younger", "-n", NAMESPACE)

    told.must("delete", "pa", "strict", "-n", NAMESPACE)

    told.must("wait", "--for=condition=Effective", "pa/younger", "-n", NAMESPACE, "--timeout=30s")
    told.must("apply", "-f", "-", stdin=POLICIES)


def test_what_is_said_is_written_once(told: Journey) -> None:
    words = ("get", "ap,dr", "-n", NAMESPACE, "-o", "jsonpath={.items[*].metadata.resourceVersion}")
    told.must("wait", "--for=condition=Reconciled", "ap/readers", "dr/web", "-n", NAMESPACE, "--timeout=30s")
    before = told.must(*words)

    # Something else changes meanwhile, which makes the control plane look again.
    told.must("label", "pod", "plain", "-n", NAMESPACE, "looked=again", "--overwrite")
    told.must("wait", "--for=condition=Reconciled", "pa/strict", "-n", NAMESPACE, "--timeout=30s")

    assert told.must(*words) == before

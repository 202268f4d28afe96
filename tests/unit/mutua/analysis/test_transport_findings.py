"""DestinationRules, injection, callers without identity, ports and certificates."""

from base64 import b64encode
from datetime import UTC, datetime, timedelta

import pytest
from analysis_worlds import found, told, world
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from mutua.analysis import run
from mutua.api import decode
from mutua.api.findings import Severity
from mutua.mesh import build

NOW = datetime(2026, 11, 23, tzinfo=UTC)
APPLICATIONS = """
apiVersion: v1
kind: Namespace
metadata: {name: secure-apps, labels: {istio-injection: enabled}}
---
apiVersion: v1
kind: Namespace
metadata: {name: plain}
---
apiVersion: v1
kind: Service
metadata: {name: backend, namespace: secure-apps}
spec: {selector: {app: backend}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: old, namespace: plain}
spec: {selector: {app: old}, ports: [{name: http, port: 80}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: backend, namespace: secure-apps}
spec:
  template:
    metadata: {labels: {app: backend}, annotations: {prometheus.io/scrape: "true", prometheus.io/port: "8080"}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: old, namespace: plain}
spec: {template: {metadata: {labels: {app: old}}}}
"""
STRICT = """
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: strict-mtls, namespace: secure-apps}
spec: {mtls: {mode: STRICT}}
"""


def rule(host: str, mode: str) -> str:
    return f"""
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: rule, namespace: istio-system}}
spec: {{host: "{host}", trafficPolicy: {{tls: {{mode: {mode}}}}}}}
"""


def test_what_clients_send_against_what_the_server_takes() -> None:
    text = APPLICATIONS + STRICT + rule("backend.secure-apps.svc.cluster.local", "DISABLE")
    assert told(text, "MUT0005") == [
        "DestinationRule istio-system/rule: plaintext from clients in secure-apps to"
        " backend.secure-apps.svc.cluster.local:80 fails at secure-apps/backend: plaintext is refused: port 8080 is"
        " STRICT by PeerAuthentication secure-apps/strict-mtls (leave `tls` out of the rule: mutual TLS is automatic"
        " where the server takes it)"
    ]
    assert told(text.replace("STRICT", "PERMISSIVE"), "MUT0005") == []


def test_mesh_wide_mutual_tls_lists_the_hosts_that_it_breaks() -> None:
    text = APPLICATIONS + rule("*.local", "ISTIO_MUTUAL")
    assert "hosts without a sidecar: old.plain.svc.cluster.local (" in told(text, "MUT0011")[0]
    assert told(text, "MUT0005") == []
    assert told(APPLICATIONS + rule("*.secure-apps.svc.cluster.local", "ISTIO_MUTUAL"), "MUT0011") == []


POD = """
---
apiVersion: v1
kind: Pod
metadata: {name: one, namespace: %s, uid: a, annotations: {%s}}
spec: {containers: [{name: app}]}
status: {phase: Running}
"""


def test_pods_without_a_sidecar_and_why() -> None:
    assert "missing the Istio proxy: it is older" in told(APPLICATIONS + POD % ("secure-apps", ""), "IST0103")[0]
    refusing = POD % ("secure-apps", 'sidecar.istio.io/inject: "false"')
    assert "annotation sidecar.istio.io/inject is 'false'" in told(APPLICATIONS + refusing, "MUT0012")[0]
    assert told(APPLICATIONS + refusing, "IST0103") == []
    assert told(APPLICATIONS + POD % ("plain", ""), "IST0103") == []


def test_labels_of_namespaces() -> None:
    assert [line.split(":")[0] for line in told(APPLICATIONS, "IST0102")] == ["Namespace plain"]
    twice = "apiVersion: v1\nkind: Namespace\nmetadata: {name: a, labels: {istio-injection: enabled, istio.io/rev: x}}"
    assert "[istio-injection=enabled istio.io/rev=x]" in told(twice, "IST0123")[0]


WEBHOOK = """
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: judge}
webhooks: [{name: judge.example.com, clientConfig: {service: {namespace: secure-apps, name: backend, port: 80}}}]
"""


def test_callers_that_strict_shuts_out() -> None:
    assert "cannot call judge.example.com at secure-apps/backend" in told(APPLICATIONS + STRICT + WEBHOOK, "MUT0014")[0]
    assert told(APPLICATIONS + WEBHOOK, "MUT0014") == []
    assert "port 8080, which is STRICT by PeerAuthentication" in told(APPLICATIONS + STRICT, "MUT0015")[0]
    assert told(APPLICATIONS, "MUT0015") == []


@pytest.mark.parametrize(
    ("port", "said"),
    [
        ("{name: mail, port: 587}", 1),
        ("{port: 2222, targetPort: 22}", 1),
        ("{name: tcp-mail, port: 587}", 0),
        ("{name: mail, port: 587, appProtocol: tcp}", 0),
        ("{name: web, port: 80}", 0),
    ],
)
def test_servers_that_speak_first(port: str, said: int) -> None:
    text = f"apiVersion: v1\nkind: Service\nmetadata: {{name: s, namespace: a}}\nspec: {{ports: [{port}]}}"
    assert len(told(text, "MUT0013")) == said


@pytest.mark.parametrize(
    ("days", "severity"), [(-1, Severity.ERROR), (10, Severity.WARNING), (60, None)], ids=["past", "soon", "later"]
)
def test_certificates_that_end(days: int, severity: Severity | None) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "root")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW - timedelta(days=365))
        .not_valid_after(NOW + timedelta(days=days))
        .sign(key, hashes.SHA256())
    )
    pem = b64encode(certificate.public_bytes(serialization.Encoding.PEM)).decode()
    head = "apiVersion: v1\nkind: Secret\nmetadata: {name: cacerts, namespace: istio-system}\n"
    text = head + f"data: {{ca-cert.pem: {pem}}}"
    assert [message.severity for message in found(text, "MUT0016", now=NOW)] == ([severity] if severity else [])
    assert found(text, "MUT0016") == []


def heard(existing: str, applied: str) -> list[str]:
    """What the author of an object is told."""
    given = world(existing)
    snapshot = build.snapshot(given.objects, given.mesh_config)
    item = next(iter(world(applied).objects))[1]
    return [finding.message for finding in run.if_applied(given, snapshot, item)]


def test_the_author_of_a_second_policy_hears_that_the_first_wins() -> None:
    second = STRICT.replace("strict-mtls", "default").replace("STRICT", "PERMISSIVE")
    older = STRICT.replace(
        "namespace: secure-apps}", 'namespace: secure-apps, creationTimestamp: "2026-01-01T00:00:00Z"}'
    )
    assert heard(older, second) == [
        "is ignored: secure-apps/strict-mtls (STRICT) is older and covers the same workloads; the oldest wins [MUT0001]"
    ]
    assert heard(older, older.replace("STRICT", "DISABLE")) == []


def test_who_makes_a_server_strict_hears_whom_that_breaks() -> None:
    """The DestinationRule was there before, and is what must go."""
    pods = """
---
apiVersion: v1
kind: Pod
metadata: {name: backend-1, namespace: secure-apps, uid: a, labels: {app: backend, security.istio.io/tlsMode: istio}}
status: {phase: Running, podIP: 10.0.0.1, podIPs: [{ip: 10.0.0.1}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: backend, namespace: secure-apps, labels: {kubernetes.io/service-name: backend}}
addressType: IPv4
endpoints: [{addresses: [10.0.0.1]}]
ports: [{name: http, port: 8080}]
"""
    existing = APPLICATIONS + pods + rule("backend.secure-apps.svc.cluster.local", "DISABLE")
    said = heard(existing, STRICT)
    assert len([line for line in said if "plaintext is refused" in line and line.endswith("[MUT0005]")]) == 1


def test_the_author_of_an_invalid_object_hears_that_first() -> None:
    decoded = decode.any_from_mapping(
        {
            "apiVersion": "security.istio.io/v1",
            "kind": "PeerAuthentication",
            "metadata": {"name": "a", "namespace": "b"},
            "spec": {"portLevelMtls": {"80": {"mode": "STRICT"}}},
        }
    )
    given = world("")
    assert decoded.value is not None
    findings = run.if_applied(given, build.snapshot(given.objects, given.mesh_config), decoded.value)
    assert [finding.is_error for finding in findings] == [True]


def test_suppressions() -> None:
    messages = run.analyze(world(APPLICATIONS))
    assert any(message.code == "IST0102" for message in messages)
    suppression = run.Suppression.parse("IST0102=Namespace *")
    assert all(message.code != "IST0102" for message in run.visible(messages, suppressions=[suppression]))
    assert all(message.code != "IST0102" for message in run.visible(messages, namespace="secure-apps"))


def test_annotations() -> None:
    text = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: a, namespace: b, annotations: {sidecar.istio.io/proxyCPU: "1", kubectl.kubernetes.io/x: "1"}}
spec: {template: {metadata: {annotations: {sidecar.istio.io/proxyCPU: "much"}}}}
---
apiVersion: v1
kind: Service
metadata: {name: s, namespace: b, annotations: {networking.istio.io/exportThree: "*"}}
"""
    assert told(text, "IST0107") == [
        "Deployment b/a: Misplaced annotation: sidecar.istio.io/proxyCPU can only be applied to Pod (write it into"
        " spec.template.metadata)"
    ]
    assert told(text, "IST0108") == [
        "Service b/s: Unknown annotation: networking.istio.io/exportThree (did you mean networking.istio.io/exportTo?)"
    ]
    assert "Invalid annotation sidecar.istio.io/proxyCPU" in told(text, "IST0125")[0]


def probed(probe: str, annotations: str = "", container: str = "istio-proxy") -> list[str]:
    """What is said of a pod with a readiness probe in a namespace that is STRICT."""
    return told(
        f"""
apiVersion: v1
kind: Pod
metadata: {{name: web, namespace: shop, annotations: {{{annotations}}}, uid: "1"}}
spec:
  containers:
  - {{name: web, image: web, ports: [{{name: http, containerPort: 8080}}], readinessProbe: {probe}}}
  - {{name: {container}, image: other}}
status: {{phase: Running, podIP: 10.0.0.1}}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: strict, namespace: shop}}
spec: {{mtls: {{mode: STRICT}}}}
""",
        "MUT0018",
    )


@pytest.mark.parametrize(
    ("probe", "asks"),
    [
        ("{httpGet: {port: http, path: /ready}}", "HTTP GET /ready"),
        ("{httpGet: {port: 8080}}", "HTTP GET /"),
        ("{grpc: {port: 8080}}", "gRPC health check"),
    ],
)
def test_a_probe_that_strict_refuses_is_named(probe: str, asks: str) -> None:
    (line,) = probed(probe)
    assert line.startswith(
        f"Pod shop/web: the kubelet's readiness probe of container web ({asks}) asks port 8080, which is STRICT"
        " by PeerAuthentication shop/strict (web)"
    )


@pytest.mark.parametrize(
    ("probe", "annotations", "container"),
    [
        ("{tcpSocket: {port: 8080}}", "", "istio-proxy"),
        ("{exec: {command: [ls]}}", "", "istio-proxy"),
        ("{httpGet: {port: 15020, path: /app-health/web/readyz}}", "", "istio-proxy"),
        ("{httpGet: {port: 15030}}", 'status.sidecar.istio.io/port: "15030"', "istio-proxy"),
        ("{httpGet: {port: 8080}}", 'traffic.sidecar.istio.io/excludeInboundPorts: "80,8080"', "istio-proxy"),
        ("{httpGet: {port: 8080}}", "", "other"),
    ],
    ids=["tcp", "exec", "asked by the agent", "another port of the agent's", "excluded", "no sidecar"],
)
def test_a_probe_that_strict_does_not_concern_is_not(probe: str, annotations: str, container: str) -> None:
    assert probed(probe, annotations, container) == []

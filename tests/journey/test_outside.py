"""Hosts outside the mesh as a person sets them up: an entry, a client certificate from a secret, and its rights."""

import base64
from collections.abc import Callable, Iterator

import pytest
from cryptography import x509
from journey_shell import Journey

from fakes.issuing_authority import Authority, Issued

pytestmark = pytest.mark.cluster

Eventually = Callable[[Callable[[], bool], float], None]
SHOP, OUTSIDE = "outside-shop", "outside-world"
SERVER = """
import http.server, ssl
class Mirror(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        names = (self.connection.getpeercert() or {}).get("subjectAltName", ())
        body = " ".join(value for _, value in names).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/tls/tls.crt", "/tls/tls.key")
context.load_verify_locations("/tls/ca.crt")
context.verify_mode = ssl.CERT_REQUIRED
server = http.server.ThreadingHTTPServer(("0.0.0.0", 8443), Mirror)
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
server.serve_forever()
"""
APPLICATIONS = f"""
apiVersion: v1
kind: Namespace
metadata: {{name: {SHOP}, labels: {{istio-injection: enabled}}}}
---
apiVersion: v1
kind: Namespace
metadata: {{name: {OUTSIDE}}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {{name: client, namespace: {SHOP}}}
---
apiVersion: v1
kind: Pod
metadata: {{name: client, namespace: {SHOP}, labels: {{app: client}}}}
spec:
  serviceAccountName: client
  terminationGracePeriodSeconds: 0
  containers: [{{name: client, image: curlimages/curl, command: [sleep, infinity]}}]
---
apiVersion: v1
kind: Service
metadata: {{name: api, namespace: {OUTSIDE}, annotations: {{networking.istio.io/exportTo: "."}}}}
spec: {{selector: {{app: api}}, ports: [{{name: https, port: 8443}}]}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: api, namespace: {SHOP}}}
spec:
  hosts: [api.example.com]
  resolution: DNS
  ports: [{{number: 80, name: http, protocol: HTTP, targetPort: 8443}}]
  endpoints: [{{address: api.{OUTSIDE}.svc.cluster.local}}]
"""
RULE = f"""
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: api, namespace: {SHOP}}}
spec:
  host: api.example.com
  workloadSelector: {{matchLabels: {{app: client}}}}
  trafficPolicy:
    tls: {{mode: MUTUAL, credentialName: api-client}}
    connectionPool: {{http: {{maxRequestsPerConnection: 1}}}}
"""


def secret(namespace: str, name: str, issued: Issued, authority: Authority) -> str:
    content = {"tls.crt": issued.chain, "tls.key": issued.key, "ca.crt": authority.root}
    data = "".join(f"\n  {key}: {base64.b64encode(value).decode()}" for key, value in content.items())
    return f"apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: {namespace}}}\ndata:{data}\n"


def server() -> str:
    program = "\n".join(f"      {line}" for line in SERVER.strip().splitlines())
    return f"""
apiVersion: v1
kind: Pod
metadata: {{name: api, namespace: {OUTSIDE}, labels: {{app: api}}}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: api
    image: python
    command:
    - python3
    - -c
    - |
{program}
    readinessProbe: {{tcpSocket: {{port: 8443}}}}
    volumeMounts: [{{name: tls, mountPath: /tls}}]
  volumes: [{{name: tls, secret: {{secretName: server}}}}]
"""


class Outside:
    """The two namespaces, and the authority of the world outside."""

    def __init__(self, journey: Journey, authority: Authority) -> None:
        self.journey, self.authority = journey, authority

    def ask(self) -> tuple[str, str]:
        """Body and status of a request to the host, for which a resolver gave an address that nobody has."""
        curl = ("curl", "-s", "-m", "5", "-w", " %{http_code}", "--connect-to", "::240.0.0.1:80")
        done = self.journey.kube("exec", "client", "-n", SHOP, "-c", "client", "--", *curl, "http://api.example.com/")
        body, _, status = done.stdout.rpartition(" ")
        return body, status

    def give(self, name: str) -> None:
        """The client's secret from now on."""
        issued = self.authority.issue(x509.DNSName(name))
        self.journey.must("apply", "-f", "-", stdin=secret(SHOP, "api-client", issued, self.authority))


@pytest.fixture(scope="module")
def outside(journey: Journey) -> Iterator[Outside]:
    authority = Authority("outside")
    journey.must("apply", "-f", "-", stdin=APPLICATIONS)
    issued = authority.issue(x509.DNSName("api.example.com"))
    journey.must("apply", "-f", "-", stdin=secret(OUTSIDE, "server", issued, authority) + "---" + server())
    for pod, namespace in (("client", SHOP), ("api", OUTSIDE)):
        journey.must("wait", "--for=condition=Ready", f"pod/{pod}", "-n", namespace, "--timeout=90s")
    yield Outside(journey, authority)
    journey.must("delete", "namespace", SHOP, OUTSIDE, "--timeout=90s")


def test_a_host_is_reached_with_a_certificate_as_soon_as_everybody_agrees(
    outside: Outside, eventually: Eventually
) -> None:
    journey = outside.journey
    checked = journey.mutua("check", "client", "api.example.com", "-n", SHOP)
    assert checked.returncode == 0 and "over plaintext" in checked.stdout

    journey.must("apply", "-f", "-", stdin=RULE)
    eventually(lambda: outside.ask()[1] == "503", 15)
    found = journey.mutua("analyze", "-n", SHOP)
    assert f"MUT0019] (DestinationRule {SHOP}/api)" in found.stdout, found.stdout
    assert "does not exist" in found.stdout

    outside.give("first")
    journey.must("create", "role", "reader", "--verb=list", "--resource=secrets", "-n", SHOP)
    journey.must("create", "rolebinding", "reader", "--role=reader", f"--serviceaccount={SHOP}:client", "-n", SHOP)
    # The account may, the control plane may not.
    problem = "bind ClusterRole istiod-credentials-istio-system to the control plane there"
    eventually(lambda: problem in journey.must("logs", "deploy/istiod", "-n", "istio-system"), 45)
    assert outside.ask()[1] == "503"

    role = "--clusterrole=istiod-credentials-istio-system"
    account = "--serviceaccount=istio-system:istiod"
    journey.must("create", "rolebinding", "istiod-credentials", role, account, "-n", SHOP)
    eventually(lambda: outside.ask() == ("first", "200"), 60)
    checked = journey.mutua("check", "client", "api.example.com", "-n", SHOP)
    assert "with secret api-client" in checked.stdout

    outside.give("second")
    eventually(lambda: outside.ask() == ("second", "200"), 30)


def test_the_host_is_shown_where_people_look(outside: Outside) -> None:
    journey = outside.journey
    (row,) = journey.must("get", "se", "-n", SHOP, "--no-headers").splitlines()
    assert row.split()[:3] == ["api", '["api.example.com"]', "DNS"]
    clusters = journey.mutua("proxy-config", "cluster", f"client.{SHOP}", "--fqdn", "api.example.com")
    assert "STRICT_DNS" in clusters.stdout and f"api.{SHOP}" in clusters.stdout
    endpoints = journey.mutua("proxy-config", "endpoint", f"client.{SHOP}", "--cluster", "outbound|80||api.example.com")
    assert ":8443" in endpoints.stdout and "HEALTHY" in endpoints.stdout
    secrets = journey.mutua("proxy-config", "secret", f"client.{SHOP}")
    assert "kubernetes://api-client" in secrets.stdout and "PRIVATE" not in secrets.stdout


def test_an_entry_for_somebody_else_s_host_is_warned_about(outside: Outside) -> None:
    squatter = f"""
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: squatter, namespace: {SHOP}}}
spec:
  hosts: [istiod.istio-system.svc.cluster.local]
  ports: [{{number: 15012, name: https, protocol: HTTPS}}]
"""
    applied = outside.journey.kube("apply", "-f", "-", stdin=squatter)
    outside.journey.must("delete", "se", "squatter", "-n", SHOP)
    assert applied.returncode == 0
    assert "Warning: " in applied.stderr and "is that of Service istio-system/istiod" in applied.stderr, applied.stderr

"""Certificates and authorities change under steady traffic between real Envoys, and nobody notices."""

import json
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from journey_shell import Journey

pytestmark = pytest.mark.cluster

Eventually = Callable[[Callable[[], bool], float], None]
NAMESPACE = "identity"
RATE = 200
LIFETIME_SECONDS = 60
PAIR = ("server", "client")
LOAD = Path(__file__).parent / "steady_load.py"

# Certificates live for seconds, and since the port is TCP, each request is a TLS handshake of its own.
WORKLOADS = f"""
apiVersion: v1
kind: Namespace
metadata: {{name: {NAMESPACE}, labels: {{istio-injection: enabled}}}}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: default, namespace: {NAMESPACE}}}
spec: {{mtls: {{mode: STRICT}}}}
""" + "".join(
    f"""
---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: {NAMESPACE}}}
spec: {{selector: {{app: {name}}}, ports: [{{name: tcp, port: 80}}]}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: {NAMESPACE}}}
spec:
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata:
      labels: {{app: {name}}}
      annotations:
        proxy.istio.io/config: '{{"proxyMetadata": {{"SECRET_TTL": "{lifetime}"}}}}'
    spec:
      containers: [{container}]
"""
    for prefix, lifetime in (("", f"{LIFETIME_SECONDS}s"), ("brief-", "12s"))
    for name, container in (
        (f"{prefix}server", "{name: server, image: nginx, ports: [{containerPort: 80}]}"),
        (f"{prefix}client", "{name: client, image: python, command: [sleep, infinity]}"),
    )
)


@pytest.fixture(scope="module")
def mesh(journey: Journey) -> Journey:
    """A client and a server whose certificates live for seconds."""
    journey.must("apply", "-f", "-", stdin=WORKLOADS)
    journey.must("wait", "--for=condition=Available", "deployment", "--all", "-n", NAMESPACE, "--timeout=60s")
    return journey


def start_load(mesh: Journey, seconds: float, pair: str = "") -> "subprocess.Popen[str]":
    """Requests from the client to the server, for that long."""
    words = ["exec", "-i", f"deploy/{pair}client", "-n", NAMESPACE, "-c", "client", "--"]
    with LOAD.open() as script:
        return subprocess.Popen(
            [str(mesh.kubectl), *words, "python3", "-", f"{pair}server", str(seconds), str(RATE)],
            env=mesh.environment,
            stdin=script,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


def outcomes(load: "subprocess.Popen[str]") -> dict[str, int]:
    """How many requests had which outcome."""
    out, error = load.communicate(timeout=90)
    assert load.returncode == 0, error
    if error:
        print(error)
    found: dict[str, int] = json.loads(out.strip().splitlines()[-1])
    return found


def state(mesh: Journey) -> dict[str, str]:
    """The authority's state, as the mesh keeps it."""
    said = mesh.must("get", "configmap", "istio-ca-rotation", "-n", "istio-system", "-o", "jsonpath={.data.state}")
    found: dict[str, str] = json.loads(said)
    return found


def settled_on(mesh: Journey, secret: str, other_than: str) -> bool:
    """Whether another authority, from that secret, signs and no rotation is under way."""
    now = state(mesh)
    return now.get("origin") == secret and now["issuer"] != other_than and "stage" not in now


def put_cacerts(mesh: Journey, folder: Path) -> None:
    """The guide's command; a second time the secret is replaced."""
    files = [
        f"--from-file={folder / name}" for name in ("ca-cert.pem", "ca-key.pem", "root-cert.pem", "cert-chain.pem")
    ]
    words = ("create", "secret", "generic", "cacerts", "-n", "istio-system", *files)
    mesh.must("apply", "-f", "-", stdin=mesh.must(*words, "--dry-run=client", "-o", "yaml"))


def served_root(mesh: Journey) -> str:
    """Subjects of the roots that the server's Envoy trusts, from its own mouth."""
    pod = mesh.pod("server", NAMESPACE)
    path = ".dynamicActiveSecrets[1].secret.validationContext.trustedCa.inlineBytes"
    script = (
        f"mutua proxy-config secret {pod} -n {NAMESPACE} -o json | jq -r '{path}' | base64 -d"
        " | openssl crl2pkcs7 -nocrl -certfile /dev/stdin | openssl pkcs7 -print_certs -noout"
    )
    return mesh.run(["bash", "-c", script]).stdout


def test_leaves_are_renewed_under_load(mesh: Journey) -> None:
    """Certificates that live for twelve seconds, sixteen seconds of requests: every one is answered."""
    before = serials(mesh)
    found = outcomes(start_load(mesh, 16, "brief-"))
    assert set(found) == {"200"}, found
    assert found["200"] > 2 * RATE
    assert not before & serials(mesh)


def serials(mesh: Journey) -> set[str]:
    """Serial numbers of the short-lived certificates."""
    tables = [
        mesh.mutua("proxy-config", "secret", f"deploy/brief-{name}", "-n", NAMESPACE) for name in ("server", "client")
    ]
    return {line.split()[5] for table in tables for line in table.stdout.splitlines() if line.startswith("default ")}


def test_custom_authority_added_control_plane_killed_replaced_and_left_again(
    mesh: Journey, eventually: Eventually, tmp_path: Path
) -> None:
    """Leaves, issuer and root all change while 200 requests a second go through: none fails."""
    for name in ("first", "second"):
        made = mesh.mutua("ca", "init", str(tmp_path / name), "--organization", name)
        assert made.returncode == 0, made.stderr
    before = state(mesh)["issuer"]
    load = start_load(mesh, 45)

    put_cacerts(mesh, tmp_path / "first")
    eventually(lambda: settled_on(mesh, "cacerts", before), 30)
    first = state(mesh)["issuer"]
    assert "O = first" in served_root(mesh) or "O=first" in served_root(mesh)

    put_cacerts(mesh, tmp_path / "second")
    eventually(lambda: "stage" in state(mesh), 10)
    mesh.must("delete", "pod", "-n", "istio-system", "-l", "app=istiod", "--force", "--grace-period=0")
    eventually(lambda: settled_on(mesh, "cacerts", first), 45)
    second = state(mesh)["issuer"]
    roots = served_root(mesh)
    assert "second" in roots
    assert "first" not in roots

    mesh.must("delete", "secret", "cacerts", "-n", "istio-system")
    rotated = mesh.mutua("ca", "rotate", "--wait", "40")
    assert rotated.returncode == 0, rotated.stderr
    assert settled_on(mesh, "istio-ca-secret", second)

    found = outcomes(load)
    assert set(found) == {"200"}, found
    assert found["200"] > 5 * RATE
    statistics = mesh.must(
        "exec", "deploy/client", "-n", NAMESPACE, "-c", "istio-proxy", "--",
        "python3", "-m", "mutua.programs.agent", "request", "GET", "stats?filter=server.*ssl.handshake",
    )  # fmt: skip
    assert sum(int(line.rpartition(" ")[2]) for line in statistics.splitlines()) >= found["200"]


def test_the_authority_is_away_for_a_while(mesh: Journey) -> None:
    """For 0.15 of the certificates' life, so that renewals fall into it: no request fails, and renewals go on."""
    before = {name: mesh.mutua("proxy-config", "secret", f"deploy/{name}", "-n", NAMESPACE).stdout for name in PAIR}
    load = start_load(mesh, 60)
    for app, seconds in (("nobody", 0.15 * LIFETIME_SECONDS), ("istiod", 0.0)):
        selector = json.dumps({"spec": {"selector": {"app": app}}})
        mesh.must("patch", "service", "istiod", "-n", "istio-system", "-p", selector)
        time.sleep(seconds)
    found = outcomes(load)
    assert set(found) == {"200"}, found
    after = {name: mesh.mutua("proxy-config", "secret", f"deploy/{name}", "-n", NAMESPACE).stdout for name in PAIR}
    assert all(serial_in(before[name]) != serial_in(after[name]) for name in PAIR)


def serial_in(table: str) -> str:
    """The serial number in a table of secrets."""
    return next(line.split()[5] for line in table.splitlines() if line.startswith("default "))


def test_a_broken_authority_changes_nothing_and_says_so(mesh: Journey, eventually: Eventually, tmp_path: Path) -> None:
    """Certificate and key of two different authorities: refused in log and metric, and what was in force signs on."""
    for name in ("one", "other"):
        assert mesh.mutua("ca", "init", str(tmp_path / name)).returncode == 0
    (tmp_path / "one/ca-key.pem").write_bytes((tmp_path / "other/ca-key.pem").read_bytes())
    before = state(mesh)
    put_cacerts(mesh, tmp_path / "one")

    def told() -> bool:
        log = mesh.must("logs", "-n", "istio-system", "deploy/istiod", "--tail=50")
        return "the cert does not match the key" in log

    eventually(told, 10)
    assert state(mesh)["issuer"] == before["issuer"]
    assert "does not match the key" in mesh.mutua("ca", "status").stdout
    mesh.must("delete", "secret", "cacerts", "-n", "istio-system")


def test_everyone_sees_certificates(mesh: Journey, eventually: Eventually) -> None:
    """`mutua certs` as a table, as JSON and as a check with an exit code; `mutua ca status`."""

    def listed() -> bool:
        return (
            f"spiffe://cluster.local/ns/{NAMESPACE}/sa/default"
            in mesh.mutua("certs", "-n", NAMESPACE, "-o", "wide").stdout
        )

    eventually(listed, 20)
    shown = json.loads(mesh.mutua("certs", "-n", NAMESPACE, "-o", "json").stdout)
    assert {each["namespace"] for each in shown["certificates"]} == {NAMESPACE}
    assert mesh.mutua("certs", "-n", NAMESPACE, "--expiring-in", "6h").returncode == 2
    assert mesh.mutua("certs", "-n", NAMESPACE, "--expiring-in", "1s").returncode == 0
    wide = mesh.mutua("proxy-config", "secret", "deploy/server", "-n", NAMESPACE, "-o", "wide").stdout
    assert "NEXT ROTATION" in wide
    assert re.search(r"^default\s.*Z\s+\S+\s+\S*\s*\d{4}-\d\d-\d\dT[\d:]+Z$", wide, re.MULTILINE), wide
    status = mesh.mutua("ca", "status")
    assert "none under way" in status.stdout, status
    rehearsal = mesh.mutua("ca", "rotate", "--dry-run")
    assert "nothing is changed" in rehearsal.stdout, rehearsal

"""The guide as it is written: each block is run in the order of the text, and does what the text says."""

import json
import re
from collections.abc import Callable

import guide_scene
import guide_text
import pytest
from guide_reader import Reader, Typed, eventually
from guide_text import Block

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(not guide_text.GUIDE.exists(), reason="the guide is not present"),
]

Check = Callable[[Reader, Block], None]
CHECKS: dict[tuple[str, str], Check] = {}
BLOCKS = guide_text.blocks()

REFUSED = (52, 56)
"""curl's exit codes for an empty reply and for a reset connection."""


def outcome(heading: str, language: str) -> Callable[[Check], Check]:
    """Registers what one block has to bring about."""

    def register(check: Check) -> Check:
        CHECKS[heading, language] = check
        return check

    return register


@pytest.mark.parametrize("block", BLOCKS, ids=[f"{block.heading} ({block.language})" for block in BLOCKS])
def test_the_guide_block_by_block(reader: Reader, block: Block) -> None:
    """One block of the guide; a block that nobody here knows fails."""
    CHECKS[block.heading, block.language](reader, block)


def from_outside(reader: Reader, address: str) -> tuple[int, int]:
    """A request without mutual TLS: curl's exit code and the HTTP status."""
    return reader.shell.curl("client", f"http://{address}", namespace="outside")


def refused_from_outside(reader: Reader, address: str) -> None:
    """Waits until plaintext is turned away."""
    eventually(lambda: from_outside(reader, address)[0] in REFUSED)


@outcome("Prerequisites", "bash")
def prerequisites(reader: Reader, block: Block) -> None:
    """The three look-ups answer."""
    cluster, version, pods = (reader.succeed(command).stdout for command in block.commands)
    assert "is running at" in cluster
    assert re.search(r"client version: \S+\ncontrol plane version: \S+\ndata plane version: \S+", version)
    assert re.search(r"istiod-\S+\s+1/1\s+Running", pods)


@outcome("Installing Istio with mTLS Support", "bash")
def install(reader: Reader, block: Block) -> None:
    """The download is ours already; the rest runs as written."""
    download, installation, verification = block.commands
    assert "downloadIstio" in download
    assert reader.succeed("istioctl version --remote=false").stdout.startswith("client version: ")
    assert "✔ Installation complete" in reader.succeed(installation).stderr
    verified = reader.succeed(verification).stdout
    assert re.search(r"^✔ Istiod: \d+ objects checked successfully$", verified, re.MULTILINE)
    assert "✔ Istio is installed and verified successfully" in verified


@outcome("Namespace-Wide mTLS", "yaml")
def namespace_policy(reader: Reader, block: Block) -> None:
    """Written; until it is applied plaintext is answered."""
    reader.write(block)
    assert from_outside(reader, "api-service.production/") == (0, 200)


@outcome("Namespace-Wide mTLS", "bash")
def namespace_policy_applied(reader: Reader, block: Block) -> None:
    """STRICT for the namespace, and for no other."""
    reader.succeed(block.text)
    refused_from_outside(reader, "api-service.production/")
    assert from_outside(reader, "web.elsewhere/") == (0, 200)


@outcome("Mesh-Wide mTLS (All Namespaces)", "yaml")
def mesh_policy(reader: Reader, block: Block) -> None:
    """STRICT everywhere."""
    reader.apply(block)
    refused_from_outside(reader, "web.elsewhere/")


@outcome("Workload-Specific mTLS", "yaml")
def workload_policy(reader: Reader, block: Block) -> None:
    """It takes plaintext for neither more nor less than before, and kubectl shows its mode."""
    reader.apply(block)
    shown = reader.succeed("kubectl get peerauthentication api-service-mtls -n production").stdout
    assert re.search(r"api-service-mtls\s+STRICT", shown)
    refused_from_outside(reader, "api-service.production/")


@outcome("Port-Level mTLS Configuration", "yaml")
def port_policy(reader: Reader, block: Block) -> None:
    """Plaintext on the two ports that allow it, and on no other; mutual TLS where it is not disabled."""
    reader.apply(block)
    for port in (8080, 9090):
        eventually(lambda port=port: from_outside(reader, f"legacy-service.production:{port}/") == (0, 200))
    refused_from_outside(reader, "legacy-service.production/")
    for port in (80, 8080, 9090):
        inside = reader.shell.curl("deploy/api-service", f"http://legacy-service:{port}/", namespace="production")
        assert inside == (0, 200), port


def destination_rule(reader: Reader, host: str) -> str:
    """The rule that decides how the api-service's sidecar dials a host, from the live Envoy."""
    shown = reader.succeed(f"istioctl proxy-config cluster deploy/api-service -n production --fqdn {host}").stdout
    outbound = next(line for line in shown.splitlines() if line.startswith(host) and " outbound " in line)
    return outbound.split()[-1]


@outcome("Basic mTLS DestinationRule", "yaml")
def basic_rule(reader: Reader, block: Block) -> None:
    """The sidecar's cluster names the rule, and requests between sidecars succeed."""
    reader.apply(block)
    host = "api-service.production.svc.cluster.local"
    eventually(lambda: destination_rule(reader, host) == "api-service-mtls.production")
    assert reader.shell.curl("deploy/legacy-service", "http://api-service/", namespace="production") == (0, 200)


@outcome("Namespace-Wide DestinationRule", "yaml")
def namespace_rule(reader: Reader, block: Block) -> None:
    """The wildcard decides for the hosts that no narrower rule names."""
    reader.apply(block)
    eventually(lambda: destination_rule(reader, "legacy-service.production") == "default.production")
    assert destination_rule(reader, "api-service.production") == "api-service-mtls.production"
    assert reader.shell.curl("deploy/api-service", "http://legacy-service/", namespace="production") == (0, 200)


@outcome("Mesh-Wide DestinationRule", "yaml")
def mesh_rule(reader: Reader, block: Block) -> None:
    """The widest wildcard decides for all the rest."""
    reader.apply(block)
    eventually(lambda: destination_rule(reader, "web.elsewhere") == "default.istio-system")
    assert reader.shell.curl("deploy/api-service", "http://web.elsewhere/", namespace="production") == (0, 200)


def check_secrets(table: str) -> None:
    """The table that the guide shows as its example."""
    assert re.match(r"RESOURCE NAME\s+TYPE\s+STATUS\s+VALID CERT\s+SERIAL NUMBER\s+NOT AFTER", table)
    rows = r"^default\s+Cert Chain\s+ACTIVE\s+true\s+[0-9a-f]{32}.*\n^ROOTCA\s+CA\s+ACTIVE\s+true\s+[0-9a-f]{32}"
    assert re.search(rows, table, re.MULTILINE), table


@outcome("Viewing Current Certificates", "bash")
def certificates(reader: Reader, block: Block) -> None:
    """Certificate and root of a live proxy."""
    check_secrets(reader.succeed(block.text).stdout)


@outcome("Checking Certificate Details", "bash")
def certificate_details(reader: Reader, block: Block) -> None:
    """jq and openssl take the certificate apart, and its name is the workload's."""
    shown = reader.succeed(block.text).stdout
    assert "URI:spiffe://cluster.local/ns/production/sa/default" in shown
    assert "TLS Web Client Authentication" in shown


@outcome("Custom Certificate Authority", "yaml")
def authority_secret(reader: Reader, block: Block) -> None:
    """The manifest with the four files in it is a valid secret; the next block makes the same one another way."""
    guide_scene.authority_files(reader)
    reader.write(block)
    for name in ("ca-cert", "ca-key", "cert-chain", "root-cert"):
        reader.succeed(f'sed -i "s|<base64-encoded-{name}>|$(base64 -w0 {name}.pem)|" {block.file}')
    made = reader.succeed(f"kubectl apply --dry-run=server -o json -f {block.file}").stdout
    assert set(json.loads(made)["data"]) == {"ca-cert.pem", "ca-key.pem", "cert-chain.pem", "root-cert.pem"}


@outcome("Custom Certificate Authority", "bash")
def authority(reader: Reader, block: Block) -> None:
    """Workloads get certificates of the organisation's own authority, without a restart, and go on being reached."""
    reader.succeed(block.text)

    def issuer() -> str:
        return reader.succeed(
            "istioctl proxy-config secret deploy/api-service -n production -o json | "
            "jq -r '.dynamicActiveSecrets[0].secret.tlsCertificate.certificateChain.inlineBytes' | "
            "base64 -d | openssl x509 -issuer -noout"
        ).stdout

    eventually(lambda: "Acme Intermediate" in issuer(), 60)
    assert reader.shell.curl("deploy/legacy-service", "http://api-service/", namespace="production") == (0, 200)


@outcome("Certificate Rotation Configuration", "yaml")
def operator_file(reader: Reader, block: Block) -> None:
    """The installation takes the file: the secret holds a certificate for the name, and rotation comes at 80 %."""
    reader.write(block)
    reader.succeed(f"istioctl install -f {block.file} -y")
    config = reader.succeed("kubectl get configmap istio -n istio-system -o jsonpath='{.data.mesh}'").stdout
    assert re.search(r"secretName: dns-cert", config)
    assert "api.example.com" in config
    variables = reader.succeed("kubectl get deployment istiod -n istio-system -o yaml").stdout
    assert re.search(r"name: PILOT_CERT_PROVIDER\s+value: istiod", variables)
    held = "kubectl get secret dns-cert -n istio-system -o jsonpath='{.data.cert-chain\\.pem}' | base64 -d"
    names = f"{held} | openssl x509 -noout -ext subjectAltName"
    eventually(lambda: "DNS:api.example.com" in reader.run(names).stdout, 30)
    assert "at 80% of validity" in block.text
    started = reader.succeed("kubectl logs deploy/api-service -n production -c istio-proxy | grep rotation_at").stdout
    assert "rotation_at=80%" in started


@outcome("Step 1: Create Namespace with Istio Injection", "yaml")
@outcome("Step 2: Deploy Sample Applications", "yaml")
@outcome("Step 3: Apply mTLS Policy", "yaml")
def write(reader: Reader, block: Block) -> None:
    """A file that step 4 applies."""
    reader.write(block)


@outcome("Step 4: Apply All Configurations", "bash")
def apply_everything(reader: Reader, block: Block) -> None:
    """Four pods with sidecars, which reach each other."""
    reader.succeed(block.text)
    reader.settled("secure-apps")
    reader.namespace, reader.application = "secure-apps", "backend"
    pods = reader.succeed("kubectl get pods -n secure-apps --no-headers").stdout
    assert len(re.findall(r"^(?:frontend|backend)-\S+\s+2/2\s+Running", pods, re.MULTILINE)) == 4
    eventually(lambda: reader.shell.curl("deploy/frontend", "http://backend/") == (0, 200))


@outcome("Check PeerAuthentication Status", "bash")
def list_policies(reader: Reader, block: Block) -> None:
    """Every policy so far is listed with its mode."""
    listed, described = (reader.succeed(command).stdout for command in block.commands)
    for line in (
        r"istio-system\s+default\s+STRICT",
        r"production\s+mixed-mtls\s+STRICT",
        r"secure-apps\s+strict-mtls\s+STRICT",
    ):
        assert re.search(rf"^{line}", listed, re.MULTILINE), listed
    assert re.search(r"Mtls:\s+Mode:\s+STRICT", described)


@outcome("Verify mTLS is Active", "bash")
def verify(reader: Reader, block: Block) -> None:
    """The policies of the live proxy, of which there are none yet; and its listeners, inbound ones with TLS only."""
    policies, listeners = (reader.succeed(command).stdout for command in block.commands)
    assert re.match(r"ACTION\s+AuthorizationPolicy\s+RULES", policies)
    inbound = [line for line in listeners.splitlines() if re.search(r"\b15006\b.*\*:80\b", line)]
    assert inbound
    assert all("Trans: tls" in line for line in inbound), inbound


@outcome("Test mTLS Connection", "bash")
def plaintext_is_refused(reader: Reader, block: Block) -> None:
    """A pod without sidecar is reset."""
    deploy, connect, expected = block.commands
    reader.succeed(deploy)
    reader.succeed("kubectl wait --for=condition=Ready pod/test-pod -n secure-apps --timeout=60s")
    assert "Expected: Connection refused or reset" in expected
    tried = reader.run(connect)
    assert tried.code in REFUSED, tried
    assert re.search("reset|Empty reply|refused", tried.stderr), tried


@outcome("Using istioctl to Analyze mTLS", "bash")
def analyze(reader: Reader, block: Block) -> None:
    """No error in what was applied; and the transport socket of the cluster presents the workload's certificate."""
    analysis, socket = (reader.run(command) for command in block.commands)
    assert analysis.code == 0, analysis
    assert not re.search(r"^Error", analysis.stdout, re.MULTILINE)
    found = json.loads(socket.stdout)
    assert found["name"] == "envoy.transport_sockets.tls"
    context = found["typedConfig"]["commonTlsContext"]
    assert context["tlsCertificateSdsSecretConfigs"][0]["name"] == "default"


@outcome("Authorization Policies with mTLS", "yaml")
def authorize(reader: Reader, block: Block) -> None:
    """The policy is in force: pods that run as `default` are not the `frontend` it names; and the tool says so."""
    reader.apply(block)
    eventually(lambda: reader.shell.curl("deploy/frontend", "http://backend/api/x") == (0, 403))
    shown = reader.succeed("istioctl x authz check <pod-name> -n <namespace>").stdout
    assert re.search(r"^ALLOW\s+backend-access\.secure-apps\s+1$", shown, re.MULTILINE), shown
    analysis = reader.run("istioctl analyze -n secure-apps")
    assert "cluster.local/ns/secure-apps/sa/default" in analysis.stdout, analysis


@outcome("Deny All by Default", "yaml")
def deny_all(reader: Reader, block: Block) -> None:
    """Everything that no rule allows is denied, also where no other policy is."""
    assert reader.shell.curl("deploy/backend", "http://frontend/") == (0, 200)
    reader.apply(block)
    eventually(lambda: reader.shell.curl("deploy/backend", "http://frontend/") == (0, 403))


@outcome("Debug Commands", "bash")
def debug(reader: Reader, block: Block) -> None:
    """Sidecars are listed, the proxy has a log and a configuration, its secrets are valid, and the analysis talks."""
    sidecars, log, configuration, secrets, analysis = (run_any(reader, command) for command in block.commands)
    assert sidecars.stdout.split().count("istio-proxy") == 4
    assert log.stdout.strip()
    for prefix in ("cluster/", "listener/", "route/", "secret/", "endpoint/"):
        assert re.search(rf"^{prefix}\S*(?:backend|virtualInbound|default|127)", configuration.stdout, re.MULTILINE), (
            prefix
        )
    check_secrets(secrets.stdout)
    assert "Analyzed resources in namespace: secure-apps" in analysis.stderr


def run_any(reader: Reader, command: str) -> Typed:
    """Analysis ends with its own code when it finds something; everything else has to succeed."""
    return reader.run(command) if "analyze" in command else reader.succeed(command)


@outcome("Checking mTLS Status", "bash")
def status_script(reader: Reader, block: Block) -> None:
    """The script prints its four parts."""
    make, run = block.commands
    reader.succeed(reader.filled_in(make))
    shown = reader.run(run).stdout
    assert "=== Checking mTLS Status in secure-apps ===" in shown
    assert re.search(r"strict-mtls\s+STRICT", shown)
    assert re.search(r"mtls-destination\s+\*\.secure-apps\.svc\.cluster\.local", shown)
    assert len(re.findall(r"^(?:frontend|backend)-\S+\t\S+ istio-proxy$", shown, re.MULTILINE)) == 4
    assert re.search(r"^test-pod\S*\ttest-pod$", shown, re.MULTILINE)
    assert "=== Istio Analysis ===" in shown


@outcome("Phase 1: Enable PERMISSIVE Mode", "yaml")
def permissive(reader: Reader, block: Block) -> None:
    """The older `strict-mtls` goes on deciding, and whoever applies this hears it; without that, plaintext passes."""
    applied = reader.apply(block)
    assert re.search(r"Warning: .*strict-mtls.* is older", applied.stderr), applied
    assert reader.shell.curl("test-pod", "http://backend/")[0] in REFUSED
    reader.succeed("kubectl delete peerauthentication strict-mtls -n secure-apps")
    eventually(lambda: reader.shell.curl("test-pod", "http://backend/") == (0, 403))


@outcome("Phase 2: Monitor Traffic", "bash")
def monitor(reader: Reader, block: Block) -> None:
    """The control plane says who speaks plaintext to whom, refused and accepted alike; the dashboard shows it too."""
    look, dashboard = block.commands
    edge = r"non-mtls.*client=secure-apps/test-pod server=secure-apps/backend-\S+ port=80 outcome={} .*sidecar"

    def logged(which: str) -> bool:
        return re.search(edge.format(which), reader.run(look).stdout, re.IGNORECASE) is not None

    eventually(lambda: logged("accepted"))
    eventually(lambda: logged("refused"))

    def visit(address: str) -> None:
        page = reader.succeed(f"curl -sf '{address}'").stdout
        for word in ("secure-apps", "backend", "PERMISSIVE", "test-pod"):
            assert word in page, word

    reader.open_dashboard(dashboard.splitlines()[-1], visit)


@outcome("Phase 3: Switch to STRICT", "yaml")
def strict(reader: Reader, block: Block) -> None:
    """Plaintext is refused again."""
    reader.apply(block)
    eventually(lambda: reader.shell.curl("test-pod", "http://backend/")[0] in REFUSED)

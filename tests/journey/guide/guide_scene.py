"""What the guide takes for granted: workloads in `production`, one elsewhere, a client without sidecar, CA files."""

from guide_reader import Reader

NAMESPACES = """
apiVersion: v1
kind: Namespace
metadata: {name: production, labels: {istio-injection: enabled}}
---
apiVersion: v1
kind: Namespace
metadata: {name: elsewhere, labels: {istio-injection: enabled}}
---
apiVersion: v1
kind: Namespace
metadata: {name: outside}
"""

PLAIN_CLIENT = """
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: outside}
spec: {containers: [{name: client, image: curlimages/curl, command: [sleep, infinity]}]}
"""


def workload(name: str, namespace: str, *ports: int) -> str:
    """A deployment that answers HTTP on these ports, and its Service."""
    script = "".join(f"python3 -m http.server {port} & " for port in ports) + "wait"
    return f"""
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec: {{containers: [{{name: {name}, image: python, command: [sh, -c, "{script}"]}}]}}
---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  selector: {{app: {name}}}
  ports: [{", ".join(f"{{name: http-{port}, port: {port}}}" for port in ports)}]
"""


def set_up(reader: Reader) -> None:
    """Makes what exists before the guide begins."""
    manifests = (
        NAMESPACES,
        PLAIN_CLIENT,
        workload("api-service", "production", 80),
        workload("legacy-service", "production", 80, 8080, 9090),
        workload("web", "elsewhere", 80),
    )
    reader.shell.must("apply", "-f", "-", stdin="---".join(manifests))
    reader.settled("production", "elsewhere")
    reader.succeed("kubectl wait --for=condition=Ready pod/client -n outside --timeout=60s")


def authority_files(reader: Reader) -> None:
    """The four files of an organisation's own CA: a root and an intermediate that signs workloads."""
    reader.succeed(
        """
set -e
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -keyout root-key.pem \
  -out root-cert.pem -subj '/O=Acme/CN=Acme Root' -addext basicConstraints=critical,CA:TRUE \
  -addext keyUsage=critical,keyCertSign,cRLSign
openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca-key.pem -out ca.csr \
  -subj '/O=Acme/CN=Acme Intermediate'
printf 'basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign,cRLSign\n' > ca.ext
openssl x509 -req -in ca.csr -CA root-cert.pem -CAkey root-key.pem -CAcreateserial -days 365 -extfile ca.ext \
  -out ca-cert.pem
cat ca-cert.pem root-cert.pem > cert-chain.pem
"""
    )

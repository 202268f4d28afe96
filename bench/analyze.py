"""How long `mutua analyze` takes for manifests in files, and how long who applies one object waits for warnings."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mutua.analysis import projection, run
from mutua.analysis.inputs import World
from mutua.api import decode
from mutua.injection.settings import InjectorSettings
from mutua.mesh import build
from mutua.mesh.objects import ObjectSet
from mutua.sources import files

MANIFESTS_PER_APPLICATION = 5
APPLICATIONS_PER_NAMESPACE = 20

_NAMESPACE = """\
apiVersion: v1
kind: Namespace
metadata: {{name: team-{namespace}, labels: {{istio-injection: enabled}}}}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: default, namespace: team-{namespace}}}
spec: {{mtls: {{mode: STRICT}}}}
"""
_APPLICATION = """\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: app-{number}
  namespace: team-{namespace}
  labels: {{app: app-{number}}}
spec:
  replicas: 2
  selector:
    matchLabels: {{app: app-{number}}}
  template:
    metadata:
      labels: {{app: app-{number}, version: v1}}
    spec:
      serviceAccountName: app-{number}
      containers:
      - name: app
        image: registry.example.com/app-{number}:1.0
        ports: [{{containerPort: 8080, name: http}}]
---
apiVersion: v1
kind: Service
metadata:
  name: app-{number}
  namespace: team-{namespace}
spec:
  selector: {{app: app-{number}}}
  ports:
  - {{name: http, port: 80, targetPort: 8080}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {{name: app-{number}, namespace: team-{namespace}}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: app-{number}
  namespace: team-{namespace}
spec:
  selector:
    matchLabels: {{app: app-{number}}}
  rules:
  - from:
    - source:
        principals: ["cluster.local/ns/team-{namespace}/sa/app-{caller}"]
    to:
    - operation: {{methods: [GET], paths: ["/api/*"]}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata:
  name: app-{number}
  namespace: team-{namespace}
spec:
  host: app-{number}.team-{namespace}.svc.cluster.local
  trafficPolicy:
    tls: {{mode: ISTIO_MUTUAL}}
"""
_POLICIES = (
    """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: another, namespace: team-0}
spec: {mtls: {mode: PERMISSIVE}}
""",
    """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: all, namespace: istio-system}
spec: {host: "*.local", trafficPolicy: {tls: {mode: DISABLE}}}
""",
    """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: another, namespace: team-0}
spec: {rules: [{from: [{source: {principals: ["cluster.local/ns/team-0/sa/nobody"]}}]}]}
""",
)


def manifests(count: int) -> str:
    """About this many objects, as a person would write them."""
    applications = count // MANIFESTS_PER_APPLICATION
    parts = []
    for number in range(applications):
        namespace, rest = divmod(number, APPLICATIONS_PER_NAMESPACE)
        if not rest:
            parts.append(_NAMESPACE.format(namespace=namespace))
        caller = namespace * APPLICATIONS_PER_NAMESPACE + (rest + 1) % APPLICATIONS_PER_NAMESPACE
        parts.append(_APPLICATION.format(number=number, namespace=namespace, caller=caller))
    return "---\n".join(parts)


def whole_command(count: int) -> None:
    """Times the command as a person starts it, from files to the last line."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "all.yaml").write_text(manifests(count))
        command = [str(Path(sys.executable).with_name("mutua")), "analyze", "--use-kube=false", "-A", folder]
        started = time.perf_counter()
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        seconds = time.perf_counter() - started
    print(f"{count:>6} manifests: {seconds:.2f} s, {len(done.stdout.splitlines())} messages, exit {done.returncode}")


def one_applied(count: int) -> None:
    """Times what the webhook says about one object among this many."""
    documents, _ = files.located(manifests(count), "bench")
    written = ObjectSet.of(
        found for document in documents if (found := decode.any_from_mapping(document.value).value) is not None
    )
    objects = projection.project(written, InjectorSettings())
    world = World(objects, is_complete=True)
    snapshot = build.snapshot(objects, world.mesh_config)
    for text in _POLICIES:
        item = decode.any_from_mapping(files.located(text, "bench")[0][0].value).value
        assert item is not None
        times = []
        for _ in range(5):
            started = time.perf_counter()
            heard = run.if_applied(world, snapshot, item)
            times.append(time.perf_counter() - started)
        milliseconds = sorted(times)[len(times) // 2] * 1000
        kind = type(item).__name__
        print(f"{kind} applied among {len(objects)} objects: {milliseconds:.1f} ms, {len(heard)} warnings")


if __name__ == "__main__":
    for size in (1_000, 10_000):
        whole_command(size)
    one_applied(1_000)

"""helm 4, with a chart made here: hooks that run as jobs, a custom resource definition, upgrade and rollback."""

import json
from pathlib import Path

import pytest
from client_cluster import ClientCluster, proves

import kubectl as kubectl_binary

pytestmark = pytest.mark.linux

CLIENT = "helm 4"
CHART = {
    "Chart.yaml": "{apiVersion: v2, name: shop, version: 1.0.0, appVersion: '1'}",
    "values.yaml": "{replicas: 1, text: hello}",
    "crds/orders.yaml": """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: orders.shop.example.com}
spec:
  group: shop.example.com
  scope: Namespaced
  names: {plural: orders, singular: order, kind: Order}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        properties: {spec: {type: object, properties: {count: {type: integer, default: 1}}}}
""",
    "templates/order.yaml": """
apiVersion: shop.example.com/v1
kind: Order
metadata: {name: first}
spec: {}
""",
    "templates/shop.yaml": """
apiVersion: v1
kind: ConfigMap
metadata: {name: shop}
data: {text: "{{ .Values.text }}"}
---
apiVersion: v1
kind: Service
metadata: {name: shop}
spec: {selector: {app: shop}, ports: [{port: 80}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: shop}
spec:
  replicas: {{ .Values.replicas }}
  selector: {matchLabels: {app: shop}}
  template:
    metadata: {labels: {app: shop}}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{name: main, image: busybox, command: [sleep, infinity]}]
""",
    "templates/hooks.yaml": """
{{- range list "pre-install" "post-upgrade" "test" }}
---
apiVersion: batch/v1
kind: Job
metadata:
  name: hook-{{ . }}
  annotations: {helm.sh/hook: "{{ . }}", helm.sh/hook-delete-policy: before-hook-creation}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      containers: [{name: main, image: busybox, command: [sh, -c, "echo {{ . }}"]}]
{{- end }}
""",
}


@pytest.fixture(scope="module")
def chart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The chart's folder."""
    folder = tmp_path_factory.mktemp("chart")
    for name, text in CHART.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return folder


@proves(CLIENT, "install with hooks and CRDs, wait, list, upgrade, test, history, rollback, uninstall")
def test_the_life_of_a_release(cluster: ClientCluster, helm: Path, chart: Path) -> None:
    def release(*words: str) -> str:
        return cluster.output(helm, *words, "-n", "release")

    def shown(path: str, *what: str) -> str:
        return cluster.output(kubectl_binary.find(), "get", *what, "-n", "release", "-o", f"jsonpath={path}")

    installed = release("install", "shop", str(chart), "--create-namespace", "--wait", "--timeout=60s")
    assert "STATUS: deployed" in installed
    assert shown("{.status.succeeded}", "job", "hook-pre-install") == "1"
    assert shown("{.spec.count}", "order", "first") == "1"
    assert shown("{.status.availableReplicas}", "deploy", "shop") == "1"
    release("upgrade", "shop", str(chart), "--set", "text=bye", "--wait", "--timeout=60s")
    assert shown("{.data.text}", "configmap", "shop") == "bye"
    assert shown("{.status.succeeded}", "job", "hook-post-upgrade") == "1"
    assert "Succeeded" in release("test", "shop", "--timeout=60s")
    release("rollback", "shop", "1", "--wait", "--timeout=60s")
    assert shown("{.data.text}", "configmap", "shop") == "hello"
    history = json.loads(release("history", "shop", "-o", "json"))
    assert [(entry["revision"], entry["status"]) for entry in history] == [
        (1, "superseded"),
        (2, "superseded"),
        (3, "deployed"),
    ]
    assert [entry["name"] for entry in json.loads(release("list", "-o", "json"))] == ["shop"]
    release("uninstall", "shop", "--wait", "--timeout=60s")
    assert shown("{.items}", "configmaps,deployments,services", "-l", "app.kubernetes.io/managed-by=Helm") == "[]"

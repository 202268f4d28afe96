"""Stock kubectl against the API server."""

import json
import subprocess
import threading

import pytest
from api_server import ApiServer

import kubectl

MANIFEST = """
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {team: a}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: backend, namespace: shop}
spec:
  replicas: 2
  selector: {matchLabels: {app: backend}}
  template:
    metadata: {labels: {app: backend}}
    spec:
      containers:
      - {name: main, image: nginx, ports: [{containerPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: backend, namespace: shop}
spec:
  selector: {app: backend}
  ports: [{name: http, port: 8080}]
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: widgets, singular: widget, kind: Widget, shortNames: [wd]}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    additionalPrinterColumns: [{name: Size, type: integer, jsonPath: .spec.size}]
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            required: [size]
            properties: {size: {type: integer, minimum: 1}, color: {type: string, default: red}}
"""
WIDGET = """
apiVersion: example.com/v1
kind: Widget
metadata: {name: w1, namespace: shop}
spec: {size: 3}
"""


@pytest.fixture(scope="module", autouse=True)
def applied(server: ApiServer) -> None:
    """The manifest above, applied twice: the second time nothing changes."""
    server.kubectl("apply", "-f", "-", stdin=MANIFEST)
    server.kubectl("wait", "--for=condition=established", "crd/widgets.example.com", "--timeout=10s")
    again = server.kubectl("apply", "-f", "-", stdin=MANIFEST)
    assert {line.split()[-1] for line in again.splitlines()} == {"unchanged"}
    server.kubectl("apply", "-f", "-", stdin=WIDGET)


def test_tables_have_the_columns_that_people_know(server: ApiServer) -> None:
    deployments = server.kubectl("get", "deployments", "-n", "shop").splitlines()
    widgets = server.kubectl("get", "wd", "-A").splitlines()

    assert deployments[0].split() == ["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE"]
    assert deployments[1].split()[:2] == ["backend", "0/2"]
    assert [line.split() for line in widgets] == [["NAMESPACE", "NAME", "SIZE"], ["shop", "w1", "3"]]


def test_describe_and_explain(server: ApiServer) -> None:
    described = server.kubectl("describe", "deployment", "backend", "-n", "shop")

    assert "2 desired" in described
    assert "app=backend" in described
    assert "FIELD: containers" in server.kubectl("explain", "pod.spec.containers")


def test_label_annotate_and_select(server: ApiServer) -> None:
    server.kubectl("label", "namespace", "shop", "istio-injection=enabled")
    server.kubectl("annotate", "namespace", "shop", "note=hello world")

    assert "shop" in server.kubectl("get", "ns", "-l", "istio-injection=enabled,team in (a,b)", "-o", "name")
    server.kubectl("label", "namespace", "shop", "istio-injection-")
    assert server.kubectl("get", "ns", "-l", "istio-injection", "-o", "name") == ""


def test_patches_of_all_kinds(server: ApiServer) -> None:
    container = {"name": "main", "env": [{"name": "A", "value": "1"}]}
    strategic = {"spec": {"template": {"spec": {"containers": [container]}}}}
    server.kubectl("patch", "deploy", "backend", "-n", "shop", "-p", json.dumps(strategic))
    server.kubectl("patch", "wd", "w1", "-n", "shop", "--type=merge", "-p", '{"spec":{"size":5}}')
    operation = [{"op": "replace", "path": "/spec/color", "value": "blue"}]
    server.kubectl("patch", "wd", "w1", "-n", "shop", "--type=json", "-p", json.dumps(operation))
    refused = server.kubectl(
        "patch", "wd", "w1", "-n", "shop", "--type=merge", "-p", '{"spec":{"size":0}}', succeeds=False
    )

    path = "{.spec.template.spec.containers[0].image} {.spec.template.spec.containers[0].env[0].name}"
    assert server.kubectl("get", "deploy", "backend", "-n", "shop", "-o", f"jsonpath={path}") == "nginx A"
    assert server.kubectl("get", "wd", "w1", "-n", "shop", "-o", "jsonpath={.spec}") == '{"color":"blue","size":5}'
    assert 'The Widget "w1" is invalid: spec.size' in refused


def test_create_commands_of_every_kind_that_they_know(server: ApiServer) -> None:
    """These send protobuf, which kubectl's typed clients prefer."""
    for command in (
        "namespace made",
        "secret generic made -n shop --from-literal=a=b",
        "configmap made -n shop --from-literal=a=b",
        "serviceaccount made -n shop",
        "deployment made -n shop --image=nginx --replicas=0",
        "service clusterip made -n shop --tcp=80:8080",
        "role made -n shop --verb=get --resource=pods",
        "rolebinding made -n shop --role=made --serviceaccount=shop:made",
        "clusterrole made --verb=get --resource=pods",
        "job made -n shop --image=busybox -- true",
        "cronjob made -n shop --image=busybox --schedule=1 1 1 1 1",
    ):
        words = command.split(" ")
        if "--schedule=1" in words:
            words = [*words[: words.index("--schedule=1")], "--schedule=1 1 1 1 1"]
        server.kubectl("create", *words)

    assert server.kubectl("get", "secret", "made", "-n", "shop", "-o", "jsonpath={.data.a}") == "Yg=="
    assert server.kubectl("get", "deploy", "made", "-n", "shop", "-o", "jsonpath={.spec.replicas}") == "0"
    port = server.kubectl("get", "svc", "made", "-n", "shop", "-o", "jsonpath={.spec.ports[0].targetPort}")
    assert port == "8080"
    refused = server.kubectl("create", "namespace", "made", succeeds=False)
    assert 'namespaces "made" already exists' in refused


def test_identity_and_tokens(server: ApiServer) -> None:
    assert "kubernetes-admin" in server.kubectl("auth", "whoami")
    assert server.kubectl("auth", "can-i", "delete", "pods").strip() == "yes"
    token = server.kubectl("create", "token", "default", "-n", "shop").strip()
    who = server.kubectl("auth", "whoami", "-o", "jsonpath={.status.userInfo.username}")
    code, review = server.request(
        "POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", {"metadata": {}}, token=token
    )

    assert who == "kubernetes-admin"
    assert code == 201
    assert review["status"]["userInfo"]["username"] == "system:serviceaccount:shop:default"


def test_server_side_apply_names_the_other_manager(server: ApiServer) -> None:
    manifest = '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"ssa","namespace":"shop"},"data":{"k":"%s"}}'
    server.kubectl("apply", "--server-side", "--field-manager=one", "-f", "-", stdin=manifest % "1")
    refused = server.kubectl(
        "apply", "--server-side", "--field-manager=two", "-f", "-", stdin=manifest % "2", succeeds=False
    )
    server.kubectl(
        "apply", "--server-side", "--field-manager=two", "--force-conflicts", "-f", "-", stdin=manifest % "2"
    )

    assert 'conflict with "one": .data.k' in refused
    assert server.kubectl("get", "cm", "ssa", "-n", "shop", "-o", "jsonpath={.data.k}") == "2"


def test_client_side_appliers_go_over_to_the_server_side(server: ApiServer) -> None:
    manifest = '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"over","namespace":"shop"},"data":{"k":"%s"}}'
    server.kubectl("apply", "-f", "-", stdin=manifest % "1")
    server.kubectl("apply", "--server-side", "-f", "-", stdin=manifest % "2")
    server.kubectl("patch", "cm", "over", "-n", "shop", "-p", '{"data":{"k":"patched"}}')
    refused = server.kubectl("apply", "--server-side", "-f", "-", stdin=manifest % "3", succeeds=False)

    assert 'conflict with "kubectl-patch" using v1: .data.k' in refused


def test_scale_run_and_delete(server: ApiServer) -> None:
    server.kubectl("scale", "deployment/backend", "-n", "shop", "--replicas=3")
    server.kubectl(
        "run", "web", "-n", "shop", "--image=nginx", "--overrides", '{"spec":{"serviceAccountName":"default"}}'
    )
    replicas = server.kubectl("get", "deploy", "backend", "-n", "shop", "-o", "jsonpath={.spec.replicas}")
    server.kubectl("delete", "pod", "web", "-n", "shop", "--timeout=10s")

    assert replicas == "3"
    assert "NotFound" in server.kubectl("get", "pod", "web", "-n", "shop", succeeds=False)


def test_a_namespace_is_deleted_with_all_it_holds(server: ApiServer) -> None:
    server.kubectl("create", "namespace", "gone")
    server.kubectl("create", "configmap", "c", "-n", "gone")
    server.kubectl("delete", "namespace", "gone", "--timeout=20s")

    assert "NotFound" in server.kubectl("get", "ns", "gone", succeeds=False)


def test_strict_validation_names_the_unknown_field(server: ApiServer) -> None:
    wrong = MANIFEST.split("---")[1].replace("replicas:", "replicaz:")

    assert 'unknown field "spec.replicaz"' in server.kubectl("apply", "-f", "-", stdin=wrong, succeeds=False)


def test_an_unknown_kind_is_said_to_be_unknown(server: ApiServer) -> None:
    stranger = "apiVersion: apps/v1\nkind: Stranger\nmetadata: {name: x}\n"

    said = server.kubectl("apply", "-f", "-", stdin=stranger, succeeds=False)

    assert 'no matches for kind "Stranger" in version "apps/v1"' in said


def test_who_creates_what_has_no_effect_is_told(server: ApiServer) -> None:
    policy = (
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: shut, namespace: default}\n"
        "spec: {podSelector: {}}\n"
    )

    said = server.kubectl("apply", "--warnings-as-errors", "-f", "-", stdin=policy, succeeds=False)

    assert "Warning: this local cluster only stores a NetworkPolicy: it blocks no traffic" in said


def test_dry_run_and_diff_change_nothing(server: ApiServer) -> None:
    created = server.kubectl("create", "configmap", "dry", "-n", "shop", "--dry-run=server", "-o", "name")

    assert created.strip() == "configmap/dry"
    assert "NotFound" in server.kubectl("get", "cm", "dry", "-n", "shop", succeeds=False)


def test_a_watch_shows_rows_as_they_change(server: ApiServer) -> None:
    command = [str(kubectl.find()), "get", "cm", "-n", "shop", "-l", "watched", "-w", "--no-headers"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={"KUBECONFIG": str(server.paths.kubeconfig), "HOME": "/"}
    ) as watching:
        assert watching.stdout is not None
        made = threading.Thread(
            target=lambda: server.kubectl(
                "apply",
                "-f",
                "-",
                stdin='{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"seen","namespace":"shop",'
                '"labels":{"watched":"1"}}}',
            )
        )
        made.start()
        line = watching.stdout.readline()
        made.join()
        watching.terminate()

    assert line.split()[:2] == ["seen", "0"]


def test_api_resources_lists_short_names_and_custom_kinds(server: ApiServer) -> None:
    rows = {line.split()[0]: line for line in server.kubectl("api-resources").splitlines()}

    assert rows["deployments"].split()[1:3] == ["deploy", "apps/v1"]
    assert rows["widgets"].split()[1:] == ["wd", "example.com/v1", "true", "Widget"]


def test_deleting_a_definition_takes_its_objects_and_its_api(server: ApiServer) -> None:
    definition = MANIFEST.split("---")[3].replace("widgets", "gadgets").replace("widget", "gadget")
    definition = definition.replace("Widget", "Gadget").replace("[wd]", "[]")
    server.kubectl("apply", "-f", "-", stdin=definition)
    server.kubectl("apply", "-f", "-", stdin=WIDGET.replace("Widget", "Gadget"))
    server.kubectl("delete", "crd", "gadgets.example.com", "--timeout=20s")

    assert server.request("GET", "/apis/example.com/v1/gadgets")[0] == 404

"""The official Python client."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import kubernetes
import kubernetes.dynamic
import kubernetes.stream
import kubernetes.watch
import pytest
from client_cluster import ClientCluster, eventually, proves

pytestmark = [pytest.mark.linux, pytest.mark.filterwarnings("default")]

CLIENT = "kubernetes (official, Python)"
SLEEP = ["sh", "-c", "echo hello; trap 'exit 0' TERM; while :; do sleep 0.05; done"]


@pytest.fixture(scope="module")
def api(cluster: ClientCluster) -> Iterator[Any]:
    """A connection from the kubeconfig, in a namespace of its own."""
    client = kubernetes.config.new_client_from_config(str(cluster.kubeconfig))
    core = kubernetes.client.CoreV1Api(client)
    core.create_namespace({"metadata": {"name": "official"}})
    yield client
    core.delete_namespace("official")
    client.close()


@proves(CLIENT, "typed objects: create, read, replace, patch, list in pages, delete")
def test_objects(api: Any) -> None:
    core, apps = kubernetes.client.CoreV1Api(api), kubernetes.client.AppsV1Api(api)
    template = kubernetes.client.V1PodTemplateSpec(
        metadata=kubernetes.client.V1ObjectMeta(labels={"app": "x"}),
        spec=kubernetes.client.V1PodSpec(containers=[kubernetes.client.V1Container(name="c", image="nginx")]),
    )
    spec = kubernetes.client.V1DeploymentSpec(
        replicas=0, selector=kubernetes.client.V1LabelSelector(match_labels={"app": "x"}), template=template
    )
    body = kubernetes.client.V1Deployment(metadata=kubernetes.client.V1ObjectMeta(name="x"), spec=spec)
    apps.create_namespaced_deployment("official", body)
    patched = apps.patch_namespaced_deployment("x", "official", {"spec": {"minReadySeconds": 3}})
    assert (patched.spec.min_ready_seconds, patched.spec.template.spec.containers[0].image) == (3, "nginx")
    secret = core.create_namespaced_secret("official", {"metadata": {"name": "s"}, "stringData": {"a": "b"}})
    secret.data["c"] = "ZA=="
    assert core.replace_namespaced_secret("s", "official", secret).data == {"a": "Yg==", "c": "ZA=="}
    with pytest.raises(kubernetes.client.ApiException) as conflict:
        core.replace_namespaced_secret("s", "official", secret)
    assert (conflict.value.status, conflict.value.reason) == (409, "Conflict")
    for number in range(5):
        core.create_namespaced_config_map("official", {"metadata": {"name": f"m{number}", "labels": {"page": "1"}}})
    first = core.list_namespaced_config_map("official", label_selector="page", limit=3)
    rest = core.list_namespaced_config_map(
        "official", label_selector="page", limit=3, _continue=first.metadata._continue
    )
    assert [item.metadata.name for item in first.items + rest.items] == [f"m{number}" for number in range(5)]
    core.delete_collection_namespaced_config_map("official", label_selector="page")
    assert not core.list_namespaced_config_map("official", label_selector="page").items


@proves(CLIENT, "watch from a list's version")
def test_watch(api: Any) -> None:
    core = kubernetes.client.CoreV1Api(api)
    version = core.list_namespaced_config_map("official").metadata.resource_version
    names = [f"w{number}" for number in range(10)]
    writer = threading.Thread(
        target=lambda: [core.create_namespaced_config_map("official", {"metadata": {"name": name}}) for name in names]
    )
    writer.start()
    watch, seen = kubernetes.watch.Watch(), []
    for event in watch.stream(
        core.list_namespaced_config_map, "official", resource_version=version, timeout_seconds=20
    ):
        seen.append((event["type"], event["object"].metadata.name))
        if len(seen) == len(names):
            watch.stop()
    writer.join()

    assert seen == [("ADDED", name) for name in names]


@proves(CLIENT, "pods: run, logs, exec over WebSocket")
def test_pods(api: Any) -> None:
    core = kubernetes.client.CoreV1Api(api)
    container = {"name": "c", "image": "busybox", "command": SLEEP}
    spec = {"containers": [container], "terminationGracePeriodSeconds": 1}
    core.create_namespaced_pod("official", {"metadata": {"name": "p"}, "spec": spec})
    eventually(lambda: core.read_namespaced_pod("p", "official").status.phase == "Running")
    eventually(lambda: core.read_namespaced_pod_log("p", "official") == "hello\n")
    answer = kubernetes.stream.stream(
        core.connect_get_namespaced_pod_exec,
        "p",
        "official",
        command=["echo", "from inside"],
        stdout=True,
        stderr=True,
        stdin=False,
        tty=False,
    )
    core.delete_namespaced_pod("p", "official")

    assert answer == "from inside\n"


@proves(CLIENT, "dynamic client with custom resources, server-side apply")
def test_custom_resources(api: Any) -> None:
    extensions = kubernetes.client.ApiextensionsV1Api(api)
    schema = {
        "type": "object",
        "properties": {
            "spec": {"type": "object", "properties": {"size": {"type": "integer"}}},
        },
    }
    extensions.create_custom_resource_definition(
        {
            "metadata": {"name": "boxes.official.example.com"},
            "spec": {
                "group": "official.example.com",
                "scope": "Namespaced",
                "names": {"plural": "boxes", "singular": "box", "kind": "Box"},
                "versions": [
                    {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}},
                ],
            },
        }
    )
    dynamic = kubernetes.dynamic.DynamicClient(api)
    deadline = time.monotonic() + 10
    while True:
        try:
            boxes = dynamic.resources.get(api_version="official.example.com/v1", kind="Box")
            break
        except kubernetes.dynamic.exceptions.ResourceNotFoundError:
            assert time.monotonic() < deadline
            dynamic.resources.invalidate_cache()
    box = {"apiVersion": "official.example.com/v1", "kind": "Box", "metadata": {"name": "b"}, "spec": {"size": 1}}
    boxes.create(body=box, namespace="official")
    applied = dynamic.server_side_apply(
        boxes,
        body={**box, "spec": {"size": 2}},
        name="b",
        namespace="official",
        field_manager="me",
        force_conflicts=True,
    )
    assert applied.spec.size == 2
    custom = kubernetes.client.CustomObjectsApi(api)
    assert custom.get_namespaced_custom_object("official.example.com", "v1", "official", "boxes", "b")["spec"] == {
        "size": 2
    }
    extensions.delete_custom_resource_definition("boxes.official.example.com")


@proves(CLIENT, "rights: SelfSubjectAccessReview, a service account's token")
def test_rights(api: Any) -> None:
    core, rights = kubernetes.client.CoreV1Api(api), kubernetes.client.AuthorizationV1Api(api)
    core.create_namespaced_service_account("official", {"metadata": {"name": "guest"}})
    token = core.create_namespaced_service_account_token("guest", "official", {"spec": {}}).status.token
    configuration = kubernetes.client.Configuration(
        host=api.configuration.host, api_key={"authorization": token}, api_key_prefix={"authorization": "Bearer"}
    )
    configuration.ssl_ca_cert = api.configuration.ssl_ca_cert
    with kubernetes.client.ApiClient(configuration) as guest:
        with pytest.raises(kubernetes.client.ApiException) as refused:
            kubernetes.client.CoreV1Api(guest).list_namespaced_secret("official")
        review = {"spec": {"resourceAttributes": {"verb": "list", "resource": "secrets", "namespace": "official"}}}
        answer = kubernetes.client.AuthorizationV1Api(guest).create_self_subject_access_review(review)

    assert refused.value.status == 403
    assert answer.status.allowed is False
    assert rights.create_self_subject_access_review(review).status.allowed is True

"""Variables and command lines, as the kubelet composes them."""

import base64
from typing import Any

import pytest

from localcluster.images import Image
from localcluster.node.environment import (
    MissingReferenceError,
    PodPlace,
    command_line,
    container_variables,
    expand,
    service_variables,
)

PLACE = PodPlace("10.244.0.5", "10.244.0.1", 2, 4 << 30)
POD: dict[str, Any] = {
    "metadata": {"name": "p", "namespace": "shop", "uid": "u", "labels": {"app": "web"}, "annotations": {"a/b": "c"}},
    "spec": {
        "nodeName": "local",
        "serviceAccountName": "robot",
        "containers": [{"name": "c", "resources": {"limits": {"cpu": "1500m"}, "requests": {"memory": "64Mi"}}}],
    },
}


class Objects:
    def config_map(self, namespace: str, name: str) -> dict[str, Any] | None:
        return {"data": {"colour": "red", "bad=name": "x"}} if (namespace, name) == ("shop", "paint") else None

    def secret(self, namespace: str, name: str) -> dict[str, Any] | None:
        value = base64.b64encode(b"s3cret").decode()
        return {"data": {"password": value}} if (namespace, name) == ("shop", "login") else None


def variables(*env: dict[str, Any], services: dict[str, str] | None = None, **more: Any) -> dict[str, str]:
    container = {**POD["spec"]["containers"][0], "env": list(env), **more}
    return container_variables(POD, container, PLACE, Objects(), services or {})


def source(**what: Any) -> dict[str, Any]:
    return {"name": "X", "valueFrom": what}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("metadata.name", "p"),
        ("metadata.labels['app']", "web"),
        ("metadata.annotations['a/b']", "c"),
        ("metadata.annotations['none']", ""),
        ("spec.serviceAccountName", "robot"),
        ("spec.nodeName", "local"),
        ("status.podIP", "10.244.0.5"),
        ("status.hostIP", "10.244.0.1"),
    ],
)
def test_fields(path: str, value: str) -> None:
    assert variables(source(fieldRef={"fieldPath": path})) == {"X": value}


@pytest.mark.parametrize(
    ("reference", "value"),
    [
        ({"resource": "limits.cpu"}, "2"),
        ({"resource": "limits.cpu", "divisor": "1m"}, "1500"),
        ({"resource": "requests.memory", "divisor": "1Mi"}, "64"),
        ({"resource": "limits.memory", "divisor": "1Gi"}, "4"),
        ({"resource": "requests.cpu"}, "0"),
    ],
)
def test_resources_round_up_and_default_to_the_node(reference: dict[str, str], value: str) -> None:
    assert variables(source(resourceFieldRef=reference)) == {"X": value}


def test_keys_of_config_maps_and_secrets() -> None:
    found = variables(
        source(secretKeyRef={"name": "login", "key": "password"}),
        {"name": "Y", "valueFrom": {"configMapKeyRef": {"name": "paint", "key": "colour"}}},
        {"name": "Z", "valueFrom": {"configMapKeyRef": {"name": "none", "key": "k", "optional": True}}},
        envFrom=[{"configMapRef": {"name": "paint"}, "prefix": "P_"}, {"secretRef": {"name": "no", "optional": True}}],
    )
    assert found == {"X": "s3cret", "Y": "red", "P_colour": "red"}


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ({"configMapKeyRef": {"name": "none", "key": "k"}}, 'configmap "none" not found'),
        ({"secretKeyRef": {"name": "none", "key": "k"}}, 'secret "none" not found'),
        ({"configMapKeyRef": {"name": "paint", "key": "k"}}, "couldn't find key k in ConfigMap shop/paint"),
        ({"secretKeyRef": {"name": "login", "key": "k"}}, "couldn't find key k in Secret shop/login"),
        ({"fieldRef": {"fieldPath": "spec.none"}}, "unsupported fieldPath: spec.none"),
    ],
)
def test_what_is_missing_is_named_as_kubernetes_names_it(reference: dict[str, Any], message: str) -> None:
    with pytest.raises(MissingReferenceError) as raised:
        variables(source(**reference))
    assert str(raised.value) == message


def test_references_see_earlier_variables_and_services_and_nothing_else() -> None:
    env = [{"name": "A", "value": "1"}, {"name": "B", "value": "$(A) $(SVC) $(C) $$(A)"}, {"name": "C", "value": "3"}]
    assert variables(*env, services={"SVC": "10.96.0.9"})["B"] == "1 10.96.0.9 $(C) $(A)"


def test_the_pods_own_variables_win_over_services() -> None:
    assert variables({"name": "SVC", "value": "mine"}, services={"SVC": "theirs"}) == {"SVC": "mine"}


def test_expand_leaves_shell_substitutions_alone() -> None:
    assert expand("$(A) ${A} $A $", {"A": "1"}) == "1 ${A} $A $"


@pytest.mark.parametrize(
    ("container", "image", "expected"),
    [
        ({}, Image(("nginx", "-g")), ("nginx", "-g")),
        ({"args": ["$(A)"]}, Image(("curl",), entrypoint=True), ("curl", "1")),
        ({"args": ["sleep", "9"]}, Image(("sh",)), ("sleep", "9")),
        ({"command": ["echo"], "args": ["$(A)", "$(B)"]}, Image(("x",)), ("echo", "1", "$(B)")),
    ],
)
def test_command_lines(container: dict[str, Any], image: Image, expected: tuple[str, ...]) -> None:
    assert command_line(container, image, {"A": "1"}) == expected


def service(name: str, namespace: str, address: str, *ports: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": namespace}, "spec": {"clusterIP": address, "ports": list(ports)}}


SERVICES = [
    service("kubernetes", "default", "10.96.0.1", {"port": 443}),
    service(
        "my-web", "shop", "10.96.0.7", {"name": "http", "port": 80}, {"name": "dns", "port": 53, "protocol": "UDP"}
    ),
    service("headless", "shop", "None", {"port": 1}),
    service("far", "other", "10.96.0.8", {"port": 1}),
]


def test_service_variables() -> None:
    found = service_variables(SERVICES, "shop")
    assert found["KUBERNETES_SERVICE_HOST"] == "10.96.0.1"
    assert found["MY_WEB_SERVICE_PORT_HTTP"] == "80"
    assert found["MY_WEB_PORT"] == "tcp://10.96.0.7:80"
    assert found["MY_WEB_PORT_53_UDP"] == "udp://10.96.0.7:53"
    assert not any(name.startswith(("HEADLESS", "FAR")) for name in found)


def test_without_service_links_only_the_api_is_left() -> None:
    names = service_variables(SERVICES, "shop", service_links=False)
    assert all(name.startswith("KUBERNETES_") for name in names)

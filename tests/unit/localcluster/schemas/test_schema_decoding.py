"""What the decoder makes of a manifest: unknown fields, wrong types, nulls, quantities."""

from typing import Any

import pytest

from localcluster.apiserver import kinds, schemas
from localcluster.apiserver.schemas import model

Object = dict[str, Any]


def pod(**container: Any) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "main", "image": "nginx", **container}]},
    }


def test_a_good_pod_passes_unchanged() -> None:
    decoded = schemas.decode(kinds.POD, pod(ports=[{"containerPort": 80}]))

    assert decoded.unknown_fields == ()
    assert decoded.type_errors == ()
    assert decoded.object == pod(ports=[{"containerPort": 80}])


def test_a_misspelt_field_is_named_with_its_path_and_left_out() -> None:
    decoded = schemas.decode(kinds.POD, pod(imagePullPolicey="Always", env=[{"name": "A", "valeu": "x"}]))

    assert decoded.unknown_fields == (
        "spec.containers[0].imagePullPolicey",
        "spec.containers[0].env[0].valeu",
    )
    assert decoded.object["spec"]["containers"][0]["env"] == [{"name": "A"}]
    assert schemas.unknown_fields(kinds.POD, {**pod(), "extra": 1}) == ["extra"]


@pytest.mark.parametrize(
    ("kind", "manifest", "message"),
    [
        (
            kinds.POD,
            pod(ports=[{"containerPort": "http"}]),
            "json: cannot unmarshal string into Go struct field "
            "ContainerPort.spec.containers.ports.containerPort of type int32",
        ),
        (
            kinds.POD,
            pod(env=[{"name": "A", "value": True}]),
            "json: cannot unmarshal bool into Go struct field EnvVar.spec.containers.env.value of type string",
        ),
        (
            kinds.DEPLOYMENT,
            {"metadata": {"name": "d"}, "spec": {"replicas": "two"}},
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            kinds.DEPLOYMENT,
            {"metadata": {"name": "d", "labels": {"version": 1}}},
            "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string",
        ),
        (
            kinds.POD,
            {"metadata": {"name": "p"}, "spec": {"containers": {"name": "main"}}},
            "json: cannot unmarshal object into Go struct field PodSpec.spec.containers of type []v1.Container",
        ),
        (
            kinds.POD,
            {"metadata": {"name": "p"}, "spec": []},
            "json: cannot unmarshal array into Go struct field Pod.spec of type v1.PodSpec",
        ),
        (
            kinds.SECRET,
            {"metadata": {"name": "s"}, "data": {"key": "not base64!"}},
            "illegal base64 data at input byte 3",
        ),
        (
            kinds.POD,
            pod(resources={"limits": {"cpu": "many"}}),
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
    ],
)
def test_a_wrong_type_has_the_words_of_the_go_decoder(kind: kinds.KindInfo, manifest: Object, message: str) -> None:
    (error,) = schemas.decode(kind, manifest).type_errors

    assert error.message == message
    assert error.reason == schemas.TYPE_ERROR


def test_nulls_are_as_if_left_out() -> None:
    decoded = schemas.decode(kinds.POD, {"metadata": {"name": "p", "creationTimestamp": None}, "status": None})

    assert decoded.object == {"metadata": {"name": "p"}}


def test_numbers_are_good_quantities_and_become_text() -> None:
    decoded = schemas.decode(kinds.POD, pod(resources={"limits": {"cpu": 1, "memory": "64Mi"}}))

    assert decoded.type_errors == ()
    assert decoded.object["spec"]["containers"][0]["resources"]["limits"] == {"cpu": "1", "memory": "64Mi"}


@pytest.mark.parametrize(
    ("time", "is_good"),
    [
        ("2026-11-23T12:00:00Z", True),
        ("2026-11-23T12:00:00.123456Z", True),
        ("2026-11-23T12:00:00+02:00", True),
        ("2026-13-23T12:00:00Z", False),
        ("2026-11-23T12:00:00", False),
        ("yesterday", False),
    ],
)
def test_times_are_moments(time: str, is_good: bool) -> None:
    manifest = {"metadata": {"name": "p"}, "status": {"startTime": time}}

    assert (schemas.decode(kinds.POD, manifest).type_errors == ()) is is_good


@pytest.mark.parametrize("value", [80, "http"])
def test_a_port_may_be_a_number_or_a_name(value: Any) -> None:
    manifest = {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80, "targetPort": value}]}}

    assert schemas.decode(kinds.SERVICE, manifest).type_errors == ()


def test_every_builtin_kind_has_a_shape_and_documentation() -> None:
    for kind in kinds.BUILTIN:
        shape = model.struct_of_kind(kind.group, kind.version, kind.kind)
        assert shape is not None, kind
        assert {"apiVersion", "kind"} <= shape.fields.keys()
        assert model.documentation(shape.name)[0]


def test_field_descriptions_come_with_their_fields() -> None:
    description, fields = model.documentation("core_v1.PodSpec")

    assert description == "PodSpec is a description of a pod."
    assert fields["nodeName"].startswith("NodeName indicates in which node this pod is scheduled.")
    assert model.documentation("core_v1.NoSuchThing") == ("", {})

"""Kubernetes' protobuf bodies become the JSON that the same Go object would give."""

from typing import Any

import pytest
from google.protobuf.message_factory import GetMessageClass

from localcluster.apiserver.http import protobuf


def body(api_version: str, kind: str, raw: bytes) -> bytes:
    unknown: Any = message("k8s.io.apimachinery.pkg.runtime.Unknown")
    unknown.typeMeta.apiVersion, unknown.typeMeta.kind, unknown.raw = api_version, kind, raw
    return b"k8s\x00" + bytes(unknown.SerializeToString())


def message(name: str) -> Any:
    return GetMessageClass(protobuf._pool().FindMessageTypeByName(name))()


def test_a_deployment_keeps_meant_zeros_and_drops_unset_ones() -> None:
    deployment = message("k8s.io.api.apps.v1.Deployment")
    deployment.metadata.name = "d"
    deployment.metadata.generation = 0
    deployment.metadata.creationTimestamp.SetInParent()
    deployment.spec.replicas = 0
    deployment.spec.minReadySeconds = 0
    deployment.spec.strategy.rollingUpdate.maxSurge.type = 1
    deployment.spec.strategy.rollingUpdate.maxSurge.strVal = "25%"
    container = deployment.spec.template.spec.containers.add()
    container.name, container.workingDir, container.tty = "c", "", False
    container.resources.limits["cpu"].string = "100m"
    container.livenessProbe.handler.httpGet.port.intVal = 80
    volume = deployment.spec.template.spec.volumes.add()
    volume.name = "v"
    volume.volumeSource.emptyDir.SetInParent()
    deployment.status.SetInParent()

    assert protobuf.decode(body("apps/v1", "Deployment", deployment.SerializeToString())) == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "d"},
        "spec": {
            "replicas": 0,
            "strategy": {"rollingUpdate": {"maxSurge": "25%"}},
            "template": {
                "spec": {
                    "containers": [
                        {
                            "name": "c",
                            "resources": {"limits": {"cpu": "100m"}},
                            "livenessProbe": {"httpGet": {"port": 80}},
                        }
                    ],
                    "volumes": [{"name": "v", "emptyDir": {}}],
                }
            },
        },
    }


def test_bytes_and_times() -> None:
    secret = message("k8s.io.api.core.v1.Secret")
    secret.data["k"] = b"\x00\xff"
    lease = message("k8s.io.api.coordination.v1.Lease")
    lease.spec.renewTime.seconds, lease.spec.renewTime.nanos = 1_700_000_000, 5_000

    assert protobuf.decode(body("v1", "Secret", secret.SerializeToString()))["data"] == {"k": "AP8="}
    found = protobuf.decode(body("coordination.k8s.io/v1", "Lease", lease.SerializeToString()))
    assert found["spec"] == {"renewTime": "2023-11-14T22:13:20.000005Z"}


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{}",
        b"k8s\x00\xff\xff",
        body("v1", "Secret", b"\xff\xff\xff"),
        body("example.com/v1", "Widget", b""),
        body("", "", b""),
    ],
)
def test_what_cannot_be_read_says_so(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        protobuf.decode(raw)

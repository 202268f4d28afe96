"""lightkube, a typed client for Python."""

import pytest
from client_cluster import ClientCluster, eventually, proves

pytestmark = [pytest.mark.linux, pytest.mark.filterwarnings("default")]

CLIENT = "lightkube (Python)"


@proves(CLIENT, "typed and generic resources, apply, scale subresource, wait, logs, watch")
def test_objects(cluster: ClientCluster) -> None:
    from lightkube import ApiError, Client, KubeConfig
    from lightkube.models.apps_v1 import DeploymentSpec
    from lightkube.models.autoscaling_v1 import ScaleSpec
    from lightkube.models.core_v1 import Container, PodSpec, PodTemplateSpec
    from lightkube.models.meta_v1 import LabelSelector, ObjectMeta
    from lightkube.resources.apps_v1 import Deployment
    from lightkube.resources.core_v1 import ConfigMap, Namespace, Pod

    client = Client(config=KubeConfig.from_file(str(cluster.kubeconfig)), field_manager="mine", namespace="light")
    client.create(Namespace(metadata=ObjectMeta(name="light")))
    config_map = ConfigMap(
        apiVersion="v1", kind="ConfigMap", metadata=ObjectMeta(name="m", namespace="light"), data={"a": "1"}
    )
    client.apply(config_map)
    with pytest.raises(ApiError) as conflict:
        client.apply(
            ConfigMap(apiVersion="v1", kind="ConfigMap", metadata=config_map.metadata, data={"a": "2"}),
            field_manager="other",
        )
    assert conflict.value.status.code == 409
    container = Container(name="c", image="busybox", command=["sh", "-c", "echo hello; exec sleep 300"])
    template = PodTemplateSpec(
        metadata=ObjectMeta(labels={"app": "d"}), spec=PodSpec(containers=[container], terminationGracePeriodSeconds=0)
    )
    spec = DeploymentSpec(selector=LabelSelector(matchLabels={"app": "d"}), template=template, replicas=1)
    client.create(Deployment(metadata=ObjectMeta(name="d"), spec=spec))
    client.wait(Deployment, "d", for_conditions=["Available"])
    (pod,) = client.list(Pod, labels={"app": "d"})
    assert pod.metadata is not None
    assert pod.metadata.name is not None
    name = pod.metadata.name
    eventually(lambda: list(client.log(name)) == ["hello\n"])
    client.replace(Deployment.Scale(metadata=ObjectMeta(name="d", namespace="light"), spec=ScaleSpec(replicas=0)), "d")
    for event, found in client.watch(Pod, labels={"app": "d"}):
        if event == "DELETED":
            assert found.metadata is not None
            assert found.metadata.name == name
            break
    client.delete(Namespace, "light")

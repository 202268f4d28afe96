"""kr8s, an async client for Python."""

from typing import Any

import pytest
from client_cluster import ClientCluster, proves

pytestmark = [pytest.mark.linux, pytest.mark.filterwarnings("default")]

CLIENT = "kr8s (Python)"


@proves(CLIENT, "objects by kind: create, wait, patch, scale, logs, exec, watch, delete")
async def test_objects(cluster: ClientCluster) -> None:
    import kr8s.asyncio
    from kr8s.asyncio.objects import ConfigMap, Deployment, Namespace, Pod

    api: Any = await kr8s.asyncio.api(kubeconfig=str(cluster.kubeconfig))
    namespace = await Namespace({"metadata": {"name": "kr8s"}}, api=api)
    await namespace.create()
    container = {"name": "c", "image": "busybox", "command": ["sh", "-c", "echo hello; exec sleep 300"]}
    pod = await Pod(
        {
            "metadata": {"name": "p", "namespace": "kr8s"},
            "spec": {"containers": [container], "terminationGracePeriodSeconds": 0},
        },
        api=api,
    )
    await pod.create()
    await pod.wait("condition=Ready", timeout=20)
    assert [line async for line in pod.logs()] == ["hello"]
    assert (await pod.exec(["echo", "inside"])).stdout == b"inside\n"
    await pod.label(seen="yes")
    assert [found.name async for found in api.get("pods", namespace="kr8s", label_selector="seen=yes")] == ["p"]
    deployment = await Deployment(
        {
            "metadata": {"name": "d", "namespace": "kr8s"},
            "spec": {
                "replicas": 0,
                "selector": {"matchLabels": {"app": "d"}},
                "template": {"metadata": {"labels": {"app": "d"}}, "spec": {"containers": [container]}},
            },
        },
        api=api,
    )
    await deployment.create()
    await deployment.scale(0)
    config_map = await ConfigMap({"metadata": {"name": "m", "namespace": "kr8s"}, "data": {"a": "1"}}, api=api)
    await config_map.create()
    async for event, found in api.watch("configmaps", namespace="kr8s"):
        if found.name == "m":
            assert event == "ADDED"
            break
    await config_map.patch({"data": {"a": "2"}})
    assert config_map.data.a == "2"
    await pod.delete()
    await namespace.delete()

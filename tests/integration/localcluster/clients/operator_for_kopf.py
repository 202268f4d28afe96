"""An operator in kopf's words: each Greeting gets a ConfigMap with its text, and leaves nothing behind."""

from typing import Any

import kopf
from kubernetes import client, config

config.load_kube_config()


@kopf.on.create("greetings")
@kopf.on.update("greetings")
def greet(body: Any, spec: Any, name: str, namespace: str, patch: Any, **_: Any) -> dict[str, str]:
    """Write the ConfigMap, owned by the greeting."""
    wanted: dict[str, Any] = {"metadata": {"name": name}, "data": {"text": spec["text"]}}
    kopf.adopt(wanted)
    core = client.CoreV1Api()
    try:
        core.create_namespaced_config_map(namespace, wanted)
    except client.ApiException as error:
        if error.status != 409:
            raise
        core.patch_namespaced_config_map(name, namespace, wanted)
    kopf.event(body, type="Normal", reason="Greeted", message=f"said {spec['text']}")
    patch.status["said"] = spec["text"]
    return {"length": str(len(spec["text"]))}


@kopf.on.delete("greetings")
def farewell(name: str, namespace: str, **_: Any) -> None:
    """Say so in a ConfigMap that stays."""
    client.CoreV1Api().create_namespaced_config_map(namespace, {"metadata": {"name": f"{name}-gone"}})

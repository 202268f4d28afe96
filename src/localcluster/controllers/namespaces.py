"""Namespaces: what every one holds from its first moment, and how one ends."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from localcluster.apiserver import kinds
from localcluster.apiserver.kinds import KindInfo
from localcluster.controllers.conditions import with_condition
from localcluster.controllers.state import Name, State, is_terminating
from localcluster.controllers.writes import Create, Delete, Patch, Update, Write

Object = dict[str, Any]

FINALIZER = "kubernetes"
ROOT_CERTIFICATE = "kube-root-ca.crt"
_DEFAULT_ACCOUNT = "default"
_DESCRIPTION = "kubernetes.io/description"
_DESCRIPTION_TEXT = (
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the "
    "internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes "
    "clusters."
)


def keys(state: State, kind: KindInfo, old: Object | None, new: Object | None) -> Iterable[Name]:
    """The namespaces that a change concerns."""
    item = new or old or {}
    if kind is kinds.NAMESPACE:
        yield "", item["metadata"]["name"]
    elif item["metadata"].get("namespace"):
        is_ours = (kind is kinds.SERVICE_ACCOUNT and item["metadata"]["name"] == _DEFAULT_ACCOUNT) or (
            kind is kinds.CONFIG_MAP and item["metadata"]["name"] == ROOT_CERTIFICATE
        )
        namespace = state.get(kinds.NAMESPACE, "", item["metadata"]["namespace"])
        if is_ours or (namespace is not None and is_terminating(namespace)):
            yield "", item["metadata"]["namespace"]


def default_contents(ca_certificate: str, state: State, key: Name) -> list[Write]:
    """Make the service account `default` and the config map with the API's CA (PEM) where they are missing."""
    name = key[1]
    namespace = state.get(kinds.NAMESPACE, "", name)
    if namespace is None or is_terminating(namespace):
        return []
    writes: list[Write] = []
    if state.get(kinds.SERVICE_ACCOUNT, name, _DEFAULT_ACCOUNT) is None:
        about = {"name": _DEFAULT_ACCOUNT, "namespace": name}
        writes.append(Create(kinds.SERVICE_ACCOUNT, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": about}))
    found = state.get(kinds.CONFIG_MAP, name, ROOT_CERTIFICATE)
    contents = {"ca.crt": ca_certificate}
    if found is None:
        metadata = {
            "name": ROOT_CERTIFICATE,
            "namespace": name,
            "annotations": {_DESCRIPTION: _DESCRIPTION_TEXT},
        }
        item = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": contents}
        writes.append(Create(kinds.CONFIG_MAP, item))
    elif found.get("data") != contents and not is_terminating(found):
        writes.append(Update(kinds.CONFIG_MAP, {**found, "data": contents}))
    return writes


def finish(state: State, key: Name, now: datetime) -> list[Write]:
    """Empty a namespace under deletion, then let it go."""
    namespace = state.get(kinds.NAMESPACE, "", key[1])
    if namespace is None or not is_terminating(namespace):
        return []
    contents = state.contents(key[1])
    if not contents:
        spec: Object = namespace.get("spec") or {}
        left = [name for name in spec.get("finalizers") or () if name != FINALIZER]
        if left == (spec.get("finalizers") or []):
            return []
        return [Update(kinds.NAMESPACE, {**namespace, "spec": {**spec, "finalizers": left}}, "finalize")]
    writes: list[Write] = [Delete(kind, item) for kind, item in contents if not is_terminating(item)]
    return writes + _remaining(namespace, contents, now)


def _remaining(namespace: Object, contents: list[tuple[KindInfo, Object]], now: datetime) -> list[Write]:
    """Say on the namespace what it waits for: objects that finalizers hold."""
    before: Object = namespace.get("status") or {}
    held = sorted(
        f"{finalizer} in {kind.resource} {item['metadata']['name']}"
        for kind, item in contents
        for finalizer in item["metadata"].get("finalizers") or ()
    )
    conditions = before.get("conditions") or []
    condition = {
        "type": "NamespaceFinalizersRemaining",
        "status": "True" if held else "False",
        "reason": "SomeFinalizersRemain" if held else "ContentHasNoFinalizers",
        "message": (
            "Some content in the namespace has finalizers remaining: " + ", ".join(held)
            if held
            else "All content-preserving finalizers finished"
        ),
    }
    if not held and not conditions:
        return []
    fresh = with_condition(conditions, condition, now)
    if fresh == conditions:
        return []
    return [Patch(kinds.NAMESPACE, "", namespace["metadata"]["name"], {"status": {"conditions": fresh}}, "status")]

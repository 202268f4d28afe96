"""Pods run as a service account and get its token mounted, as Kubernetes' ServiceAccount admission does it."""

from __future__ import annotations

import asyncio
from typing import Any

from localcluster.apiserver.errors import ForbiddenError
from localcluster.apiserver.kinds import POD, SERVICE_ACCOUNT
from localcluster.apiserver.metadata import random_suffix
from localcluster.apiserver.storage import Store

Object = dict[str, Any]

TOKEN_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"  # noqa: S105 - a folder
# One hour, plus the seven seconds by which Kubernetes marks the tokens that it injects.
TOKEN_SECONDS = 3607
ROOT_CA_CONFIG_MAP = "kube-root-ca.crt"
_VOLUME_PREFIX = "kube-api-access-"
_PATIENCE_SECONDS = 2.0


async def account_of(store: Store, namespace: str, name: str) -> Object | None:
    """The account; a new namespace's `default` is waited for a moment, since a controller is about to create it."""
    found = store.get(SERVICE_ACCOUNT.storage_key, namespace, name)
    if found is not None or name != "default":
        return None if found is None else found.object()
    with store.subscribe(SERVICE_ACCOUNT.storage_key, namespace, store.revision) as subscription:
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                while found is None:
                    await subscription.next()
                    found = store.get(SERVICE_ACCOUNT.storage_key, namespace, name)
        except TimeoutError:
            return None
    return found.object()


async def admit(store: Store, pod: Object) -> Object:
    """The new pod with its account, the account's pull secrets and, unless declined, the token volume."""
    spec = pod.get("spec")
    metadata = pod["metadata"]
    # Mirror pods come from the node's own files and have no account (plugin/pkg/admission/serviceaccount).
    if not isinstance(spec, dict) or "kubernetes.io/config.mirror" in (metadata.get("annotations") or {}):
        return pod
    namespace = metadata.get("namespace", "")
    name = spec.get("serviceAccountName") or spec.get("serviceAccount") or "default"
    account = await account_of(store, namespace, name)
    if account is None:
        pod_name = metadata.get("name", "")
        raise ForbiddenError(
            f'pods "{pod_name}" is forbidden: error looking up service account {namespace}/{name}: '
            f'serviceaccount "{name}" not found',
            resource=POD.plural,
            name=pod_name,
        )
    return with_account(pod, account)


def with_account(pod: Object, account: Object) -> Object:
    """The pod as it runs under `account`. Pure."""
    name = account["metadata"]["name"]
    spec = {**pod["spec"], "serviceAccountName": name, "serviceAccount": name}
    if not spec.get("imagePullSecrets") and account.get("imagePullSecrets"):
        spec["imagePullSecrets"] = account["imagePullSecrets"]
    automount = spec.get("automountServiceAccountToken")
    if automount is None:
        automount = account.get("automountServiceAccountToken")
    if automount is None or automount:
        _mount_token(spec)
    return {**pod, "spec": spec}


def _mount_token(spec: Object) -> None:
    volumes = list(spec.get("volumes") or ())
    volume_name = next((v["name"] for v in volumes if str(v.get("name", "")).startswith(_VOLUME_PREFIX)), None)
    needed = volume_name or _VOLUME_PREFIX + random_suffix()
    mounted = False
    for group in ("initContainers", "containers"):
        if not isinstance(spec.get(group), list):
            continue
        containers = []
        for container in spec[group]:
            mounts = list(container.get("volumeMounts") or ())
            if all(mount.get("mountPath") != TOKEN_PATH for mount in mounts):
                mounts.append({"name": needed, "readOnly": True, "mountPath": TOKEN_PATH})
                mounted = True
            containers.append({**container, "volumeMounts": mounts})
        spec[group] = containers
    if mounted and volume_name is None:
        spec["volumes"] = [*volumes, {"name": needed, "projected": _projection()}]


def _projection() -> Object:
    namespace = {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}
    return {
        "defaultMode": 0o644,
        "sources": [
            {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
            {"configMap": {"name": ROOT_CA_CONFIG_MAP, "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [namespace]}},
        ],
    }

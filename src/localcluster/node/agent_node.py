"""The Node object and its Lease: that this machine is there, how large it is, and that it lives."""

import asyncio
import logging
import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from localcluster.node.client import ApiClient, ApiStatusError, ApiUnavailableError
from localcluster.node.status import timestamp

_log = logging.getLogger(__name__)
NODE_NAME = "local"
_LEASE_NAMESPACE = "kube-node-lease"
_LEASES = "coordination.k8s.io/v1/leases"
_LEASE_SECONDS = 40
_RENEW_SECONDS = 10.0
_RETRY_SECONDS = 0.1
_MOST_PODS = 250
_KUBELET_VERSION = "v1.33.0+localcluster"
_NOT_FOUND, _CONFLICT = 404, 409


def node_object(facts: Mapping[str, str]) -> dict[str, Any]:
    """The Node as it is registered. `facts` come from `machine_facts`."""
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": NODE_NAME,
            "labels": {
                "kubernetes.io/hostname": NODE_NAME,
                "kubernetes.io/os": "linux",
                "kubernetes.io/arch": facts["architecture"],
                "node-role.kubernetes.io/control-plane": "",
            },
        },
        "spec": {},
    }


def node_status(facts: Mapping[str, str], address: str, now: datetime) -> dict[str, Any]:
    """The Node's status: ready, with the machine's size."""
    capacity = {
        "cpu": facts["cpu"],
        "memory": f"{int(facts['memory_bytes']) // 1024}Ki",
        "pods": str(_MOST_PODS),
        "ephemeral-storage": f"{int(facts['disk_bytes']) // 1024}Ki",
    }
    conditions = [
        ("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        ("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        ("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        ("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
    ]
    return {
        "addresses": [{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": NODE_NAME}],
        "capacity": capacity,
        "allocatable": capacity,
        "conditions": [
            {
                "type": kind,
                "status": value,
                "reason": reason,
                "message": message,
                "lastHeartbeatTime": timestamp(now),
                "lastTransitionTime": timestamp(now),
            }
            for kind, value, reason, message in conditions
        ],
        "nodeInfo": {
            "architecture": facts["architecture"],
            "operatingSystem": "linux",
            "kernelVersion": facts["kernel"],
            "osImage": facts["system"],
            "machineID": facts["machine_id"],
            "systemUUID": facts["machine_id"],
            "bootID": facts["boot_id"],
            "containerRuntimeVersion": "localcluster://1",
            "kubeletVersion": _KUBELET_VERSION,
            "kubeProxyVersion": "",
        },
    }


def machine_facts(directory: Path) -> dict[str, str]:
    """What is known of this machine; `directory` is on the disk whose size counts."""
    machine = platform.machine()
    disk = os.statvfs(directory)
    return {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine),
        "kernel": platform.release(),
        "system": _system_name(),
        "machine_id": _first_line("/etc/machine-id"),
        "boot_id": _first_line("/proc/sys/kernel/random/boot_id"),
        "cpu": str(len(os.sched_getaffinity(0))),
        "memory_bytes": str(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")),
        "disk_bytes": str(disk.f_frsize * disk.f_blocks),
    }


def _system_name() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        return "Linux"


def _first_line(path: str) -> str:
    try:
        return Path(path).read_text().partition("\n")[0]
    except OSError:
        return ""


async def register(client: ApiClient, facts: Mapping[str, str], address: str) -> None:
    """Make the Node object and its status, as soon as the API answers; an older one is taken over."""
    while True:
        try:
            try:
                await client.create("nodes", node_object(facts))
            except ApiStatusError as error:
                if error.code != _CONFLICT:
                    raise
                labels = {"metadata": {"labels": node_object(facts)["metadata"]["labels"]}}
                await client.merge("nodes", NODE_NAME, labels)
            status = {"status": node_status(facts, address, datetime.now(UTC))}
            await client.merge("nodes", NODE_NAME, status, subresource="status")
        except (ApiStatusError, ApiUnavailableError) as error:
            _log.debug("the node is not registered yet: %s", error)
            await asyncio.sleep(_RETRY_SECONDS)
        else:
            return


async def keep_lease(client: ApiClient) -> None:
    """Renew the node's Lease until cancelled: one small write every ten seconds."""
    while True:
        try:
            await _renew(client)
        except (ApiStatusError, ApiUnavailableError) as error:
            _log.debug("the node's lease was not renewed: %s", error)
        await asyncio.sleep(_RENEW_SECONDS)


async def _renew(client: ApiClient) -> None:
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    try:
        await client.merge(_LEASES, NODE_NAME, {"spec": {"renewTime": now}}, _LEASE_NAMESPACE)
        return
    except ApiStatusError as error:
        if error.code != _NOT_FOUND:
            raise
    lease = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": NODE_NAME, "namespace": _LEASE_NAMESPACE},
        "spec": {"holderIdentity": NODE_NAME, "leaseDurationSeconds": _LEASE_SECONDS, "renewTime": now},
    }
    try:
        await client.create(_LEASES, lease, _LEASE_NAMESPACE)
    except ApiStatusError as error:
        if error.code != _NOT_FOUND:
            raise
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": _LEASE_NAMESPACE}}
        await client.create("namespaces", namespace)
        await client.create(_LEASES, lease, _LEASE_NAMESPACE)

"""What the server does to objects of certain kinds when they are written or deleted. Pure functions on JSON."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from typing import Any

from localcluster.apiserver import certificate_requests, kinds
from localcluster.apiserver.context import UserInfo
from localcluster.apiserver.kinds import KindInfo
from localcluster.apiserver.metadata import timestamp

Object = dict[str, Any]

ORPHAN = "orphan"
FOREGROUND = "foregroundDeletion"
DEFAULT_GRACE_SECONDS = 30
PROTECTED_NAMESPACES = frozenset({"default", "kube-system", "kube-public"})
NAMESPACE_FINALIZER = "kubernetes"
DEFINITION_FINALIZER = "customresourcecleanup.apiextensions.k8s.io"
# The kubelet registers its node with a status, so that one survives creation (registry/core/node/strategy.go).
_STATUS_AT_CREATION = {(kinds.NODE.group, kinds.NODE.kind)}


def _is(kind: KindInfo, other: KindInfo) -> bool:
    return (kind.group, kind.kind) == (other.group, other.kind)


def prepare_for_create(kind: KindInfo, object: Object, user: UserInfo) -> None:
    """Set a new object's server-side fields, and drop the status that only /status may write."""
    if "status" in kind.subresources and (kind.group, kind.kind) not in _STATUS_AT_CREATION:
        object.pop("status", None)
    metadata = object["metadata"]
    if _is(kind, kinds.NAMESPACE):
        object.setdefault("spec", {})["finalizers"] = [NAMESPACE_FINALIZER]
        object["status"] = {"phase": "Active"}
        _label_namespace(object)
    elif _is(kind, kinds.POD):
        object["status"] = {"phase": "Pending", "qosClass": quality_of_service(object.get("spec") or {})}
    elif _is(kind, kinds.CUSTOM_RESOURCE_DEFINITION):
        metadata.setdefault("finalizers", [])
        if DEFINITION_FINALIZER not in metadata["finalizers"]:
            metadata["finalizers"].append(DEFINITION_FINALIZER)
    elif _is(kind, kinds.JOB):
        _select_pods_of_job(object)
    elif _is(kind, kinds.CERTIFICATE_SIGNING_REQUEST):
        certificate_requests.prepare_for_create(object, user)
    _merge_string_data(kind, object)


def prepare_for_update(kind: KindInfo, old: Object, new: Object, subresource: str | None) -> Object:
    """What is written when `new` replaces `old`, wholly or through a subresource: who may change which part."""
    if _is(kind, kinds.CERTIFICATE_SIGNING_REQUEST):
        return certificate_requests.prepare_for_update(old, new, subresource or "")
    if subresource == "status":
        metadata = old["metadata"]
        if "managedFields" in new["metadata"]:
            metadata = {**metadata, "managedFields": new["metadata"]["managedFields"]}
        merged = {**old, "metadata": metadata}
        if "status" in new:
            merged["status"] = new["status"]
        else:
            merged.pop("status", None)
        return merged
    if subresource == "ephemeralcontainers":
        return {**old, "spec": _with_ephemeral_containers(old.get("spec") or {}, new.get("spec") or {})}
    if subresource == "finalize":
        return {
            **old,
            "spec": {**(old.get("spec") or {}), "finalizers": (new.get("spec") or {}).get("finalizers") or []},
        }
    new = dict(new)
    if "status" in kind.subresources:
        if "status" in old:
            new["status"] = old["status"]
        else:
            new.pop("status", None)
    if _is(kind, kinds.NAMESPACE):
        new["spec"] = {**(new.get("spec") or {}), "finalizers": (old.get("spec") or {}).get("finalizers") or []}
        _label_namespace(new)
    if _is(kind, kinds.SERVICE):
        _keep_address(old.get("spec") or {}, new.get("spec") or {})
    _merge_string_data(kind, new)
    return new


def _with_ephemeral_containers(old: Object, new: Object) -> Object:
    """The pod's spec with further ephemeral containers; those that it has stay as they are for ever."""
    held = old.get("ephemeralContainers") or []
    taken = {item["name"] for group in ("containers", "initContainers") for item in old.get(group) or ()}
    taken |= {item["name"] for item in held}
    added = [item for item in new.get("ephemeralContainers") or () if item.get("name") not in taken]
    return {**old, "ephemeralContainers": [*held, *added]}


def _keep_address(old: Object, new: Object) -> None:
    """A manifest that is applied again does not name the address that it was given."""
    if new.get("type") != "ExternalName" and not new.get("clusterIP") and not new.get("clusterIPs"):
        new |= {name: old[name] for name in ("clusterIP", "clusterIPs") if name in old}


def _label_namespace(object: Object) -> None:
    metadata = object["metadata"]
    metadata["labels"] = {**(metadata.get("labels") or {}), "kubernetes.io/metadata.name": metadata.get("name", "")}


def _merge_string_data(kind: KindInfo, object: Object) -> None:
    """stringData is write-only: its values go into data (core/v1 Secret)."""
    if not _is(kind, kinds.SECRET) or not isinstance(object.get("stringData"), dict):
        return
    plain = object.pop("stringData")
    encoded = {name: base64.b64encode(str(text).encode()).decode() for name, text in plain.items()}
    object["data"] = {**(object.get("data") or {}), **encoded}


def _select_pods_of_job(object: Object) -> None:
    """A job without manualSelector owns the pods with its own uid (registry/batch/job/strategy.go)."""
    spec = object.get("spec")
    if not isinstance(spec, dict) or spec.get("manualSelector") or not isinstance(spec.get("template"), dict):
        return
    uid, name = object["metadata"]["uid"], object["metadata"]["name"]
    metadata = spec["template"].setdefault("metadata", {})
    metadata["labels"] = {
        **(metadata.get("labels") or {}),
        "batch.kubernetes.io/controller-uid": uid,
        "batch.kubernetes.io/job-name": name,
        "controller-uid": uid,
        "job-name": name,
    }
    spec["selector"] = {"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}


def quality_of_service(spec: Object) -> str:
    """The class of a pod by its containers' requests and limits (kubectl/pkg/util/qos)."""
    requests: list[Object] = []
    guaranteed = True
    for container in [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]:
        resources = container.get("resources") or {}
        wanted, limits = resources.get("requests") or {}, resources.get("limits") or {}
        requests += [part for part in (wanted, limits) if {"cpu", "memory"} & set(part)]
        for name in ("cpu", "memory"):
            if name not in limits or wanted.get(name, limits[name]) != limits[name]:
                guaranteed = False
    if not requests:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"


def mark_for_deletion(kind: KindInfo, object: Object, options: Object) -> bool:
    """Change `object` as a delete request does; True if nothing holds it back and it can be removed at once.

    Finalizers hold it, and so does a pod's grace period until the node deletes it again with grace 0.
    """
    metadata = object["metadata"]
    grace = _grace_seconds(kind, object, options)
    already = metadata.get("deletionTimestamp")
    _apply_propagation(metadata, options)
    if _is(kind, kinds.NAMESPACE):
        held = bool(metadata.get("finalizers") or (object.get("spec") or {}).get("finalizers"))
        if held:
            object["status"] = {**(object.get("status") or {}), "phase": "Terminating"}
    else:
        held = bool(metadata.get("finalizers")) or grace > 0
    if not held:
        return True
    if not already:
        metadata["deletionTimestamp"] = timestamp(_after(grace))
        metadata["deletionGracePeriodSeconds"] = grace
        if metadata.get("generation"):
            metadata["generation"] += 1
    elif grace < (metadata.get("deletionGracePeriodSeconds") or 0):
        metadata["deletionTimestamp"] = timestamp(_after(grace))
        metadata["deletionGracePeriodSeconds"] = grace
    return False


def is_released(kind: KindInfo, object: Object) -> bool:
    """Whether an object under deletion is held by nothing any more."""
    metadata = object["metadata"]
    if not metadata.get("deletionTimestamp") or metadata.get("finalizers"):
        return False
    if _is(kind, kinds.NAMESPACE) and (object.get("spec") or {}).get("finalizers"):
        return False
    return not metadata.get("deletionGracePeriodSeconds")


def _after(seconds: int) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


def _grace_seconds(kind: KindInfo, object: Object, options: Object) -> int:
    if not _is(kind, kinds.POD):
        return 0
    spec, status = object.get("spec") or {}, object.get("status") or {}
    # Nobody would end the grace period of a pod that no node runs.
    if not spec.get("nodeName") or status.get("phase") in ("Succeeded", "Failed"):
        return 0
    asked = options.get("gracePeriodSeconds")
    if asked is None:
        asked = spec.get("terminationGracePeriodSeconds", DEFAULT_GRACE_SECONDS)
    return max(0, int(asked))


def _apply_propagation(metadata: Object, options: Object) -> None:
    """Record the policy as finalizers, for the garbage collector (registry/generic/registry/store.go)."""
    policy = options.get("propagationPolicy")
    if policy is None and options.get("orphanDependents") is not None:
        policy = "Orphan" if options["orphanDependents"] else "Background"
    if policy is None:
        return
    finalizers = [item for item in metadata.get("finalizers") or () if item not in (ORPHAN, FOREGROUND)]
    if policy == "Orphan":
        finalizers.append(ORPHAN)
    elif policy == "Foreground":
        finalizers.append(FOREGROUND)
    metadata["finalizers"] = finalizers
    if not finalizers:
        del metadata["finalizers"]

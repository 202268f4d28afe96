"""Persistent volumes: claims are bound to what fits, or to a new folder of the node that is made for them.

Source: kube-controller-manager's persistent volume, claim protection and volume protection controllers.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Any

from localcluster.apiserver import kinds
from localcluster.apiserver.kinds import KindInfo
from localcluster.apiserver.schemas import quantities
from localcluster.apiserver.selectors import structured
from localcluster.controllers import pods
from localcluster.controllers.state import Name, State, is_terminating, name_of
from localcluster.controllers.writes import Create, Delete, Patch, Record, Update, Write
from localcluster.storage import DEFAULT_CLASS, PROVISIONER

Object = dict[str, Any]

PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
_BIND_COMPLETED = "pv.kubernetes.io/bind-completed"
_BOUND_BY_CONTROLLER = "pv.kubernetes.io/bound-by-controller"
_CLAIM_PROTECTION = "kubernetes.io/pvc-protection"
_VOLUME_PROTECTION = "kubernetes.io/pv-protection"
_COMPONENT = "persistentvolume-controller"


def claim_keys(state: State, kind: KindInfo, old: Object | None, new: Object | None) -> Iterable[Name]:
    """The claims that a change concerns."""
    if kind is kinds.PERSISTENT_VOLUME_CLAIM:
        yield name_of(new or old or {})
    elif kind is kinds.PERSISTENT_VOLUME:
        for volume in filter(None, (old, new)):
            reference = (volume.get("spec") or {}).get("claimRef") or {}
            if reference.get("name"):
                yield reference.get("namespace") or "", reference["name"]
        if new is not None and not (new.get("spec") or {}).get("claimRef"):
            yield from _pending(state)
    elif kind is kinds.STORAGE_CLASS:
        yield from _pending(state)
    elif kind is kinds.POD and (new is None or pods.is_finished(new)):
        # Claims that were deleted while a pod used them wait for this.
        for pod in filter(None, (old, new)):
            yield from ((pod["metadata"]["namespace"], name) for name in claims_of(pod))


def reconcile_claim(state: State, key: Name, now: datetime) -> list[Write]:
    """Bind the claim called `key`, provision a volume for it, or let it go."""
    claim = state.get(kinds.PERSISTENT_VOLUME_CLAIM, *key)
    if claim is None:
        return []
    if is_terminating(claim):
        return _let_go(state, claim)
    finalizers = claim["metadata"].get("finalizers") or []
    if _CLAIM_PROTECTION not in finalizers:
        return [_patch_claim(claim, {"metadata": {"finalizers": [*finalizers, _CLAIM_PROTECTION]}})]
    if not claim["spec"].get("volumeName"):
        return _bind(state, claim)
    volume = state.get(kinds.PERSISTENT_VOLUME, "", claim["spec"]["volumeName"])
    if volume is None or not _is_for(volume, claim):
        phase = "Lost" if (claim.get("status") or {}).get("phase") == "Bound" else "Pending"
        return _claim_status(claim, {"phase": phase})
    spec = volume["spec"]
    capacity = {"storage": spec["capacity"]["storage"]}
    return _claim_status(claim, {"phase": "Bound", "accessModes": spec.get("accessModes"), "capacity": capacity})


def volume_keys(state: State, kind: KindInfo, old: Object | None, new: Object | None) -> Iterable[Name]:
    """The volumes that a change concerns."""
    if kind is kinds.PERSISTENT_VOLUME:
        yield name_of(new or old or {})
    elif kind is kinds.PERSISTENT_VOLUME_CLAIM:
        for claim in filter(None, (old, new)):
            if name := (claim.get("spec") or {}).get("volumeName"):
                yield "", name


def reconcile_volume(state: State, key: Name, now: datetime) -> list[Write]:
    """Say what the volume called `key` is, and delete it with its claim if that is its policy."""
    volume = state.get(kinds.PERSISTENT_VOLUME, *key)
    if volume is None:
        return []
    reference = volume["spec"].get("claimRef") or {}
    claim = state.get(kinds.PERSISTENT_VOLUME_CLAIM, reference.get("namespace") or "", reference.get("name") or "")
    is_bound = claim is not None and _is_for(volume, claim) and claim["spec"].get("volumeName") == key[1]
    finalizers = volume["metadata"].get("finalizers") or []
    if is_terminating(volume):
        left = [item for item in finalizers if item != _VOLUME_PROTECTION]
        body = {"metadata": {"finalizers": left or None}}
        return [] if is_bound or left == finalizers else [Patch(kinds.PERSISTENT_VOLUME, "", key[1], body)]
    if _VOLUME_PROTECTION not in finalizers:
        body = {"metadata": {"finalizers": [*finalizers, _VOLUME_PROTECTION]}}
        return [Patch(kinds.PERSISTENT_VOLUME, "", key[1], body)]
    phase = "Bound" if is_bound else "Available"
    if reference.get("uid") and (claim is None or claim["metadata"]["uid"] != reference["uid"]):
        if volume["spec"].get("persistentVolumeReclaimPolicy") == "Delete":
            return [Delete(kinds.PERSISTENT_VOLUME, volume)]
        phase = "Released"
    status = {**(volume.get("status") or {}), "phase": phase}
    if status == volume.get("status"):
        return []
    return [Update(kinds.PERSISTENT_VOLUME, {**volume, "status": status}, "status")]


def claims_of(pod: Object) -> list[str]:
    """The names of the claims that a pod mounts."""
    volumes = (pod.get("spec") or {}).get("volumes") or ()
    return [volume["persistentVolumeClaim"]["claimName"] for volume in volumes if volume.get("persistentVolumeClaim")]


def _pending(state: State) -> Iterable[Name]:
    for claim in state.all_of(kinds.PERSISTENT_VOLUME_CLAIM):
        if not claim["spec"].get("volumeName"):
            yield name_of(claim)


def _let_go(state: State, claim: Object) -> list[Write]:
    """A claim that is deleted stays until no pod uses it any more."""
    namespace, name = name_of(claim)
    finalizers = claim["metadata"].get("finalizers") or []
    in_use = any(
        name in claims_of(pod) and not pods.is_finished(pod) and (pod.get("spec") or {}).get("nodeName")
        for pod in state.all_of(kinds.POD, namespace)
    )
    if in_use or _CLAIM_PROTECTION not in finalizers:
        return []
    left = [item for item in finalizers if item != _CLAIM_PROTECTION]
    return [_patch_claim(claim, {"metadata": {"finalizers": left or None}})]


def _bind(state: State, claim: Object) -> list[Write]:
    class_name = claim["spec"].get("storageClassName")
    if class_name is None and (default := _default_class(state)) is not None:
        return [_patch_claim(claim, {"spec": {"storageClassName": default}})]
    volume = _fitting(state, claim)
    if volume is not None:
        reference = {**_reference(claim), "uid": claim["metadata"]["uid"]}
        annotations = {_BIND_COMPLETED: "yes", _BOUND_BY_CONTROLLER: "yes"}
        name = volume["metadata"]["name"]
        # The volume first: it decides, should two claims want it.
        return [
            Patch(kinds.PERSISTENT_VOLUME, "", name, {"spec": {"claimRef": reference}}),
            _patch_claim(claim, {"metadata": {"annotations": annotations}, "spec": {"volumeName": name}}),
        ]
    found = state.get(kinds.STORAGE_CLASS, "", class_name or "")
    pending = _claim_status(claim, {"phase": "Pending"})
    if found is None:
        text = "no persistent volumes available for this claim and no storage class is set"
        if class_name:
            text = f'storageclass.storage.k8s.io "{class_name}" not found'
        reason = "ProvisioningFailed" if class_name else "FailedBinding"
        kind = "Warning" if class_name else "Normal"
        return [*pending, Record(kinds.PERSISTENT_VOLUME_CLAIM, claim, reason, text, _COMPONENT, kind)]
    if found.get("provisioner") != PROVISIONER:
        text = f"Waiting for a volume to be created by the external provisioner '{found.get('provisioner')}'"
        return [*pending, Record(kinds.PERSISTENT_VOLUME_CLAIM, claim, "ExternalProvisioning", text, _COMPONENT)]
    if found.get("volumeBindingMode") == "WaitForFirstConsumer" and not _has_consumer(state, claim):
        text = "waiting for first consumer to be created before binding"
        return [*pending, Record(kinds.PERSISTENT_VOLUME_CLAIM, claim, "WaitForFirstConsumer", text, _COMPONENT)]
    volume = _provisioned(claim, found)
    text = f"Successfully provisioned volume {volume['metadata']['name']}"
    return [
        *pending,
        Create(kinds.PERSISTENT_VOLUME, volume),
        Record(kinds.PERSISTENT_VOLUME_CLAIM, claim, "ProvisioningSucceeded", text, _COMPONENT),
    ]


def _provisioned(claim: Object, storage: Object) -> Object:
    """A volume for one claim; the node makes its folder when a pod first mounts it, and removes it with the volume."""
    spec = claim["spec"]
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {
            "name": f"pvc-{claim['metadata']['uid']}",
            "annotations": {PROVISIONED_BY: PROVISIONER},
            "finalizers": [_VOLUME_PROTECTION],
        },
        "spec": {
            "capacity": {"storage": ((spec.get("resources") or {}).get("requests") or {}).get("storage", "0")},
            "accessModes": spec.get("accessModes") or [],
            "claimRef": {**_reference(claim), "uid": claim["metadata"]["uid"]},
            "persistentVolumeReclaimPolicy": storage.get("reclaimPolicy") or "Delete",
            "storageClassName": storage["metadata"]["name"],
            "volumeMode": spec.get("volumeMode") or "Filesystem",
            "csi": {"driver": PROVISIONER, "volumeHandle": f"pvc-{claim['metadata']['uid']}"},
        },
    }


def _fitting(state: State, claim: Object) -> Object | None:
    """The volume that was made for the claim, or the smallest free one that has all that it asks for."""
    spec = claim["spec"]
    matches = structured(spec["selector"]) if spec.get("selector") else None
    wanted = _size((spec.get("resources") or {}).get("requests"))
    candidates: list[tuple[Decimal, str, Object]] = []
    for volume in state.all_of(kinds.PERSISTENT_VOLUME):
        held, about = volume["spec"], volume["metadata"]
        if is_terminating(volume):
            continue
        if held.get("claimRef"):
            if _is_for(volume, claim):
                return volume
            continue
        fits = (
            (held.get("storageClassName") or "") == (spec.get("storageClassName") or "")
            and set(spec.get("accessModes") or ()) <= set(held.get("accessModes") or ())
            and (held.get("volumeMode") or "Filesystem") == (spec.get("volumeMode") or "Filesystem")
            and _size(held.get("capacity")) >= wanted
            and (matches is None or matches(about.get("labels") or {}))
        )
        if fits:
            candidates.append((_size(held.get("capacity")), about["name"], volume))
    return min(candidates, key=lambda candidate: candidate[:2])[2] if candidates else None


def _is_for(volume: Object, claim: Object) -> bool:
    """Whether the volume's claimRef names this claim (one without uid was written by hand, to reserve it)."""
    reference = volume["spec"].get("claimRef") or {}
    named = (reference.get("namespace") or "", reference.get("name")) == name_of(claim)
    return named and reference.get("uid", claim["metadata"]["uid"]) == claim["metadata"]["uid"]


def _default_class(state: State) -> str | None:
    names = [
        item["metadata"]["name"]
        for item in state.all_of(kinds.STORAGE_CLASS)
        if (item["metadata"].get("annotations") or {}).get(DEFAULT_CLASS) == "true"
    ]
    return min(names, default=None)


def _has_consumer(state: State, claim: Object) -> bool:
    namespace, name = name_of(claim)
    return any(name in claims_of(pod) for pod in state.all_of(kinds.POD, namespace))


def _size(amounts: Object | None) -> Decimal:
    return quantities.parse(str((amounts or {}).get("storage", "0")))


def _reference(claim: Object) -> Object:
    namespace, name = name_of(claim)
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": namespace, "name": name}


def _patch_claim(claim: Object, body: Object) -> Patch:
    namespace, name = name_of(claim)
    return Patch(kinds.PERSISTENT_VOLUME_CLAIM, namespace, name, body)


def _claim_status(claim: Object, status: Object) -> list[Write]:
    if status == claim.get("status"):
        return []
    return [Update(kinds.PERSISTENT_VOLUME_CLAIM, {**claim, "status": status}, "status")]

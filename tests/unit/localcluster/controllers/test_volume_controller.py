"""Claims and volumes: what is bound to what, what is made, and what goes when."""

from typing import Any

from cluster_objects import NOW, metadata, pod, state

from localcluster import storage
from localcluster.apiserver import kinds
from localcluster.controllers import volumes
from localcluster.controllers.state import State
from localcluster.controllers.writes import Create, Delete, Patch, Record, Update, Write

Object = dict[str, Any]
KEY = ("demo", "data")
PROTECTED = {"finalizers": ["kubernetes.io/pvc-protection"]}
ENDING = {"deletionTimestamp": "2026-11-23T12:00:00Z"}


def claim(status: Object | None = None, about: Object | None = None, **spec: Any) -> Object:
    given = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, **spec}
    return {
        "metadata": metadata("data", **(PROTECTED if about is None else about)),
        "spec": given,
        "status": status or {},
    }


def volume(name: str, size: str = "1Gi", **spec: Any) -> Object:
    about = metadata(name, finalizers=["kubernetes.io/pv-protection"])
    del about["namespace"]
    given = {"capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"], "storageClassName": "local", **spec}
    return {"metadata": about, "spec": given, "status": {}}


def storage_class(**more: Any) -> Object:
    found = storage.default_class()
    return {**found, **more, "metadata": {**metadata("local"), **found["metadata"], "namespace": ""}}


REFERENCE = {"namespace": "demo", "name": "data", "uid": "uid-data"}


def steps(found: State) -> list[Write]:
    return volumes.reconcile_claim(found, KEY, NOW)


def test_a_claim_is_protected_and_gets_the_default_class_first() -> None:
    classes = [storage_class()]

    (protecting,) = steps(state(persistentvolumeclaims=[claim(about={})], storageclasses=classes))
    assert isinstance(protecting, Patch)
    assert protecting.body == {"metadata": PROTECTED}
    (classing,) = steps(state(persistentvolumeclaims=[claim()], storageclasses=classes))
    assert isinstance(classing, Patch)
    assert classing.body == {"spec": {"storageClassName": "local"}}


def test_a_folder_is_provisioned_for_a_claim() -> None:
    found = state(persistentvolumeclaims=[claim(storageClassName="local")], storageclasses=[storage_class()])
    (made,) = [w.object for w in steps(found) if isinstance(w, Create)]

    assert made["metadata"]["name"] == "pvc-uid-data"
    assert made["spec"]["capacity"] == {"storage": "1Gi"}
    assert made["spec"]["claimRef"]["uid"] == "uid-data"
    assert made["spec"]["persistentVolumeReclaimPolicy"] == "Delete"


def test_the_smallest_volume_that_fits_is_bound() -> None:
    held = [
        volume("small", "512Mi"),
        volume("large", "4Gi"),
        volume("right", "2Gi"),
        volume("taken", "1Gi", claimRef={"namespace": "demo", "name": "other", "uid": "x"}),
        volume("other-class", "1Gi", storageClassName="fast"),
        volume("read-only", "1Gi", accessModes=["ReadOnlyMany"]),
    ]
    writes = steps(state(persistentvolumeclaims=[claim(storageClassName="local")], persistentvolumes=held))

    assert [w.name for w in writes if isinstance(w, Patch)] == ["right", "data"]


def test_a_volume_that_is_reserved_for_the_claim_is_bound_whatever_its_size() -> None:
    reserved = volume("mine", "1Mi", claimRef={"namespace": "demo", "name": "data"})
    writes = steps(state(persistentvolumeclaims=[claim(storageClassName="local")], persistentvolumes=[reserved]))

    assert [w.name for w in writes if isinstance(w, Patch)] == ["mine", "data"]


def test_a_bound_claim_says_what_it_got_and_a_lost_one_that_it_is() -> None:
    bound = claim({"phase": "Bound"}, storageClassName="local", volumeName="mine")
    mine = volume("mine", "2Gi", claimRef=REFERENCE)

    (shown,) = steps(state(persistentvolumeclaims=[bound], persistentvolumes=[mine]))
    assert isinstance(shown, Update)
    assert shown.object["status"] == {
        "phase": "Bound",
        "accessModes": ["ReadWriteOnce"],
        "capacity": {"storage": "2Gi"},
    }
    (lost,) = steps(state(persistentvolumeclaims=[bound]))
    assert isinstance(lost, Update)
    assert lost.object["status"] == {"phase": "Lost"}


def test_what_cannot_be_provisioned_waits_and_says_why() -> None:
    def reasons(found: State) -> list[str]:
        return [w.reason for w in steps(found) if isinstance(w, Record)]

    unknown = claim(storageClassName="fast")
    assert reasons(state(persistentvolumeclaims=[unknown])) == ["ProvisioningFailed"]
    assert reasons(state(persistentvolumeclaims=[claim(storageClassName="")])) == ["FailedBinding"]
    foreign = storage_class(provisioner="example.com/disk")
    mine = claim(storageClassName="local")
    assert reasons(state(persistentvolumeclaims=[mine], storageclasses=[foreign])) == ["ExternalProvisioning"]
    patient = storage_class(volumeBindingMode="WaitForFirstConsumer")
    assert reasons(state(persistentvolumeclaims=[mine], storageclasses=[patient])) == ["WaitForFirstConsumer"]


def test_a_claim_in_use_is_not_let_go() -> None:
    ending = claim(about={**PROTECTED, **ENDING})
    user = pod("user")
    user["spec"]["volumes"] = [{"name": "d", "persistentVolumeClaim": {"claimName": "data"}}]
    done = {**user, "status": {"phase": "Succeeded"}}

    assert steps(state(persistentvolumeclaims=[ending], pods=[user])) == []
    for pods in ([], [done]):
        (letting_go,) = steps(state(persistentvolumeclaims=[ending], pods=pods))
        assert isinstance(letting_go, Patch)
        assert letting_go.body == {"metadata": {"finalizers": None}}


def test_a_volume_goes_or_stays_when_its_claim_is_gone() -> None:
    for policy, expected in (("Delete", Delete), ("Retain", Update)):
        mine = volume("mine", claimRef=REFERENCE, persistentVolumeReclaimPolicy=policy)
        (write,) = volumes.reconcile_volume(state(persistentvolumes=[mine]), ("", "mine"), NOW)
        assert isinstance(write, expected)
        if isinstance(write, Update):
            assert write.object["status"] == {"phase": "Released"}


def test_a_volume_says_whether_it_is_free() -> None:
    (free,) = volumes.reconcile_volume(state(persistentvolumes=[volume("mine")]), ("", "mine"), NOW)
    assert isinstance(free, Update)
    assert free.object["status"] == {"phase": "Available"}
    held = state(
        persistentvolumes=[volume("mine", claimRef=REFERENCE)],
        persistentvolumeclaims=[claim(storageClassName="local", volumeName="mine")],
    )
    (bound,) = volumes.reconcile_volume(held, ("", "mine"), NOW)
    assert isinstance(bound, Update)
    assert bound.object["status"] == {"phase": "Bound"}
    ending = volume("mine", claimRef=REFERENCE)
    ending["metadata"] |= ENDING
    held.put(kinds.PERSISTENT_VOLUME, ending)
    assert volumes.reconcile_volume(held, ("", "mine"), NOW) == []

"""The pipeline of writes: what is filled in, refused, kept, held back and let go."""

import asyncio
from typing import Any

import pytest

from localcluster.apiserver import kinds
from localcluster.apiserver.context import RequestContext
from localcluster.apiserver.errors import (
    AlreadyExistsError,
    BadRequestError,
    ConflictError,
    ForbiddenError,
    GoneError,
    InvalidError,
    MethodNotAllowedError,
    NotFoundError,
    UnsupportedMediaTypeError,
)
from localcluster.apiserver.resources import Resources

Object = dict[str, Any]


def config_map(name: str = "c", **data: str) -> Object:
    return {"metadata": {"name": name, "namespace": "default"}, "data": data}


def pod(name: str = "p", **spec: Any) -> Object:
    return {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"containers": [{"name": "main", "image": "nginx"}], **spec},
    }


def deployment(name: str = "d") -> Object:
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "main", "image": "nginx"}]}}
    return {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"replicas": 2, "selector": {"matchLabels": labels}, "template": template},
    }


def service(name: str = "s", **spec: Any) -> Object:
    return {"metadata": {"name": name, "namespace": "default"}, "spec": {"ports": [{"port": 80}], **spec}}


def definition(**schema: Any) -> Object:
    properties = schema or {"spec": {"type": "object", "properties": {"size": {"type": "integer", "default": 1}}}}
    versions = [
        {
            "name": name,
            "served": True,
            "storage": name == "v1",
            "subresources": {"status": {}},
            "schema": {
                "openAPIV3Schema": {
                    "type": "object",
                    "properties": {
                        **properties,
                        "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                    },
                }
            },
        }
        for name in ("v1", "v1beta1")
    ]
    return {
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
            "versions": versions,
        },
    }


async def test_creation_fills_in_what_the_server_decides(resources: Resources) -> None:
    created = await resources.create(kinds.DEPLOYMENT, deployment())

    metadata = created["metadata"]
    assert (metadata["generation"], len(metadata["uid"])) == (1, 36)
    assert metadata["creationTimestamp"].endswith("Z")
    assert int(metadata["resourceVersion"]) > 0
    assert created["spec"]["strategy"]["type"] == "RollingUpdate"
    assert await resources.get(kinds.DEPLOYMENT, "default", "d") == created


async def test_a_name_is_made_from_generate_name(resources: Resources) -> None:
    created = await resources.create(kinds.CONFIG_MAP, {"metadata": {"generateName": "job-", "namespace": "default"}})

    assert created["metadata"]["name"].startswith("job-")
    assert len(created["metadata"]["name"]) == 9


async def test_a_taken_name_a_missing_namespace_and_a_given_version_are_refused(resources: Resources) -> None:
    await resources.create(kinds.CONFIG_MAP, config_map())

    with pytest.raises(AlreadyExistsError, match='configmaps "c" already exists'):
        await resources.create(kinds.CONFIG_MAP, config_map())
    with pytest.raises(NotFoundError, match='namespaces "nope" not found'):
        await resources.create(kinds.CONFIG_MAP, {"metadata": {"name": "c", "namespace": "nope"}})
    with pytest.raises(BadRequestError, match="resourceVersion should not be set"):
        await resources.create(
            kinds.CONFIG_MAP, {"metadata": {"name": "x", "namespace": "default", "resourceVersion": "1"}}
        )


async def test_every_violation_is_a_cause_with_its_field(resources: Resources) -> None:
    wrong = deployment("UPPER")
    wrong["spec"]["template"]["metadata"]["labels"] = {"app": "other"}

    with pytest.raises(InvalidError) as refused:
        await resources.create(kinds.DEPLOYMENT, wrong)

    status = refused.value.status()
    assert status["code"] == 422
    assert {"metadata.name", "spec.template.metadata.labels"} <= {c["field"] for c in status["details"]["causes"]}
    assert status["details"]["kind"] == "Deployment"


async def test_unknown_fields_are_errors_warnings_or_nothing(resources: Resources) -> None:
    wrong = pod() | {"spce": {}}
    warns = RequestContext(field_validation="Warn", dry_run=True)

    with pytest.raises(BadRequestError, match='unknown field "spce"'):
        await resources.create(kinds.POD, wrong, RequestContext(field_validation="Strict"))
    created = await resources.create(kinds.POD, wrong, warns)

    assert warns.warnings == ['unknown field "spce"']
    assert "spce" not in created


async def test_a_dry_run_leaves_nothing(resources: Resources) -> None:
    version = resources.store.revision

    await resources.create(kinds.CONFIG_MAP, config_map(), RequestContext(dry_run=True))

    assert resources.store.revision == version


async def test_updates_need_the_current_version_and_count_generations_of_the_spec(resources: Resources) -> None:
    created = await resources.create(kinds.DEPLOYMENT, deployment())
    labelled = {**created, "metadata": {**created["metadata"], "labels": {"a": "b"}}}
    second = await resources.update(kinds.DEPLOYMENT, labelled)
    scaled = {**second, "spec": {**second["spec"], "replicas": 5}}
    third = await resources.update(kinds.DEPLOYMENT, scaled)

    with pytest.raises(ConflictError, match="the object has been modified"):
        await resources.update(kinds.DEPLOYMENT, labelled)

    assert [item["metadata"]["generation"] for item in (created, second, third)] == [1, 1, 2]


async def test_an_update_that_changes_nothing_writes_nothing(resources: Resources) -> None:
    created = await resources.create(kinds.DEPLOYMENT, deployment())

    assert await resources.update(kinds.DEPLOYMENT, created) == created


async def test_status_is_written_only_through_its_subresource(resources: Resources) -> None:
    created = await resources.create(kinds.DEPLOYMENT, {**deployment(), "status": {"replicas": 9}})
    main = await resources.update(kinds.DEPLOYMENT, {**created, "status": {"replicas": 9}})
    changed = {**main, "status": {"replicas": 1}, "spec": {**main["spec"], "replicas": 7}}
    status = await resources.update(kinds.DEPLOYMENT, changed, "status")

    assert not created.get("status")
    assert not main.get("status")
    assert status["status"] == {"replicas": 1}
    assert status["spec"]["replicas"] == 2
    assert status["metadata"]["generation"] == 1


async def test_patches_survive_other_writers(resources: Resources) -> None:
    await resources.create(kinds.CONFIG_MAP, config_map())

    await asyncio.gather(
        *(resources.patch(kinds.CONFIG_MAP, "default", "c", "merge", {"data": {f"k{n}": "v"}}) for n in range(8))
    )

    assert len((await resources.get(kinds.CONFIG_MAP, "default", "c"))["data"]) == 8


async def test_a_patch_that_names_an_old_version_conflicts(resources: Resources) -> None:
    created = await resources.create(kinds.CONFIG_MAP, config_map())
    await resources.patch(kinds.CONFIG_MAP, "default", "c", "merge", {"data": {"a": "1"}})

    body = {"metadata": {"resourceVersion": created["metadata"]["resourceVersion"]}, "data": {"a": "2"}}
    with pytest.raises(ConflictError):
        await resources.patch(kinds.CONFIG_MAP, "default", "c", "merge", body)


async def test_scale_reads_and_writes_replicas(resources: Resources) -> None:
    await resources.create(kinds.DEPLOYMENT, deployment())

    patched = await resources.patch(kinds.DEPLOYMENT, "default", "d", "merge", {"spec": {"replicas": 4}}, "scale")
    replaced = await resources.update(kinds.DEPLOYMENT, {**patched, "spec": {"replicas": 0}}, "scale")

    assert patched["spec"] == {"replicas": 4}
    assert patched["status"] == {"replicas": 0, "selector": "app=d"}
    assert replaced["spec"] == {"replicas": 0}
    with pytest.raises(InvalidError):
        await resources.update(kinds.DEPLOYMENT, {**replaced, "spec": {"replicas": -1}}, "scale")
    with pytest.raises(MethodNotAllowedError):
        await resources.patch(kinds.CONFIG_MAP, "default", "d", "merge", {}, "scale")


async def test_finalizers_hold_an_object_until_the_last_is_gone(resources: Resources) -> None:
    held = config_map()
    held["metadata"]["finalizers"] = ["example.com/a"]
    await resources.create(kinds.CONFIG_MAP, held)

    marked = await resources.delete(kinds.CONFIG_MAP, "default", "c")
    with pytest.raises(InvalidError, match="no new finalizers"):
        await resources.patch(
            kinds.CONFIG_MAP, "default", "c", "merge", {"metadata": {"finalizers": ["example.com/a", "example.com/b"]}}
        )
    await resources.patch(kinds.CONFIG_MAP, "default", "c", "merge", {"metadata": {"finalizers": None}})

    assert marked["metadata"]["deletionTimestamp"]
    with pytest.raises(NotFoundError):
        await resources.get(kinds.CONFIG_MAP, "default", "c")


@pytest.mark.parametrize(("policy", "finalizer"), [("Foreground", "foregroundDeletion"), ("Orphan", "orphan")])
async def test_the_propagation_policy_is_left_to_the_garbage_collector(
    resources: Resources, policy: str, finalizer: str
) -> None:
    await resources.create(kinds.DEPLOYMENT, deployment())

    marked = await resources.delete(kinds.DEPLOYMENT, "default", "d", {"propagationPolicy": policy})

    assert marked["metadata"]["finalizers"] == [finalizer]
    assert marked["metadata"]["deletionTimestamp"]


async def test_preconditions_of_a_deletion(resources: Resources) -> None:
    created = await resources.create(kinds.CONFIG_MAP, config_map())

    with pytest.raises(ConflictError, match="UID in precondition: other"):
        await resources.delete(kinds.CONFIG_MAP, "default", "c", {"preconditions": {"uid": "other"}})
    await resources.delete(kinds.CONFIG_MAP, "default", "c", {"preconditions": {"uid": created["metadata"]["uid"]}})


async def test_a_pod_on_a_node_stays_until_the_node_lets_go(resources: Resources) -> None:
    await resources.create(kinds.POD, pod("running", nodeName="local", terminationGracePeriodSeconds=20))
    await resources.create(kinds.POD, pod("waiting"))

    marked = await resources.delete(kinds.POD, "default", "running")
    sooner = await resources.delete(kinds.POD, "default", "running", {"gracePeriodSeconds": 5})
    again = await resources.delete(kinds.POD, "default", "running")
    await resources.delete(kinds.POD, "default", "waiting")

    assert marked["metadata"]["deletionGracePeriodSeconds"] == 20
    assert sooner["metadata"]["deletionGracePeriodSeconds"] == 5
    assert again == sooner
    left, _ = await resources.list(kinds.POD, "default")
    assert [item["metadata"]["name"] for item in left] == ["running"]
    await resources.delete(kinds.POD, "default", "running", {"gracePeriodSeconds": 0})
    assert (await resources.list(kinds.POD, "default"))[0] == []


async def test_a_namespace_ends_when_its_finalizer_is_taken(resources: Resources) -> None:
    created = await resources.create(kinds.NAMESPACE, {"metadata": {"name": "apps"}})
    marked = await resources.delete(kinds.NAMESPACE, "", "apps")

    assert created["metadata"]["labels"] == {"kubernetes.io/metadata.name": "apps"}
    assert created["status"] == {"phase": "Active"}
    assert marked["status"] == {"phase": "Terminating"}
    with pytest.raises(ForbiddenError, match="because it is being terminated"):
        await resources.create(kinds.CONFIG_MAP, {"metadata": {"name": "c", "namespace": "apps"}})
    await resources.update(kinds.NAMESPACE, {**marked, "spec": {"finalizers": []}}, "finalize")
    with pytest.raises(NotFoundError):
        await resources.get(kinds.NAMESPACE, "", "apps")
    with pytest.raises(ForbiddenError, match="may not be deleted"):
        await resources.delete(kinds.NAMESPACE, "", "default")


async def test_services_get_addresses_and_node_ports_of_their_own(resources: Resources) -> None:
    first = await resources.create(kinds.SERVICE, service("a", type="NodePort"))
    second = await resources.create(kinds.SERVICE, service("b", type="NodePort"))
    headless = await resources.create(kinds.SERVICE, service("c", clusterIP="None"))
    address, port = first["spec"]["clusterIP"], first["spec"]["ports"][0]["nodePort"]

    assert address.startswith("10.96.")
    assert (second["spec"]["clusterIP"], second["spec"]["ports"][0]["nodePort"]) != (address, port)
    assert headless["spec"]["clusterIPs"] == ["None"]
    with pytest.raises(InvalidError, match="provided IP is already allocated"):
        await resources.create(kinds.SERVICE, service("d", clusterIP=address))
    with pytest.raises(InvalidError, match="provided port is already allocated"):
        taken = service("d", type="NodePort", ports=[{"port": 80, "nodePort": port}])
        await resources.create(kinds.SERVICE, taken)
    with pytest.raises(InvalidError, match="not in the valid range"):
        await resources.create(kinds.SERVICE, service("d", clusterIP="192.168.0.1"))
    await resources.delete(kinds.SERVICE, "default", "a")
    again = await resources.create(kinds.SERVICE, service("d", clusterIP=address))
    assert again["spec"]["clusterIP"] == address


async def test_a_service_keeps_its_address_when_it_is_replaced_without_one(resources: Resources) -> None:
    created = await resources.create(kinds.SERVICE, service())

    replaced = await resources.update(kinds.SERVICE, service(selector={"app": "x"}))

    assert replaced["spec"]["clusterIP"] == created["spec"]["clusterIP"]
    assert replaced["spec"]["selector"] == {"app": "x"}


async def test_pods_run_as_an_account_and_get_its_token(resources: Resources) -> None:
    created = await resources.create(kinds.POD, pod())
    declined = await resources.create(kinds.POD, pod("q", automountServiceAccountToken=False))

    spec = created["spec"]
    assert spec["serviceAccountName"] == "default"
    assert spec["containers"][0]["volumeMounts"][0]["name"] == spec["volumes"][0]["name"]
    assert spec["volumes"][0]["projected"]["sources"][0]["serviceAccountToken"]["expirationSeconds"] == 3607
    assert "volumes" not in declined["spec"]
    with pytest.raises(ForbiddenError, match='serviceaccount "nobody" not found'):
        await resources.create(kinds.POD, pod("r", serviceAccountName="nobody"))


async def test_secret_text_becomes_data(resources: Resources) -> None:
    created = await resources.create(
        kinds.SECRET, {"metadata": {"name": "x", "namespace": "default"}, "stringData": {"a": "b"}}
    )

    assert created["data"] == {"a": "Yg=="}
    assert "stringData" not in created


async def test_events_are_one_thing_under_two_names(resources: Resources) -> None:
    event = {
        "metadata": {"name": "e", "namespace": "default"},
        "involvedObject": {"kind": "Pod", "namespace": "default", "name": "p"},
        "reason": "Started",
        "message": "hello",
        "type": "Normal",
    }
    await resources.create(kinds.EVENT, event)

    seen = await resources.get(kinds.EVENTS_EVENT, "default", "e")

    assert (seen["apiVersion"], seen["note"], seen["regarding"]["name"]) == ("events.k8s.io/v1", "hello", "p")


async def test_custom_kinds_are_served_in_all_their_versions(resources: Resources) -> None:
    created = await resources.create(kinds.CUSTOM_RESOURCE_DEFINITION, definition())
    old, new = (
        resources.kinds.by_plural("example.com", "v1beta1", "widgets"),
        resources.kinds.by_plural("example.com", "v1", "widgets"),
    )
    assert old is not None
    assert new is not None
    await resources.create(old, {"metadata": {"name": "w", "namespace": "default"}, "spec": {"colour": "red"}})

    seen = await resources.get(new, "default", "w")

    assert {c["type"]: c["status"] for c in created["status"]["conditions"]} == {
        "NamesAccepted": "True",
        "Established": "True",
    }
    assert seen["apiVersion"] == "example.com/v1"
    assert seen["spec"] == {"size": 1}
    with pytest.raises(InvalidError, match=r"spec\.size"):
        await resources.patch(new, "default", "w", "merge", {"spec": {"size": "big"}})
    with pytest.raises(UnsupportedMediaTypeError):
        await resources.patch(new, "default", "w", "strategic", {"spec": {"size": 2}})


async def test_a_definition_is_deleted_after_its_objects(resources: Resources) -> None:
    await resources.create(kinds.CUSTOM_RESOURCE_DEFINITION, definition())
    widget = resources.kinds.by_plural("example.com", "v1", "widgets")
    assert widget is not None
    held = {"metadata": {"name": "w", "namespace": "default", "finalizers": ["example.com/a"]}}
    await resources.create(widget, held)
    cleaning = asyncio.ensure_future(resources.definitions.run(resources))
    changes = resources.watch(kinds.CUSTOM_RESOURCE_DEFINITION, None, str(resources.store.revision))

    await resources.delete(kinds.CUSTOM_RESOURCE_DEFINITION, "", "widgets.example.com")
    assert (await anext(changes))[0] == "MODIFIED"
    with pytest.raises(MethodNotAllowedError, match="is terminating"):
        await resources.create(widget, {"metadata": {"name": "x", "namespace": "default"}})
    await resources.patch(widget, "default", "w", "merge", {"metadata": {"finalizers": None}})

    assert (await anext(changes))[0] == "DELETED"
    assert resources.kinds.by_plural("example.com", "v1", "widgets") is None
    cleaning.cancel()
    await changes.aclose()  # type: ignore[attr-defined]


async def test_a_definition_whose_names_are_taken_is_not_served(resources: Resources) -> None:
    await resources.create(kinds.CUSTOM_RESOURCE_DEFINITION, definition())
    other = definition()
    other["metadata"]["name"] = "gadgets.example.com"
    other["spec"]["names"] = {"plural": "gadgets", "singular": "gadget", "kind": "Widget"}

    created = await resources.create(kinds.CUSTOM_RESOURCE_DEFINITION, other)

    assert {c["type"]: c["status"] for c in created["status"]["conditions"]}["NamesAccepted"] == "False"
    assert resources.kinds.by_plural("example.com", "v1", "gadgets") is None


async def test_a_watch_begins_with_what_exists_or_after_a_version(resources: Resources) -> None:
    await resources.create(kinds.CONFIG_MAP, config_map("a"))
    _, version = await resources.list(kinds.CONFIG_MAP)
    everything, later = resources.watch(kinds.CONFIG_MAP), resources.watch(kinds.CONFIG_MAP, "default", version)

    first = await anext(everything)
    await resources.delete(kinds.CONFIG_MAP, "default", "a")

    assert (first[0], first[1]["metadata"]["name"]) == ("ADDED", "a")
    assert (await anext(everything))[0] == "DELETED"
    assert (await anext(later))[0] == "DELETED"
    with pytest.raises(GoneError):
        await anext(resources.watch(kinds.CONFIG_MAP, None, "99999"))
    await everything.aclose()  # type: ignore[attr-defined]
    await later.aclose()  # type: ignore[attr-defined]

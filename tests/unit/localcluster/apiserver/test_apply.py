"""Server-side apply: owners of fields, removal of what is no longer applied, conflicts and force."""

from typing import Any

import pytest

from localcluster.apiserver import fields, kinds
from localcluster.apiserver.context import RequestContext
from localcluster.apiserver.errors import BadRequestError, ConflictError
from localcluster.apiserver.field_rules import FieldRules
from localcluster.apiserver.kinds import KindInfo, from_definition
from localcluster.apiserver.resources import Resources

Object = dict[str, Any]


def by(manager: str, *, force: bool = False) -> RequestContext:
    return RequestContext(field_manager=manager, force=force)


def config_map(**data: str) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": data}


async def applied(resources: Resources, body: Object, context: RequestContext) -> Object:
    return await resources.patch(kinds.CONFIG_MAP, "default", "c", "apply", body, None, context)


async def test_applying_creates_and_records_the_manager(resources: Resources) -> None:
    created = await applied(resources, config_map(a="1"), by("one"))

    (entry,) = created["metadata"]["managedFields"]
    assert (entry["manager"], entry["operation"], entry["fieldsV1"]) == ("one", "Apply", {"f:data": {"f:a": {}}})


async def test_applying_the_same_again_writes_nothing(resources: Resources) -> None:
    first = await applied(resources, config_map(a="1"), by("one"))

    assert await applied(resources, config_map(a="1"), by("one")) == first


async def test_what_is_no_longer_applied_is_removed(resources: Resources) -> None:
    await applied(resources, config_map(a="1", b="2"), by("one"))
    await resources.patch(kinds.CONFIG_MAP, "default", "c", "merge", {"data": {"x": "9"}}, None, by("editor"))

    after = await applied(resources, config_map(b="2"), by("one"))

    assert after["data"] == {"b": "2", "x": "9"}


async def test_a_field_of_another_manager_is_a_conflict_unless_forced(resources: Resources) -> None:
    await applied(resources, config_map(a="1"), by("one"))

    with pytest.raises(ConflictError) as refused:
        await applied(resources, config_map(a="2"), by("two"))
    forced = await applied(resources, config_map(a="2"), by("two", force=True))

    cause = refused.value.status()["details"]["causes"][0]
    assert (cause["reason"], cause["field"]) == ("FieldManagerConflict", ".data.a")
    assert 'conflict with "one"' in refused.value.message
    assert forced["data"] == {"a": "2"}
    assert [entry["manager"] for entry in forced["metadata"]["managedFields"]] == ["two"]


async def test_two_managers_share_a_field_they_agree_on(resources: Resources) -> None:
    await applied(resources, config_map(a="1"), by("one"))
    await applied(resources, config_map(a="1"), by("two"))

    after = await applied(resources, config_map(), by("one"))

    assert after["data"] == {"a": "1"}


async def test_an_ordinary_write_takes_over_what_it_changes(resources: Resources) -> None:
    await applied(resources, config_map(a="1", b="1"), by("one"))
    await resources.patch(kinds.CONFIG_MAP, "default", "c", "merge", {"data": {"a": "2"}}, None, by("kubectl-edit"))

    with pytest.raises(ConflictError, match='conflict with "kubectl-edit"'):
        await applied(resources, config_map(a="1", b="1"), by("one"))


async def test_keyed_lists_are_owned_element_by_element(resources: Resources) -> None:
    def deployment(*containers: Object) -> Object:
        labels = {"app": "d"}
        template = {"metadata": {"labels": labels}, "spec": {"containers": list(containers)}}
        return {"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": labels}, "template": template}}

    async def put(body: Object, manager: str) -> Object:
        return await resources.patch(kinds.DEPLOYMENT, "default", "d", "apply", body, None, by(manager))

    await put(deployment({"name": "main", "image": "x"}, {"name": "extra", "image": "y"}), "one")
    await put(deployment({"name": "sidecar", "image": "z"}), "two")
    after = await put(deployment({"name": "main", "image": "x2"}), "one")

    images = {c["name"]: c["image"] for c in after["spec"]["template"]["spec"]["containers"]}
    assert images == {"main": "x2", "sidecar": "z"}


async def test_an_apply_needs_a_manager(resources: Resources) -> None:
    with pytest.raises(BadRequestError, match="fieldManager is required"):
        await applied(resources, config_map(a="1"), by(""))


def test_field_sets_are_written_and_read_back() -> None:
    object = {"metadata": {"name": "p", "labels": {"a": "b"}}, "spec": {"containers": [{"name": "x", "args": ["1"]}]}}
    paths = set(fields.leaves(object, FieldRules(kinds.POD)))

    tree = fields.to_fields_v1(paths)

    assert fields.from_fields_v1(tree) == paths
    assert tree["f:spec"]["f:containers"] == {'k:{"name":"x"}': {".": {}, "f:args": {}, "f:name": {}}}
    assert "f:name" not in tree["f:metadata"]


def owners(object: Object) -> dict[tuple[str, str, str], Object]:
    return {
        (entry["manager"], entry["operation"], entry.get("subresource", "")): entry["fieldsV1"]
        for entry in object["metadata"]["managedFields"]
    }


async def test_every_write_records_its_manager(resources: Resources) -> None:
    created = await resources.create(
        kinds.CONFIG_MAP, {"metadata": {"name": "c", "namespace": "default"}, "data": {"a": "1"}}, by("maker")
    )
    changed = await resources.patch(
        kinds.CONFIG_MAP, "default", "c", "merge", {"data": {"b": "2"}}, None, by("changer")
    )

    assert owners(created) == {("maker", "Update", ""): {"f:data": {"f:a": {}}}}
    assert owners(changed) == {
        ("maker", "Update", ""): {"f:data": {"f:a": {}}},
        ("changer", "Update", ""): {"f:data": {"f:b": {}}},
    }
    with pytest.raises(ConflictError, match='conflict with "maker" using v1: '):
        await applied(resources, config_map(a="9"), by("applier"))


async def test_the_status_has_a_manager_of_its_own(resources: Resources) -> None:
    labels = {"app": "d"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "x"}]}}
    spec = {"selector": {"matchLabels": labels}, "template": template}
    made = await resources.create(
        kinds.DEPLOYMENT, {"metadata": {"name": "d", "namespace": "default"}, "spec": spec}, by("maker")
    )
    made["status"] = {"replicas": 1}
    after = await resources.update(kinds.DEPLOYMENT, made, "status", by("controller"))

    assert owners(after)["controller", "Update", "status"] == {"f:status": {"f:replicas": {}}}
    assert "f:status" not in owners(after)["maker", "Update", ""]
    assert owners(after)["maker", "Update", ""]["f:spec"]["f:selector"] == {}, "a selector is owned as a whole"


async def test_elements_with_several_keys(resources: Resources) -> None:
    def service(*ports: Object) -> Object:
        return {"metadata": {"name": "s"}, "spec": {"ports": list(ports)}}

    async def put(body: Object, manager: str) -> Object:
        return await resources.patch(kinds.SERVICE, "default", "s", "apply", body, None, by(manager))

    await put(service({"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53}), "one")
    await put(service({"name": "web", "port": 80}), "two")
    after = await put(service({"name": "dns", "port": 53, "protocol": "UDP"}), "one")

    assert [(port["port"], port["protocol"]) for port in after["spec"]["ports"]] == [(53, "UDP"), (80, "TCP")]


def custom_kind(items: Object, **list_rules: Any) -> KindInfo:
    schema = {
        "type": "object",
        "properties": {
            "spec": {"type": "object", "properties": {"l": {"type": "array", "items": items, **list_rules}}}
        },
    }
    names = {"kind": "K", "plural": "ks"}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    definition = {"metadata": {"name": "ks.e.io"}, "spec": {"group": "e.io", "names": names, "versions": [version]}}
    found = from_definition(definition)
    assert found is not None
    return found


def test_lists_of_custom_kinds_follow_their_schema() -> None:
    item = {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string", "default": "x"}}}
    keyed = custom_kind(item, **{"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["b", "a"]})
    atomic = custom_kind(item)
    members = custom_kind({"type": "string"}, **{"x-kubernetes-list-type": "set"})
    value = {"spec": {"l": [{"a": "1"}]}}

    def found(kind: KindInfo, object: Object) -> Object:
        return fields.to_fields_v1(fields.leaves(object, FieldRules(kind)))["f:spec"]["f:l"]

    assert list(found(keyed, value)) == ['k:{"a":"1","b":"x"}']
    assert found(atomic, value) == {}
    assert list(found(members, {"spec": {"l": ["p", "q"]}})) == ['v:"p"', 'v:"q"']

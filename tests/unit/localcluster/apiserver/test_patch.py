"""JSON, merge and strategic merge patches."""

from functools import partial
from typing import Any

import pytest

from localcluster.apiserver import kinds, patch, schemas
from localcluster.apiserver.errors import BadRequestError, InvalidError

POD = partial(schemas.patch_strategy, kinds.POD)
DEPLOYMENT = partial(schemas.patch_strategy, kinds.DEPLOYMENT)


def pod(*containers: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "a"}, "spec": {"containers": list(containers), **spec}}


def test_json_patch_changes_a_copy() -> None:
    before = {"spec": {"replicas": 1}}

    assert patch.json_patch(before, [{"op": "replace", "path": "/spec/replicas", "value": 2}]) == {
        "spec": {"replicas": 2}
    }
    assert before == {"spec": {"replicas": 1}}


@pytest.mark.parametrize("operations", [{}, [{"op": "fly", "path": "/a"}], [{"path": "/a"}], "x", [1]])
def test_a_json_patch_that_is_none_is_a_bad_request(operations: Any) -> None:
    with pytest.raises(BadRequestError):
        patch.json_patch({"a": 1}, operations)


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "test", "path": "/a", "value": 2},
        {"op": "remove", "path": "/b"},
        {"op": "add", "path": "/x/y", "value": 1},
        {"op": "replace", "path": "/a/b", "value": 1},
    ],
)
def test_a_json_patch_that_does_not_fit_is_invalid(operation: dict[str, Any]) -> None:
    with pytest.raises(InvalidError):
        patch.json_patch({"a": 1}, [operation])


def test_merge_patch_as_in_the_rfc() -> None:
    document = {"title": "Goodbye!", "author": {"givenName": "John", "familyName": "Doe"}, "tags": ["a", "b"]}

    merged = patch.merge_patch(
        document, {"title": "Hello!", "author": {"familyName": None}, "tags": ["c"], "new": {"x": None, "y": 1}}
    )

    assert merged == {"title": "Hello!", "author": {"givenName": "John"}, "tags": ["c"], "new": {"y": 1}}


def test_strategic_merge_joins_containers_by_name_and_env_by_name() -> None:
    before = pod({"name": "a", "image": "x", "env": [{"name": "K", "value": "1"}]}, {"name": "b", "image": "y"})

    after = patch.strategic_merge(
        before, {"spec": {"containers": [{"name": "a", "env": [{"name": "L", "value": "2"}]}]}}, POD
    )

    assert after["spec"]["containers"] == [
        {"name": "a", "image": "x", "env": [{"name": "K", "value": "1"}, {"name": "L", "value": "2"}]},
        {"name": "b", "image": "y"},
    ]


def test_strategic_merge_replaces_lists_without_a_key() -> None:
    before = pod({"name": "a", "args": ["1", "2"]}, tolerations=[{"key": "x"}])

    after = patch.strategic_merge(
        before, {"spec": {"containers": [{"name": "a", "args": ["3"]}], "tolerations": [{"key": "y"}]}}, POD
    )

    assert after["spec"] == {"containers": [{"name": "a", "args": ["3"]}], "tolerations": [{"key": "y"}]}


def test_elements_are_deleted_and_reordered_by_directive() -> None:
    before = pod({"name": "a"}, {"name": "b"}, {"name": "c"})
    change = {
        "spec": {
            "$setElementOrder/containers": [{"name": "c"}, {"name": "a"}],
            "containers": [{"name": "b", "$patch": "delete"}, {"name": "a", "image": "new"}],
        }
    }

    after = patch.strategic_merge(before, change, POD)

    assert after["spec"]["containers"] == [{"name": "c"}, {"name": "a", "image": "new"}]


def test_elements_that_others_added_keep_their_places_when_reordered() -> None:
    before = pod({"name": "injected"}, {"name": "a"}, {"name": "b"})
    order = {"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}}

    after = patch.strategic_merge(before, order, POD)

    assert [container["name"] for container in after["spec"]["containers"]] == ["injected", "b", "a"]


def test_whole_lists_and_objects_are_replaced_by_directive() -> None:
    before = pod({"name": "a"}, nodeSelector={"x": "1"})
    change = {
        "spec": {
            "containers": [{"$patch": "replace"}, {"name": "z"}],
            "nodeSelector": {"$patch": "replace", "y": "2"},
        }
    }

    assert patch.strategic_merge(before, change, POD)["spec"] == {
        "containers": [{"name": "z"}],
        "nodeSelector": {"y": "2"},
    }


def test_retain_keys_drops_what_is_not_named() -> None:
    before = {"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}}
    change = {"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}

    assert patch.strategic_merge(before, change, DEPLOYMENT) == {"spec": {"strategy": {"type": "Recreate"}}}


def test_finalizers_are_added_to_and_taken_from_a_set() -> None:
    before = {"metadata": {"finalizers": ["a", "b"]}}
    change = {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"], "finalizers": ["c", "b"]}}

    assert patch.strategic_merge(before, change, POD) == {"metadata": {"finalizers": ["b", "c"]}}


@pytest.mark.parametrize(
    "change",
    [
        [],
        {"spec": {"containers": [{"image": "x"}]}},
        {"spec": {"containers": ["x"]}},
        {"spec": {"$patch": "explode"}},
        {"spec": {"$retainKeys": ["a"], "b": 1}},
        {"spec": {"$setElementOrder/containers": "x"}},
    ],
)
def test_a_malformed_strategic_patch_is_a_bad_request(change: Any) -> None:
    with pytest.raises(BadRequestError):
        patch.strategic_merge(pod({"name": "a"}), change, POD)

"""Conversion webhooks: one kind in two versions whose fields differ, through every way of reading and writing."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from api_server import ApiServer, Watch
from webhook import Webhook

Object = dict[str, Any]
GROUP = "conversion.example.com"
NAME = f"people.{GROUP}"
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


def path(version: str, name: str = "") -> str:
    return f"/apis/{GROUP}/{version}/namespaces/default/people{f'/{name}' if name else ''}"


def schema(**fields: str) -> Object:
    properties = {name: {"type": kind} for name, kind in fields.items()}
    return {"type": "object", "properties": {"spec": {"type": "object", "properties": properties}}}


def definition(webhook: Webhook) -> Object:
    """v1 (stored) has first and last names, v1beta1 one field for both."""
    client = {"url": f"https://localhost:{webhook.port}/convert", "caBundle": webhook.ca_bundle}
    versions = [
        {
            "name": "v1",
            "served": True,
            "storage": True,
            "schema": {"openAPIV3Schema": schema(first="string", last="string")},
        },
        {"name": "v1beta1", "served": True, "storage": False, "schema": {"openAPIV3Schema": schema(name="string")}},
    ]
    conversion = {"strategy": "Webhook", "webhook": {"clientConfig": client, "conversionReviewVersions": ["v1"]}}
    names = {"plural": "people", "singular": "person", "kind": "Person"}
    spec = {"group": GROUP, "scope": "Namespaced", "names": names, "versions": versions, "conversion": conversion}
    return {"metadata": {"name": NAME}, "spec": spec}


def person(called: str, version: str, **spec: str) -> Object:
    return {"apiVersion": f"{GROUP}/{version}", "kind": "Person", "metadata": {"name": called}, "spec": spec}


def converted(wanted: str, object: Object) -> Object:
    spec = object["spec"]
    if wanted.endswith("/v1"):
        first, _, last = spec.get("name", "").partition(" ")
        return {**object, "apiVersion": wanted, "spec": {"first": first, "last": last}}
    return {**object, "apiVersion": wanted, "spec": {"name": f"{spec.get('first')} {spec.get('last')}"}}


def convert(request: Object) -> Object:
    """What an honest webhook answers."""
    objects = [converted(request["desiredAPIVersion"], object) for object in request["objects"]]
    return {"result": {"status": "Success"}, "convertedObjects": objects}


@pytest.fixture(scope="module")
def running(server: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Webhook]:
    found = Webhook(tmp_path_factory.mktemp("conversion"), "localhost")
    code, answer = server.request("POST", DEFINITIONS, definition(found))
    assert code == 201, answer
    yield found
    found.reply = convert
    server.request("DELETE", f"{DEFINITIONS}/{NAME}")
    found.close()


@pytest.fixture
def webhook(server: ApiServer, running: Webhook) -> Iterator[Webhook]:
    running.requests.clear()
    running.reply = convert
    yield running
    running.reply = convert
    server.request("DELETE", path("v1"))


def test_each_version_reads_what_the_other_wrote(server: ApiServer, webhook: Webhook) -> None:
    code, created = server.request("POST", path("v1beta1"), person("ada", "v1beta1", name="Ada Lovelace"))
    assert (code, created["apiVersion"], created["spec"]) == (201, f"{GROUP}/v1beta1", {"name": "Ada Lovelace"})
    assert server.request("GET", path("v1", "ada"))[1]["spec"] == {"first": "Ada", "last": "Lovelace"}
    server.request("PUT", path("v1", "ada"), person("ada", "v1", first="Augusta", last="King"))
    assert server.request("GET", path("v1beta1", "ada"))[1]["spec"] == {"name": "Augusta King"}
    webhook.requests.clear()
    assert server.request("GET", path("v1", "ada"))[0] == 200
    assert webhook.requests == []  # stored in the version that is asked for


def test_a_list_is_converted_in_one_call_and_a_patch_in_its_own_version(server: ApiServer, webhook: Webhook) -> None:
    for number in range(3):
        server.request("POST", path("v1"), person(f"p{number}", "v1", first="N", last=str(number)))
    webhook.requests.clear()
    listed = server.request("GET", path("v1beta1"))[1]
    assert [item["spec"]["name"] for item in listed["items"]] == ["N 0", "N 1", "N 2"]
    assert len(webhook.requests) == 1
    patched = server.kubectl("patch", f"people.v1beta1.{GROUP}", "p1", "--type=merge", "-p", '{"spec":{"name":"A B"}}')
    assert "patched" in patched
    assert server.request("GET", path("v1", "p1"))[1]["spec"] == {"first": "A", "last": "B"}
    table = server.kubectl("get", f"people.v1beta1.{GROUP}")
    assert table.split()[:2] == ["NAME", "AGE"]


def test_a_watch_shows_its_own_version(server: ApiServer, webhook: Webhook) -> None:
    version = server.request("GET", path("v1"))[1]["metadata"]["resourceVersion"]
    server.request("POST", path("v1"), person("seen", "v1", first="A", last="B"))
    query = f"?watch=true&resourceVersion={version}&timeoutSeconds=1"
    with Watch(server, path("v1beta1") + query) as watch:
        event = watch.event()
    assert (event["type"], event["object"]["spec"]) == ("ADDED", {"name": "A B"})


def test_labels_may_change_and_nothing_else_of_the_metadata(server: ApiServer, webhook: Webhook) -> None:
    server.request("POST", path("v1"), person("m", "v1", first="A", last="B"))

    def relabel(request: Object) -> Object:
        answer = convert(request)
        for object in answer["convertedObjects"]:
            object["metadata"] = {**object["metadata"], "labels": {"seen": "yes"}, "resourceVersion": "1"}
        return answer

    webhook.reply = relabel
    found = server.request("GET", path("v1beta1", "m"))[1]["metadata"]
    assert found["labels"] == {"seen": "yes"}
    assert found["resourceVersion"] == server.request("GET", path("v1", "m"))[1]["metadata"]["resourceVersion"]


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (lambda request: {"result": {"status": "Failed", "message": "no such person"}}, "no such person"),
        (lambda request: {"result": {"status": "Success"}, "convertedObjects": []}, "not as many came back"),
        (lambda request: {"result": {"status": "Success"}, "convertedObjects": request["objects"]}, "is a Person of"),
        (lambda request: {"result": {"status": "Success"}, "convertedObjects": [None]}, "no object with metadata"),
        (lambda request: {**convert(request), "uid": "other"}, "expected response.uid"),
    ],
)
def test_a_wrong_answer_is_the_requests_failure_and_stores_nothing(
    server: ApiServer, webhook: Webhook, reply: Callable[[Object], Object], told: str
) -> None:
    webhook.reply = reply
    code, answer = server.request("POST", path("v1beta1"), person("bad", "v1beta1", name="A B"))
    assert code == 500
    assert f"conversion webhook for {GROUP}, Kind=Person failed" in answer["message"]
    assert told in answer["message"]
    assert server.request("GET", path("v1", "bad"))[0] == 404


def test_a_definition_must_say_whom_to_ask(server: ApiServer, webhook: Webhook) -> None:
    wrong = definition(webhook)
    wrong["metadata"]["name"], wrong["spec"]["names"] = f"others.{GROUP}", {"plural": "others", "kind": "Other"}
    wrong["spec"]["conversion"] = {"strategy": "Webhook"}
    code, answer = server.request("POST", DEFINITIONS, wrong)
    assert (code, "spec.conversion.webhook: Required value" in answer["message"]) == (422, True)
    wrong["spec"]["conversion"] = {"strategy": "Sometimes"}
    assert "Unsupported value" in server.request("POST", DEFINITIONS, wrong)[1]["message"]


def test_a_watch_ends_when_its_definition_changes(server: ApiServer, webhook: Webhook) -> None:
    name, group = "rooms.conversion.example.com", GROUP
    version = {"served": True, "schema": {"openAPIV3Schema": {"type": "object"}}}
    spec = {"group": group, "scope": "Cluster", "names": {"plural": "rooms", "kind": "Room"}}
    first = {"metadata": {"name": name}, "spec": {**spec, "versions": [{**version, "name": "v1", "storage": True}]}}
    server.request("POST", DEFINITIONS, first)
    rooms = f"/apis/{group}/v1/rooms"
    found = server.request("GET", rooms)[1]["metadata"]["resourceVersion"]
    with Watch(server, f"{rooms}?watch=true&resourceVersion={found}&timeoutSeconds=20") as watch:
        server.request("POST", rooms, {"apiVersion": f"{group}/v1", "kind": "Room", "metadata": {"name": "a"}})
        assert watch.event()["type"] == "ADDED"
        changed = server.request("GET", f"{DEFINITIONS}/{name}")[1]
        changed["spec"]["versions"] = [
            {**version, "name": "v1", "storage": False},
            {**version, "name": "v2", "storage": True},
        ]
        assert server.request("PUT", f"{DEFINITIONS}/{name}", changed)[0] == 200
        server.request("POST", rooms, {"apiVersion": f"{group}/v1", "kind": "Room", "metadata": {"name": "b"}})
        assert watch.rest() == []
    listed = server.request("GET", f"/apis/{group}/v2/rooms")[1]["items"]
    assert {item["apiVersion"] for item in listed} == {f"{group}/v2"}
    server.request("DELETE", f"{DEFINITIONS}/{name}")

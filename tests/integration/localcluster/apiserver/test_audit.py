"""The audit log on request: who asked for what, and what came of it."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from api_server import ApiServer, Watch

Object = dict[str, Any]
CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"


@pytest.fixture(autouse=True)
def log(server: ApiServer) -> Iterator[None]:
    server.paths.logs.mkdir(exist_ok=True)
    server.paths.audit_log.touch(mode=0o600)
    yield
    server.paths.audit_log.unlink(missing_ok=True)
    server.request("DELETE", f"{CONFIG_MAPS}?labelSelector=audited")


def events(server: ApiServer, count: int) -> list[Object]:
    """So many events; the last is written just after its answer is sent."""
    deadline = time.monotonic() + 10
    while len(lines := server.paths.audit_log.read_text().splitlines()) < count:
        assert time.monotonic() < deadline, lines
        time.sleep(0.01)
    return [json.loads(line) for line in lines]


def test_a_write_is_told_without_its_content(server: ApiServer) -> None:
    body = {"metadata": {"name": "told", "labels": {"audited": "yes"}}, "data": {"password": "hidden"}}
    assert server.request("POST", f"{CONFIG_MAPS}?fieldManager=me", body, User_Agent="test/1")[0] == 201
    (event,) = events(server, 1)
    assert (event["kind"], event["apiVersion"], event["level"]) == ("Event", "audit.k8s.io/v1", "Metadata")
    assert (event["verb"], event["stage"], event["requestURI"]) == (
        "create",
        "ResponseComplete",
        f"{CONFIG_MAPS}?fieldManager=me",
    )
    assert event["user"]["username"] == "kubernetes-admin"
    assert "system:masters" in event["user"]["groups"]
    assert event["objectRef"] == {"resource": "configmaps", "namespace": "default", "apiVersion": "v1"}
    assert event["responseStatus"] == {"metadata": {}, "code": 201}
    assert event["annotations"]["authorization.k8s.io/decision"] == "allow"
    assert event["userAgent"] == "test/1"
    assert event["sourceIPs"] == ["127.0.0.1"]
    assert event["requestReceivedTimestamp"] <= event["stageTimestamp"]
    assert "hidden" not in server.paths.audit_log.read_text()


def test_a_client_cannot_say_that_it_is_elsewhere(server: ApiServer) -> None:
    assert server.request("GET", CONFIG_MAPS, X_Forwarded_For="198.51.100.7")[0] == 200
    (event,) = events(server, 1)
    assert event["sourceIPs"] == ["127.0.0.1"]


def test_refusals_say_who_why_and_as_whom(server: ApiServer) -> None:
    server.request("GET", "/api/v1/secrets", token="wrong")
    server.request("GET", "/api/v1/namespaces/default/secrets/s", Impersonate_User="jane")
    server.request("GET", f"{CONFIG_MAPS}/none")
    unknown, forbidden, missing = events(server, 3)
    assert (unknown["user"], unknown["responseStatus"]["code"]) == ({}, 401)
    assert forbidden["impersonatedUser"] == {"username": "jane", "groups": ["system:authenticated"]}
    assert forbidden["annotations"]["authorization.k8s.io/decision"] == "forbid"
    assert forbidden["responseStatus"]["reason"] == "Forbidden"
    assert forbidden["objectRef"]["name"] == "s"
    assert missing["responseStatus"] | {"message": ""} == {
        "metadata": {},
        "code": 404,
        "status": "Failure",
        "reason": "NotFound",
        "message": "",
    }
    assert missing["annotations"]["authorization.k8s.io/decision"] == "allow"


def test_a_watch_is_told_when_it_begins_and_when_it_ends(server: ApiServer) -> None:
    with Watch(server, f"{CONFIG_MAPS}?watch=true&timeoutSeconds=1") as watch:
        assert [event["stage"] for event in events(server, 1)] == ["ResponseStarted"]
        watch.rest()
    first, second = events(server, 2)
    assert (first["stage"], second["stage"]) == ("ResponseStarted", "ResponseComplete")
    assert first["auditID"] == second["auditID"]


def test_policies_annotate_it(server: ApiServer) -> None:
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}
    policy = {
        "metadata": {"name": "noted"},
        "spec": {
            "matchConstraints": {"resourceRules": [rule], "objectSelector": {"matchLabels": {"audited": "yes"}}},
            "validations": [{"expression": "false", "message": "unwise"}],
            "auditAnnotations": [{"key": "size", "valueExpression": "string(size(object.data.text))"}],
        },
    }
    binding = {"metadata": {"name": "noted"}, "spec": {"policyName": "noted", "validationActions": ["Audit"]}}
    group = "/apis/admissionregistration.k8s.io/v1"
    server.request("POST", f"{group}/validatingadmissionpolicies", policy)
    server.request("POST", f"{group}/validatingadmissionpolicybindings", binding)
    body = {"metadata": {"name": "a", "labels": {"audited": "yes"}}, "data": {"text": "abc"}}
    assert server.request("POST", CONFIG_MAPS, body)[0] == 201
    annotations = events(server, 3)[-1]["annotations"]
    assert annotations["noted/size"] == "3"
    (failure,) = json.loads(annotations["validation.policy.admission.k8s.io/validation_failure"])
    assert (failure["policy"], failure["message"]) == ("noted", "unwise")
    for plural in ("validatingadmissionpolicybindings", "validatingadmissionpolicies"):
        server.request("DELETE", f"{group}/{plural}/noted")


def test_nothing_is_written_once_the_file_is_gone(server: ApiServer) -> None:
    server.paths.audit_log.unlink()
    assert server.request("GET", CONFIG_MAPS)[0] == 200
    assert not server.paths.audit_log.exists()

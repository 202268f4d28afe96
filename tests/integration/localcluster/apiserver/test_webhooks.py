"""Admission webhooks over real TLS, reached through a Service's endpoints as well as by URL."""

import base64
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from api_server import ApiServer, encoded
from webhook import Webhook, self_signed

Object = dict[str, Any]
ADMISSION = "/apis/admissionregistration.k8s.io/v1"
CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"


@pytest.fixture(scope="module")
def endpoints(server: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Webhook]:
    """A webhook behind the service `hook`: port 443 there, the webhook's own port on the endpoint."""
    found = Webhook(tmp_path_factory.mktemp("hook"))
    service = {"metadata": {"name": "hook"}, "spec": {"ports": [{"name": "https", "port": 443, "targetPort": 8443}]}}
    endpoint_slice = {
        "metadata": {"name": "hook-1", "labels": {"kubernetes.io/service-name": "hook"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": True}}],
        "ports": [{"name": "https", "port": found.port, "protocol": "TCP"}],
    }
    assert server.request("POST", "/api/v1/namespaces/default/services", service)[0] == 201
    slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
    code, _ = server.request("POST", slices, endpoint_slice)
    assert code == 201
    yield found
    found.close()


@pytest.fixture
def webhook(server: ApiServer, endpoints: Webhook) -> Iterator[Webhook]:
    """The same for each test, with no configuration left over."""
    endpoints.requests.clear()
    endpoints.reply = lambda request: {}
    endpoints.rubbish = None
    yield endpoints
    for plural in ("mutatingwebhookconfigurations", "validatingwebhookconfigurations"):
        server.request("DELETE", f"{ADMISSION}/{plural}")
    server.request("DELETE", CONFIG_MAPS)


def install(server: ApiServer, configuration: Object) -> None:
    plural = configuration["kind"].lower() + "s"
    code, answer = server.request("POST", f"{ADMISSION}/{plural}", configuration)
    assert code == 201, answer


def create(server: ApiServer, name: str, query: str = "") -> tuple[int, Any]:
    labelled = {"metadata": {"name": name, "labels": {"hook": "yes"}}, "data": {}}
    return server.request("POST", CONFIG_MAPS + query, labelled)


def json_patch(*operations: Object) -> Object:
    return {"patchType": "JSONPatch", "patch": base64.b64encode(json.dumps(operations).encode()).decode()}


def test_a_mutating_webhook_changes_what_is_stored(server: ApiServer, webhook: Webhook) -> None:
    install(server, webhook.configuration("MutatingWebhookConfiguration", "m"))
    webhook.reply = lambda request: json_patch({"op": "add", "path": "/data", "value": {"injected": "yes"}})

    code, created = create(server, "a")
    server.request("POST", CONFIG_MAPS, {"metadata": {"name": "unlabelled"}})

    assert (code, created["data"]) == (201, {"injected": "yes"})
    (request,) = webhook.requests
    assert request["kind"] == {"group": "", "version": "v1", "kind": "ConfigMap"}
    assert request["resource"] == {"group": "", "version": "v1", "resource": "configmaps"}
    assert (request["operation"], request["namespace"], request["dryRun"]) == ("CREATE", "default", False)
    assert request["userInfo"]["username"] == "kubernetes-admin"
    assert request["object"]["metadata"]["labels"] == {"hook": "yes"}


def test_a_validating_webhook_denies_with_its_words_and_code(server: ApiServer, webhook: Webhook) -> None:
    install(server, webhook.configuration("ValidatingWebhookConfiguration", "v"))
    webhook.reply = lambda request: {"allowed": False, "status": {"code": 422, "message": "no such colour"}}

    code, status = create(server, "a")

    assert code == 422
    assert status["message"] == 'admission webhook "hook.example.com" denied the request: no such colour'
    assert server.request("GET", f"{CONFIG_MAPS}/a")[0] == 404


def test_deletions_show_the_old_object(server: ApiServer, webhook: Webhook) -> None:
    create(server, "a")
    install(server, webhook.configuration("ValidatingWebhookConfiguration", "v"))
    webhook.reply = lambda request: {"allowed": False}

    assert server.request("DELETE", f"{CONFIG_MAPS}/a")[0] == 403
    assert webhook.requests[0]["object"] is None
    assert webhook.requests[0]["oldObject"]["metadata"]["name"] == "a"
    webhook.reply = lambda request: {}


def test_warnings_reach_kubectl(server: ApiServer, webhook: Webhook) -> None:
    install(server, webhook.configuration("ValidatingWebhookConfiguration", "v"))
    webhook.reply = lambda request: {"warnings": ['mind the "gap"']}
    manifest = (
        '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"w","namespace":"default","labels":{"hook":"1"}}}'
    )

    shown = server.kubectl("create", "--warnings-as-errors", "-f", "-", stdin=manifest, succeeds=False)

    assert 'Warning: mind the "gap"' in shown


@pytest.mark.parametrize(("policy", "code"), [("Fail", 500), ("Ignore", 201)])
def test_what_happens_without_an_answer_is_the_failure_policys_choice(
    server: ApiServer, webhook: Webhook, policy: str, code: int
) -> None:
    client = {"service": {"name": "absent", "namespace": "default"}, "caBundle": webhook.ca_bundle}
    install(
        server,
        webhook.configuration("MutatingWebhookConfiguration", "m", clientConfig=client, failurePolicy=policy),
    )

    answered, status = create(server, "a")

    assert answered == code
    if code == 500:
        assert 'failed calling webhook "hook.example.com"' in status["message"]
        assert 'service "absent" not found' in status["message"]


def test_who_waits_for_a_webhook_waits_alone(server: ApiServer, webhook: Webhook) -> None:
    released = threading.Event()

    def wait(_: Object) -> Object:
        released.wait(30)
        return {}

    webhook.reply = wait
    install(server, webhook.configuration("ValidatingWebhookConfiguration", "v", timeoutSeconds=1))
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(create, server, f"w{number}") for number in range(8)]
        others = {"metadata": {"name": "other"}}
        assert server.request("POST", CONFIG_MAPS, others)[0] == 201
        assert server.request("GET", CONFIG_MAPS)[0] == 200
        answers = [future.result() for future in waiting]
    released.set()

    assert {code for code, _ in answers} == {500}
    assert all("no answer within 1 s (context deadline exceeded)" in status["message"] for _, status in answers)


@pytest.mark.parametrize(
    ("rubbish", "told"),
    [
        (b"", "is not JSON"),
        (b"<html>", "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"[]", "no review"),
        (b"{}", "no response with `allowed`"),
        (b'{"response":1}', "no response with `allowed`"),
        (b'{"response":{"allowed":"yes"}}', "no response with `allowed`"),
        (b'{"response":{"allowed":true,"patchType":"JSONPatch","patch":"?"}}', "its patch cannot be applied"),
        (b'{"response":{"allowed":true,"patchType":"JSONPatch","patch":"W3t9XQ=="}}', "its patch cannot be applied"),
        (b'{"response":{"allowed":true,"patchType":"JSONPatch","patch":"MQ=="}}', "its patch cannot be applied"),
        (b'{"response":{"allowed":true,"patchType":"JSONPatch","patch":1}}', "its patch cannot be applied"),
        (b'{"response":{"allowed":true,"warnings":1}}', "`warnings` are no list"),
        (b'{"response":{"allowed":false,"status":1}}', "`status` is no object"),
        (b'{"response":{"allowed":false}}', "without explanation"),
        (b'{"response":{"allowed":false,"status":{"code":"x","reason":[],"message":{}}}}', ""),
        (b" " * 20_000_000, "larger than"),
    ],
    ids=range(17),
)
def test_rubbish_from_a_webhook_is_its_failure(server: ApiServer, webhook: Webhook, rubbish: bytes, told: str) -> None:
    install(server, webhook.configuration("MutatingWebhookConfiguration", "m"))
    webhook.rubbish = rubbish

    code, status = create(server, "a")

    assert "this is a bug" not in status.get("message", "")
    assert code in (201, 403, 500)
    assert told in status.get("message", "")


def test_a_certificate_that_the_bundle_does_not_vouch_for_is_a_failure(
    server: ApiServer, webhook: Webhook, tmp_path: Path
) -> None:
    other = encoded(self_signed(tmp_path, "hook.default.svc").read_bytes())
    configuration = webhook.configuration("MutatingWebhookConfiguration", "m")
    configuration["webhooks"][0]["clientConfig"]["caBundle"] = other
    install(server, configuration)

    code, status = create(server, "a")

    assert code == 500
    assert "CERTIFICATE_VERIFY_FAILED" in status["message"]
    assert webhook.requests == []


def test_a_certificate_for_another_name_is_a_failure(server: ApiServer, webhook: Webhook) -> None:
    client = {"url": f"https://127.0.0.1:{webhook.port}/", "caBundle": webhook.ca_bundle}
    install(server, webhook.configuration("MutatingWebhookConfiguration", "m", clientConfig=client))

    assert create(server, "a")[0] == 500


def test_a_dry_run_does_not_call_webhooks_with_side_effects(server: ApiServer, webhook: Webhook) -> None:
    configuration = webhook.configuration("MutatingWebhookConfiguration", "m", sideEffects="NoneOnDryRun")
    install(server, configuration)

    assert create(server, "a", "?dryRun=All")[0] == 201
    assert webhook.requests[0]["dryRun"] is True


def test_reinvocation_after_a_later_webhook_changed_the_object(server: ApiServer, webhook: Webhook) -> None:
    first = webhook.configuration("MutatingWebhookConfiguration", "a", reinvocationPolicy="IfNeeded")
    second = webhook.configuration("MutatingWebhookConfiguration", "b")
    second["webhooks"][0]["name"] = "second.example.com"
    second["webhooks"][0]["clientConfig"]["service"]["path"] = "/second"
    install(server, first)
    install(server, second)
    seen: list[Object] = []

    def reply(request: Object) -> Object:
        seen.append(request["object"].get("data") or {})
        return json_patch({"op": "add", "path": "/data", "value": {"n": "2"}}) if len(seen) == 2 else {}

    webhook.reply = reply
    create(server, "a")

    assert seen == [{}, {}, {"n": "2"}]


def test_match_conditions_say_whether_a_webhook_is_asked(server: ApiServer, webhook: Webhook) -> None:
    conditions = [{"name": "some", "expression": "object.metadata.name.startsWith('asked')"}]
    install(server, webhook.configuration("MutatingWebhookConfiguration", "m", matchConditions=conditions))
    webhook.reply = lambda request: json_patch({"op": "add", "path": "/data", "value": {"n": "1"}})

    assert create(server, "left-alone")[1]["data"] == {}
    assert create(server, "asked")[1]["data"] == {"n": "1"}
    conditions[0]["expression"] = "object.metadata.name +"
    broken = webhook.configuration("MutatingWebhookConfiguration", "broken", matchConditions=conditions)
    code, status = server.request("POST", f"{ADMISSION}/mutatingwebhookconfigurations", broken)
    assert code == 422
    assert status["details"]["causes"][0]["field"] == "webhooks[0].matchConditions[0].expression"


def test_a_webhook_cannot_keep_itself_from_being_removed(server: ApiServer, webhook: Webhook) -> None:
    rules = [{"apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"], "operations": ["*"]}]
    configuration = webhook.configuration("ValidatingWebhookConfiguration", "v", rules=rules, objectSelector={})
    install(server, configuration)
    webhook.reply = lambda request: {"allowed": False}

    assert server.request("DELETE", f"{ADMISSION}/validatingwebhookconfigurations/v")[0] == 200

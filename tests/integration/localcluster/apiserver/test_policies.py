"""ValidatingAdmissionPolicies through real kubectl and raw requests."""

from collections.abc import Iterator
from typing import Any

import pytest
from api_server import ApiServer

Object = dict[str, Any]
ADMISSION = "/apis/admissionregistration.k8s.io/v1"
POLICIES, BINDINGS = f"{ADMISSION}/validatingadmissionpolicies", f"{ADMISSION}/validatingadmissionpolicybindings"
CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"
RULES = [
    {
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "operations": ["CREATE", "UPDATE", "DELETE"],
        "resources": ["configmaps"],
    }
]


def policy(*validations: Object, **spec: Any) -> Object:
    match = {"resourceRules": RULES, "objectSelector": {"matchLabels": {"judged": "yes"}}}
    return {"metadata": {"name": "p"}, "spec": {"matchConstraints": match, "validations": list(validations), **spec}}


def binding(**spec: Any) -> Object:
    return {"metadata": {"name": "b"}, "spec": {"policyName": "p", "validationActions": ["Deny"], **spec}}


def install(server: ApiServer, policy: Object, binding: Object) -> None:
    for path, object in ((POLICIES, policy), (BINDINGS, binding)):
        code, answer = server.request("POST", path, object)
        assert code == 201, answer


def create(server: ApiServer, name: str, **data: str) -> tuple[int, Any]:
    return server.request("POST", CONFIG_MAPS, {"metadata": {"name": name, "labels": {"judged": "yes"}}, "data": data})


@pytest.fixture(autouse=True)
def clean(server: ApiServer) -> Iterator[None]:
    yield
    for path in (BINDINGS, POLICIES):
        server.request("DELETE", path)
    server.request("DELETE", f"{CONFIG_MAPS}?labelSelector=judged")


def test_a_write_that_breaks_a_rule_is_denied_in_kubernetes_words(server: ApiServer) -> None:
    install(server, policy({"expression": "object.data.size != 'huge'", "message": "too big"}), binding())
    code, answer = create(server, "a", size="huge")
    assert (code, answer["reason"]) == (422, "Invalid")
    assert answer["message"] == (
        "configmaps \"a\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: too big"
    )
    assert create(server, "a", size="small")[0] == 201
    patch = {"data": {"size": "huge"}}
    code, _ = server.request("PATCH", f"{CONFIG_MAPS}/a", patch, Content_Type="application/merge-patch+json")
    assert code == 422
    unlabelled = {"metadata": {"name": "free"}, "data": {"size": "huge"}}
    assert server.request("POST", f"{CONFIG_MAPS}?dryRun=All", unlabelled)[0] == 201


@pytest.mark.parametrize(
    ("validation", "code", "told"),
    [
        ({"expression": "false", "reason": "Forbidden"}, 403, "failed expression: false"),
        ({"expression": "false", "messageExpression": "'no ' + object.metadata.name"}, 422, "no a"),
        ({"expression": "request.operation == 'DELETE'", "reason": "Unauthorized"}, 401, "failed expression"),
        ({"expression": "namespaceObject.metadata.name == 'other'"}, 422, "failed expression"),
        ({"expression": "object.data.none == 'x'"}, 422, "resulted in error: no such key: none"),
        ({"expression": "oldObject != null"}, 422, "failed expression: oldObject != null"),
        ({"expression": "variables.long", "message": "short"}, 422, "short"),
        ({"expression": "variables.broken > 1"}, 422, "no such key: missing"),
        ({"expression": "variables.long || variables.size == 5"}, 201, ""),
    ],
)
def test_expressions_reasons_and_messages(server: ApiServer, validation: Object, code: int, told: str) -> None:
    variables = [
        {"name": "size", "expression": "size(object.data.text)"},
        {"name": "long", "expression": "variables.size > 10"},
        {"name": "broken", "expression": "object.data.missing"},
    ]
    install(server, policy(validation, variables=variables), binding())
    found, answer = create(server, "a", text="short")
    assert found == code, answer
    assert told in answer.get("message", "")


def test_a_binding_warns_instead(server: ApiServer) -> None:
    install(server, policy({"expression": "false", "message": "unwise"}), binding(validationActions=["Warn", "Audit"]))
    manifest = '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"w","labels":{"judged":"yes"}}}'
    shown = server.kubectl("apply", "-f", "-", "--warnings-as-errors", stdin=manifest, succeeds=False)
    assert "Validation failed for ValidatingAdmissionPolicy 'p' with binding 'b': unwise" in shown


def test_parameters_come_from_objects(server: ApiServer) -> None:
    limit = {"metadata": {"name": "limit", "labels": {"limits": "yes"}}, "data": {"longest": "3"}}
    assert server.request("POST", CONFIG_MAPS, limit)[0] == 201
    rule = {"expression": "size(object.data.text) <= int(params.data.longest)"}
    wanted = policy(rule, paramKind={"apiVersion": "v1", "kind": "ConfigMap"})
    reference = {"selector": {"matchLabels": {"limits": "yes"}}, "parameterNotFoundAction": "Deny"}
    install(server, wanted, binding(paramRef=reference))
    assert create(server, "a", text="abc")[0] == 201
    assert create(server, "b", text="abcd")[0] == 422
    server.request("DELETE", f"{CONFIG_MAPS}/limit")
    assert "no params found" in create(server, "b", text="a")[1]["message"]
    assert server.kubectl("get", "validatingadmissionpolicies").split()[4:7] == ["p", "1", "v1/ConfigMap"]


def test_conditions_exclusions_and_failures_that_are_ignored(server: ApiServer) -> None:
    conditions = [{"name": "not-mine", "expression": "object.metadata.name != 'mine'"}]
    install(server, policy({"expression": "false"}, matchConditions=conditions), binding())
    assert create(server, "mine")[0] == 201
    assert create(server, "yours")[0] == 422
    changed = policy({"expression": "object.data.none == 'x'"}, failurePolicy="Ignore")
    assert server.request("PUT", f"{POLICIES}/p", changed)[0] == 200
    assert create(server, "yours")[0] == 201
    changed = policy({"expression": "false"})
    changed["spec"]["matchConstraints"]["excludeResourceRules"] = RULES
    assert server.request("PUT", f"{POLICIES}/p", changed)[0] == 200
    assert create(server, "excluded")[0] == 201
    assert server.request("PUT", f"{POLICIES}/p", policy({"expression": "false"}))[0] == 200
    elsewhere = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "elsewhere"}}}
    assert server.request("PUT", f"{BINDINGS}/b", binding(matchResources=elsewhere))[0] == 200
    assert create(server, "bound-elsewhere")[0] == 201


@pytest.mark.parametrize(
    ("path", "object", "told"),
    [
        (POLICIES, policy(), "spec.validations: Required value"),
        (POLICIES, policy({"expression": "1 +"}), "spec.validations[0].expression: Invalid value"),
        (POLICIES, policy({"expression": "1 + 1"}), "must evaluate to bool"),
        (POLICIES, policy({"expression": "authorizer.path('/x')"}), "undeclared reference"),
        (POLICIES, policy({"expression": "true"}, failurePolicy="Maybe"), "spec.failurePolicy: Unsupported value"),
        (POLICIES, policy({"expression": "true"}, matchConstraints={}), "resourceRules: Required value"),
        (BINDINGS, binding(validationActions=[]), "spec.validationActions: Required value"),
        (BINDINGS, binding(validationActions=["Deny", "Warn"]), "must not contain both Deny and Warn"),
        (BINDINGS, binding(policyName=""), "spec.policyName: Required value"),
        (BINDINGS, binding(paramRef={"name": "x"}), "parameterNotFoundAction: Unsupported value"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_when_written(
    server: ApiServer, path: str, object: Object, told: str
) -> None:
    code, answer = server.request("POST", path, object)
    assert code == 422
    assert told in answer["message"]

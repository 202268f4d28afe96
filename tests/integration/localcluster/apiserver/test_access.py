"""Role-based access control, with tokens of service accounts and real kubectl."""

import json
from typing import Any

import jwt
import pytest
from api_server import ApiServer

RBAC = "rbac.authorization.k8s.io"
POLICY = """
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: reader, namespace: shop}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: landlord, namespace: shop}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader, namespace: shop}
rules:
- {apiGroups: [""], resources: [pods, pods/log], verbs: [get, list, watch]}
- {apiGroups: [""], resources: [configmaps], resourceNames: [known], verbs: [get, list, watch, patch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: reader, namespace: shop}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}
subjects: [{kind: ServiceAccount, name: reader, namespace: shop}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: landlord, namespace: shop}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: admin}
subjects: [{kind: ServiceAccount, name: landlord, namespace: shop}]
---
apiVersion: v1
kind: ConfigMap
metadata: {name: known, namespace: shop}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: other, namespace: shop}
"""
SHOP = "/api/v1/namespaces/shop"
READER = "system:serviceaccount:shop:reader"
LANDLORD = "system:serviceaccount:shop:landlord"


@pytest.fixture(scope="module", autouse=True)
def policy(server: ApiServer) -> None:
    server.kubectl("apply", "-f", "-", stdin=POLICY)


@pytest.fixture(scope="module")
def reader(server: ApiServer) -> str:
    """A token of the account `reader`."""
    return server.kubectl("create", "token", "reader", "-n", "shop").strip()


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", f"{SHOP}/pods", 200),
        ("GET", f"{SHOP}/configmaps/known", 200),
        ("GET", f"{SHOP}/configmaps?fieldSelector=metadata.name%3Dknown", 200),
        ("GET", f"{SHOP}/configmaps/other", 403),
        ("GET", f"{SHOP}/configmaps", 403),
        ("GET", "/api/v1/pods", 403),
        ("GET", f"{SHOP}/secrets", 403),
        ("DELETE", f"{SHOP}/pods/p", 403),
        ("DELETE", f"{SHOP}/pods", 403),
        ("GET", f"{SHOP}/pods/p/exec", 403),
        ("GET", "/api", 200),
        ("GET", "/openapi/v2", 200),
        ("GET", "/", 403),
        ("GET", "/nothing", 403),
    ],
)
def test_an_account_may_do_what_its_roles_say(
    server: ApiServer, reader: str, method: str, path: str, code: int
) -> None:
    assert server.request(method, path, token=reader)[0] == code


def test_a_refusal_says_who_may_not_do_what_where(server: ApiServer, reader: str) -> None:
    _, refused = server.request("GET", f"{SHOP}/secrets/x", token=reader)

    assert refused["reason"] == "Forbidden"
    assert refused["message"] == (
        f'secrets "x" is forbidden: User "{READER}" cannot get resource "secrets" in API group "" '
        'in the namespace "shop"'
    )
    assert refused["details"] == {"name": "x", "kind": "secrets"}


def test_can_i(server: ApiServer) -> None:
    def answer(*words: str, user: str = READER, yes: bool = True) -> str:
        return server.kubectl("auth", "can-i", *words, "--as", user, succeeds=yes).strip()

    assert answer("list", "pods", "-n", "shop") == "yes"
    assert answer("get", "pods", "--subresource=log", "-n", "shop") == "yes"
    assert "no" in answer("list", "pods", "-n", "default", yes=False)
    assert "no" in answer("delete", "pods", "-n", "shop", yes=False)
    assert answer("get", "/version") == "yes"
    assert "no" in answer("get", "/metrics", yes=False)
    listed = server.kubectl("auth", "can-i", "--list", "--as", READER, "-n", "shop")
    assert any(line.split()[:1] == ["configmaps"] and "[known]" in line for line in listed.splitlines())
    assert server.kubectl("auth", "can-i", "*", "*").strip() == "yes"


def test_acting_as_another_user(server: ApiServer, reader: str) -> None:
    assert "Forbidden" in server.kubectl("get", "secrets", "-n", "shop", "--as", "jane", succeeds=False)
    masters = ("--as", "jane", "--as-group", "system:masters")
    assert "known" in server.kubectl("get", "configmaps", "-n", "shop", *masters)
    who = json.loads(server.kubectl("auth", "whoami", "-o", "json", "--as", "jane", "--as-group", "ops"))
    assert who["status"]["userInfo"] == {"username": "jane", "groups": ["ops", "system:authenticated"]}
    code, refused = server.request("GET", f"{SHOP}/pods", token=reader, Impersonate_User="jane")
    assert (code, refused["message"]) == (
        403,
        f'users "jane" is forbidden: User "{READER}" cannot impersonate resource "users" in API group "" '
        "at the cluster scope",
    )
    assert server.request("GET", "/api", Impersonate_Group="ops")[0] == 400


def test_nobody_grants_more_than_it_has(server: ApiServer) -> None:
    landlord = server.kubectl("create", "token", "landlord", "-n", "shop").strip()
    roles = f"/apis/{RBAC}/v1/namespaces/shop/roles"

    def role(name: str, *resources: str) -> dict[str, Any]:
        return {"metadata": {"name": name}, "rules": [{"apiGroups": [""], "resources": resources, "verbs": ["get"]}]}

    assert server.request("POST", roles, role("fair", "pods", "secrets"), token=landlord)[0] == 201
    code, refused = server.request("POST", roles, role("greedy", "nodes"), token=landlord)
    assert code == 403
    assert "attempting to grant RBAC permissions not currently held" in refused["message"]
    binding = {
        "metadata": {"name": "takeover"},
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "User", "name": "landlord", "apiGroup": RBAC}],
    }
    bindings = f"/apis/{RBAC}/v1/namespaces/shop/rolebindings"
    assert server.request("POST", bindings, binding, token=landlord)[0] == 403
    binding["roleRef"] = {"apiGroup": RBAC, "kind": "ClusterRole", "name": "view"}
    assert server.request("POST", bindings, binding, token=landlord)[0] == 201


def test_applying_what_does_not_exist_needs_the_right_to_create(server: ApiServer, reader: str) -> None:
    headers = {"Content_Type": "application/apply-patch+yaml"}
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "known"}, "data": {"a": "b"}}
    query = "?fieldManager=reader&force=true"
    assert server.request("PATCH", f"{SHOP}/configmaps/known{query}", body, token=reader, **headers)[0] == 200
    server.kubectl("delete", "configmap", "known", "-n", "shop")
    code, refused = server.request("PATCH", f"{SHOP}/configmaps/known{query}", body, token=reader, **headers)
    server.kubectl("create", "configmap", "known", "-n", "shop")

    assert code == 403
    assert "cannot create" in refused["message"]


def test_rights_end_with_their_binding_and_start_with_it(server: ApiServer) -> None:
    server.kubectl("create", "role", "late", "-n", "shop", "--verb=list", "--resource=services")
    assert "no" in server.kubectl("auth", "can-i", "list", "services", "-n", "shop", "--as", "late", succeeds=False)
    server.kubectl("create", "rolebinding", "late", "-n", "shop", "--role=late", "--user=late")
    assert server.kubectl("auth", "can-i", "list", "services", "-n", "shop", "--as", "late").strip() == "yes"
    server.kubectl("delete", "rolebinding", "late", "-n", "shop")
    assert "no" in server.kubectl("auth", "can-i", "list", "services", "-n", "shop", "--as", "late", succeeds=False)


def test_view_edit_admin_and_roles_that_widen_them(server: ApiServer) -> None:
    for role in ("view", "edit"):
        server.kubectl("create", "rolebinding", f"role-{role}", "-n", "shop", f"--clusterrole={role}", f"--user={role}")
    widening = {
        "apiVersion": f"{RBAC}/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "widgets", "labels": {f"{RBAC}/aggregate-to-view": "true"}},
        "rules": [{"apiGroups": ["example.com"], "resources": ["widgets"], "verbs": ["get"]}],
    }

    def may(user: str, *words: str) -> bool:
        review = {"user": user, "resourceAttributes": dict(zip(("verb", "resource", "group"), words, strict=False))}
        review["resourceAttributes"]["namespace"] = "shop"
        _, answer = server.request("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", {"spec": review})
        return bool(answer["status"]["allowed"])

    assert may("view", "get", "pods")
    assert not may("view", "get", "secrets")
    assert may("edit", "create", "deployments", "apps")
    assert not may("edit", "create", "roles", RBAC)
    assert not may("view", "get", "widgets", "example.com")
    server.kubectl("apply", "-f", "-", stdin=json.dumps(widening))
    assert may("view", "get", "widgets", "example.com")


def test_others_can_verify_service_account_tokens(server: ApiServer, reader: str) -> None:
    _, configuration = server.request("GET", "/.well-known/openid-configuration", token=reader)
    _, keys = server.request("GET", "/openid/v1/jwks", token=reader)
    (key,) = jwt.PyJWKSet.from_dict(keys).keys

    claims = jwt.decode(reader, key, algorithms=["ES256"], audience=configuration["issuer"])

    assert claims["sub"] == READER
    assert key.key_id == jwt.get_unverified_header(reader)["kid"]
    assert server.request("GET", "/openid/v1/jwks", Impersonate_User="jane")[0] == 403

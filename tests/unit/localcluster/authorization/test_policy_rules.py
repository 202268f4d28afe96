"""Which requests a rule of a role allows, and which rules cover which."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localcluster.apiserver.authorization.rules import Attributes, PolicyRule, uncovered
from localcluster.apiserver.context import UserInfo
from localcluster.apiserver.http import access
from localcluster.apiserver.http.targets import parse
from localcluster.apiserver.kinds import Kinds

USER = UserInfo("jane", groups=("system:authenticated",))


def asked(verb: str, resource: str, name: str = "", group: str = "") -> Attributes:
    plural, _, subresource = resource.partition("/")
    return Attributes(USER, verb, "shop", group, plural, subresource, name)


@pytest.mark.parametrize(
    ("rule", "request_", "allowed"),
    [
        (PolicyRule(("get",), ("",), ("pods",)), asked("get", "pods"), True),
        (PolicyRule(("get",), ("",), ("pods",)), asked("list", "pods"), False),
        (PolicyRule(("get",), ("apps",), ("pods",)), asked("get", "pods"), False),
        (PolicyRule(("get",), ("",), ("pods",)), asked("get", "pods/log"), False),
        (PolicyRule(("get",), ("",), ("pods/log",)), asked("get", "pods/log"), True),
        (PolicyRule(("get",), ("",), ("pods/log",)), asked("get", "pods"), False),
        (PolicyRule(("update",), ("apps",), ("*/scale",)), asked("update", "deployments/scale", group="apps"), True),
        (PolicyRule(("update",), ("apps",), ("*/scale",)), asked("update", "deployments", group="apps"), False),
        (PolicyRule(("*",), ("*",), ("*",)), asked("delete", "secrets/status", "x"), True),
        (PolicyRule(("get",), ("",), ("secrets",), ("a",)), asked("get", "secrets", "a"), True),
        (PolicyRule(("get",), ("",), ("secrets",), ("a",)), asked("get", "secrets", "b"), False),
        (PolicyRule(("create",), ("",), ("secrets",), ("a",)), asked("create", "secrets"), False),
        (PolicyRule(("get",), paths=("/metrics",)), Attributes(USER, "get", path="/metrics"), True),
        (PolicyRule(("get",), paths=("/healthz/*",)), Attributes(USER, "get", path="/healthz/ping"), True),
        (PolicyRule(("get",), paths=("/healthz/*",)), Attributes(USER, "get", path="/metrics"), False),
        (PolicyRule(("*",), ("*",), ("*",)), Attributes(USER, "get", path="/metrics"), False),
    ],
)
def test_what_a_rule_allows(rule: PolicyRule, request_: Attributes, *, allowed: bool) -> None:
    assert rule.allows(request_) is allowed


def test_uncovered_parts_are_named_one_by_one() -> None:
    owned = [PolicyRule(("get", "list"), ("",), ("pods",)), PolicyRule(("get",), ("",), ("secrets",), ("a",))]
    wanted = [PolicyRule(("get", "watch"), ("",), ("pods",)), PolicyRule(("get",), ("",), ("secrets",), ("a", "b"))]

    assert uncovered(owned, wanted) == [
        PolicyRule(("watch",), ("",), ("pods",)),
        PolicyRule(("get",), ("",), ("secrets",), ("b",)),
    ]
    assert uncovered(owned, [PolicyRule(("get",), ("",), ("secrets",))]), "one name is not every name"


WORDS = {
    "verbs": ("get", "list", "*"),
    "groups": ("", "apps", "*"),
    "resources": ("pods", "pods/log", "*/log", "*"),
    "names": ("a", "b"),
}


def some(words: tuple[str, ...], least: int = 1) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from(words), min_size=least, max_size=2, unique=True).map(tuple)


RULES = st.builds(
    PolicyRule, some(WORDS["verbs"]), some(WORDS["groups"]), some(WORDS["resources"]), some(WORDS["names"], 0)
)
REQUESTS = st.builds(
    asked,
    st.sampled_from(("get", "list", "delete")),
    st.sampled_from(("pods", "pods/log", "jobs/log", "jobs")),
    st.sampled_from(("", "a", "b", "c")),
    st.sampled_from(("", "apps", "batch")),
)


@given(st.lists(RULES, max_size=3), RULES, REQUESTS)
def test_who_grants_only_what_is_covered_grants_nothing_new(
    owned: list[PolicyRule], granted: PolicyRule, request_: Attributes
) -> None:
    if not uncovered(owned, [granted]) and granted.allows(request_):
        assert any(rule.allows(request_) for rule in owned)


@pytest.mark.parametrize(
    ("method", "path", "query", "expected"),
    [
        ("GET", "/api/v1/namespaces/a/pods", {}, ("list", "a", "pods", "", "")),
        ("GET", "/api/v1/pods", {"watch": "true"}, ("watch", "", "pods", "", "")),
        ("GET", "/api/v1/namespaces/a/pods", {"fieldSelector": "metadata.name=p"}, ("list", "a", "pods", "", "p")),
        ("GET", "/api/v1/namespaces/a/pods/p", {}, ("get", "a", "pods", "", "p")),
        ("GET", "/api/v1/namespaces/a/pods/p/log", {}, ("get", "a", "pods", "log", "p")),
        ("POST", "/api/v1/namespaces/a/pods/p/eviction", {}, ("create", "a", "pods", "eviction", "p")),
        ("PUT", "/api/v1/namespaces/a/pods/p/status", {}, ("update", "a", "pods", "status", "p")),
        ("PATCH", "/apis/apps/v1/namespaces/a/deployments/d", {}, ("patch", "a", "deployments", "", "d")),
        ("DELETE", "/api/v1/namespaces/a/pods", {}, ("deletecollection", "a", "pods", "", "")),
        ("DELETE", "/api/v1/namespaces/a/pods/p", {}, ("delete", "a", "pods", "", "p")),
        ("GET", "/api/v1/namespaces/a", {}, ("get", "a", "namespaces", "", "a")),
    ],
)
def test_what_a_request_asks_for(
    method: str, path: str, query: dict[str, str], expected: tuple[str, str, str, str, str]
) -> None:
    found = access.of_target(method, query, parse(path, Kinds()), USER)

    assert (found.verb, found.namespace, found.resource, found.subresource, found.name) == expected

"""Namespaces: what every one holds, and how one ends."""

from cluster_objects import NOW, metadata, namespace, pod, state

from localcluster.apiserver import kinds
from localcluster.controllers import namespaces
from localcluster.controllers.writes import Create, Delete, Patch, Update

KEY = ("", "demo")
ENDING = namespace(deletionTimestamp="2026-11-23T12:00:00Z")


def test_a_new_namespace_gets_its_account_and_the_root_certificate() -> None:
    account, certificate = namespaces.default_contents("PEM", state(namespaces=[namespace()]), KEY)

    assert isinstance(account, Create)
    assert account.object["metadata"] == {"name": "default", "namespace": "demo"}
    assert isinstance(certificate, Create)
    assert certificate.object["metadata"]["name"] == "kube-root-ca.crt"
    assert certificate.object["data"] == {"ca.crt": "PEM"}


def test_a_changed_root_certificate_is_set_right_again() -> None:
    account = {"metadata": metadata("default")}
    changed = {"metadata": metadata("kube-root-ca.crt"), "data": {"ca.crt": "another"}}
    found = state(namespaces=[namespace()], serviceaccounts=[account], configmaps=[changed])

    (write,) = namespaces.default_contents("PEM", found, KEY)
    assert isinstance(write, Update)
    assert write.object["data"] == {"ca.crt": "PEM"}
    found.put(kinds.CONFIG_MAP, write.object)
    assert namespaces.default_contents("PEM", found, KEY) == []


def test_a_namespace_that_ends_gets_nothing_new_and_loses_all_it_has() -> None:
    found = state(namespaces=[ENDING], pods=[pod("a")], configmaps=[{"metadata": metadata("c")}])

    assert namespaces.default_contents("PEM", found, KEY) == []
    writes = namespaces.finish(found, KEY, NOW)
    assert sorted(w.object["metadata"]["name"] for w in writes if isinstance(w, Delete)) == ["a", "c"]


def test_an_empty_namespace_is_let_go() -> None:
    (write,) = namespaces.finish(state(namespaces=[ENDING]), KEY, NOW)

    assert isinstance(write, Update)
    assert (write.subresource, write.object["spec"]["finalizers"]) == ("finalize", [])


def test_a_namespace_says_which_finalizers_hold_it() -> None:
    held = {"metadata": metadata("c", deletionTimestamp="2026-11-23T12:00:00Z", finalizers=["example.com/keep"])}
    (write,) = namespaces.finish(state(namespaces=[ENDING], configmaps=[held]), KEY, NOW)

    assert isinstance(write, Patch)
    (condition,) = write.body["status"]["conditions"]
    assert condition["type"] == "NamespaceFinalizersRemaining"
    assert condition["message"].endswith("finalizers remaining: example.com/keep in configmaps c")


def test_a_living_namespace_is_left_alone() -> None:
    assert namespaces.finish(state(namespaces=[namespace()], pods=[pod("a")]), KEY, NOW) == []


def test_what_goes_in_a_namespace_that_ends_leads_to_it() -> None:
    found = state(namespaces=[ENDING])

    assert list(namespaces.keys(found, kinds.POD, pod("a"), None)) == [KEY]
    assert list(namespaces.keys(state(namespaces=[namespace()]), kinds.POD, pod("a"), None)) == []
    account = {"metadata": metadata("default")}
    assert list(namespaces.keys(state(namespaces=[namespace()]), kinds.SERVICE_ACCOUNT, account, None)) == [KEY]

"""Endpoints and EndpointSlices: which addresses stand behind a Service, and in which condition."""

from typing import Any

from cluster_objects import LABELS, NOW, metadata, pod, state

from localcluster.apiserver import kinds
from localcluster.controllers import backends, endpoint_slices, endpoints
from localcluster.controllers.state import State
from localcluster.controllers.writes import Create, Delete, Update

Object = dict[str, Any]
KEY = ("demo", "web")
PORTS = [{"name": "http", "port": 80, "targetPort": "http"}, {"name": "admin", "port": 9000, "targetPort": 9000}]


def service(**spec: Any) -> Object:
    return {
        "metadata": metadata("web", labels={"team": "a"}),
        "spec": {"clusterIP": "10.96.0.9", "selector": LABELS, "ports": PORTS, **spec},
    }


def subsets(found: State) -> list[Object]:
    (write,) = endpoints.reconcile(found, KEY, NOW)
    assert isinstance(write, Create)
    subsets: list[Object] = write.object.get("subsets", [])
    return subsets


def slices(found: State) -> list[Object]:
    return [w.object for w in endpoint_slices.reconcile(found, KEY, NOW) if isinstance(w, Create)]


def test_a_ready_pod_is_an_address_with_its_named_port() -> None:
    found = state(services=[service()], pods=[pod("b", address="10.244.0.6"), pod("a", address="10.244.0.5")])

    reference = {"kind": "Pod", "namespace": "demo", "name": "a", "uid": "uid-a"}
    assert subsets(found)[0]["addresses"][0] == {"ip": "10.244.0.5", "nodeName": "local", "targetRef": reference}
    assert [address["ip"] for address in subsets(found)[0]["addresses"]] == ["10.244.0.5", "10.244.0.6"]
    assert subsets(found)[0]["ports"] == [
        {"name": "http", "port": 8080, "protocol": "TCP"},
        {"name": "admin", "port": 9000, "protocol": "TCP"},
    ]
    (made,) = slices(found)
    assert made["addressType"] == "IPv4"
    assert made["endpoints"][0] == {
        "addresses": ["10.244.0.5"],
        "conditions": {"ready": True, "serving": True, "terminating": False},
        "nodeName": "local",
        "targetRef": reference,
    }
    assert made["ports"][0] == {"name": "http", "port": 8080, "protocol": "TCP"}
    assert made["metadata"]["labels"] == {
        "team": "a",
        "kubernetes.io/service-name": "web",
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
    }
    assert made["metadata"]["ownerReferences"][0]["uid"] == "uid-web"


def test_unready_pods_are_told_apart() -> None:
    found = state(services=[service()], pods=[pod("a", address="10.244.0.5", ready=False)])

    (subset,) = subsets(found)
    assert "addresses" not in subset
    assert subset["notReadyAddresses"][0]["ip"] == "10.244.0.5"
    assert slices(found)[0]["endpoints"][0]["conditions"] == {"ready": False, "serving": False, "terminating": False}


def test_a_pod_that_ends_still_serves_but_gets_nothing_new() -> None:
    ending = pod("a", address="10.244.0.5", deletionTimestamp="2026-11-23T12:00:30Z")
    found = state(services=[service()], pods=[ending])

    assert subsets(found) == []
    assert slices(found)[0]["endpoints"][0]["conditions"] == {"ready": False, "serving": True, "terminating": True}


def test_pods_that_are_over_or_have_no_address_are_left_out() -> None:
    found = state(
        services=[service()], pods=[pod("done", address="10.244.0.5", phase="Succeeded"), pod("new", ready=False)]
    )

    assert subsets(found) == []
    assert slices(found)[0]["endpoints"] == []


def test_a_headless_service_with_subdomain_tells_hostnames_and_may_publish_unready_pods() -> None:
    named = pod("a", address="10.244.0.5", ready=False)
    named["spec"] |= {"hostname": "db-0", "subdomain": "web"}
    found = state(services=[service(clusterIP="None", publishNotReadyAddresses=True)], pods=[named])

    (subset,) = subsets(found)
    assert subset["addresses"][0]["hostname"] == "db-0"
    (made,) = slices(found)
    assert made["endpoints"][0]["conditions"]["ready"] is True
    assert made["endpoints"][0]["hostname"] == "db-0"
    assert made["metadata"]["labels"]["service.kubernetes.io/headless"] == ""


def test_pods_with_different_numbers_for_a_port_name_stand_apart() -> None:
    other = pod("b", address="10.244.0.6")
    other["spec"]["containers"][0]["ports"][0]["containerPort"] = 9090
    found = state(services=[service()], pods=[pod("a", address="10.244.0.5"), other])

    assert [(s["ports"][0]["port"], s["addresses"][0]["ip"]) for s in subsets(found)] == [
        (8080, "10.244.0.5"),
        (9090, "10.244.0.6"),
    ]
    assert [made["ports"][0]["port"] for made in slices(found)] == [8080, 9090]


def test_many_endpoints_are_cut_into_slices_of_a_hundred() -> None:
    found = state(services=[service()], pods=[pod(f"p{i}", address=f"10.244.1.{i}") for i in range(150)])

    assert sorted(len(made["endpoints"]) for made in slices(found)) == [50, 100]


def test_nothing_is_written_when_nothing_changed() -> None:
    found = state(services=[service()], pods=[pod("a", address="10.244.0.5")])
    (made,) = endpoints.reconcile(found, KEY, NOW)
    (slice_,) = slices(found)
    assert isinstance(made, Create)
    found.put(kinds.ENDPOINTS, made.object)
    found.put(kinds.ENDPOINT_SLICE, {**slice_, "metadata": {**slice_["metadata"], "name": "web-abcde", "uid": "u"}})

    assert endpoints.reconcile(found, KEY, NOW) == []
    assert endpoint_slices.reconcile(found, KEY, NOW) == []

    found.put(kinds.POD, pod("a", address="10.244.0.5", ready=False))
    (update,) = endpoint_slices.reconcile(found, KEY, NOW)
    assert isinstance(update, Update)
    assert update.object["metadata"]["name"] == "web-abcde"
    assert update.object["endpoints"][0]["conditions"]["ready"] is False
    found.remove(kinds.SERVICE, *KEY)
    assert [type(w) for w in endpoint_slices.reconcile(found, KEY, NOW)] == [Delete]
    assert [type(w) for w in endpoints.reconcile(found, KEY, NOW)] == [Delete]


def test_endpoints_of_a_service_without_selector_are_the_users_and_are_mirrored() -> None:
    own = {
        "metadata": metadata("web"),
        "subsets": [
            {
                "addresses": [{"ip": "192.0.2.1"}, {"ip": "2001:db8::1"}],
                "notReadyAddresses": [{"ip": "192.0.2.2"}],
                "ports": [{"port": 5432}],
            }
        ],
    }
    bare = service()
    del bare["spec"]["selector"]
    found = state(services=[bare], endpoints=[own])

    assert endpoints.reconcile(found, KEY, NOW) == []
    v4, v6 = slices(found)
    assert [(e["addresses"], e["conditions"]) for e in v4["endpoints"]] == [
        (["192.0.2.1"], {"ready": True}),
        (["192.0.2.2"], {"ready": False}),
    ]
    assert (v6["addressType"], v6["ports"]) == ("IPv6", [{"name": "", "protocol": "TCP", "port": 5432}])
    own["metadata"]["labels"] = {"endpointslice.kubernetes.io/skip-mirror": "true"}
    assert slices(found) == []
    found.remove(kinds.SERVICE, *KEY)
    assert endpoints.reconcile(found, KEY, NOW) == []


def test_a_pod_leads_to_the_services_that_select_it_before_or_after() -> None:
    found = state(services=[service()])
    before, after = pod("a"), pod("a", labels={"app": "other"})

    assert list(backends.keys(found, kinds.POD, before, after)) == [KEY]
    assert list(backends.keys(found, kinds.POD, None, after)) == []
    slice_ = {"metadata": metadata("web-abcde", labels={"kubernetes.io/service-name": "web"})}
    assert list(backends.keys(found, kinds.ENDPOINT_SLICE, slice_, None)) == [KEY]
